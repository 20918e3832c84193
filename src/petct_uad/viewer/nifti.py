"""A volume as gzip NIfTI-1 in memory, in few bytes."""

from __future__ import annotations

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

# NIfTI-1 header (nifti1.h): scl_slope and scl_inter, float32 little-endian, at byte 112.
_SCALING_AT = 112
_INT16 = 32_767
_LEAST_SUV_STEP = 0.01


def ct_nifti(ct: sitk.Image) -> bytes:
    """HU, rounded to whole ones."""
    return _nifti(sitk.Cast(sitk.Round(ct), sitk.sitkInt16))


def pet_nifti(pet: sitk.Image) -> bytes:
    """SUV in steps of 0.01; wider ones where int16 would end before the largest."""
    largest = float(sitk.GetArrayViewFromImage(pet).max(initial=0.0))
    step = max(_LEAST_SUV_STEP, largest / _INT16)
    return _nifti(sitk.Cast(sitk.Round(pet / step), sitk.sitkInt16), step)


def mask_nifti(mask: sitk.Image) -> bytes:
    """0 or 1."""
    return _nifti(sitk.Cast(mask, sitk.sitkUInt8))


def map_nifti(volume: sitk.Image, low: float, high: float) -> bytes:
    """Values from ``low`` to ``high`` in 255 steps; what lies outside becomes the nearer end."""
    step = (high - low) / 255 or 1.0
    levels: NDArray[np.float32] = (sitk.GetArrayViewFromImage(volume) - low) / step
    image = sitk.GetImageFromArray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
    image.CopyInformation(volume)
    return _nifti(image, step, low)


def _nifti(image: sitk.Image, slope: float = 1.0, intercept: float = 0.0) -> bytes:
    """The stored values times ``slope`` plus ``intercept`` are what a reader shows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "volume.nii")
        sitk.WriteImage(image, path)
        content = bytearray(path.read_bytes())
    struct.pack_into("<ff", content, _SCALING_AT, slope, intercept)
    return gzip.compress(bytes(content), mtime=0)
