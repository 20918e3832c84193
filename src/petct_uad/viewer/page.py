"""A study's page: one HTML that works from a disk, with NiiVue and the volumes inside."""

from __future__ import annotations

import base64
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from petct_uad.core.files import write_text
from petct_uad.viewer.study import RowView, StudyView

_FOLDER = Path(__file__).parent
_NIIVUE = _FOLDER / "vendor" / "niivue.umd.js.gz"
_LICENCES = _FOLDER / "vendor" / "LICENCES.txt"
_TEMPLATE = "page.html.j2"
# As parts/macros.html.j2 of the report writes a study that it shows.
_OF_STUDY = re.compile(r'<code data-study="([^"]+)" data-slice="([^"]*)">([^<]*)</code>')


@dataclass(frozen=True)
class Block:
    """Bytes inside the page."""

    id: str
    content: str  # base64

    @classmethod
    def of(cls, name: str, content: bytes) -> Self:
        """Bytes under a name."""
        return cls(name, base64.b64encode(content).decode())


def write_page(path: Path, view: StudyView, suv_high: float) -> None:
    """Write the page of a study; the same study gives the same bytes.

    Args:
        path: of the page.
        view: the study.
        suv_high: end of the SUV range at first, as models see it.
    """
    write_text(path, render_page(view, suv_high))


def link_studies(report: Path, pages: Path) -> Path | None:
    """Write ``studies.html`` beside the report: the report, with a link to each page that is there.

    The report itself stays as compare made it: which pages somebody asked for is no input of it.

    Args:
        report: ``reports/index.html``.
        pages: the folder of the pages, below the report's.

    Returns:
        What was written; None where there is no report, or the pages lie elsewhere.
    """
    if not report.is_file() or not pages.is_relative_to(report.parent):
        return None
    below = pages.relative_to(report.parent)

    def link(found: re.Match[str]) -> str:
        study, slice_id, words = found.groups()
        if not (pages / f"{study}.html").is_file():
            return found[0]
        address = f"{(below / study).as_posix()}.html{slice_id and '#'}{slice_id}"
        return (
            f'<a href="{address}"><code>{words.replace("petct view", "scroll through")}</code></a>'
        )

    linked = report.with_name("studies.html")
    write_text(linked, _OF_STUDY.sub(link, report.read_text(encoding="utf-8")))
    return linked


def render_page(view: StudyView, suv_high: float) -> str:
    """The page; see :func:`write_page`."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_TEMPLATE).render(
        study=view,
        suv_high=suv_high,
        state=_state(view, suv_high),
        blocks=_blocks(view),
        licences=_LICENCES.read_text(encoding="utf-8"),
        style=_asset("style.css"),
        script=_asset("script.js"),
    )
    return page + "\n"


def _blocks(view: StudyView) -> tuple[Block, ...]:
    """NiiVue and the volumes, all gzip."""
    label = (Block.of("label", view.label),) if view.label else ()
    return (
        Block.of("niivue", _NIIVUE.read_bytes()),
        Block.of("ct", view.ct),
        Block.of("pet", view.pet),
        *label,
        *(Block.of(f"map-{place}", row.nifti) for place, row in enumerate(view.rows)),
    )


def _state(view: StudyView, suv_high: float) -> dict[str, Any]:
    """What the script reads as JSON."""
    return {
        "slices": view.slice_ids,
        "toSlice": view.to_slice,
        "suvHigh": suv_high,
        "label": view.label is not None,
        "lesions": [asdict(place) for place in view.lesions],
        "rows": [_row_state(row) for row in view.rows],
    }


def _row_state(row: RowView) -> dict[str, Any]:
    content = asdict(row)
    del content["nifti"]
    content["scores"] = {score.slice_index: score.score for score in row.scores}
    return content


def _asset(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))
