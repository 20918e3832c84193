"""``models.qfae`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from petct_uad.models.common.params import GradientParams, PublishedSize


class QfaeParams(GradientParams):
    """The Q-Former autoencoder (Dalmonte et al. 2025)."""

    published = (PublishedSize("QFAE", "ct", "none"),)

    hidden_states: tuple[Annotated[int, Field(ge=1, le=40)], ...] = Field(
        min_length=1, description="blocks of the encoder that are read, counted from its end"
    )
    second_encoder: Literal["none", "vit_base_patch8_224.dino"] = Field(
        description="whose tokens come after the teacher's (Table 6)"
    )
    second_weights: str = Field(
        min_length=1, description="timm, random, or a file; unused without a second encoder"
    )
    width: int = Field(ge=16, le=2048, multiple_of=4, description="of queries and decoder")
    queries_side: int = Field(ge=1, le=64, description="G: there are G² learnt queries")
    qformer_heads: int = Field(ge=1, le=32)
    depth: int = Field(ge=1, le=24, description="number of decoder blocks")
    heads: int = Field(ge=1, le=32, description="of the decoder")
    patch_px: int = Field(ge=1, le=64, description="side of the pixels that a query becomes")
    perceptual: Literal["teacher", "vit_large_patch16_224.mae"]
    perceptual_weights: str = Field(
        min_length=1, description="timm, random, or a file; unused with perceptual teacher"
    )
    training_patches: tuple[Annotated[int, Field(ge=4, le=128)], ...] = Field(min_length=1)
    evaluation_patches: tuple[Annotated[int, Field(ge=4, le=128)], ...] = Field(
        min_length=1, description="patch sizes of the perceptual network (Tables 3 and 4)"
    )
    training_layers: tuple[Annotated[int, Field(ge=0, le=40)], ...] = Field(
        min_length=1, description="0-based blocks of a ViT, strides of a CNN"
    )
    evaluation_layers: tuple[Annotated[int, Field(ge=0, le=40)], ...] = Field(min_length=1)
    evaluation: Literal["supplement", "released"] = Field(
        description="a map per patch size and layer, or their product over patch sizes per layer"
    )
    aggregation: Literal["mean", "max"] = Field(description="of the maps at each pixel")
    score: Literal["mean_of_max", "max_of_mean"] = Field(description="Table 2 or Table 5")
    augment: bool = Field(description="augmentation of section 1.4 while training")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        for name, heads in (("qformer_heads", self.qformer_heads), ("heads", self.heads)):
            if self.width % heads:
                raise ValueError(f"{name} must divide width, got {heads} and {self.width}")
        return self

    @model_validator(mode="after")
    def _lists_are_ascending(self) -> Self:
        for name in ("hidden_states", "training_patches", "evaluation_patches",
                     "training_layers", "evaluation_layers"):  # fmt: skip
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must be ascending, each number once: {list(values)}")
        return self
