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
from petct_uad.models.autoencoder.params import AutoencoderParams
from petct_uad.models.benchmark import BenchmarkEntry, rows_of
from petct_uad.models.cflow.params import CflowParams
from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.common.params import AnyModelParams
from petct_uad.models.efficient_ad.params import EfficientAdParams
from petct_uad.models.fastflow.params import FastflowParams
from petct_uad.models.ganomaly.params import GanomalyParams
from petct_uad.models.hdhkd.params import HdhkdParams
from petct_uad.models.hdhkd.teacher.params import DistilParams
from petct_uad.models.hetero_ae.params import HeteroAeParams
from petct_uad.models.inp_former.params import InpFormerParams
from petct_uad.models.mkd.params import MkdParams
from petct_uad.models.padim.params import PadimParams
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.models.qfae.params import QfaeParams
from petct_uad.models.scrd4ad.params import Scrd4adParams
from petct_uad.models.stfpm.params import StfpmParams
from petct_uad.models.super_simple_net.params import SuperSimpleNetParams
from petct_uad.phantom.params import PhantomParams
from petct_uad.preprocess.params import PreprocessParams
from petct_uad.registration.params import RegisterParams
from petct_uad.split.params import SplitParams
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.params import TrainParams
from petct_uad.validation.params import ValidateParams

_NEED_STRIDES = ("patchcore", "scrd4ad", "hetero_ae", "padim", "stfpm", "efficient_ad", "mkd",
                 "cflow", "fastflow", "autoencoder", "ganomaly",
                 "super_simple_net")  # fmt: skip


class ModelsParams(Section):
    """Every model but the proposed one."""

    patchcore: PatchcoreParams
    hdhkd: HdhkdParams
    scrd4ad: Scrd4adParams
    hetero_ae: HeteroAeParams
    qfae: QfaeParams
    padim: PadimParams
    stfpm: StfpmParams
    rd4ad: Scrd4adParams
    efficient_ad: EfficientAdParams
    autoencoder: AutoencoderParams
    vae: AutoencoderParams
    mkd: MkdParams
    cflow: CflowParams
    fastflow: FastflowParams
    ganomaly: GanomalyParams
    inp_former: InpFormerParams
    super_simple_net: SuperSimpleNetParams


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
    train: TrainParams
    model: CmadParams
    models: ModelsParams
    evaluate: EvaluateParams
    distil: DistilParams
    benchmark: dict[str, BenchmarkEntry] = Field(min_length=1)

    @model_validator(mode="after")
    def _image_fits_teacher(self) -> Self:
        patch = 14 if self.teacher.name.startswith("vit_") else 16
        if self.preprocess.image_size_px % patch:
            raise ValueError(
                f"preprocess.image_size_px = {self.preprocess.image_size_px}: "
                f"teacher {self.teacher.name} needs a multiple of {patch}"
            )
        return self

    @model_validator(mode="after")
    def _teacher_has_strides(self) -> Self:
        rows = [name for name, row in self.benchmark.items() if row.model in _NEED_STRIDES]
        if rows and self.teacher.name.startswith("vit_"):
            raise ValueError(
                f"benchmark.{rows[0]}: this model needs a convolutional teacher, got "
                f"teacher.name = {self.teacher.name!r}; drop the row or change the teacher"
            )
        return self

    @model_validator(mode="after")
    def _families_are_called_by_their_params(self) -> Self:
        for name, family in self.benchmark.items():
            if name != family.name:
                raise ValueError(f"benchmark.{name} must be called {family.name}")
        return self

    @model_validator(mode="after")
    def _changes_fit_their_section(self) -> Self:
        for name, family in self.benchmark.items():
            try:
                family.changed(self.model_section(family.section))
            except ParamsError as error:
                raise ValueError(f"benchmark.{name}.changes: {error}") from error
        return self

    @property
    def rows(self) -> dict[str, str]:
        """The name of every row that is evaluated, and of its family."""
        return rows_of(self.benchmark)

    def model_section(self, name: str) -> AnyModelParams:
        """The section that the rows of this :attr:`BenchmarkEntry.section` depend on."""
        section: AnyModelParams = self.model if name == "cmad" else getattr(self.models, name)
        return section


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
