"""``train`` of params.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from petct_uad.core.params.base import Device, Section, Seed


class TrainParams(Section):
    """What every training run shares."""

    seeds: tuple[Seed, ...] = Field(min_length=1, description="one training per seed")
    device: Device
    precision: Literal["auto", "float32", "bfloat16"]
    deterministic: bool = Field(description="only algorithms that give the same bytes each time")
    tf32: bool = Field(description="float32 products and convolutions in TF32 on CUDA")
    launcher: str = Field(pattern=r"^(python|torchrun --nproc-per-node [1-9][0-9]*)$")
    validate_every: int = Field(ge=1, description="iterations between validations")
    patience: int = Field(ge=0, description="validations without a gain before stopping; 0: never")
    checkpoint_every: int = Field(ge=0, description="iterations between checkpoints; 0: none")

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"train.seeds = {list(self.seeds)}: each seed once")
        return self
