"""params.yaml as frozen, strict types: every key, its unit, its range and its source.

Every stage calls :func:`load_params` before anything else, so a wrong key or value stops the
pipeline within a second and the message names the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from petct_uad.errors import ParamsError

PARAMS_FILE = Path("params.yaml")

Modality = Literal["pet", "ct", "petct"]
Protocol = Literal["patient", "cmad"]
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
ScanBackend = Literal["auto", "reference", "numba", "cuda"]
# What must be there before a row: the checked data, or HDHKD's teacher.
After = Literal["metrics/validation.json", "models/distil"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Strides = Annotated[tuple[Literal[4, 8, 16, 32], ...], Field(min_length=1)]
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

    labels: Literal["auto", "seg", "rtstruct", "csv"]
    label_roi: str = Field(min_length=1, description="regular expression on ROI or segment names")
    suv: Literal["bw", "lbm", "bsa"] = Field(description="what concentrations are normalised to")
    pseudonyms: Literal["auto", "public", "secret"]
    key: str = Field(
        default="any", pattern="^(any|k-[0-9a-f]{16})$", description="fingerprint, petct key show"
    )
    on_reject: Literal["report", "stop"]
    max_gap_mm: float = Field(ge=0, le=5, description="tolerance on even slice spacing")
    workers: int = Field(ge=0, le=256)


class RegisterParams(Section):
    """PET onto the CT-anchored grid."""

    refine: Literal["none", "auto", "rigid", "affine", "bspline"]
    spacing_mm: float = Field(ge=0.5, le=10, description="in-plane spacing of the target grid")
    body_threshold_hu: float = Field(ge=-900, le=0)
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
    folds: int = Field(ge=0, le=20, description="folds over patients; 0 or 1: none")
    fold: int = Field(ge=0, le=19, description="which fold is the test split, from 0")
    min_lesion_area_mm2: float = Field(ge=0, le=10_000)
    guard_mm: float = Field(ge=0, le=100)
    unlabelled: Literal["normal", "exclude"]
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


class PreprocessParams(Section):
    """From registered volumes to model input."""

    image_size_px: int = Field(ge=32, le=1024, multiple_of=2)
    roi_margin_mm: float = Field(ge=0, le=100)
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
    max_label_imbalance: float = Field(ge=0, le=1, description="of shares, between scanners")
    near_duplicate_correlation: float = Field(ge=0.9, le=1, description="of 16 x 16 block means")
    drift_alpha: float = Field(gt=0, lt=1, description="after Holm's correction")
    workers: int = Field(ge=0, le=256)


class TeacherParams(Section):
    """The frozen network."""

    name: Literal[
        "efficientnet_lite0",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnext50_32x4d",
        "wide_resnet50_2",
        "wide_resnet101_2",
        "vit_base_patch14_reg4_dinov2.lvd142m",
        "vit_large_patch14_reg4_dinov2.lvd142m",
    ]
    weights: str = Field(min_length=1, description="bundled, timm, random, or a safetensors file")


class TrainParams(Section):
    """What every training run shares."""

    seeds: tuple[Seed, ...] = Field(min_length=1, description="one training per seed")
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    launcher: str = Field(pattern=r"^(python|torchrun --nproc-per-node [1-9][0-9]*)$")
    validate_every: int = Field(ge=1, description="iterations between validations")
    patience: int = Field(ge=0, description="validations without a gain before stopping; 0: never")
    checkpoint_every: int = Field(ge=0, description="iterations between checkpoints; 0: none")

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"train.seeds = {list(self.seeds)}: each seed once")
        return self


class ScheduleParams(Section):
    """One gradient run: optimiser, learning rate over time, clipping."""

    iterations: int = Field(ge=1, le=10_000_000)
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


class ModelSection(Section):
    """What the sections of all models share."""

    map_sigma_px: float = Field(ge=0, le=32, description="Gaussian on the map, at 256 px")


class GradientParams(ModelSection):
    """A model that learns by gradient descent."""

    schedule: ScheduleParams


class FittedParams(ModelSection):
    """A model that is fitted in one pass."""

    batch_size: int = Field(ge=1, le=4096)


class FeatureParams(ModelSection):
    """A model that reads the CNN's deepest map of each of some strides."""

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


