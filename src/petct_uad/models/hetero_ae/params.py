"""``models.hetero_ae`` of params.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from petct_uad.models.common.params import GradientParams


class HeteroAeParams(GradientParams):
    """Hetero-AE (Lu et al. 2024): a CNN encoder and a hybrid CNN-Transformer decoder."""

    needs_cnn_teacher = True

    encoder: Literal["teacher", "hybrid", "transformer"]
    train_encoder: bool = Field(description="the paper does not say; false keeps it frozen")
    decoder: Literal[
        "hybrid", "cnn", "transformer", "resnet", "efficientnet", "swin", "pvt", "cmt"
    ] = Field(description="Tables II and III")
    feature_comparison: bool = Field(description="Table IV; false reconstructs the image")
    alpha: float = Field(ge=0, le=1, description="weight of the cosine in Eq. 4")

    @model_validator(mode="after")
    def _only_a_teacher_can_be_frozen(self) -> Self:
        if self.encoder != "teacher" and not self.train_encoder:
            raise ValueError(f"encoder {self.encoder!r} has no weights; set train_encoder to true")
        return self
