"""The page in a real Chromium, on a phone, on a desk and in print."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from petct_uad.comparison.compare import read_runs, summarise
from petct_uad.report.page import render_report
from tests.conftest import serious_findings
from tests.samples import PETCT_BASELINES
from tests.unit.report.conftest import Project

pytestmark = pytest.mark.slow

PHONE, DESK = 390, 1280
OPACITY = "element => Number(getComputedStyle(element).opacity)"
# Contrast of an element's text with what is behind it (WCAG 2.2, 1.4.3).
CONTRAST = """element => {
  const light = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  const [low, high] = [getComputedStyle(element).color, paper].map(light).sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


@pytest.fixture(scope="module")
def address(project: Project, tmp_path_factory: pytest.TempPathFactory) -> str:
    runs = read_runs(project.report.results)
    page = tmp_path_factory.mktemp("page") / "index.html"
    page.write_text(render_report(summarise(runs, project.params), runs, project.report))
    return page.as_uri()


@pytest.fixture
def see(visit: Callable[..., Any], address: str) -> Callable[..., Any]:
    return partial(visit, address)


def first_column(page: Any) -> list[str]:
    heads = page.locator("#results tbody th")
    found: list[str] = heads.evaluate_all("cells => cells.map(c => c.dataset.v)")
    return found


def aurocs(page: Any) -> list[str]:
    cells = page.locator("#results tbody td:first-of-type")
    found: list[str] = cells.evaluate_all("cells => cells.map(c => c.dataset.v)")
    return found


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_page_opens_without_complaint_request_or_scrolling_sideways(
    see: Callable[..., Any], width: Any
) -> None:
    page = see(width)
    page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    page.wait_for_load_state("networkidle")
    broken = page.locator("img").evaluate_all("all => all.filter(i => !i.naturalWidth).length")
    assert (page.complaints, broken) == ([], 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_heading_sorts_by_tap_and_by_key(see: Callable[..., Any]) -> None:
    page = see(PHONE)
    names, ranked = first_column(page), aurocs(page)
    heading = page.get_by_role("columnheader", name="AUROC", exact=True).first
    heading.get_by_role("button").click()
    assert aurocs(page) == ranked[::-1]  # rows that tie keep their order
    assert heading.get_attribute("aria-sort") == "ascending"
    page.locator("#results").get_by_role("button", name="Run").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert first_column(page) == sorted(names)
    assert heading.get_attribute("aria-sort") is None


def test_missing_figures_stay_below_in_either_order(see: Callable[..., Any]) -> None:
    page = see()
    heading = page.locator("#results").get_by_role("button", name="AUPRO")
    for _ in range(2):
        heading.click()
        assert set(first_column(page)[-len(PETCT_BASELINES) :]) == PETCT_BASELINES


def test_slider_moves_from_ct_over_pet_and_both_to_the_map(see: Callable[..., Any]) -> None:
    page = see(PHONE)
    viewer = page.locator(".layers").first
    slider = viewer.get_by_role("slider")
    slider.focus()
    seen = {}
    for name, value in (("CT", 0), ("PET", 1), ("PET on CT", 2), ("map", 3)):
        slider.fill(str(value))
        shown = [viewer.locator(f".{x}").evaluate(OPACITY) for x in ("pet", "fused", "jet")]
        assert slider.get_attribute("aria-valuetext") == name
        seen[name] = shown
    assert list(seen.values()) == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    page.keyboard.press("ArrowLeft")
    assert 0.9 < viewer.locator(".jet").evaluate(OPACITY) < 1


def test_colours_of_the_map_and_the_outline_are_the_readers_choice(see: Callable[..., Any]) -> None:
    page = see()
    jet, viridis, outline = (
        page.locator(f".layers .{name}").first for name in ("jet", "viridis", "outline")
    )
    assert (jet.is_visible(), viridis.is_visible(), outline.is_visible()) == (True, False, True)
    page.get_by_label("viridis").check()
    page.get_by_label("outlined").uncheck()
    assert (jet.is_visible(), viridis.is_visible(), outline.is_visible()) == (False, True, False)


def test_bands_of_the_best_model_show_and_others_come_by_name(see: Callable[..., Any]) -> None:
    page = see()
    bands = {name: page.locator(f'.band[data-model="{name}"]') for name in ("cmad", "patchcore")}
    assert bands["cmad"].first.is_visible()
    assert not bands["patchcore"].first.is_visible()
    page.get_by_role("button", name="patchcore").click()
    page.get_by_role("button", name="cmad", exact=True).click()
    assert bands["patchcore"].first.is_visible()
    assert not bands["cmad"].first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_light_and_dark(see: Callable[..., Any], scheme: str) -> None:
    page = see(PHONE, scheme)
    for chosen in ("body", ".small", ".good", ".bad", "figcaption", "#results td small", ".stops"):
        assert page.locator(chosen).first.evaluate(CONTRAST) >= 4.5, chosen
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(251, 250, 246)"
    assert dark == (scheme == "dark")


def test_print_shows_every_layer_and_unfolds_everything(
    see: Callable[..., Any], tmp_path: Path
) -> None:
    page = see()
    page.pdf(path=tmp_path / "page.pdf")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    viewer = page.locator(".layers").first
    names = ("ct", "pet", "fused", "jet")
    boxes = [viewer.locator(f".{name}").bounding_box() for name in names]
    ct, pet, fused, anomaly = ((round(box["x"]), round(box["y"])) for box in boxes)
    assert ct[0] == fused[0] < pet[0] == anomaly[0]
    assert ct[1] == pet[1] < fused[1] == anomaly[1]
    assert [viewer.locator(f".{name}").evaluate(OPACITY) for name in names] == [1, 1, 1, 1]
    assert not viewer.get_by_role("slider").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(see: Callable[..., Any], scheme: str) -> None:
    assert serious_findings(see(PHONE, scheme)) == []
