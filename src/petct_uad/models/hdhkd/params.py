"""``models.hdhkd`` of params.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from petct_uad.core.params.base import ScanBackend
from petct_uad.models.common.params import GradientParams, PublishedSize, Strides
from petct_uad.models.hdhkd.teacher.params import TEACHER_FOLDER
from petct_uad.teachers.params import CnnName


def _table_7(decoder: str, parameters_m: float, operations_g: float) -> PublishedSize:
    return PublishedSize(
        f"HDHKD, {decoder}", "ct", "Table VII", parameters_m, operations_g, {"decoder": decoder}
    )


class HdhkdParams(GradientParams):
    """HDHKD: hybrid dual-heterogeneous knowledge distillation."""

    needs_cnn_teacher = True
    waits_for = TEACHER_FOLDER.as_posix()

    encoder: CnnName = Field(description="the student's encoder (Table VI)")
    encoder_weights: str = Field(
        min_length=1, description="initial: bundled, timm, random, or a safetensors file"
    )
    encoder_strides: Strides = Field(description="of the maps that the encoder gives")
    lateral_width: int = Field(ge=8, le=1024, description="channels of a lateral")
    width: int = Field(ge=32, le=2048, multiple_of=32, description="of the conv branch")
    conv_branch: bool = Field(description="Conv Upsample branch (Eq. 3, Table V)")
    mamba_branch: bool = Field(description="Mamba UpNet branch (Algorithm 1, Table V)")
    multi_feature: bool = Field(description="Multi-Feature Model (Eq. 4, Table V)")
    ss2d: bool = Field(description="SS2D inside Mamba UpNet (Table V)")
    decoder: Literal["mamba", "fcn", "transformer", "conv"] = Field(
        description="what mixes tokens in Mamba UpNet's place (Table VII)"
    )
    blocks: int = Field(ge=1, le=16, description="Mamba UpNet blocks")
    ssm_state: int = Field(ge=1, le=64)
    dropout: float = Field(ge=0, lt=1)
    error: Literal["squared", "relative"] = Field(
        description="on the map: the squared difference (paper), or that over the teacher's energy"
    )
    scan: ScanBackend

    @model_validator(mode="after")
    def _some_branch_decodes(self) -> Self:
        if not (self.conv_branch or self.mamba_branch):
            raise ValueError("conv_branch and mamba_branch: at least one must be true")
        return self

    @model_validator(mode="after")
    def _only_mamba_has_ss2d(self) -> Self:
        if not self.ss2d and self.decoder != "mamba":
            raise ValueError(f"ss2d = false: says nothing with decoder = {self.decoder!r}")
        return self

    published = (
        _table_7("mamba", 30.9, 285.0),
        _table_7("conv", 26.2, 265.0),
        _table_7("fcn", 46.6, 594.0),
        _table_7("transformer", 69.7, 775.0),
    )