class CmadParams(TokenParams):
    """CMAD (Xu et al. 2026): the proposed PET/CT model."""

    cmpt: int = Field(ge=1, le=64, description="number of cross-modality prior tokens (Fig. 6)")
    cmh: bool = Field(description="cross-modality hybrid module (Eq. 3)")
    gfr: bool = Field(description="global fusion refinement (Eqs. 5-9)")
    levels: int = Field(ge=1, le=9, description="number of reconstructed levels")
    ssm_state: int = Field(ge=1, le=64)
    ssm_expand: int = Field(ge=1, le=4)
    fusion: Literal["calibrated", "sum"]
    score: Literal["top", "max", "mean"]
    score_top_fraction: float = Field(gt=0, le=1)
    scan: ScanBackend


class PatchcoreParams(FeatureParams, FittedParams):
    """PatchCore (Roth et al. 2022) through anomalib."""

    max_patches: int = Field(ge=100, description="patches kept before the coreset search")
    coreset_fraction: float = Field(gt=0, le=1)
    neighbours: int = Field(ge=1, le=100)


class HdhkdParams(GradientParams):
    """HDHKD: hybrid dual-heterogeneous knowledge distillation."""

    encoder: Literal[
        "efficientnet_lite0",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnext50_32x4d",
        "wide_resnet50_2",
    ] = Field(description="the student's encoder (Table VI)")
    encoder_weights: str = Field(
        min_length=1, description="initial: bundled, timm, random, or a safetensors file"
    )
    lateral_width: int = Field(ge=8, le=1024, description="channels of a lateral")
    width: int = Field(ge=32, le=2048, multiple_of=32, description="of the conv branch")
    conv_branch: bool = Field(description="Conv Upsample branch (Eq. 3, Table V)")
    mamba_branch: bool = Field(description="Mamba UpNet branch (Algorithm 1, Table V)")
    multi_feature: bool = Field(description="Multi-Feature Model (Eq. 4, Table V)")
    ss2d: bool = Field(description="SS2D inside Mamba UpNet (Table V)")
    decoder: Literal["mamba", "fcn", "transformer", "conv"] = Field(
        description="what mixes tokens in Mamba UpNet's place (Table VII)"
    )
    blocks: int = Field(ge=1, le=16, description="Mamba UpNet blocks")
    ssm_state: int = Field(ge=1, le=64)
    dropout: float = Field(ge=0, lt=1)
    error: Literal["squared", "relative"] = Field(
        description="on the map: the squared difference (paper), or that over the teacher's energy"
    )
    scan: ScanBackend

    @model_validator(mode="after")
    def _some_branch_decodes(self) -> Self:
        if not (self.conv_branch or self.mamba_branch):
            raise ValueError("conv_branch and mamba_branch: at least one must be true")
        return self

    @model_validator(mode="after")
    def _only_mamba_has_ss2d(self) -> Self:
        if not self.ss2d and self.decoder != "mamba":
            raise ValueError(f"ss2d = false: says nothing with decoder = {self.decoder!r}")
        return self


class Scrd4adParams(GradientParams):
    """SCRD4AD (Li et al. 2025): scale-aware contrastive reverse distillation."""

    contrastive: bool = Field(description="noisy path and Eq. 2's denominator (Table 2)")
    scale_aware: bool = Field(description="learnt weights of the scales, Eq. 3 (Table 2)")
    variant: Literal["equation", "released"] = Field(description="Eq. 4, or the published code")
    noise: Literal["simplex", "gaussian"] = Field(description="of the noisy path (Table 3)")
    noise_intensity: float = Field(gt=0, le=10, description="lambda (Fig. 3)")
    reconstruction_weight: float = Field(ge=0, le=100, description="of Eq. 1 beside Eq. 4; paper 0")
    width: int = Field(ge=4, le=512, description="planes of the student at stride 4; RD4AD: 64")
    score: Literal["mean", "top", "max"]
    score_top_fraction: float = Field(gt=0, le=1)


