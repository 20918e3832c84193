"""The pages as a site: what it generates from the code, and that it opens without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from docs.site import reference
from petct_uad.cli.app import app
from petct_uad.evaluation.figures import FIGURES
from tests.conftest import serious_findings

ROOT = Path(__file__).resolve().parents[2]
FETCHED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\b(?:src|srcset)=\"?https?:|@import")
STYLES = re.compile(r"<link\b[^>]*rel=\"?(?:stylesheet|preload|preconnect|icon)[^>]*https?:")
ARTICLE = re.compile(r"<article.*?</article>", re.DOTALL)
SHORTEN = "document.querySelectorAll('tbody tr:nth-child(n+9)').forEach(row => row.remove())"
# Of elements with the same classes up to the article one stays: contrast is a matter of styles.
ONE_OF_EACH = """() => {
  const seen = new Set();
  const path = e => e.matches('article') ? '' : path(e.parentNode) + e.tagName + e.className;
  for (const e of [...document.querySelectorAll('article *')].reverse())
    if (!e.firstElementChild) seen.has(path(e)) ? e.remove() : seen.add(path(e));
}"""
# What the theme's switch does, at once.
DARK = """() => {
  document.head.append(document.createElement('style'));
  document.head.lastChild.textContent = '*{transition:none!important}';
  document.body.setAttribute('data-md-color-scheme', 'slate');
}"""


def test_every_command_figure_and_table_has_its_place() -> None:
    commands = reference.commands_page(ROOT)
    named = get_command(app).commands  # type: ignore[attr-defined]
    assert all(f"`petct {name}`" in commands for name in named)
    figures = reference.figures_page(ROOT)
    assert all(f"| `{figure.name}` |" in figures for figure in FIGURES)
    tables = reference.tables_page(ROOT)
    assert "## SliceRow" in tables
    assert "| `split` | `str` | train, val, test or excluded |" in tables


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site, as `make docs` builds it."""
    pytest.importorskip("material", reason="mkdocs-material is not installed: extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict"]
    place = ["--config-file", "docs/site/mkdocs.yml", "--site-dir", str(folder)]
    done = subprocess.run([*command, *place], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_no_page_fetches_anything_from_another_host(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert len(pages) > 30
    assert [page for page, text in pages.items() if FETCHED.search(text)] == []
    assert [page for page, text in pages.items() if STYLES.search(text)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.html", "reference/params.html", "results.html"])
def test_a_page_opens_from_the_disk_and_is_silent(
    site: Path, visit: Callable[..., Any], name: str
) -> None:
    page = visit((site / name).as_uri())
    page.wait_for_load_state("networkidle")
    assert page.locator("nav.md-tabs li").count() >= 5
    assert [said for said in page.complaints if not said.startswith(site.as_uri())] == []


@pytest.mark.slow
def test_axe_finds_nothing_serious_on_any_page(site: Path, visit: Callable[..., Any]) -> None:
    """All articles in one page: what is around them is the same, and axe-core is slow to start."""
    pages = [page.read_text(encoding="utf-8") for page in sorted(site.rglob("*.html"))]
    articles = [found[0] for page in pages if (found := ARTICLE.search(page))]
    assert len(articles) > 50
    whole = site / "all.html"
    front = (site / "index.html").read_text(encoding="utf-8")
    whole.write_text(ARTICLE.sub(lambda _: "".join(articles), front, count=1), encoding="utf-8")
    page = visit(whole.as_uri())
    page.evaluate(SHORTEN)
    assert serious_findings(page, without="color-contrast") == []
    page.evaluate(ONE_OF_EACH)
    assert serious_findings(page, only="color-contrast") == []
    page.evaluate(DARK)
    assert serious_findings(page, only="color-contrast") == []


@pytest.mark.slow
def test_search_finds_a_param_without_a_server(site: Path, visit: Callable[..., Any]) -> None:
    page = visit((site / "index.html").as_uri())
    page.wait_for_load_state("networkidle")
    field, links = (page.locator(x) for x in ("input.md-search__input", ".md-search-result__link"))
    for _ in range(24):  # what is typed before the script listens is lost, and it indexes first
        field.fill("")
        field.press_sequentially("guard_mm")
        page.wait_for_timeout(5_000)
        if links.count():
            break
    found = links.evaluate_all("links => links.map(link => link.href)")
    assert any("/reference/params.html" in link for link in found)


def test_a_link_that_leads_nowhere_stops_the_build() -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: extra docs")
    from docs.site.hooks import site_link

    assert site_link("[table](../metrics/summary.md#a)", "docs/a.md", "a.md") == (
        "[table](metrics.md#a)"
    )
    assert site_link("[`code`](../dvc.yaml)", "docs/a.md", "a.md") == "`code`"
    assert site_link("[suv.md](suv.md)", "docs/a.md", "a.md") == "[SUV](suv.md)"
    assert site_link("[keys](params.yaml)", "README.md", "index.md") == (
        "[keys](reference/params.md)"
    )
    with pytest.raises(Exception, match=r"docs/a\.md: links to gone\.md, which is no file"):
        site_link("[gone](gone.md)", "docs/a.md", "a.md")
