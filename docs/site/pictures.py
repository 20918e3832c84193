"""README's pictures: the flow of the data and the result, each for light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
LOWEST, HIGHEST = 0.4, 1.0  # AUROC at the ends of the result's axis
_LEFT_PX, _RIGHT_PX = 160, 612


@dataclass(frozen=True)
class Ink:
    """The colours of one palette."""

    ink: str
    muted: str
    line: str
    card: str
    accent: str
    hot: str


PALETTES = {
    "light": Ink("#1c1b19", "#5f5c56", "#d8d4cb", "#fbfaf7", "#0b6e63", "#b4472b"),
    "dark": Ink("#eceae5", "#aaa69e", "#55524c", "#24262b", "#4fc3b0", "#ff8a65"),
}


@dataclass(frozen=True)
class Box:
    """What the data are at one point, and the stages that lead on from there."""

    title: str
    lines: tuple[str, str]
    drawn: str
    stages: tuple[str, ...] = ()


FLOW = (
    Box("DICOM", ("CT, PET, and SEG", "or RTSTRUCT"), "sheets", ("ingest",)),
    Box("Volumes", ("HU and SUVbw,", "two per study"), "volume", ("register", "split")),
    Box("Slices", ("whole patients in", "train, val or test"), "split", ("preprocess", "validate")),
    Box("Shards", ("CT, PET, lesion:", "one file a study"), "shard", ("train", "score")),
    Box("Models", ("trained on normal", "slices only"), "model", ("evaluate", "compare")),
    Box("Table", ("with intervals,", "beside SUVmax"), "table"),
)


@dataclass(frozen=True)
class Bar:
    """A row of the result: AUROC with its interval."""

    name: str
    value: float
    low: float
    high: float
    beats: bool = False
    trivial: bool = False


def flow(palette: str) -> str:
    """From DICOM to a table, as SVG."""
    return _drawn("flow.svg.j2", palette, boxes=FLOW)


def result(bars: Sequence[Bar], suvmax: float, palette: str) -> str:
    """Each bar with its interval over an axis of AUROC, and a line where SUVmax is, as SVG."""
    ticks = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    return _drawn("result.svg.j2", palette, bars=bars, suvmax=suvmax, ticks=ticks, x=_x_px)


def _x_px(auroc: float) -> float:
    inside = min(max(auroc, LOWEST), HIGHEST)
    share = (inside - LOWEST) / (HIGHEST - LOWEST)
    return round(_LEFT_PX + share * (_RIGHT_PX - _LEFT_PX), 1)


def _drawn(template: str, palette: str, **what: Any) -> str:
    templates = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template(template).render(ink=PALETTES[palette], **what) + "\n"
