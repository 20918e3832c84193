"""A row's figures lie where the evaluation writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from petct_uad.audit.names import family_of, metrics_file
from petct_uad.evaluation.results import ResultPaths
from petct_uad.evaluation.trivial import TRIVIAL, TRIVIAL_BASELINES
from petct_uad.schema import load_params

ROWS = {
    **load_params(Path(__file__).parents[3] / "params/cpu.yaml").rows,
    **{baseline.name: TRIVIAL for baseline in TRIVIAL_BASELINES},
}


@pytest.mark.parametrize("run", ROWS)
def test_figures_are_sought_where_the_evaluation_writes_them(run: str) -> None:
    assert family_of(run) == ROWS[run]
    assert metrics_file(run) == ResultPaths.of(Path("metrics"), ROWS[run], run).metrics