class HeteroAeParams(GradientParams):
    """Hetero-AE (Lu et al. 2024): a CNN encoder and a hybrid CNN-Transformer decoder."""

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


class QfaeParams(GradientParams):
    """The Q-Former autoencoder (Dalmonte et al. 2025)."""

    hidden_states: tuple[Annotated[int, Field(ge=1, le=40)], ...] = Field(
        min_length=1, description="blocks of the encoder that are read, counted from its end"
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


class PadimParams(FeatureParams, FittedParams):
    """PaDiM (Defard et al. 2021): a Gaussian of features at every place."""

    features: int = Field(ge=1, le=4096, description="channels drawn at random; ResNet-18: 100")


class StfpmParams(FeatureParams, GradientParams):
    """STFPM (Wang et al. 2021): a student of the teacher's own shape."""


class EfficientAdParams(FeatureParams, GradientParams):
    """EfficientAD (Batzner et al. 2024): a student and an autoencoder of one teacher."""

    channels: int = Field(ge=8, le=1024, description="of the teacher's pooled maps; paper: 384")
    width: float = Field(gt=0, le=2, description="of the student PDN; 1 is the paper's PDN-S")


class AutoencoderParams(GradientParams):
    """A convolutional autoencoder of the image, plain or variational (Kingma & Welling 2014)."""

    variational: bool
    kl_weight: float = Field(ge=0, description="of the KL divergence, per latent value")
    width: int = Field(ge=4, le=512, description="channels at stride 2; they double to stride 16")
    latent: int = Field(ge=1, le=4096, description="length of the code")


class MkdParams(FeatureParams, GradientParams):
    """Multi-resolution knowledge distillation (Salehi et al. 2021)."""

    width: int = Field(ge=4, le=512, description="channels of the cloner at stride 2")
    cosine_weight: float = Field(ge=0, description="lambda: of the direction beside the value")


class CflowParams(FeatureParams, GradientParams):
    """CFLOW-AD (Gudovskiy et al. 2022): flows conditioned on the place."""

    coupling_blocks: int = Field(ge=1, le=32)
    condition: int = Field(ge=4, le=1024, multiple_of=4, description="length of a place's code")
    fibres: int = Field(ge=1, le=65536, description="places per scale and step")


class FastflowParams(FeatureParams, GradientParams):
    """FastFlow (Yu et al. 2021): two-dimensional flows of whole feature maps."""

    flow_steps: int = Field(ge=1, le=32)
    hidden_ratio: float = Field(gt=0, le=4, description="channels inside a subnet, to outside")
    conv3x3_only: bool


class GanomalyParams(GradientParams):
    """GANomaly (Akcay et al. 2018): a generator of images and codes, and a discriminator."""

    width: int = Field(ge=4, le=256, description="channels at stride 2; they double down to 4 x 4")
    latent: int = Field(ge=1, le=4096, description="length of the code; paper: 100")
    adversarial_weight: float = Field(ge=0, description="of the discriminator's features (Eq. 1)")
    content_weight: float = Field(ge=0, description="of the image (Eq. 2)")
    encoding_weight: float = Field(ge=0, description="of the code (Eq. 3)")


class InpFormerParams(TokenParams):
    """INP-Former (Luo et al. 2025): prototypes of what is normal, from the slice itself."""

    prototypes: int = Field(ge=1, le=256, description="M: intrinsic normal prototypes of a slice")
    levels: int = Field(ge=2, le=8, multiple_of=2, description="deepest levels of tokens; paper: 8")
    blocks: int = Field(ge=2, le=32, multiple_of=2, description="of the decoder; paper: 8")
    score_top_fraction: float = Field(gt=0, le=1)


class SuperSimpleNetParams(FeatureParams, GradientParams):
    """SuperSimpleNet (Rolih et al. 2024): features with and without noise told apart."""

    enlarge: int = Field(ge=1, le=4, description="times the finest map; paper: 2")
    noise: float = Field(gt=0, le=10, description="standard deviation of the noise; paper: 0.015")
    perlin_threshold: float = Field(gt=-1, lt=1, description="noise lies where Perlin's is higher")
    score: Literal["head", "max"] = Field(description="classification head (paper), or the map's")


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


class DistilParams(Section):
    """HDHKD's teacher of patches, made from ``params.teacher`` (section III-B, Table II)."""

    schedule: ScheduleParams
    network: Literal["cnn", "pdn"] = Field(description="what describes a patch")
    width: float = Field(gt=0, le=2, description="of the PDN; 1 is the paper's 256, 512 and 384")
    channels: int = Field(ge=8, le=1024, description="of its output")
    strides: Strides
    enlarge: int = Field(ge=1, le=4, description="of the images that the CNN sees")


AnyModelParams = (
    CmadParams
    | PatchcoreParams
    | HdhkdParams
    | Scrd4adParams
    | HeteroAeParams
    | QfaeParams
    | PadimParams
    | StfpmParams
    | EfficientAdParams
    | AutoencoderParams
    | MkdParams
    | CflowParams
    | FastflowParams
    | GanomalyParams
    | InpFormerParams
    | SuperSimpleNetParams
)

# Where a model has rows under another name than its own, with a section of their own.
_MODEL_OF: dict[str, ModelName] = {"rd4ad": "scrd4ad", "vae": "autoencoder"}


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


class EvaluateParams(Section):
    """Thresholds and intervals."""

    false_positive_rate: Fraction
    bootstrap_samples: int = Field(ge=10, le=100_000)
    confidence: Fraction
    seed: Seed


class RunParams(Section):
    """One training: a model, the modality it sees, what it depends on."""

    model: ModelName
    modality: Modality
    params: SectionName
    after: After


class FamilyParams(Section):
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

    def changed(self, section: AnyModelParams) -> AnyModelParams:
        """Its section of params as these rows have it.

        Raises:
            ParamsError: the section has no such key, or the key refuses the value.
        """
        try:
            return type(section).model_validate(section.model_dump() | self.changes)
        except ValidationError as error:
            place = tuple(self.params.split("."))
            details = [detail | {"loc": (*place, *detail["loc"])} for detail in error.errors()]
            raise ParamsError("; ".join(map(_explain, details))) from error

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


_NEED_STRIDES = ("patchcore", "scrd4ad", "hetero_ae", "padim", "stfpm", "efficient_ad", "mkd",
                 "cflow", "fastflow", "autoencoder", "ganomaly",
                 "super_simple_net")  # fmt: skip


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
    distil: DistilParams
    benchmark: dict[str, FamilyParams] = Field(min_length=1)

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
        return {row: name for name, family in self.benchmark.items() for row in family.rows}

    def family(self, name: str) -> FamilyParams:
        """The rows of one model.

        Raises:
            ParamsError: there are none.
        """
        if name not in self.benchmark:
            known = ", ".join(self.benchmark)
            raise ParamsError(f"benchmark.{name}: not in params.yaml; expected one of {known}")
        return self.benchmark[name]

    def model_section(self, name: str) -> AnyModelParams:
        """The section that the rows of this :attr:`FamilyParams.section` depend on."""
        section: AnyModelParams = self.model if name == "cmad" else getattr(self.models, name)
        return section


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: naming each wrong key, its value and what is allowed there.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found. Run stages from the repository's root.") from None
    except UnicodeDecodeError as error:
        raise ParamsError(f"{path}: is not valid YAML: {error}") from error
    return parse_params(text, path)


def parse_params(text: str, path: Path) -> Params:
    """Check the text of a params.yaml; ``path`` is named in messages.

    Raises:
        ParamsError: naming each wrong key, its value and what is allowed there.
    """
    try:
        # As DVC reads it: YAML 1.2, in which 1e-9 is a number. PyYAML would see a string.
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ParamsError(f"{path}: is not valid YAML: {error}") from error
    try:
        # Through JSON, since strict mode then still lets a list become a tuple.
        return Params.model_validate_json(json.dumps(content))
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise ParamsError("\n".join(f"{path}: {line}" for line in lines)) from error


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
