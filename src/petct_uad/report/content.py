"""What each section holds, as its template reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup

from petct_uad.comparison.hypotheses import Hypothesis
from petct_uad.comparison.tables import PairRow, SummaryRow
from petct_uad.evaluation.figures import Figure
from petct_uad.evaluation.tables import ClassRow, FindingRow, RunIdentity, RunMetrics
from petct_uad.evaluation.trivial import TrivialBaseline
from petct_uad.ingest.tables import RejectedRow
from petct_uad.report.curves import CurveGroup, Stroke
from petct_uad.report.figures import BoxGroup
from petct_uad.report.flow import FlowStep, SplitCount
from petct_uad.report.pictures import Layers, Picture
from petct_uad.report.quality import Registration, StageRun

_HALF = 0.5


@dataclass(frozen=True)
class Cohort:
    """Whose data these are."""

    patients: int
    studies: int
    train: SplitCount
    val: SplitCount
    test: SplitCount
    all_normal: int  # patients of the test split without an abnormal slice


@dataclass(frozen=True)
class Masthead:
    """What stands above the sections."""

    metrics: RunMetrics  # of the first row: the slices and intervals are those of all
    best: SummaryRow | None  # the model with the highest AUROC
    suvmax: SummaryRow
    models: int
    seeds: int
    beating: int
    losing: int
    checks_passed: bool
    cohort: Cohort
    figure: Markup
    drawn: str  # which models the figure shows, in words


@dataclass(frozen=True)
class Strip:
    """An interval on the table's common AUROC axis, in per cent of its width."""

    low: float
    value: float
    high: float
    suvmax: float


@dataclass(frozen=True)
class HeadlineTable:
    """One row per run, by falling AUROC."""

    rows: tuple[SummaryRow, ...]
    figures: tuple[Figure, ...]  # beside AUROC
    thresholds: str  # where theirs come from, in words
    inputs: Mapping[str, str]  # what each model saw, where they differ
    strips: Mapping[str, Strip]
    axis: tuple[float, float]
    suvmax: str  # the run that the others are set against
    baselines: tuple[TrivialBaseline, ...]  # that have a row
    level: float  # below which p tells two runs apart


@dataclass(frozen=True)
class Comparisons:
    """Runs against each other, by paired differences."""

    papers: Mapping[str, tuple[Hypothesis, ...]]  # what each claims
    pairs: tuple[PairRow, ...]
    level: float

    @property
    def significant(self) -> int:
        """How many pairs differ beyond chance."""
        return sum(row.significant for row in self.pairs)


@dataclass(frozen=True)
class Curves:
    """ROC and precision-recall."""

    lines: tuple[Stroke, ...]
    lit: str  # the model whose bands show at first
    groups: tuple[CurveGroup, ...]
    confidence: float


@dataclass(frozen=True)
class Chart:
    """A figure and what stands above it."""

    caption: str
    figure: Markup


@dataclass(frozen=True)
class LesionClass:
    """One class of lesion, or one disease of pictures, in the test split."""

    name: str
    slices: int
    patients: int


@dataclass(frozen=True)
class RunClasses:
    """One run's AUROC of each class that is shown, in their order."""

    row: SummaryRow
    aurocs: tuple[ClassRow, ...]


@dataclass(frozen=True)
class Classes:
    """Each class of abnormal slices against all normal ones."""

    shown: tuple[LesionClass, ...]  # those of most slices first
    further: int  # how many there are besides
    runs: tuple[RunClasses, ...]
    confidence: float


@dataclass(frozen=True)
class Histograms:
    """Scores of every run, the best first."""

    boxes: tuple[BoxGroup, ...]
    shown: tuple[Chart, ...]
    folded: tuple[Chart, ...]


@dataclass(frozen=True)
class RunPanels:
    """The pictures of one run."""

    row: SummaryRow
    layers: tuple[Layers, ...]
    shares: bool  # of the modalities in its findings: are they known?


@dataclass(frozen=True)
class FindingGroup:
    """Findings that touch a lesion, or those that do not, by which modality gave more to them."""

    count: int
    pet_led: int
    median_pet_share: float | None  # None without findings

    @classmethod
    def of(cls, rows: Sequence[FindingRow]) -> FindingGroup:
        """Of rows whose shares are known."""
        shares = [row.pet_share for row in rows if row.pet_share is not None]
        led = sum(share > _HALF for share in shares)
        return cls(len(shares), led, median(shares) if shares else None)

    @property
    def ct_led(self) -> int:
        """Where the CT gave more, or as much."""
        return self.count - self.pet_led


@dataclass(frozen=True)
class RunFindings:
    """What each modality gave to the findings of one run's first seed."""

    row: SummaryRow
    true: FindingGroup
    false: FindingGroup
    listed: tuple[FindingRow, ...]  # the highest of them


@dataclass(frozen=True)
class RegistrationQuality:
    """The cohort's figures and some pictures, flagged studies first."""

    summary: Registration
    charts: tuple[Chart, ...]  # none where nothing was registered
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class DataFlow:
    """From files to model input."""

    steps: tuple[FlowStep, ...]
    splits: tuple[SplitCount, ...]
    rejected: tuple[RejectedRow, ...]  # the first of them
    n_rejected: int


@dataclass(frozen=True)
class Number:
    """A figure of a row, as the table shows it."""

    name: str  # by which `petct lineage trace ROW:NAME` knows it
    title: str
    value: str


@dataclass(frozen=True)
class Card:
    """What a row is: what it sees, learns and is said to do, and what stands behind its numbers."""

    row: SummaryRow
    identity: RunIdentity
    model: str | None  # its folder in src/petct_uad/models
    how: str  # of a trivial baseline; empty for a model
    metrics: str  # where its numbers are written, from the repository's root
    numbers: tuple[Number, ...]


@dataclass(frozen=True)
class RunCost:
    """What a model takes, on any machine."""

    row: SummaryRow
    gflops: float
    scan: str


@dataclass(frozen=True)
class Costs:
    """Models by falling AUROC."""

    figure: Markup
    runs: tuple[RunCost, ...]


@dataclass(frozen=True)
class StageRecords:
    """Lineage records of the stages, and of single rows."""

    of_stages: tuple[StageRun, ...]
    of_rows: tuple[StageRun, ...]
