"""What a card says, read from what the pipeline wrote: nothing is told that no file tells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct_uad.core.errors import LineageError
from petct_uad.core.files import read_table, sha256_file
from petct_uad.core.provenance.record import ACTIVITY
from petct_uad.core.sources import SourceRow, read_sources
from petct_uad.evaluation.figures import FIGURES, Figure
from petct_uad.evaluation.results import ResultPaths, read_results
from petct_uad.evaluation.tables import Measured, RunMetrics
from petct_uad.ingest.tables import IDENTITY, REJECTED, STUDIES, RejectedRow, StudyRow
from petct_uad.lineage.git import try_git
from petct_uad.lineage.names import RUNS, family_of, metrics_file
from petct_uad.slices.tables import INDEX, SLICES, SliceRow
from petct_uad.validation.tables import VERDICT
from petct_uad.volumes.study import VolumeFolders

_PARTS = ("train", "val", "test", "excluded")


@dataclass(frozen=True)
class Recorded:
    """What a stage recorded of its run.

    Attributes:
        stage: its name.
        params: the keys that it read, and their values as JSON.
        source_sha256: over its source files.
        packages: and their versions.
    """

    stage: str
    params: Mapping[str, str]
    source_sha256: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class PartFacts:
    """One split: who and what is in it."""

    name: str
    patients: int
    studies: int
    normal: int
    abnormal: int


@dataclass(frozen=True)
class DatasetFacts:
    """Of a data set, as the models see it."""

    name: str
    commit: str
    patients: int
    studies: int
    findings: Mapping[str, int]  # studies by what is known of their lesions
    scanners: Mapping[str, int]
    label_kinds: Mapping[str, int]
    rejected: Mapping[str, int]  # refusals by code
    parts: tuple[PartFacts, ...]
    excluded: Mapping[str, int]  # slices by reason
    own_split: bool
    sources: tuple[SourceRow, ...]
    pseudonyms: str  # public or secret
    checks: int
    failing: tuple[str, ...]  # expectations that failed, with their severity
    index_sha256: str
    recorded: tuple[Recorded, ...]

    @property
    def published(self) -> list[tuple[str, str, str, str]]:
        """DOI, licence, collection and index of what was fetched, each once."""
        return sorted({(x.doi, x.licence, x.collection, x.index) for x in self.sources})


@dataclass(frozen=True)
class FigureFacts:
    """A figure of merit and its value."""

    figure: Figure
    measured: Measured


@dataclass(frozen=True)
class ModelFacts:
    """Of one row of the benchmark."""

    commit: str
    metrics: RunMetrics
    figures: tuple[FigureFacts, ...]
    weights: Mapping[str, str]  # SHA-256 by path
    recorded: tuple[Recorded, ...]


def dataset_facts(dataset: str) -> DatasetFacts:
    """What the last run wrote of a data set.

    Raises:
        LineageError: a table is missing.
    """
    interim, raw = Path("data/interim") / dataset, Path("data/raw") / dataset
    ingest = interim / "ingest"
    studies = read_table(_there(ingest / STUDIES), StudyRow)
    slices = read_table(_there(interim / "split" / SLICES), SliceRow)
    rejected = read_table(_there(ingest / REJECTED), RejectedRow)
    validation = _json(VERDICT)
    index = _there(Path("data/processed") / dataset / INDEX)
    lineage = (ingest, interim / "register", interim / "split", index.parent)
    return DatasetFacts(
        name=dataset,
        commit=_commit(),
        patients=len({study.patient for study in studies}),
        studies=len(studies),
        findings=_counted(study.finding for study in studies),
        scanners=_counted(study.scanner for study in studies),
        label_kinds=_counted(study.label_kind for study in studies),
        rejected=_counted(row.code for row in rejected),
        parts=tuple(_part(name, slices) for name in _PARTS),
        excluded=_counted(row.reason for row in slices if row.split == "excluded"),
        own_split=VolumeFolders.of(interim).patient_split is not None,
        sources=tuple(read_sources(raw)),
        pseudonyms=_json(ingest / IDENTITY)["pseudonyms"],
        checks=validation["checks"],
        failing=tuple(
            f"{x['name']} ({x['table']}, {x['severity']}): {x['reason']}"
            for x in validation["expectations"]
            if not x["passed"]
        ),
        index_sha256=sha256_file(index),
        recorded=tuple(_recorded(folder) for folder in lineage),
    )


def model_facts(run: str) -> ModelFacts:
    """What the last run wrote of a row.

    Raises:
        LineageError: the row was not evaluated here.
    """
    family = family_of(run)
    _there(metrics_file(run))
    metrics = read_results(ResultPaths.of(RUNS.parent, family, run)).metrics
    home = Path("models") / family / run
    weights = sorted(home.glob("seed-*/weights.safetensors"))
    return ModelFacts(
        commit=_commit(),
        metrics=metrics,
        figures=tuple(
            FigureFacts(figure, metrics.figures[figure.name])
            for figure in FIGURES
            if figure.for_people and figure.name in metrics.figures
        ),
        weights={path.as_posix(): sha256_file(path) for path in weights},
        recorded=(_recorded(home),) if (home / "lineage" / ACTIVITY).is_file() else (),
    )


def evaluated_runs() -> list[str]:
    """Every row of the benchmark that was evaluated here, trivial baselines included."""
    return sorted(path.parent.name for path in RUNS.glob("*/*/metrics.json"))


def _part(name: str, slices: Sequence[SliceRow]) -> PartFacts:
    mine = [row for row in slices if row.split == name]
    return PartFacts(
        name=name,
        patients=len({row.patient for row in mine}),
        studies=len({row.study_id for row in mine}),
        normal=sum(row.label == 0 for row in mine),
        abnormal=sum(row.label == 1 for row in mine),
    )


def _counted(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _recorded(folder: Path) -> Recorded:
    content = _json(folder / "lineage" / ACTIVITY)
    params = dict(_flat("", content["params"]))
    return Recorded(content["stage"], params, content["source_sha256"], content["packages"])


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Dotted keys and their values, as params.yaml nests them."""
    if not isinstance(value, dict):
        yield key, json.dumps(value)
        return
    for name in sorted(value):
        yield from _flat(f"{key}.{name}" if key else name, value[name])


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_there(path).read_text(encoding="utf-8"))
    return found


def _there(path: Path) -> Path:
    if not path.is_file():
        raise LineageError(f"{path}: not found. Run `dvc repro` first, or `dvc pull`.")
    return path


def _commit() -> str:
    """HEAD, and whether the workspace differs from it."""
    head = (try_git("rev-parse", "HEAD") or "").strip() or "no commit"
    changed = try_git("status", "--porcelain", "--untracked-files=no")
    return f"{head}, changed since" if changed else head
