"""A real browser, for the pages that a person opens; Triton without a GPU; one folder a test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from petct_uad.core.provenance import sources

# Triton settles when it is imported, by whomever, whether kernels are compiled or interpreted.
if not shutil.which("nvidia-smi"):
    os.environ["TRITON_INTERPRET"] = "1"

# No sandbox, as root in a container; nothing that Chromium would fetch or report by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(autouse=True)
def _sources_of_this_folder() -> None:
    """A process reads each source file once, by its name below one working directory.

    A stage has one; tests go from one repository to another.
    """
    for read in (sources._imported_names, sources._own_files):
        read.cache_clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; skips where there is none."""
    with launched(FLAGS) as found:
        yield found


@contextmanager
def launched(flags: list[str]) -> Iterator[Any]:
    """Headless Chromium with these flags; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not program:
        pytest.skip("no Chromium on the PATH: apt-get install chromium, or install Google Chrome")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=program, args=flags)
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open an address; `page.complaints` holds what the console says and what is asked for."""
    pages = []

    def open_page(address: str, width: int = 1280, scheme: str = "light") -> Any:
        page = opened(browser, address, viewport={"width": width, "height": 844},
                      color_scheme=scheme)  # fmt: skip
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()


def opened(browser: Any, address: str, **settings: Any) -> Any:
    """A page whose `complaints` hold what the console says and what is asked for."""
    page = browser.new_page(**settings)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: note(page, request.url, address))
    page.goto(address)
    return page


def serious_findings(page: Any, only: str = "", without: str = "") -> list[str]:
    """What axe-core (WCAG 2 and best practices, or of one rule) calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python.base", reason="pip install '.[dev]'")
    page.locator("details").evaluate_all("all => all.forEach(d => d.open = true)")
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe.AXE_SCRIPT)
    asked: dict[str, Any] = {"resultTypes": ["violations"]}
    asked |= {"runOnly": [only]} if only else {}
    asked |= {"rules": {without: {"enabled": False}}} if without else {}
    found = page.evaluate("asked => axe.run(asked)", asked)["violations"]
    return [
        f"{finding['id']}: {node['html'][:200]}"
        for finding in found
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]


def note(page: Any, wanted: str, address: str) -> None:
    if not wanted.startswith(("data:", address)):
        page.complaints.append(wanted)
