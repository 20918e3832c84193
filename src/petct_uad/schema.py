"""The whole of params.yaml, with the checks between sections; no stage but ``params`` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from petct_uad.core.errors import ParamsError
from petct_uad.core.params.base import DatasetName, Section, Workers
from petct_uad.core.params.reading import PARAMS_FILE, ParamsFile
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.ingest.params import IngestParams
from petct_uad.models.benchmark import SHARED_TEACHER, BenchmarkEntry, every_section, rows_of
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.common.params import AnyModelParams
from petct_uad.models.hdhkd.teacher.params import DistilParams
from petct_uad.phantom.params import PhantomParams
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.registration.params import RegisterParams
from petct_uad.scoring.params import ScoreParams
from petct_uad.split.params import SplitParams
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.params import TrainParams
from petct_uad.validation.params import ValidateParams

_MODELS = "models."
_CNN_MULTIPLE = 16  # the stride of its deepest maps that models read


class ModelsParams(Section):
    """Every model but the proposed one: a key for each section that a folder in models declares."""

    __annotations__ = {
        key.removeprefix(_MODELS): kind
        for key, kind in every_section().items()
        if key.startswith(_MODELS)
    }


class Params(Section):
    """The whole of params.yaml."""

    dataset: DatasetName
    workers: Workers
    phantom: PhantomParams
    ingest: IngestParams
    register_: RegisterParams = Field(alias="register")
    split: SplitParams
    preprocess: PreprocessParams
    validate_: ValidateParams = Field(alias="validate")
    teacher: TeacherParams
    teachers: dict[str, TeacherParams] = Field(
        description="frozen networks that single rows may name instead"
    )
    train: TrainParams
    model: CmadParams
    models: ModelsParams
    score: ScoreParams
    evaluate: EvaluateParams
    distil: DistilParams
    benchmark: dict[str, BenchmarkEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_fit_their_teacher(self) -> Self:
        for name, entry in self.benchmark.items():
            teacher = self.teacher_of(entry)
            vit = teacher.name.startswith("vit_")
            if vit and entry.declared.needs_cnn_teacher:
                raise ValueError(
                    f"benchmark.{name}: this model needs a convolutional teacher, got "
                    f"{entry.teacher}.name = {teacher.name!r}; drop the row or change its teacher"
                )
            side = entry.image_size_px or self.preprocess.image_size_px
            if side > self.preprocess.image_size_px:
                raise ValueError(
                    f"benchmark.{name}.image_size_px = {side}: must be at most "
                    f"preprocess.image_size_px = {self.preprocess.image_size_px}, the size of the "
                    "shards; raise that one"
                )
            if not vit and side % _CNN_MULTIPLE:
                raise ValueError(
                    f"benchmark.{name}: an input of {side} px; teacher {teacher.name} needs a "
                    f"multiple of {_CNN_MULTIPLE}"
                )
        return self

    @model_validator(mode="after")
    def _no_neighbour_of_a_normal_slice_is_abnormal(self) -> Self:
        if self.preprocess.neighbours_mm > self.split.guard_mm:
            raise ValueError(
                f"preprocess.neighbours_mm = {self.preprocess.neighbours_mm:g}: must be at most "
                f"split.guard_mm = {self.split.guard_mm:g}, or a normal slice is seen with a lesion"
            )
        return self

    @model_validator(mode="after")
    def _entries_are_called_by_their_params(self) -> Self:
        for name, entry in self.benchmark.items():
            if name != entry.name:
                raise ValueError(f"benchmark.{name} must be called {entry.name}")
        return self

    @model_validator(mode="after")
    def _changes_fit_their_section(self) -> Self:
        for name, entry in self.benchmark.items():
            try:
                entry.changed(self.model_section(entry.params))
            except ParamsError as error:
                raise ValueError(f"benchmark.{name}.changes: {error}") from error
        return self

    @property
    def rows(self) -> dict[str, str]:
        """The name of every row that is evaluated, and of its entry in ``benchmark``."""
        return rows_of(self.benchmark)

    def model_section(self, key: str) -> AnyModelParams:
        """What lies under the dotted key of a model's section."""
        section: Any = self
        for part in key.split("."):
            section = getattr(section, part)
        found: AnyModelParams = section
        return found

    def teacher_of(self, entry: BenchmarkEntry) -> TeacherParams:
        """The frozen network of an entry's rows.

        Raises:
            ValueError: it names one that ``teachers`` does not hold.
        """
        if entry.teacher == SHARED_TEACHER:
            return self.teacher
        name = entry.teacher.rpartition(".")[2]
        if name not in self.teachers:
            raise ValueError(
                f"benchmark.{entry.name}.teacher = {entry.teacher!r}: teachers has no {name!r}; "
                f"expected {SHARED_TEACHER!r} or one of {', '.join(self.teachers) or 'none'}"
            )
        return self.teachers[name]


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: naming each wrong key, its value and what is allowed there.
    """
    return ParamsFile.read(path).section(Params)


def parse_params(text: str, path: Path) -> Params:
    """Check the text of a params.yaml; ``path`` is named in messages.

    Raises:
        ParamsError: naming each wrong key, its value and what is allowed there.
    """
    return ParamsFile.parse(text, path).section(Params)


def schema() -> dict[str, Any]:
    """The JSON schema of params.yaml, for editors and for the ``params`` stage's output."""
    return Params.model_json_schema()
