"""What the evaluate stage writes of a run: rows of its tables, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from petct_uad.core.params.base import Protocol, TestPatients
from petct_uad.scoring.tables import RowIdentity

PANELS = ("best", "median", "worst")  # pictures of a run, by score among abnormal test slices
NO_KIND = "none"  # of lesions, where there are none or nobody says
PANEL_LAYERS = ("ct", "pet", "fused", "jet", "viridis", "lesion")  # of a picture, left to right


@dataclass(frozen=True, order=True)
class ScoreRow:
    """One test slice as one seed's model scores it: ``scores.csv``, seed by seed."""

    seed: int  # of the training; 0 for a trivial baseline
    slice_id: str
    patient: str
    study_id: str
    label: int  # 0 normal, 1 abnormal
    lesion_kind: str  # of its study, what labels or publisher call it; "none" of a normal slice
    score: float  # higher is more abnormal
    predicted: int  # 1 where the score exceeds this seed's threshold from validation normals


@dataclass(frozen=True, order=True)
class ClassRow:
    """One class of abnormal test slices against all normal ones: ``classes.csv``."""

    run: str
    lesion_kind: str
    slices: int
    patients: int  # whose they are
    auroc: float  # mean over seeds
    low: float  # of the interval from a bootstrap over patients
    high: float


@dataclass(frozen=True)
class RocRow:
    """One corner of the ROC curve: ``roc.csv``, by falling threshold."""

    fpr: float  # 1 - specificity
    tpr: float  # sensitivity


@dataclass(frozen=True)
class PrRow:
    """One corner of the precision-recall curve: ``pr.csv``, by rising recall."""

    recall: float
    precision: float


@dataclass(frozen=True)
class FrocRow:
    """One point of the free-response ROC curve: ``froc.csv``, by rising false findings.

    The mean over seeds; nothing without maps or lesion masks.
    """

    false_findings: float  # per study
    sensitivity: float  # fraction of all lesions
    low: float  # of the interval from a bootstrap over patients
    high: float


@dataclass(frozen=True)
class FindingRow:
    """A connected part of what exceeds the map's threshold: ``findings.csv``, by seed and study.

    Only where there are maps and lesion masks. Shares are of what the finding's voxels have
    together, empty where the map is not joined from one of each modality.
    """

    seed: int
    study_id: str
    patient: str
    finding: int  # from 1, by falling peak in its study
    slice_id: str  # of its highest voxel
    first_slice_id: str  # along the body
    last_slice_id: str
    peak: float  # of the map
    volume_ml: float | None  # none for pictures, which have no size
    lesions: int  # that it shares a voxel with; 0: a false finding
    pet_share: float | None
    ct_share: float | None

    def reaches(self, slice_id: str) -> bool:
        """Does it go through this slice? Names of slices rise along the body."""
        return self.first_slice_id <= slice_id <= self.last_slice_id

    @property
    def in_words(self) -> str:
        """What each modality gave, for people; nothing where that is not known."""
        if self.pet_share is None or self.ct_share is None:
            return ""
        return f"PET {100 * self.pet_share:.0f} %, CT {100 * self.ct_share:.0f} %"


@dataclass(frozen=True)
class HistogramRow:
    """Test slices per score bin: ``histogram.csv``, by rising score."""

    score_low: float
    score_high: float
    normal: int
    abnormal: int


@dataclass(frozen=True)
class Estimate:
    """A figure, the mean over seeds, and its interval from a bootstrap over patients."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """A figure of a run: the mean over its seeds, and what is known of its uncertainty."""

    value: float
    low: float | None = None  # of the interval from a bootstrap over patients; None: it has none
    high: float | None = None
    deviation: float | None = None  # sample standard deviation over seeds; None for one seed


@dataclass(frozen=True)
class MeasuredOn:
    """Which slices a run was measured on."""

    dataset: str
    protocol: Protocol
    test_patients: TestPatients = "all"


@dataclass(frozen=True, kw_only=True)
class RunIdentity(MeasuredOn, RowIdentity):
    """What a row of the benchmark is, and what it was measured on."""

    @property
    def leaking(self) -> bool:
        """Were patients of the test split also trained on?"""
        return self.protocol == "cmad"


@dataclass(frozen=True)
class RunMetrics:
    """What one run is worth: ``metrics.json``, flattened, in this order of keys."""

    identity: RunIdentity
    leaking: bool
    n_patients: int
    n_val_normal: int
    n_test_normal: int
    n_test_abnormal: int
    n_test_studies: int  # that lesions are counted in, with a lesion or without; 0: not counted
    n_test_lesions: int  # in three dimensions
    seeds: int
    thresholds: tuple[float, ...]  # one per seed, from validation normals
    oracle_thresholds: tuple[float, ...]  # one per seed, with the best F1 on the test split itself
    map_thresholds: tuple[float, ...]  # of pixels: one per seed, from validation normals, or none
    confidence: float
    bootstrap_samples: int
    bootstrap_redrawn: int  # resamples that held one class only and were drawn again
    figures: Mapping[str, Measured]  # by name; without those that there was nothing to measure

    @property
    def auroc(self) -> Measured:
        """The figure that verdicts are about."""
        return self.figures["auroc"]
