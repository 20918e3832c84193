"""A study's page in a real Chromium, whose WebGL is drawn by software."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from petct_uad.viewer.page import write_page
from petct_uad.viewer.study import view_study
from tests.conftest import FLAGS, launched, opened, serious_findings
from tests.unit.viewer.conftest import HOT, PREPROCESS, STUDY, WARM, build

pytestmark = pytest.mark.slow

# Chromium would composite WebGL without a GPU by reading it back, and says so on the console.
WEBGL = [x for x in FLAGS if x != "--disable-gpu"]
WEBGL += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
READY = "html[data-ready]"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("viewer")
    study = build(root, "test")
    study.evaluate()
    page = root / f"{STUDY}.html"
    write_page(page, view_study(STUDY, study.paths, PREPROCESS), PREPROCESS.suv_high)
    return page.as_uri()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """The page on a phone, as long as the tests here take; they leave it as they found it."""
    with launched(WEBGL) as browser:
        settings = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
        shown = opened(browser, address, color_scheme="dark", **settings)
        shown.wait_for_selector(READY)
        yield shown
        assert shown.complaints == []


def drawn(page: Any, canvas: str, other_than: bytes = b"") -> bytes:
    """The pixels on the screen, once two pictures in a row agree on them, or no longer this one."""
    picture: bytes = page.locator(canvas).screenshot()
    for _ in range(40):
        page.evaluate("new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))")
        last, picture = picture, page.locator(canvas).screenshot()
        if last == picture != other_than:
            break
    return picture


def says(page: Any, name: str) -> str:
    text: str = page.locator(f"#{name}").inner_text()
    return text


def touch(page: Any, x: float, y: float) -> None:
    """A finger that stays for a moment, as a real one does."""
    session = page.context.new_cdp_session(page)
    points = [{"x": x, "y": y}]
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
    page.wait_for_timeout(100)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_timeout(100)


def choose(page: Any, mode: str) -> None:
    page.locator(f"[name=mode][value={mode}]").check(force=True)


def slide(page: Any, name: str, value: float) -> None:
    page.locator(f"#{name}").fill(str(value))


def test_the_page_opens_at_the_hottest_finding_without_a_word_or_a_request(page: Any) -> None:
    assert page.complaints == []
    assert says(page, "says").startswith("Finding 1 of 2 of twin-petct: peak 4.00, threshold")
    assert says(page, "slice") == f"{HOT[0] + 1} of 8"
    assert says(page, "map-value") == "4.00"
    assert re.fullmatch(r"4\.00 > [\d.]+, abnormal", says(page, "score"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    ("mode", "slider", "value", "canvas"),
    [
        ("ct", "centre", -600, "#planes"),
        ("ct", "width", 2000, "#planes"),
        ("fused", "suv-high", 20, "#planes"),
        ("pet", "suv-low", 3, "#planes"),
        ("pet", "suv-high", 20, "#mip"),
        ("map", "map-low", 90, "#planes"),
        ("map", "opacity", 10, "#planes"),
        ("fused", "angle", 90, "#mip"),
    ],
)
def test_pixels_differ_when_a_slider_moves(
    page: Any, mode: str, slider: str, value: float, canvas: str
) -> None:
    choose(page, mode)
    before, old = drawn(page, canvas), page.locator(f"#{slider}").input_value()
    slide(page, slider, value)
    moved = drawn(page, canvas, other_than=before)
    slide(page, slider, old)
    assert moved != before
    assert drawn(page, canvas, other_than=moved) == before


def test_each_choice_of_what_is_shown_is_another_picture(page: Any) -> None:
    pictures = set()
    for mode in ("ct", "pet", "fused", "map", "mappet"):
        choose(page, mode)
        pictures.add(drawn(page, "#planes"))
    page.locator("#label").uncheck(force=True)
    pictures.add(drawn(page, "#planes"))
    page.locator("#label").check(force=True)
    assert len(pictures) == 6


def test_keys_lead_to_lesions_and_findings_and_move_the_crosshair(page: Any) -> None:
    page.keyboard.press("l")
    assert says(page, "says") == "Lesion 1 of 2: SUVmax 9.3."
    assert (says(page, "suv"), says(page, "hu")) == ("SUV 9.25", "40 HU")
    page.keyboard.press("l")
    assert (says(page, "suv"), says(page, "slice")) == ("SUV 4.00", f"{WARM[0] + 1} of 8")
    page.keyboard.press("f")
    assert says(page, "says").startswith("Finding 2 of 2")
    page.locator("#planes").focus()
    page.keyboard.press("PageUp")
    assert says(page, "slice") == f"{WARM[0] + 2} of 8"
    before = says(page, "place")
    page.keyboard.press("ArrowLeft")
    assert says(page, "place") != before
    page.keyboard.press("f")
    assert says(page, "slice") == f"{HOT[0] + 1} of 8"


def test_a_tap_moves_the_crosshair_in_a_plane_and_in_the_projection(page: Any) -> None:
    choose(page, "pet")
    before = says(page, "place")
    page.locator("#planes").scroll_into_view_if_needed()
    box = page.locator("#planes").bounding_box()
    touch(page, box["x"] + 200, box["y"] + 200)
    assert says(page, "place") != before
    box = page.locator("#mip").bounding_box()
    # The hot lesion stands at 16 of 50 columns, right of the middle of the patient.
    page.locator("#mip").tap(position={"x": box["width"] * 0.36, "y": box["height"] * 0.69})
    assert float(says(page, "suv").removeprefix("SUV ")) > 5
    page.keyboard.press("f")
    page.keyboard.press("f")


def test_a_slice_that_was_not_scored_says_so(page: Any) -> None:
    page.keyboard.press("l")
    page.locator("#planes").focus()
    while says(page, "slice") != "4 of 8":
        page.keyboard.press("PageUp")
    assert (says(page, "score"), says(page, "map-value")) == ("not scored", "not scored")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert serious_findings(page) == []
    page.emulate_media(color_scheme="dark")


def test_nothing_of_the_file_system_is_in_the_page(address: str) -> None:
    page = Path(address.removeprefix("file://"))
    text = page.read_text(encoding="utf-8")
    assert [word for word in ("tiny/", str(page.parent), "GE Discovery") if word in text] == []
