"""Every model is built from a section of its own class, and from no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from petct_uad.core.errors import TrainingError
from petct_uad.models.benchmark import ModelName, RunParams
from petct_uad.models.build import (
    _CLASSES,
    CONFIG_FILE,
    ModelConfig,
    load_model,
    section_class,
)
from petct_uad.models.cmad.params import CmadParams
from petct_uad.schema import Params, load_params

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(ROOT / "params.yaml")


def test_every_name_of_a_model_and_no_other_has_a_class() -> None:
    assert tuple(_CLASSES) == get_args(ModelName)


@pytest.mark.parametrize("model", get_args(ModelName))
def test_a_model_names_the_class_of_its_section(model: ModelName, params: Params) -> None:
    assert section_class(model) is type(params.model_section(model))


def config(params: Params, model: ModelName) -> ModelConfig[CmadParams]:
    """Of a model that was trained with CMAD's section."""
    return ModelConfig(
        run=RunParams(model=model, modality="pet", params="model", after="metrics/validation.json"),
        params=params.model,
        teacher=params.teacher,
        seed=0,
        teacher_sha256="",
        image_size_px=64,
        precision="float32",
        scan_backend="none",
        teacher_parameters=0,
        learnt_values=0,
    )


def test_a_configuration_holds_every_key_of_the_section(params: Params) -> None:
    written = config(params, "cmad").model_dump(mode="json")
    assert written["params"] == params.model.model_dump(mode="json")


def test_a_configuration_with_another_models_section_is_refused(
    params: Params, tmp_path: Path
) -> None:
    written = config(params, "patchcore").model_dump(mode="json")
    (tmp_path / CONFIG_FILE).write_text(json.dumps(written))
    with pytest.raises(TrainingError, match=r"is no model configuration: .*PatchcoreParams"):
        load_model(tmp_path)
