"""params.yaml as frozen, strict types: every key, its unit, its range and its source.

Every stage calls :func:`load_params` before anything else, so a wrong key or value stops the
pipeline within a second and the message names the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from petct_uad.errors import ParamsError

PARAMS_FILE = Path("params.yaml")

Modality = Literal["pet", "ct", "petct"]
Protocol = Literal["patient", "cmad"]
ModelName = Literal["cmad", "patchcore"]
ScanBackend = Literal["auto", "reference", "numba", "cuda"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Section(BaseModel):
    """A group of keys: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class PhantomParams(Section):
    """The digital thorax cohort."""

    patients: int = Field(ge=4, le=500, description="number of digital patients")
    seed: Seed
    extent_mm: float = Field(ge=80, le=300, description="axial field of view")
    ct_matrix: int = Field(ge=64, le=512, description="CT rows and columns over 500 mm")
    max_shift_mm: float = Field(ge=0, le=30, description="largest PET shift along each axis")
    max_rotation_deg: float = Field(ge=0, le=10, description="largest PET rotation per axis")


class IngestParams(Section):
    """Reading DICOM."""

    labels: Literal["auto", "seg", "rtstruct"]
    label_roi: str = Field(min_length=1, description="regular expression on ROI or segment names")
    on_reject: Literal["report", "stop"]
    max_gap_mm: float = Field(ge=0, le=5, description="tolerance on even slice spacing")
    workers: int = Field(ge=0, le=256)


class RegisterParams(Section):
    """PET onto the CT-anchored grid."""

    refine: Literal["rigid", "none"]
    spacing_mm: float = Field(ge=0.5, le=10, description="in-plane spacing of the target grid")
    max_displacement_mm: float = Field(ge=0, le=100)
    histogram_bins: int = Field(ge=8, le=256)
    sampling_fraction: float = Field(gt=0, le=1)
    iterations: int = Field(ge=1, le=1000)
    seed: Seed
    workers: int = Field(ge=0, le=256)


class SplitParams(Section):
    """Which slice goes where."""

    protocol: Protocol
    seed: Seed
    train_fraction: Fraction
    val_fraction: Fraction
    min_lesion_area_mm2: float = Field(ge=0, le=10_000)
    guard_mm: float = Field(ge=0, le=100)
    unlabelled: Literal["normal", "exclude"]

    @model_validator(mode="after")
    def _test_remains(self) -> Self:
        if self.train_fraction + self.val_fraction >= 1:
            raise ValueError("train_fraction + val_fraction must stay below 1: test gets the rest")
        return self


class PreprocessParams(Section):
    """From registered volumes to model input."""

    image_size_px: int = Field(ge=32, le=1024, multiple_of=2)
    roi_margin_mm: float = Field(ge=0, le=100)
    body_threshold_hu: float = Field(ge=-900, le=0)
    ct_low_hu: float = Field(ge=-1100, le=3000)
    ct_high_hu: float = Field(ge=-1000, le=3100)
    suv_high: float = Field(gt=0, le=100, description="SUVbw that maps to 1")
    bilateral_ct: bool
    bilateral_pet: bool
    bilateral_sigma_mm: float = Field(gt=0, le=20)
    bilateral_range_fraction: float = Field(gt=0, le=1, description="of the intensity window")
    workers: int = Field(ge=0, le=256)

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if self.ct_low_hu >= self.ct_high_hu:
            raise ValueError("ct_low_hu must be below ct_high_hu")
        return self


class ValidateParams(Section):
    """Bounds of the expectations."""

    max_lost_study_fraction: float = Field(ge=0, le=1)
    min_train_slices: int = Field(ge=1)
    max_suv: float = Field(gt=0)
    max_spacing_mm: float = Field(gt=0)


class TeacherParams(Section):
    """The frozen network."""

    name: Literal[
        "efficientnet_lite0",
        "vit_base_patch14_reg4_dinov2.lvd142m",
        "vit_large_patch14_reg4_dinov2.lvd142m",
        "wide_resnet50_2",
    ]
    weights: str = Field(min_length=1, description="bundled, timm, random, or a safetensors file")


class TrainParams(Section):
    """What every training run shares."""

    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    validate_every: int = Field(ge=1, description="iterations between validations")


class ScheduleParams(Section):
    """One gradient run: StableAdamW, warm-up, cosine (CMAD section 5.1)."""

    iterations: int = Field(ge=1, le=10_000_000)
    batch_size: int = Field(ge=1, le=4096)
    learning_rate: Positive
    final_learning_rate: Positive
    warmup_iterations: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    adam_eps: Positive
    gradient_clip: Positive


class CmadParams(Section):
    """CMAD (Xu et al. 2026): the proposed PET/CT model."""

    cmpt: int = Field(ge=1, le=64, description="number of cross-modality prior tokens (Fig. 6)")
    cmh: bool = Field(description="cross-modality hybrid module (Eq. 3)")
    gfr: bool = Field(description="global fusion refinement (Eqs. 5-9)")
    levels: int = Field(ge=1, le=9, description="number of reconstructed levels")
    width: int = Field(ge=16, le=2048, description="token width d of a projected CNN teacher")
    heads: int = Field(ge=1, le=32)
    ssm_state: int = Field(ge=1, le=64)
    ssm_expand: int = Field(ge=1, le=4)
    fusion: Literal["calibrated", "sum"]
    score: Literal["top", "max", "mean"]
    score_top_fraction: float = Field(gt=0, le=1)
    map_sigma_px: float = Field(ge=0, le=32, description="Gaussian on the map, at 256 px")
    scan: ScanBackend
    schedule: ScheduleParams

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads must divide width, got {self.heads} and {self.width}")
        return self


