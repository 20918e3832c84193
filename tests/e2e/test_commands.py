"""Commands of the pages that are really run, one after another, where the smoke preset was run."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from tests.commands import FOLLOWED, RUN, Shown, shown
from tests.e2e.conftest import Clone, copy_of, environment

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.filterwarnings("ignore"),  # those of libraries; other tests ask for none
]

# What the page says of it: a patient in two sets of a split that was made to leak.
EXPECTED = {
    "petct audit-split splits_final.json": 1,
    "petct audit-split train.csv val.csv test.csv": 0,
    "petct audit-split path/to/folder --badge split.svg": 4,  # raw DICOM names no sets
}


@dataclass(frozen=True)
class Typed:
    """What a command gave."""

    exit_code: int
    output: str


@pytest.fixture(scope="module")
def typed(built: Clone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Typed]]:
    """What each command gave, in this process, which has loaded torch once."""
    home = copy_of(built, tmp_path_factory.mktemp("commands") / "repository").root
    write_splits(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("PETCT_KEY_FILE", str(home.parent / "pseudonym.key"))
        patch.setenv("PATH", environment()["PATH"])
        with Path("data/processed/phantom/index.csv").open(newline="") as table:
            names = {"slice": next(csv.DictReader(table))["slice_id"]}
        shown_study = re.search(r'data-study="([^"]+)"', Path("reports/index.html").read_text())
        assert shown_study
        names["study"] = shown_study[1]
        yield {page: type_in(line.format(**names), Clone(home)) for page, line in RUN.items()}


def type_in(line: str, clone: Clone) -> Typed:
    program, *words = line.split()
    if program == "dvc":
        done = clone.run(sys.executable, "-m", "dvc", *words, check=False)
        return Typed(done.returncode, done.stdout)
    assert program == "petct"
    result = CliRunner().invoke(app, words)
    return Typed(result.exit_code, f"{result.output}{result.exception or ''}")


def write_splits(home: Path) -> None:
    """An nnU-Net split with one case in both sets, and three lists without."""
    folds = [{"train": ["PHANTOM-0001", "PHANTOM-0002"], "val": ["PHANTOM-0002"]}]
    (home / "splits_final.json").write_text(json.dumps(folds))
    for number, name in enumerate(("train", "val", "test")):
        (home / f"{name}.csv").write_text(f"patient\nPHANTOM-000{number}\n")


@pytest.mark.parametrize("command", RUN)
def test_command_ends_as_its_page_says(typed: dict[str, Typed], command: str) -> None:
    done = typed[command]
    assert done.exit_code == EXPECTED.get(command, 0), done.output


@pytest.mark.parametrize(
    "item", [x for x in shown() if x.page not in FOLLOWED], ids=lambda x: f"{x.page}: {x.command}"
)
def test_what_a_page_shows_is_what_is_printed(typed: dict[str, Typed], item: Shown) -> None:
    done = typed[item.command]
    assert item.is_in(done.output), done.output


def test_metrics_fit_a_terminal_of_80_columns(typed: dict[str, Typed]) -> None:
    lines = typed["dvc metrics show"].output.splitlines()
    heading, *rows = [line for line in lines if line.startswith(("Path ", "metrics/"))]
    assert {"ct", "pet", "petct", "suvmax"} <= set(heading.split())
    assert {row.split()[0] for row in rows} >= {
        "metrics/auroc/cmad.json",
        "metrics/auroc/trivial.json",
    }
    assert max(map(len, (heading, *rows))) <= 80
