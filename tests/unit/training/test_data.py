"""What the loss is given does not depend on how much of it fits into memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from petct_uad.core.errors import ParamsError
from petct_uad.models.cmad.cmad import Cmad
from petct_uad.models.common.device import autocast
from petct_uad.slices.store import SliceStore
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.loop.data import (
    FEATURES_FOLDER,
    FEATURES_GIB,
    FeatureCache,
    Normals,
    PreparedNormals,
)
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
    nowhere, on_disk = FeatureCache(0), FeatureCache(0, tmp_path)
    kept, fresh, filed = (PreparedNormals(model, normals, x) for x in (None, nowhere, on_disk))
    for indices in ([0], [5, 1], [3, 0, 4, 2]):
        with torch.no_grad(), autocast(precision, CPU):
            ours, theirs, third = (x.rows(indices) for x in (kept, fresh, filed))
            assert [x.dtype for x in theirs] == [torch.float32] * len(theirs)
            assert all(map(torch.equal, ours, theirs))
            assert all(map(torch.equal, ours, third))
            assert torch.equal(model.loss(*ours), model.loss(*theirs))


def test_features_on_disk_are_computed_once_and_leave_no_file(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    room = FeatureCache(0, folder).room(3, [torch.zeros(1, 2).half(), torch.zeros(1).long()])
    assert room is not None
    room[0][1] = torch.tensor([1.0, 2.0])
    assert room[0].tolist() == [[0, 0], [1, 2], [0, 0]]
    assert [x.dtype for x in room] == [torch.float16, torch.int64]
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "value"), [(FEATURES_GIB, "much"), (FEATURES_GIB, "inf"), (FEATURES_FOLDER, "nowhere")]
)
def test_a_setting_of_the_machine_that_is_none_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=f"{name}: found '{value}', expected"):
        FeatureCache.of_machine()
