"""Rows of the tables that the evaluate and compare stages write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TRIVIAL_VERDICT = "trivial baseline"
BEATS = "beats SUVmax"
LOSES = "loses to SUVmax"
LEVEL = "not told apart from SUVmax"

PANELS = ("best", "median", "worst")  # pictures of a run, by score among abnormal test slices
PANEL_LAYERS = ("ct", "pet", "fused", "jet", "viridis", "lesion")  # of a picture, left to right


@dataclass(frozen=True, order=True)
class ScoreRow:
    """One test slice as one seed's model scores it: ``scores.csv``, seed by seed."""

    seed: int  # of the training; 0 for a trivial baseline
    slice_id: str
    patient: str
    study_id: str
    label: int  # 0 normal, 1 abnormal
    score: float  # higher is more abnormal
    predicted: int  # 1 where the score exceeds this seed's threshold from validation normals


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
class Difference(Estimate):
    """A paired difference: its interval, and its two-sided p-value alone and within its family."""

    p: float
    p_holm: float


@dataclass(frozen=True)
class RunIdentity:
    """What a row of the benchmark is."""

    run: str
    model: str
    modality: str  # pet, ct, petct, or none for slice position
    trivial: bool  # no model: a number read off the slice
    dataset: str
    protocol: Literal["patient", "cmad"]
    parameters: int  # of the student; the frozen teacher is not counted
    scan: str  # which selective scan trained it: reference, numba, cuda, or none
    gflops_per_pair: float = 0.0  # as torch counts them, so without the scan; 0: no model

    @property
    def leaking(self) -> bool:
        """Were patients of the test split also trained on?"""
        return self.protocol == "cmad"


@dataclass(frozen=True)
class RunMetrics:
    """What one run is worth: ``metrics.json``, flattened, in this order of keys.

    Every figure is the mean over the seeds' models, each at its own threshold. Figures that begin
    with ``oracle_`` stand at the threshold with the best F1 on the test split itself, as the papers
    report; they flatter. Deviations are sample standard deviations over seeds, None for one seed.
    """

    identity: RunIdentity
    leaking: bool
    n_patients: int
    n_val_normal: int
    n_test_normal: int
    n_test_abnormal: int
    seeds: int
    auroc: Estimate
    auroc_deviation: float | None
    ap: Estimate
    ap_deviation: float | None
    f1: Estimate
    f1_deviation: float | None
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    thresholds: tuple[float, ...]  # one per seed, from validation normals
    oracle_f1: float
    oracle_accuracy: float
    oracle_sensitivity: float
    oracle_specificity: float
    oracle_thresholds: tuple[float, ...]  # one per seed, from the test split
    pixel_auroc: float | None  # None without maps
    aupro: float | None  # up to a false positive rate of 0.3
    patient_auroc: Estimate | None  # None where all patients are of one class
    confidence: float
    bootstrap_samples: int
    bootstrap_redrawn: int  # resamples that held one class only and were drawn again


@dataclass(frozen=True)
class SummaryRow:
    """One run beside the others: ``summary.csv``, by falling AUROC."""

    run: str
    model: str
    modality: str
    verdict: str  # against slice SUVmax, in words
    protocol: str
    leaking: bool
    seeds: int
    auroc: float
    auroc_low: float
    auroc_high: float
    auroc_deviation: float | None  # over seeds, None for one
    auroc_minus_suvmax: float
    auroc_minus_suvmax_low: float
    auroc_minus_suvmax_high: float
    auroc_minus_suvmax_p: float  # two-sided
    auroc_minus_suvmax_p_holm: float  # over all rows of this table
    ap: float
    ap_low: float
    ap_high: float
    ap_deviation: float | None
    f1: float
    f1_deviation: float | None
    accuracy: float
    sensitivity: float
    specificity: float
    oracle_f1: float
    pixel_auroc: float | None
    aupro: float | None
    patient_auroc: float | None
    parameters: int
    n_patients: int
    n_test_normal: int
    n_test_abnormal: int


@dataclass(frozen=True)
class PairRow:
    """Two models on the same slices: ``pairs.csv``, by falling AUROC of either."""

    run: str
    other: str
    auroc_difference: float  # of run minus other
    low: float
    high: float
    p: float  # two-sided
    p_holm: float  # over all rows of this table
    told_apart: bool  # p_holm is below 1 - evaluate.confidence
    leaking: bool


@dataclass(frozen=True)
class HypothesisRow:
    """A comparison that a statement of the CMAD paper rests on: ``hypotheses.csv``."""

    statement: str
    source: str  # where the paper says so
    better: str  # according to the paper
    worse: str
    auroc_difference: float | None  # None where a run is missing, and so for the next four
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None  # over all rows of this table
    outcome: str  # of this comparison
    statement_outcome: str
    leaking: bool


@dataclass(frozen=True)
class LeakRow:
    """A run under both protocols: ``leak.csv``, by falling leak."""

    run: str
    trivial: bool
    auroc_patient: float
    auroc_patient_low: float
    auroc_patient_high: float
    auroc_cmad: float  # leaking: patients of the test split were also trained on
    auroc_cmad_low: float
    auroc_cmad_high: float
    leak: float  # cmad minus patient
    leak_low: float
    leak_high: float
    p: float  # two-sided
    p_holm: float  # over all rows of this table
    # The leak on the slices that both protocols test, paired; None where those are of one class.
    same_slices: float | None
    same_slices_low: float | None
    same_slices_high: float | None
    same_slices_p: float | None
    same_slices_p_holm: float | None


@dataclass(frozen=True)
class FoldsRow:
    """A run over all folds: ``folds.csv``, by falling mean."""

    run: str
    folds: int
    auroc_mean: float  # over folds
    auroc_deviation: float  # sample standard deviation over folds
    auroc_lowest: float
    auroc_highest: float
    auroc_pooled: float  # of all folds' scores together
    auroc_pooled_low: float
    auroc_pooled_high: float
    n_patients: int
    n_test_normal: int
    n_test_abnormal: int
