"""Every model is built from a section of its own class, and from no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from petct_uad.core.errors import TrainingError
from petct_uad.core.params.base import VALIDATED
from petct_uad.models.benchmark import (
    RunParams,
    class_name,
    every_section,
    model_names,
    params_class,
    sections_of,
)
from petct_uad.models.build import CONFIG_FILE, ModelConfig, class_of, load_model
from petct_uad.models.cmad.params import CmadParams
from petct_uad.schema import Params, load_params

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.mark.parametrize("model", model_names())
def test_a_model_is_what_its_folder_says(model: str, params: Params) -> None:
    """The class of its module, its section and its params are called after the folder."""
    found = class_of(model)
    assert found.__name__ == class_name(model)
    for key in sections_of(model):
        assert type(params.model_section(key)) is params_class(model)


def test_params_yaml_has_the_sections_that_models_declare_and_no_others(params: Params) -> None:
    found = {f"models.{name}" for name in type(params.models).model_fields}
    assert found | {"model"} == set(every_section())


def config(params: Params, model: str) -> ModelConfig[CmadParams]:
    """Of a model that was trained with CMAD's section."""
    return ModelConfig(
        run=RunParams(model=model, modality="pet", params="model", after=VALIDATED),
        params=params.model,
        teacher=params.teacher,
        seed=0,
        teacher_sha256="",
        image_size_px=64,
        iterations=800,
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
