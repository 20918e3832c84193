"""The two scanner models, after CMAD section 4.1: GE Discovery STE and Siemens Biograph Vision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Scanner:
    """What sets one model's images apart."""

    manufacturer: str
    model_name: str
    software: str
    pet_matrix: int
    pet_pixel_mm: float
    pet_slice_mm: float
    decay_correction: Literal["START", "ADMIN"]  # (0054,1102)
    fwhm_mm: float  # of the reconstructed PET image
    counts_per_suv: float  # coincidences per voxel at SUVbw 1 that give a realistic noise
    ct_slice_mm: float  # of a whole body
    bed_seconds: int
    bed_mm: float  # axial length that one bed position sees
    pet_signed: bool
    ct_kernel: str
    ct_noise_hu: float
    reconstruction: str
    corrections: tuple[str, ...]
    institution: str
    institution_address: str
    station: str
    serial: str


GE_DISCOVERY_STE = Scanner(
    manufacturer="GE MEDICAL SYSTEMS",
    model_name="Discovery STE",
    software="dm08.25",
    pet_matrix=128,
    pet_pixel_mm=5.46875,
    pet_slice_mm=3.27,
    decay_correction="ADMIN",
    fwhm_mm=6.5,
    counts_per_suv=14.0,
    ct_slice_mm=3.27,
    bed_seconds=180,
    bed_mm=157.0,
    pet_signed=True,
    ct_kernel="STANDARD",
    ct_noise_hu=15.0,
    reconstruction="OSEM",
    corrections=("DECY", "ATTN", "SCAT", "DTIM", "RAN", "DCAL", "NORM"),
    institution="Northfield General Hospital",
    institution_address="12 Mill Lane, Northfield",
    station="CTPET01",
    serial="400112",
)

BIOGRAPH_VISION = Scanner(
    manufacturer="SIEMENS",
    model_name="Biograph Vision",
    software="VG76A",
    pet_matrix=168,
    pet_pixel_mm=4.07283,
    pet_slice_mm=3.0,
    decay_correction="START",
    fwhm_mm=4.5,
    counts_per_suv=22.0,
    ct_slice_mm=2.0,
    bed_seconds=120,
    bed_mm=263.0,
    pet_signed=False,
    ct_kernel="B30f",
    ct_noise_hu=11.0,
    reconstruction="PSF+TOF 4i5s",
    corrections=("NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN"),
    institution="St. Aldhelm University Hospital",
    institution_address="Ringstrasse 40, Aldheim",
    station="CTAWP7301",
    serial="13073",
)

SCANNERS = (GE_DISCOVERY_STE, BIOGRAPH_VISION)
