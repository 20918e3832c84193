"""What MkDocs is told of this repository: pages outside docs/, generated pages, links between them.

``python -m mkdocs build --strict --config-file docs/site/mkdocs.yml`` from the repository's root.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs.site import reference
from petct_uad.models.benchmark import model_folder, model_names

ROOT = Path(__file__).resolve().parents[2]
# Pages of the repository that lie outside docs/, by where the site has them.
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "metrics/summary.md": "metrics.md",
    "src/petct_uad/ops/selective_scan/README.md": "selective_scan.md",
    **{f"{model_folder(name)}/README.md": f"models/{name}.md" for name in model_names()},
}
MADE_BY_A_RUN = ("reports/",)
# What a person who follows a link to it wants to read of it.
INSTEAD = {"params.yaml": "reference/params.md"}
_LINK = re.compile(r"(!?)\[((?:[^][]|\[[^][]*\])*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")
_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*'
    r'<img alt="([^"]*)" src="([^"]+)">\s*</picture>'
)


def on_config(config: MkDocsConfig) -> None:
    """Every model's page is where the nav says ``models/``; pages that it forgets come last."""
    pages = [{name: f"models/{name}.md"} for name in model_names()]
    for section in config.nav or ():
        for items in section.values():
            for item in items if isinstance(items, list) else ():
                item.update({key: pages for key, page in item.items() if page == "models/"})
    forgotten = {page.name for page in (ROOT / "docs").glob("*.md")} - set(_named(config.nav or ()))
    if config.nav and forgotten:
        config.nav.append({"More": sorted(forgotten)})


def _named(nav: Any) -> Iterator[str]:
    """Every page that a nav names."""
    if isinstance(nav, str):
        yield nav
    else:
        for inner in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(inner)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that lie outside docs/, those generated from the code, scripts and styles."""
    for path, page in OUTSIDE.items():
        text = (ROOT / path).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for name in ("iframe-worker.js", "site.css", "tables.js"):
        text = (ROOT / "docs/site" / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"assets/{name}", content=text))
    for name, make in reference.PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=make(ROOT)))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Links as the repository has them become links of the site; pictures follow its palette.

    Raises:
        PluginError: a link leads to no file of the repository.
    """
    uri = page.file.src_uri
    if uri.startswith("reference/"):
        return markdown
    here = {page: path for path, page in OUTSIDE.items()}.get(uri, f"docs/{uri}")
    markdown = _PICTURE.sub(r"![\2](\3#only-light)![\2](\1#only-dark)", markdown)
    return site_link(markdown, here, uri)


def on_post_page(output: str, **_: Any) -> str:
    """The theme's search is a dialog without a name, which a screen reader would pass over."""
    return output.replace('role="dialog"', 'role="dialog" aria-label="Search"')


def site_link(markdown: str, here: str, uri: str) -> str:
    """The text of page ``here`` of the repository with its links as page ``uri`` of the site.

    Raises:
        PluginError: a link leads to no file of the repository.
    """
    return _LINK.sub(lambda link: _of_site(link, here, uri), markdown)


def _of_site(link: re.Match[str], here: str, uri: str) -> str:
    """A link of the page ``here`` of the repository, as the page ``uri`` of the site has it."""
    bang, text, path, anchor = link.groups(default="")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(here), path))
    if target.startswith(MADE_BY_A_RUN):
        return text
    if not (ROOT / target).exists():
        raise PluginError(f"{here}: links to {path}, which is no file of the repository")
    found = (OUTSIDE | INSTEAD).get(target) or (target[5:] if target.startswith("docs/") else "")
    if not found:  # code: the site has no page of it
        return text
    if text in (path, posixpath.basename(path)) and path.endswith(".md"):
        text = _title(ROOT / target)
    return f"{bang}[{text}]({posixpath.relpath(found, posixpath.dirname(uri) or '.')}{anchor})"


def _title(page: Path) -> str:
    """The first heading of a page, in place of its file's name."""
    return page.read_text(encoding="utf-8").partition("# ")[2].partition("\n")[0]
