"""Every row of every preset at a paper's size can be built: shapes, and no weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from petct_uad.cli.presets import preset_content, preset_names
from petct_uad.core.params.base import Modality
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.models.build import class_of
from petct_uad.models.common.interface import TrainableModel
from petct_uad.schema import Params, parse_params

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
PAPERS = [name for name in preset_names(ROOT / "params") if name.startswith("paper-")]


def preset(name: str) -> Params:
    return parse_params(preset_content(name, ROOT / "params"), Path(f"{name}.yaml"))


def built(params: Params, entry: BenchmarkEntry, modality: Modality) -> TrainableModel:
    """A row, its frozen networks with random weights; without values where they are not needed."""
    section = entry.changed(params.model_section(entry.params))
    keys = {"encoder_weights", "perceptual_weights"} & set(type(section).model_fields)
    section = section.model_copy(update=dict.fromkeys(keys, "random"))
    teacher = params.teacher_of(entry).model_copy(update={"weights": "random"})
    side = entry.image_size_px or params.preprocess.image_size_px
    # EfficientAD looks at photographs when it is made.
    with torch.device("cpu" if entry.model == "efficient_ad" else "meta"):
        return class_of(entry.model).build_untrained(section, teacher, modality, side, params)


@pytest.mark.parametrize(
    ("name", "row"), [(name, row) for name in PAPERS for row in preset(name).benchmark]
)
def test_every_row_of_a_paper_preset_can_be_built(name: str, row: str) -> None:
    params = preset(name)
    entry = params.benchmark[row]
    trained = entry.trained.values()
    assert trained
    for run in trained:
        model = built(params, entry, run.modality)
        assert sum(p.numel() for p in model.parameters()) > 10_000_000


def test_cmads_table_2_has_its_own_teacher_beside_that_of_the_cnn_baselines() -> None:
    params = preset("paper-cmad-table2")
    entries = params.benchmark.values()
    on = {x.name: (params.teacher_of(x).name, x.image_size_px) for x in entries}
    vit = ("vit_base_patch14_reg4_dinov2.lvd142m", None)  # the shards' 392 px
    cnn = ("wide_resnet50_2", 256)
    assert on == {
        "cmad": vit, "padim": cnn, "patchcore": cnn, "mkd": cnn, "rd4ad": cnn,
        "inp_former": vit, "efficient_ad": cnn,
    }  # fmt: skip
    assert params.preprocess.image_size_px == 392


def test_rd4ad_stands_in_the_table_at_its_papers_size() -> None:
    params = preset("paper-cmad-table2")
    model = built(params, params.benchmark["rd4ad"], "pet")
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert round(learnt / 1e6, 2) == 83.80
