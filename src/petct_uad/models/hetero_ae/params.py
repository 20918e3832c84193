"""``models.hetero_ae`` of params.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from petct_uad.models.common.params import FeatureParams, GradientParams, PublishedSize


def _size(
    decoder: str, where: str, parameters_m: float, operations_g: float | None = None
) -> PublishedSize:
    title, changes = f"Hetero-AE, {decoder}", {"decoder": decoder}
    return PublishedSize(title, "ct", where, parameters_m, operations_g, changes)


class HeteroAeParams(FeatureParams, GradientParams):
    """Hetero-AE (Lu et al. 2024): a CNN encoder and a hybrid CNN-Transformer decoder."""

    encoder: Literal["teacher", "hybrid", "transformer"]
    train_encoder: bool = Field(description="the paper does not say; false keeps it frozen")
    decoder: Literal[
        "hybrid", "cnn", "transformer", "resnet", "efficientnet", "swin", "pvt", "cmt"
    ] = Field(description="Tables II and III")
    feature_comparison: bool = Field(description="Table IV; false reconstructs the image")
    alpha: float = Field(ge=0, le=1, description="weight of the cosine in Eq. 4")
    scale_features: bool = Field(description="to a mean square of 1 per image; paper: as they are")

    @model_validator(mode="after")
    def _only_a_teacher_can_be_frozen(self) -> Self:
        if self.encoder != "teacher" and not self.train_encoder:
            raise ValueError(f"encoder {self.encoder!r} has no weights; set train_encoder to true")
        return self

    @model_validator(mode="after")
    def _each_module_doubles(self) -> Self:
        strides = sorted(set(self.strides))
        doubled = [strides[0] << step for step in range(len(strides))]
        if len(strides) < 2 or strides != doubled:
            raise ValueError(
                f"strides = {list(self.strides)}: a decoder module doubles the scale of the one "
                "before, so take two or more, each twice the next finer, as 8, 16, 32"
            )
        return self

    published = (
        _size("hybrid", "Tables II, III", 17.32, 33.0),
        _size("cnn", "Table III", 17.90),
        _size("transformer", "Table III", 16.74),
        _size("resnet", "Table II", 13.0, 39.0),
        _size("swin", "Table II", 30.0, 48.0),
        _size("pvt", "Table II", 23.0, 45.0),
        _size("cmt", "Table II", 24.0, 39.0),
    )
