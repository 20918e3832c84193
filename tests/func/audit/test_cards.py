"""``petct card``: every number on a card is one of the pipeline's."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.files import read_table, sha256_file, write_json
from petct_uad.ingest.tables import StudyRow
from petct_uad.slices.tables import SliceRow

INTERIM = Path("data/interim/phantom")


@pytest.fixture
def validated(repository: Path) -> Path:
    """With what the stage validate would have written."""
    failing = {"table": "studies", "name": "enough", "severity": "warning", "reason": "too few"}
    content = {"checks": 2, "expectations": [{**failing, "passed": False}]}
    write_json(Path("metrics/validation.json"), content)
    return repository


def test_cards_say_what_tables_metrics_and_lineage_say(validated: Path) -> None:
    done = CliRunner().invoke(app, ["card"])
    assert done.exit_code == 0, done.output
    text = Path("reports/cards/dataset.md").read_text()
    studies = read_table(INTERIM / "ingest/studies.csv", StudyRow)
    assert f"{len(studies)} studies of 6 patients" in text
    slices = read_table(INTERIM / "split/slices.csv", SliceRow)
    train = [row for row in slices if row.split == "train"]
    patients = len({row.patient for row in train})
    assert f"| train | {patients} | {patients} | {len(train)} | 0 |" in text
    for reason, count in Counter(x.reason for x in slices if x.split == "excluded").items():
        assert f"| {reason} | {count} |" in text
    assert sha256_file(Path("data/processed/phantom/index.csv")) in text
    assert "- enough (studies, warning): too few" in text
    assert "It does not mean healthy" in text
    assert "nobody was scanned" in text
    activity = json.loads((INTERIM / "split/lineage/activity.json").read_text())
    assert f"| split | `split.seed` | `{activity['params']['split']['seed']}` |" in text


def test_card_of_a_row_has_its_figures_and_the_same_bytes_each_time(validated: Path) -> None:
    run = min(path.parent.name for path in Path("metrics/runs").glob("*/*/metrics.json"))
    cards = []
    for _ in range(2):
        assert CliRunner().invoke(app, ["card", run]).exit_code == 0
        cards.append(Path(f"reports/cards/{run}.md").read_bytes())
    assert cards[0] == cards[1]
    (path,) = Path("metrics/runs").glob(f"*/{run}/metrics.json")
    metrics = json.loads(path.read_text())
    low, high = metrics["auroc_low"], metrics["auroc_high"]
    assert f"{metrics['auroc']:.3f} ({low:.3f} to {high:.3f})" in cards[0].decode()
    assert f"{metrics['n_patients']} patients" in cards[0].decode()


def test_row_that_was_not_evaluated_is_named(validated: Path) -> None:
    done = CliRunner().invoke(app, ["card", "cmad-petc"])
    assert done.exit_code == 1
    assert "cmad-petc: no row that was evaluated" in " ".join(done.output.split())
