"""What the loss is given does not depend on how much of it fits into memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from petct_uad.models.cmad.cmad import Cmad
from petct_uad.models.common.device import autocast
from petct_uad.slices.store import SliceStore
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.loop.data import Normals, PreparedNormals
from tests.func.training.tiny import SIDE, write_store
from tests.samples import cmad_section, schedule

CPU = torch.device("cpu")


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_loss_is_the_same_bit_by_bit_whether_frozen_features_are_kept_or_not(
    tmp_path: Path, precision: torch.dtype
) -> None:
    torch.manual_seed(0)
    teacher = TeacherParams(name="efficientnet_lite0", weights="bundled")
    model = Cmad.build(cmad_section(schedule=schedule()), teacher, "petct", SIDE)
    normals = Normals(SliceStore.open(write_store(tmp_path), "train"), 4, CPU)
    kept, fresh = PreparedNormals(model, normals), PreparedNormals(model, normals, cache_bytes=0)
    for indices in ([0], [5, 1], [3, 0, 4, 2]):
        with torch.no_grad(), autocast(precision, CPU):
            ours, theirs = kept.rows(indices), fresh.rows(indices)
            assert [x.dtype for x in theirs] == [torch.float32] * len(theirs)
            assert all(map(torch.equal, ours, theirs))
            assert torch.equal(model.loss(*ours), model.loss(*theirs))
