"""``split`` of params.yaml."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from petct_uad.core.params.base import Fraction, Protocol, Section, Seed, TestPatients


class SplitParams(Section):
    """Which slice goes where."""

    protocol: Protocol
    seed: Seed
    assign: Literal["shuffle", "hash"] = Field(
        description="how patients are divided: evenly, or each by a hash of its name"
    )
    train_fraction: Fraction
    val_fraction: Fraction
    folds: int = Field(ge=0, le=20, description="folds over patients; 0 or 1: none")
    fold: int = Field(ge=0, le=19, description="which fold is the test split, from 0")
    test_patients: TestPatients = Field(
        description="all, the quarter to choose params on, or the others, to report"
    )
    min_lesion_area_mm2: float = Field(ge=0, le=10_000)
    guard_mm: float = Field(ge=0, le=100)
    unlabelled: Literal["normal", "exclude"] = Field(
        description="slices of studies whose finding in studies.csv is unlabelled"
    )
    duplicates: Literal["drop", "keep"] = Field(description="of training pictures, in val and test")

    @model_validator(mode="after")
    def _test_remains(self) -> Self:
        if self.train_fraction + self.val_fraction >= 1:
            raise ValueError("train_fraction + val_fraction must stay below 1: test gets the rest")
        return self

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> Self:
        if self.fold >= max(self.folds, 1):
            raise ValueError(f"fold = {self.fold}: must be below folds = {self.folds}")
        if self.folds > 1 and self.protocol != "patient":
            raise ValueError(f"folds = {self.folds}: folds are of patients; set protocol: patient")
        return self
