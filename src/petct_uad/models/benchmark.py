"""``benchmark`` of params.yaml: which models are trained and evaluated, on which modalities."""

from __future__ import annotations

from typing import Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import Modality, Section
from petct_uad.core.params.reading import explained
from petct_uad.models.common.params import ModelSection

M = TypeVar("M", bound=ModelSection)

ModelName = Literal[
    "cmad",
    "hdhkd",
    "scrd4ad",
    "hetero_ae",
    "qfae",
    "patchcore",
    "padim",
    "stfpm",
    "efficient_ad",
    "autoencoder",
    "mkd",
    "cflow",
    "fastflow",
    "ganomaly",
    "inp_former",
    "super_simple_net",
]
# What must be there before a row: the checked data, or HDHKD's teacher.
After = Literal["metrics/validation.json", "models/distil"]
SectionName = Literal[
    "model",
    "models.patchcore",
    "models.hdhkd",
    "models.scrd4ad",
    "models.hetero_ae",
    "models.qfae",
    "models.padim",
    "models.stfpm",
    "models.rd4ad",
    "models.efficient_ad",
    "models.autoencoder",
    "models.vae",
    "models.mkd",
    "models.cflow",
    "models.fastflow",
    "models.ganomaly",
    "models.inp_former",
    "models.super_simple_net",
]
# Where a model has rows under another name than its own, with a section of their own.
_MODEL_OF: dict[str, ModelName] = {"rd4ad": "scrd4ad", "vae": "autoencoder"}


class RunParams(Section):
    """One training: a model, the modality it sees, what it depends on."""

    model: ModelName
    modality: Modality
    params: SectionName
    after: After


class BenchmarkEntry(Section):
    """The rows of one model in the benchmark, one per modality; trained and evaluated together."""

    model: ModelName
    modalities: tuple[Modality, ...] = Field(min_length=1)
    params: SectionName
    after: After
    variant: str = Field(
        default="", pattern=r"^[a-z0-9_]*$", max_length=32, description="an ablation's name"
    )
    changes: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="keys of params that these rows have otherwise"
    )

    @property
    def section(self) -> str:
        """The name of its section of params."""
        return "cmad" if self.params == "model" else self.params.removeprefix("models.")

    @property
    def name(self) -> str:
        """What its rows are called before the modality: after its section, and its variant."""
        return f"{self.section}_{self.variant}" if self.variant else self.section

    def changed(self, section: M) -> M:
        """Its section of params as these rows have it.

        Raises:
            ParamsError: the section has no such key, or the key refuses the value.
        """
        try:
            return type(section).model_validate(section.model_dump() | self.changes)
        except ValidationError as error:
            lines = explained(error, type(section), tuple(self.params.split(".")))
            raise ParamsError("; ".join(lines)) from error

    @model_validator(mode="after")
    def _an_ablation_has_a_name(self) -> Self:
        if bool(self.variant) != bool(self.changes):
            raise ValueError("variant and changes: an ablation has both, other rows neither")
        return self

    @property
    def trained(self) -> dict[str, RunParams]:
        """The rows that are trained, by name."""
        alone = [x for x in self.modalities if x != "petct" or self.model == "cmad"]
        return {
            f"{self.name}-{x}": RunParams(
                model=self.model, modality=x, params=self.params, after=self.after
            )
            for x in alone
        }

    @property
    def rows(self) -> dict[str, tuple[str, ...]]:
        """Every row, and the trained ones that it is: itself, or PET and CT, which are fused."""
        names = {x: f"{self.name}-{x}" for x in self.modalities}
        both = (f"{self.name}-pet", f"{self.name}-ct")
        return {name: (name,) if name in self.trained else both for name in names.values()}

    @model_validator(mode="after")
    def _params_belong_to_model(self) -> Self:
        if _MODEL_OF.get(self.section, self.section) != self.model:
            expected = "model" if self.model == "cmad" else f"models.{self.model}"
            raise ValueError(f"params must be {expected!r} for model {self.model!r}")
        return self

    @model_validator(mode="after")
    def _after_belongs_to_model(self) -> Self:
        expected = "models/distil" if self.model == "hdhkd" else "metrics/validation.json"
        if self.after != expected:
            raise ValueError(f"after must be {expected!r} for model {self.model!r}")
        return self

    @model_validator(mode="after")
    def _modalities_once(self) -> Self:
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities {list(self.modalities)}: each may stand there once")
        return self

    @model_validator(mode="after")
    def _fusion_has_both(self) -> Self:
        lacking = {part for parts in self.rows.values() for part in parts} - set(self.trained)
        if lacking:
            raise ValueError(
                f"{self.model} sees one modality; its petct row fuses the maps of its pet and ct "
                f"rows, so list all three: modalities: [pet, ct, petct]"
            )
        return self


def rows_of(benchmark: dict[str, BenchmarkEntry]) -> dict[str, str]:
    """The name of every row that is evaluated, and of its family."""
    return {row: name for name, family in benchmark.items() for row in family.rows}
