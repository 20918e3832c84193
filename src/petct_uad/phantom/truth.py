"""Ground truth of one digital patient, kept beside the DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from petct_uad.core.files import write_text

LesionKind = Literal[
    "small-cell carcinoma", "adenocarcinoma", "fibrous hyperplasia", "granuloma"
]  # CMAD, section 4.1
Visibility = Literal["both", "ct", "pet", "mismatch"]
Site = Literal["peripheral lung", "central lung", "marrow", "node", "chest wall"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class RigidTruth(_Frozen):
    """Maps a point of the CT frame (LPS, mm) to where its activity lies in the PET frame.

    The convention is SimpleITK's ``Euler3DTransform`` with its default ZXY order:
    ``q = R (p - centre) + centre + translation``, ``R = Rz Rx Ry``.
    """

    centre_mm: tuple[float, float, float]
    rotation_deg: tuple[float, float, float]
    translation_mm: tuple[float, float, float]


class LesionTruth(_Frozen):
    """One planted lesion, in the CT frame."""

    kind: LesionKind
    visibility: Visibility
    site: Site
    centre_mm: tuple[float, float, float] = Field(description="LPS")
    diameter_mm: float
    suv: float = Field(description="SUVbw before the point spread and noise")
    suv_recovered: float = Field(description="SUVbw at the centre after the point spread")
    hu: float | None = Field(description="of its solid part; null where the CT looks normal")


class WholeBodyTruth(_Frozen):
    """What is known of a whole body beyond its thorax; heights are z in the CT frame (LPS, mm)."""

    lung_base_mm: float = Field(description="the lowest plane with 1 cm2 of lung")
    lung_apex_mm: float = Field(description="the highest plane with 1 cm2 of lung")
    arms: Literal["up", "down"]
    contrast: bool = Field(description="in the CT, intravenous")
    label_on: Literal["ct", "pet"] = Field(description="whose grid the SEG has")
    pet_series: int = Field(description="2 with one that is not corrected for attenuation")


class PhantomTruth(_Frozen):
    """Everything known about one digital patient."""

    patient: str
    scanner: str
    sex: Literal["F", "M"]
    weight_kg: float
    breathing_phase: float = Field(description="0 at end-expiration, 1 at end-inspiration")
    liver_suv: float
    myocardium_suv: float
    blood_suv: float
    liver_mm: tuple[float, float, float] | None = Field(
        description="a point deep in the liver (LPS, CT frame); null where none is in the stack"
    )
    displacement: RigidTruth
    lesions: tuple[LesionTruth, ...]
    whole_body: WholeBodyTruth | None = Field(None, description="absent of a thorax")


def write_truth(path: Path, truth: PhantomTruth) -> None:
    """Write as JSON, byte-stable."""
    absent = {"whole_body"} if truth.whole_body is None else None
    write_text(path, truth.model_dump_json(indent=2, exclude=absent) + "\n")


def read_truth(path: Path) -> PhantomTruth:
    """Read what :func:`write_truth` wrote.

    Raises:
        pydantic.ValidationError: a field is missing, unknown or of the wrong type.
    """
    return PhantomTruth.model_validate_json(path.read_bytes())
