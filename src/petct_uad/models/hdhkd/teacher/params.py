"""``distil`` of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from petct_uad.core.params.base import Section
from petct_uad.models.common.params import Enlarge, ScheduleParams, Strides

TEACHER_FOLDER = Path("models/distil")


class DistilParams(Section):
    """HDHKD's teacher of patches, made from ``params.teacher`` (section III-B, Table II)."""

    schedule: ScheduleParams
    network: Literal["cnn", "pdn"] = Field(description="what describes a patch")
    width: float = Field(gt=0, le=2, description="of the PDN; 1 is the paper's 256, 512 and 384")
    channels: int = Field(ge=8, le=1024, description="of its output")
    strides: Strides
    enlarge: Enlarge
