"""Every line of docs/ablations.md queues experiments that train and evaluate."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from dvc.cli import parse_args
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
from ruamel.yaml import YAML
from safetensors.torch import save_file

from petct_uad.cli.presets import preset_content
from petct_uad.models.build import build_model, teacher_sha256
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.params import GradientParams
from petct_uad.models.hdhkd.teacher.teacher import (
    TEACHER_CONFIG,
    TEACHER_WEIGHTS,
    PatchTeacher,
    PatchTeacherConfig,
)
from petct_uad.schema import Params, parse_params
from petct_uad.slices.store import SliceStore
from petct_uad.training.loop.data import Normals
from petct_uad.training.loop.gradient import TrainingSetup
from petct_uad.training.run import learn
from tests.func.training.tiny import SIDE, write_store

ROOT = Path(__file__).resolve().parents[3]
TABLES = {
    "CMAD": {"Table 4", "Figure 6"},
    "HDHKD": {"Table V", "Table VI", "Table VII"},
    "SCRD4AD": {"Table 2", "Table 3", "Table 4", "Figure 3"},
    "Hetero-AE": {"Table II", "Table III", "Table IV"},
    "QFAE": {"Table 3", "Table 4", "Table 5", "Table 6"},
}
ROWS = {"CMAD": 10, "HDHKD": 16, "SCRD4AD": 13, "Hetero-AE": 16, "QFAE": 9}
SMALLEST: dict[str, Any] = {
    "preprocess": {"image_size_px": SIDE},
    "train": {"device": "cpu", "seeds": [0], "validate_every": 2, "checkpoint_every": 0},
    # The reference scan needs no compiling; no table varies the backend.
    "model": {
        "levels": 1,
        "width": 16,
        "heads": 2,
        "ssm_state": 2,
        "ssm_expand": 1,
        "scan": "reference",
    },
    "models": {
        "hdhkd": {
            "width": 32,
            "lateral_width": 8,
            "blocks": 1,
            "ssm_state": 2,
            "scan": "reference",
        },
        "scrd4ad": {"width": 4},
        "qfae": {"width": 16, "queries_side": 4, "qformer_heads": 2, "heads": 2, "depth": 1},
    },
    "distil": {"width": 0.1, "channels": 12},
}
SCHEDULE = {"iterations": 2, "batch_size": 3, "warmup_iterations": 0}
yaml = YAML(typ="safe", pure=True)


@dataclass(frozen=True)
class Experiment:
    """One experiment that a line of the page queues."""

    model: str
    table: str
    targets: tuple[str, ...]
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.model} {self.table}: {' '.join(self.overrides)}"


def commands() -> Iterator[tuple[str, str, list[str]]]:
    """Model, table and words of every ``dvc exp run``."""
    page = (ROOT / "docs/ablations.md").read_text(encoding="utf-8").replace("\\\n", " ")
    model = table = ""
    for line in page.splitlines():
        if line.startswith("## "):
            model = line.removeprefix("## ")
        elif line.startswith("### "):
            table = line.removeprefix("### ")
        elif line.startswith("dvc exp run"):
            yield model, table, shlex.split(line)


def experiments() -> Iterator[Experiment]:
    for model, table, words in commands():
        arguments = parse_args(words[1:])
        assert arguments.queue, f"{words}: a sweep needs --queue"
        for sweep in get_hydra_sweeps(to_path_overrides(arguments.set_param)):
            (overrides,) = sweep.values()
            yield Experiment(model, table, tuple(arguments.targets), tuple(overrides))


ALL = tuple(experiments())
each_experiment = pytest.mark.parametrize("experiment", ALL, ids=map(str, ALL))


def merge(base: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        assert key in base, f"{key}: params have no such key any more"
        if isinstance(value, dict):
            merge(base[key], value)
        else:
            base[key] = value


@pytest.fixture(scope="module")
def smallest() -> dict[str, Any]:
    """The smoke preset, smaller still."""
    content: dict[str, Any] = yaml.load(preset_content("smoke", ROOT / "params"))
    merge(content, SMALLEST)
    sections = [content["model"], *content["models"].values()]
    for section in sections:
        if "schedule" in section:
            merge(section["schedule"], SCHEDULE)
    return content


def dumped(content: dict[str, Any]) -> str:
    out = StringIO()
    YAML().dump(content, out)
    return out.getvalue()


def changed_by(experiment: Experiment, content: dict[str, Any], folder: Path) -> str:
    """The text of params.yaml after DVC's own ``-S``."""
    path = folder / "params.yaml"
    path.write_text(dumped(content))
    apply_overrides(path, list(experiment.overrides))
    return path.read_text()


