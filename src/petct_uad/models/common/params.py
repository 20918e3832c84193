"""What the sections of several models share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from petct_uad.core.claims import Claim
from petct_uad.core.params.base import VALIDATED, Modality, Positive, Section

# How the maps of several modalities become one: see ``models/common/fusion.py``.
Fusion = Literal["max", "sum", "peak", "min_p", "raw_sum"]
Strides = Annotated[tuple[Literal[4, 8, 16, 32], ...], Field(min_length=1)]
Enlarge = Annotated[int, Field(ge=1, le=4, description="times, of the images that a teacher sees")]


class ScheduleParams(Section):
    """One gradient run: optimiser, learning rate over time, clipping."""

    iterations: int = Field(ge=0, le=10_000_000, description="gradient steps; 0: see epochs")
    epochs: int = Field(
        ge=0, le=100_000, description="passes over the training normals; 0: see iterations"
    )
    batch_size: int = Field(ge=1, le=4096)
    optimiser: Literal["stable_adamw", "adam"]
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    adam_eps: Positive
    learning_rate: Positive
    decay: Literal["cosine", "step", "one_cycle", "constant"]
    final_learning_rate: Positive
    warmup_iterations: int = Field(ge=0)
    gradient_clip: float = Field(ge=0, description="largest gradient norm; 0: no clipping")

    def counted(self, slices: int) -> Self:
        """The same in iterations, where it counts passes over so many training normals.

        All passes together are rounded up to whole batches, since a batch may span two of them.
        """
        if self.iterations:
            return self
        iterations = math.ceil(self.epochs * slices / self.batch_size)
        return self.model_copy(update={"iterations": iterations, "epochs": 0})

    @model_validator(mode="after")
    def _counts_in_one_way(self) -> Self:
        if bool(self.iterations) == bool(self.epochs):
            raise ValueError(
                f"iterations = {self.iterations} and epochs = {self.epochs}: exactly one counts, "
                "so set the other to 0"
            )
        return self


@dataclass(frozen=True)
class PublishedSize:
    """A line of a paper's table about the size of its model; None where it prints nothing.

    Attributes:
        title: how a table of ours calls it.
        modality: what it sees.
        where: the paper's table.
        parameters_m: its parameters, in millions.
        operations_g: its column called FLOPs, in 10^9.
        changes: keys of the section that differ from the paper's preset.
    """

    title: str
    modality: Modality
    where: str
    parameters_m: float | None = None
    operations_g: float | None = None
    changes: Mapping[str, object] = field(default_factory=dict)


class ModelSection(Section):
    """What the sections of all models share, and what other rooms must know of one.

    Attributes:
        sections: the dotted keys of params.yaml that are of this class; by default
            ``models.<folder>``. Rows of the first are called after the model, those of another
            after its last part.
        sees_both_modalities: is there one network for PET and CT together? The petct row of any
            other model joins the maps of its pet and ct rows.
        modalities: which of its rows there can be; a model that tells one modality from the other
            has no row of one.
        needs_cnn_teacher: does a ViT have nothing for it?
        waits_for: what must be there before it trains: that the data passed, or what another
            stage makes of the teacher.
        published: sizes that its paper prints, which ``petct models`` shows beside ours.
        claims: what its paper says of its rows, which ``compare`` judges where they were run.
    """

    sections: ClassVar[tuple[str, ...]] = ()
    sees_both_modalities: ClassVar[bool] = False
    modalities: ClassVar[tuple[Modality, ...]] = ("pet", "ct", "petct")
    needs_cnn_teacher: ClassVar[bool] = False
    waits_for: ClassVar[str] = VALIDATED
    published: ClassVar[tuple[PublishedSize, ...]] = ()
    claims: ClassVar[tuple[Claim, ...]] = ()

    map_sigma_px: float = Field(ge=0, le=32, description="Gaussian on the map, at 256 px")

    def is_as_published(self) -> bool:
        """Is this the model that the paper's claims are about?"""
        return True


class GradientParams(ModelSection):
    """A model that learns by gradient descent."""

    schedule: ScheduleParams


class FittedParams(ModelSection):
    """A model that is fitted in one pass."""

    batch_size: int = Field(ge=1, le=4096)


class FeatureParams(ModelSection):
    """A model that reads the CNN's deepest map of each of some strides."""

    needs_cnn_teacher = True

    strides: Strides


class TokenParams(GradientParams):
    """A model that reads the teacher's tokens."""

    width: int = Field(ge=16, le=2048, description="token width d of a projected CNN teacher")
    heads: int = Field(ge=1, le=32)

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, got {self.heads} and {self.width}")
        return self


# The section of any model: it learns in one of two ways.
AnyModelParams = GradientParams | FittedParams
