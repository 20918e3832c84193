"""docs/report.png, the first screen of the report: ``python -m docs.site.report_picture``."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_WIDTH_PX, _HEIGHT_PX, _COLOURS = 1280, 900, 128


def take(page: Path) -> bytes:
    """What a person sees first of a page, as a PNG of few colours; 1280 by 900 pixels.

    Needs playwright, which the extra ``dev`` brings, and a Chromium or Chrome on this machine.
    """
    from playwright.sync_api import ViewportSize, sync_playwright

    program = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        size = ViewportSize(width=_WIDTH_PX, height=_HEIGHT_PX)
        shown = browser.new_page(viewport=size, color_scheme="light")
        shown.goto(page.resolve().as_uri())
        picture = shown.screenshot()
        browser.close()
    out = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(_COLOURS).save(
        out, "PNG", optimize=True
    )
    return out.getvalue()


if __name__ == "__main__":
    (ROOT / "docs/report.png").write_bytes(take(Path(*sys.argv[1:] or ["reports/index.html"])))
