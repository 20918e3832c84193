"""A matplotlib figure as inline SVG in the page's own colours and font, so that dark mode works."""

from __future__ import annotations

import io
import re

from markupsafe import Markup
from matplotlib.figure import Figure

# matplotlib knows no CSS variables: it draws with these stand-ins, which are replaced in the SVG.
INK, RULE = "#010101", "#020202"
NORMAL, ABNORMAL = "#030303", "#040404"
TRIVIAL = "#050505"
GOOD, BAD, SOFT = "#0c0c0c", "#0d0d0d", "#0e0e0e"
HUES = ("#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b")
CSS = {
    INK: "var(--ink)",
    RULE: "var(--rule)",
    NORMAL: "var(--normal)",
    ABNORMAL: "var(--abnormal)",
    TRIVIAL: "var(--trivial)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    SOFT: "var(--soft)",
    **{hue: f"var(--hue{number})" for number, hue in enumerate(HUES, start=1)},
}
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "petct",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
}
BAND, CURVE = "band", "curve"  # what the groups of an SVG are, before the name of the model
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def as_svg(figure: Figure, label: str) -> Markup:
    """The bare ``<svg>`` element: transparent, without prolog, metadata or ids nobody uses."""
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata=_NO_METADATA)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(rf'<g id="({BAND}|{CURVE})([^"]*)">', r'<g class="\1" data-model="\2">', text)
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r'width="[^"]*pt" height="[^"]*pt" ', "", text, count=1)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", text)
    for stand_in, variable in CSS.items():
        text = text.replace(stand_in, variable)
    return Markup(text.strip())