class PatchcoreParams(Section):
    """PatchCore (Roth et al. 2022) through anomalib."""

    strides: tuple[Literal[4, 8, 16, 32], ...] = Field(min_length=1)
    max_patches: int = Field(ge=100, description="patches kept before the coreset search")
    coreset_fraction: float = Field(gt=0, le=1)
    neighbours: int = Field(ge=1, le=100)
    map_sigma_px: float = Field(ge=0, le=32, description="Gaussian on the map, at 256 px")
    batch_size: int = Field(ge=1, le=4096)


class ModelsParams(Section):
    """Every model but the proposed one."""

    patchcore: PatchcoreParams


class EvaluateParams(Section):
    """Thresholds and intervals."""

    false_positive_rate: Fraction
    bootstrap_samples: int = Field(ge=10, le=100_000)
    confidence: Fraction
    seed: Seed


class RunParams(Section):
    """One row of the benchmark: a model, the modalities it sees, the keys it depends on."""

    model: ModelName
    modality: Modality
    params: Literal["model", "models.patchcore"]

    @model_validator(mode="after")
    def _params_belong_to_model(self) -> Self:
        expected = "model" if self.model == "cmad" else f"models.{self.model}"
        if self.params != expected:
            raise ValueError(f"params must be {expected!r} for model {self.model!r}")
        return self


class Params(Section):
    """The whole of params.yaml."""

    dataset: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)
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
    benchmark: dict[str, RunParams] = Field(min_length=1)

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
    def _patchcore_has_strides(self) -> Self:
        rows = [name for name, run in self.benchmark.items() if run.model == "patchcore"]
        if rows and self.teacher.name.startswith("vit_"):
            raise ValueError(
                f"benchmark.{rows[0]}: patchcore needs a convolutional teacher, got "
                f"teacher.name = {self.teacher.name!r}; drop the row or change the teacher"
            )
        return self

    @model_validator(mode="after")
    def _run_names_say_what_runs(self) -> Self:
        for name, run in self.benchmark.items():
            if name != f"{run.model}-{run.modality}":
                raise ValueError(f"benchmark.{name} must be called {run.model}-{run.modality}")
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: naming each wrong key, its value and what is allowed there.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found. Run stages from the repository's root.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: is not valid YAML: {error}") from error
    try:
        # Through JSON, since strict mode then still lets a list become a tuple.
        return Params.model_validate_json(json.dumps(content))
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise ParamsError("\n".join(f"{path}: {line}" for line in lines)) from error


def find_run(benchmark: dict[str, RunParams], name: str) -> RunParams:
    """One row of the benchmark.

    Raises:
        ParamsError: there is no such row.
    """
    if name not in benchmark:
        raise ParamsError(f"benchmark.{name}: no such run; expected one of {', '.join(benchmark)}")
    return benchmark[name]


def schema() -> dict[str, Any]:
    """The JSON schema of params.yaml, for editors and for the ``params`` stage's output."""
    return Params.model_json_schema()


def _explain(detail: ErrorDetails) -> str:
    key = ".".join(str(part) for part in detail["loc"]) or "params"
    if detail["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(detail["loc"][-1]), _siblings(detail["loc"]), n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        allowed = ", ".join(_siblings(detail["loc"]))
        return f"{key} = {detail['input']!r}: unknown key.{hint} Allowed here: {allowed}"
    if detail["type"] == "missing":
        return f"{key}: missing; expected {_allowed(detail['loc'])}"
    if detail["type"] == "value_error":
        return f"{key}: {detail['ctx']['error']}"
    return f"{key} = {_shown(detail['input'])}: expected {_allowed(detail['loc'])}"


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    return sorted(_node(location[:-1]).get("properties", {}))


def _node(location: tuple[int | str, ...]) -> dict[str, Any]:
    """The JSON-schema node at a key's location, references followed."""
    root = schema()
    node: dict[str, Any] = root
    for part in location:
        inner = (
            node.get("items", {})
            if isinstance(part, int)
            else node.get("properties", {}).get(part, node.get("additionalProperties", {}))
        )
        node = inner if isinstance(inner, dict) else {}
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def _allowed(location: tuple[int | str, ...]) -> str:
    """What a key accepts, in words: ``an integer, at least 1, at most 64``."""
    node = _node(location)
    if "enum" in node or "const" in node:
        return "one of " + ", ".join(map(repr, node.get("enum", [node.get("const")])))
    kinds = {"integer": "an integer", "number": "a number", "boolean": "true or false",
             "string": "a string", "object": "a group of keys", "array": "a list"}  # fmt: skip
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most",
             "exclusiveMaximum": "below", "multipleOf": "a multiple of", "pattern": "matching",
             "minLength": "of length at least", "maxLength": "of length at most",
             "minItems": "of at least (items)"}  # fmt: skip
    parts = [kinds.get(node.get("type", ""), "another value")]
    parts += [f"{word} {node[name]}" for name, word in words.items() if name in node]
    return ", ".join(parts)
