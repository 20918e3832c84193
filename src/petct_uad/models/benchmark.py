"""``benchmark`` of params.yaml: which models are trained and evaluated, on which modalities.

A model is its folder: ``models/<name>/<name>.py`` holds its class and ``params.py`` that of its
section, both called after the folder. Nothing else names it, and nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Self, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import VALIDATED, Modality, Section
from petct_uad.core.params.reading import explained
from petct_uad.models.common.params import AnyModelParams, ModelSection

M = TypeVar("M", bound=ModelSection)

MODELS = Path(__file__).parent
SHARED_TEACHER = "teacher"  # the section that rows without a teacher of their own name


@cache
def model_names() -> tuple[str, ...]:
    """Every model there is, by its folder."""
    folders = (path for path in sorted(MODELS.iterdir()) if path.is_dir())
    return tuple(x.name for x in folders if (x / f"{x.name}.py").is_file())


def class_name(model: str) -> str:
    """What the class of a model is called: ``hetero_ae`` gives ``HeteroAe``."""
    return "".join(part.capitalize() for part in model.split("_"))


def params_class(model: str) -> type[AnyModelParams]:
    """The class of a model's section, with what other rooms must know of the model."""
    module = import_module(f"petct_uad.models.{model}.params")
    found: type[AnyModelParams] = getattr(module, f"{class_name(model)}Params")
    return found


def model_folder(model: str) -> Path:
    """Where a model lies in the repository: what a stage that loads it by name depends on."""
    return Path("src/petct_uad/models") / model


def sections_of(model: str) -> tuple[str, ...]:
    """The dotted keys of params.yaml from which a model can be built, its own first."""
    return params_class(model).sections or (f"models.{model}",)


def every_section() -> dict[str, type[AnyModelParams]]:
    """The class of each section of a model, by its dotted key."""
    return {key: params_class(name) for name in model_names() for key in sections_of(name)}


def _known(name: str) -> str:
    if name not in model_names():
        raise ValueError(f"{name!r} is no model; expected one of {', '.join(model_names())}")
    return name


ModelName = Annotated[str, AfterValidator(_known)]


class RunParams(Section):
    """One training: a model, the modality it sees, what it depends on."""

    model: ModelName
    modality: Modality
    params: str
    after: str


class BenchmarkEntry(Section):
    """The rows of one model in the benchmark, one per modality; trained and evaluated together."""

    model: ModelName
    modalities: tuple[Modality, ...] = Field(min_length=1)
    params: str = Field(description="the section of params.yaml that it is built from")
    teacher: str = Field(
        pattern=r"^(teacher|teachers\.[A-Za-z0-9_]+)$",
        description="the section of params.yaml that names its frozen network",
    )
    after: str = Field(description="what must be there before it trains")
    image_size_px: int | None = Field(
        default=None, ge=32, le=1024, description="of its input; by default that of the shards"
    )
    variant: str = Field(
        default="", pattern=r"^[a-z0-9_]*$", max_length=32, description="an ablation's name"
    )
    changes: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="keys of params that these rows have otherwise"
    )

    @property
    def declared(self) -> type[AnyModelParams]:
        """What the model says of itself."""
        return params_class(self.model)

    @property
    def section(self) -> str:
        """What its rows are called after: the model, or the last part of another section."""
        own = self.params == sections_of(self.model)[0]
        return self.model if own else self.params.rpartition(".")[2]

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
            lines = explained(error, TypeAdapter(type(section)), tuple(self.params.split(".")))
            raise ParamsError("; ".join(lines)) from error

    @property
    def trained(self) -> dict[str, RunParams]:
        """The rows that are trained, by name."""
        both = self.declared.sees_both_modalities
        return {
            f"{self.name}-{x}": RunParams(
                model=self.model, modality=x, params=self.params, after=self.after
            )
            for x in self.modalities
            if x != "petct" or both
        }

    @property
    def rows(self) -> dict[str, tuple[str, ...]]:
        """Every row, and the trained ones that it is: itself, or PET and CT, which are fused."""
        names = {x: f"{self.name}-{x}" for x in self.modalities}
        both = (f"{self.name}-pet", f"{self.name}-ct")
        return {name: (name,) if name in self.trained else both for name in names.values()}

    @model_validator(mode="after")
    def _an_ablation_has_a_name(self) -> Self:
        if bool(self.variant) != bool(self.changes):
            raise ValueError("variant and changes: an ablation has both, other rows neither")
        return self

    @model_validator(mode="after")
    def _params_belong_to_model(self) -> Self:
        if self.params not in (sections := sections_of(self.model)):
            allowed = " or ".join(map(repr, sections))
            raise ValueError(f"params must be {allowed} for model {self.model!r}")
        return self

    @model_validator(mode="after")
    def _after_belongs_to_model(self) -> Self:
        if self.after != self.declared.waits_for:
            raise ValueError(f"after must be {self.declared.waits_for!r} for model {self.model!r}")
        return self

    @model_validator(mode="after")
    def _sees_what_it_waits_for(self) -> Self:
        own = self.teacher != SHARED_TEACHER or self.image_size_px is not None
        if own and self.after != VALIDATED:
            raise ValueError(
                f"{self.model} waits for {self.after}, which is made from {SHARED_TEACHER!r} at "
                f"the shards' size: set teacher to {SHARED_TEACHER!r} and leave image_size_px out"
            )
        return self

    @model_validator(mode="after")
    def _modalities_once(self) -> Self:
        if len(set(self.modalities)) < len(self.modalities):
            raise ValueError(f"modalities {list(self.modalities)}: each may stand there once")
        return self

    @model_validator(mode="after")
    def _model_has_these_rows(self) -> Self:
        allowed = self.declared.modalities
        if others := [x for x in self.modalities if x not in allowed]:
            raise ValueError(
                f"modalities: {self.model} has no {' or '.join(others)} row, expected "
                f"modalities: [{', '.join(allowed)}]"
            )
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


def rows_of(benchmark: Mapping[str, BenchmarkEntry]) -> dict[str, str]:
    """The name of every row that is evaluated, and of its entry."""
    return {row: name for name, entry in benchmark.items() for row in entry.rows}
