"""How much memory registration takes is known from the headers of the volumes."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import SimpleITK as sitk

from petct_uad.core.volumes import voxel_count
from petct_uad.registration.register import bytes_of_study
from petct_uad.volumes.study import StudyFolder

GIB = 1 << 30
SLICES_AT = 46  # NIfTI-1: dim[3], int16


def header_only(path: Path, columns: int, slices: int, pixel_type: int) -> None:
    """A volume as a header says it is, without the gigabyte of its voxels."""
    plain = path.with_suffix("")
    sitk.WriteImage(sitk.Image(columns, columns, 2, pixel_type), plain)
    content = bytearray(plain.read_bytes()[:352])
    struct.pack_into("<h", content, SLICES_AT, slices)
    path.write_bytes(gzip.compress(bytes(content)))


def test_long_axial_field_of_view_takes_what_was_measured(tmp_path: Path) -> None:
    """6.2 GiB a process; an estimate may be above that, and never below."""
    header_only(tmp_path / "ct.nii.gz", 512, 644, sitk.sitkInt16)
    header_only(tmp_path / "pet.nii.gz", 440, 644, sitk.sitkFloat32)
    assert voxel_count(tmp_path / "pet.nii.gz") == 440 * 440 * 644
    assert 6.2 < bytes_of_study(StudyFolder(tmp_path, tmp_path)) / GIB < 9.0


@pytest.mark.parametrize("content", [None, b"no volume"])
def test_volume_that_cannot_be_read_takes_nothing_and_is_refused_by_its_reader(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ct.nii.gz"
    if content is not None:
        path.write_bytes(content)
    assert voxel_count(path) == 0
