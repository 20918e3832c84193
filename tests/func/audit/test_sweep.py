"""`petct sweep` reads a row's figures by a param's value from DVC's experiments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from petct_uad.audit.sweep import sweep
from petct_uad.cli.app import app
from petct_uad.core.errors import LineageError
from petct_uad.core.files import sha256_file
from tests.func.audit.test_protocols import METRICS, ROOT, git, out, processed
from tests.small_results import BOTH, HALF, NONE, small_results, write_small

ROW, PARAM = "cmad-petct", "model.cmpt"


def evaluated(
    scores: np.ndarray, *, data: str = "same", scored: str = "same", asked: int = 0, **model: object
) -> None:
    """The workspace after an experiment with these params of CMAD, of which all ran.

    Args:
        data: what was evaluated on, where others are ``same``.
        scored: which weights, where ``same`` were trained.
        asked: tokens that these had, where others than params.yaml has.
    """
    write_small(METRICS, "cmad", small_results(ROW, scores))
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["model"] |= model
    YAML().dump(params, Path("params.yaml"))
    Path("dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    trained = dict(params["model"]) | ({"cmpt": asked} if asked else {})
    maps = out("data/scores/cmad", "same")
    stages = {
        "preprocess": {"cmd": "x", "outs": [processed("same")]},
        "train@cmad": {"cmd": "x", "params": {"params.yaml": {"model": trained}},
                       "outs": [out("models/cmad", "same")]},
        "score@cmad": {"cmd": "x", "deps": [out("models/cmad", scored)], "outs": [maps]},
        "evaluate@cmad": {"cmd": "x", "deps": [maps, processed(data)]},
    }  # fmt: skip
    YAML().dump({"schema": "2.0", "stages": stages}, Path("dvc.lock"))


def experiment(name: str, digits: str, scores: np.ndarray, **params: object) -> None:
    """A commit below refs/exps, as DVC leaves one; the branch stays where it was."""
    evaluated(scores, **params)  # type: ignore[arg-type]
    git("add", "-A")
    git("commit", "-qm", name)
    git("update-ref", f"refs/exps/{digits}/{'0' * 38}/{name}", "HEAD")
    git("reset", "-q", "--hard", "base")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with 8 tokens, and experiments."""
    home = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        git("init", "-q")
        evaluated(BOTH, cmpt=8)
        git("add", "-A")
        git("commit", "-qm", "base")
        git("tag", "base")
        experiment("sixteen", "a1", HALF, cmpt=16)
        experiment("two", "a2", NONE, cmpt=2)
        experiment("two-again", "a3", NONE, cmpt=2)
        experiment("shallow", "a4", NONE, cmpt=4, levels=2)  # differs in another param
        experiment("stale", "a5", NONE, cmpt=4, data="other")  # ran on other data
        experiment("trained", "a6", NONE, cmpt=4, scored="other")  # `dvc exp run train@cmad`
        experiment("validated", "a7", NONE, cmpt=4, asked=8)  # `dvc exp run validate`
        git("update-ref", "refs/exps/stash", "HEAD")
    return home


@pytest.fixture(autouse=True)
def _there(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(history)


def test_points_are_of_the_experiments_that_differ_in_the_param_alone_by_rising_value() -> None:
    points = sweep(ROW, PARAM)
    assert [point.value for point in points] == [2, 8, 16]
    assert [point.revision for point in points] == ["two", "workspace", "sixteen"]
    assert [point.figures[0].value for point in points] == [0, 1, 0.5]
    ap = points[1].figures[1]
    assert (ap.low, ap.value, ap.high) == (1, 1, 1)


def test_named_revisions_that_differ_in_another_param_are_refused_by_its_key() -> None:
    assert [x.value for x in sweep(ROW, PARAM, ["base", "two"])] == [2, 8]
    with pytest.raises(LineageError, match=r"shallow: has model\.levels 2 where"):
        sweep(ROW, PARAM, ["base", "shallow"])


@pytest.mark.parametrize("name", ["stale", "trained", "validated"])
def test_what_ended_before_the_row_was_evaluated_anew_is_refused(name: str) -> None:
    with pytest.raises(LineageError, match=f"was not evaluated on the data and params of {name}"):
        sweep(ROW, PARAM, ["base", name])


def test_a_single_value_says_how_to_get_others() -> None:
    with pytest.raises(LineageError, match=r"dvc exp run --queue -S model\.heads="):
        sweep(ROW, "model.heads")
    with pytest.raises(LineageError, match=r"model\.tokens: no key of params\.yaml at workspace"):
        sweep(ROW, "model.tokens")


def test_a_misspelt_row_is_told_what_it_is_most_like() -> None:
    with pytest.raises(LineageError, match=rf"^cmad-petc: no row.* Did you mean '{ROW}'\?"):
        sweep("cmad-petc", PARAM)


def test_the_command_prints_the_table_and_draws_the_same_picture_each_time() -> None:
    done = CliRunner().invoke(app, ["sweep", ROW, PARAM])
    assert done.exit_code == 0, done.output
    header, _, *lines = done.output.splitlines()
    assert header == f"| {PARAM} | AUROC | AP | F1 | revision |"
    assert lines[0].startswith("| 2 | 0.000 (0.000 to 0.000) |")
    assert lines[0].endswith("| two |")
    with Image.open("reports/sweep.png") as picture:
        assert min(picture.size) > 300
    first = sha256_file(Path("reports/sweep.png"))
    CliRunner().invoke(app, ["sweep", ROW, PARAM, "base", "two", "sixteen"])
    assert sha256_file(Path("reports/sweep.png")) == first