def offline(text: str) -> Params:
    """Strictly parsed, with random weights where the line would download some."""
    return parse_params(re.sub(r"(weights): timm\b", r"\1: random", text), Path("params.yaml"))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, smallest: dict[str, Any]) -> Path:
    """A root with a tiny store and HDHKD's teacher, as small and as wise as a random PDN is."""
    root = tmp_path_factory.mktemp("ablations")
    write_store(root / "processed")
    params = parse_params(dumped(smallest), Path("params.yaml"))
    folder = root / "models/distil"
    folder.mkdir(parents=True)
    save_file(PatchTeacher.build(params.distil, params.teacher).made(), folder / TEACHER_WEIGHTS)
    config = PatchTeacherConfig(
        distil=params.distil,
        teacher=params.teacher,
        teacher_sha256="0" * 64,
        image_size_px=SIDE,
        parameters=1,
    )
    (folder / TEACHER_CONFIG).write_text(config.model_dump_json())
    return root


def test_every_ablation_table_of_the_papers_has_a_line() -> None:
    found = {model: {x.table for x in ALL if x.model == model} for model in TABLES}
    assert found == TABLES


def test_as_many_experiments_as_the_tables_have_rows() -> None:
    assert {model: sum(x.model == model for x in ALL) for model in TABLES} == ROWS


def test_experiments_of_a_table_differ_from_each_other() -> None:
    assert len({str(x) for x in ALL}) == len(ALL)


@each_experiment
def test_line_changes_the_params_or_is_the_default_row(
    experiment: Experiment, smallest: dict[str, Any], tmp_path: Path
) -> None:
    default = parse_params(dumped(smallest), Path("params.yaml"))
    changed = parse_params(changed_by(experiment, smallest, tmp_path), Path("params.yaml"))
    named = all(_value(smallest, x.partition("=")[0]) == _given(x) for x in experiment.overrides)
    assert (changed == default) is named


@each_experiment
def test_targets_of_a_line_are_stages_of_its_model(experiment: Experiment) -> None:
    full = parse_params(preset_content("cpu", ROOT / "params"), Path("params.yaml"))
    for target in experiment.targets:
        stage, _, family = target.partition("@")
        assert stage == "evaluate"
        assert full.benchmark[family].model == experiment.model.lower().replace("-", "_")
    shared = any(x.startswith(("teacher.", "preprocess.")) for x in experiment.overrides)
    assert bool(experiment.targets) is shared, "retrains every model"


@each_experiment
def test_experiment_trains_and_evaluates(
    experiment: Experiment,
    smallest: dict[str, Any],
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = offline(changed_by(experiment, smallest, tmp_path))
    monkeypatch.chdir(workspace)
    name = experiment.model.lower().replace("-", "_")
    section = params.model_section(params.benchmark[name].params)
    for run in params.benchmark[name].trained.values():
        assert isinstance(section, GradientParams)
        train, val, test = (
            SliceStore.open(Path("processed"), split) for split in ("train", "val", "test")
        )
        torch.manual_seed(0)
        model = build_model(run, section, params.teacher, SIDE)
        normals, held_out = (Normals(x, 3, torch.device("cpu")) for x in (train, val))
        learnt = learn(model, section, TrainingSetup(params.train, seed=0), normals, held_out)
        assert all(torch.tensor([x.train_loss, x.val_loss]).isfinite().all() for x in learnt.rows)
        with torch.inference_mode():
            maps, scores = model.detect(Batch.of(test, [0, 1]))
        assert maps.shape == (2, SIDE, SIDE)
        assert maps.isfinite().all()
        assert scores.isfinite().all()
        assert len(teacher_sha256(model)) == 64


def table_2() -> tuple[str, ...]:
    """CMAD's Table 2 on the page: its commands and its rows."""
    page = (ROOT / "docs/ablations.md").read_text(encoding="utf-8")
    return tuple(page.split("### Table 2", 1)[1].split("###", 1)[0].splitlines())


def test_lines_of_cmads_table_2_run_its_methods_on_every_modality(tmp_path: Path) -> None:
    """That each of them trains is told by the models' own tests."""
    methods = {x.split("|")[2].split(",")[0].strip() for x in table_2() if x.startswith("| ")}
    lines = [x.partition(" && ") for x in table_2() if x.startswith("petct preset")]
    protocols = []
    for preset, _, command in lines:
        path = tmp_path / "params.yaml"
        path.write_text(preset_content(preset.removeprefix("petct preset "), ROOT / "params"))
        arguments = parse_args(shlex.split(command)[1:])
        apply_overrides(path, arguments.set_param or [])
        params = parse_params(path.read_text(), path)
        assert set(params.benchmark) == methods - {"row", "---"}
        assert len(params.rows) == 3 * len(params.benchmark) == 21
        assert arguments.targets == ["compare"]
        protocols.append(params.split.protocol)
    assert protocols == ["patient", "cmad", "patient"]


def _value(content: dict[str, Any], key: str) -> Any:
    for part in key.split("."):
        content = content[part]
    return content


def _given(override: str) -> Any:
    return yaml.load(override.partition("=")[2])
