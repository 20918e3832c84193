"""Great Expectations' Data Docs: pages for people who know them, and for nobody else.

They hold the time of the run and links to other hosts, so no stage writes them and no hash covers
them.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from petct_uad.core.console import track
from petct_uad.core.errors import DatasetError
from petct_uad.core.files import atomic_folder
from petct_uad.validation.checks import Check, Promises, checks
from petct_uad.validation.frames import frames_of
from petct_uad.validation.tables import Folders, Measured, read_tables

# After petct_uad.validation.checks, which keeps the library from calling home.
import great_expectations as gx  # isort: skip
from great_expectations.render.renderer import ValidationResultsPageRenderer  # isort: skip
from great_expectations.render.view import DefaultJinjaPageView  # isort: skip


def write_data_docs(folders: Folders, promises: Promises, out: Path) -> None:
    """Write a page per table and an index to ``out``, which is replaced whole.

    Raises:
        DatasetError: the stage ``validate`` has not run.
    """
    if not folders.failing_rows.is_file():
        raise DatasetError(f"{folders.validated}: nothing measured. Run `dvc repro validate`.")
    tables = replace(read_tables(folders), measured=Measured.read(folders.validated))
    frames = {name: table for name, table in frames_of(tables, promises).items() if len(table)}
    with atomic_folder(out) as folder:
        for name, table in track(list(frames.items()), "writing a page per table"):
            chosen = [check for check in checks(promises) if check.table == name]
            (folder / f"{name}.html").write_text(_page(name, table, chosen), encoding="utf-8")
        links = "".join(f'<li><a href="{name}.html">{name}</a></li>' for name in frames)
        (folder / "index.html").write_text(f"<title>Data Docs</title><ul>{links}</ul>\n")


def _page(name: str, table: pd.DataFrame, chosen: list[Check]) -> str:
    expectations = [check.expectation for check in chosen]
    suite = gx.ExpectationSuite(name=name, expectations=expectations)
    batch = _context().data_sources.pandas_default.read_dataframe(table)
    result = batch.validate(suite, result_format="SUMMARY")
    page = ValidationResultsPageRenderer(run_info_at_end=True).render(result)
    return str(DefaultJinjaPageView().render(page))


@cache
def _context() -> Any:
    """Great Expectations in memory, without words or progress bars."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    return context
