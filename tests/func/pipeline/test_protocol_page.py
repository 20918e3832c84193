"""Every `dvc exp run` of docs/protocol.md gives params that the stages take."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

from dvc.cli import parse_args
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from petct_uad.schema import load_params
from petct_uad.split.params import SplitParams

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
CHOOSING, REPORTED, HONEST, LEAKING, FOLDS = (
    x for x in PAGE.splitlines() if x.startswith("dvc exp run")
)


def splits(line: str, folder: Path) -> list[SplitParams]:
    """The split section of each experiment that a line runs or queues."""
    asked = to_path_overrides(parse_args(shlex.split(line)[1:]).set_param)
    sweeps = get_hydra_sweeps(asked) if asked else [{"params.yaml": []}]
    path = folder / "params.yaml"
    found = []
    for sweep in sweeps:
        shutil.copy(ROOT / "params.yaml", path)
        apply_overrides(path, next(iter(sweep.values())))
        found.append(load_params(path).split)
    return found


def test_params_are_chosen_on_other_patients_than_are_reported_and_on_nothing_else(
    tmp_path: Path,
) -> None:
    choosing = splits(CHOOSING, tmp_path)
    (reported,) = splits(REPORTED, tmp_path)
    assert reported.test_patients == "held_out"
    assert choosing == [reported.model_copy(update={"test_patients": "development"})] * 3


def test_lines_of_the_leak_differ_in_the_protocol_only(tmp_path: Path) -> None:
    ((honest,), (leaking,)) = (splits(line, tmp_path) for line in (HONEST, LEAKING))
    assert (honest.protocol, leaking.protocol) == ("patient", "cmad")
    assert leaking.model_copy(update={"protocol": "patient"}) == honest


def test_line_of_the_folds_queues_each_of_them_once(tmp_path: Path) -> None:
    folds = splits(FOLDS, tmp_path)
    assert [split.fold for split in folds] == [0, 1, 2, 3, 4]
    assert {split.folds for split in folds} == {5}
