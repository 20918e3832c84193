"""How well each row finds each disease: the test slices of one class against all normal ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import read_table
from petct_uad.evaluation.tables import ScoreRow
from petct_uad.ingest.tables import StudyRow


@dataclass(frozen=True, order=True)
class ClassRow:
    """One class of abnormal slices under one row of the benchmark."""

    run: str
    kind: str  # lesion_kind of the studies: what their publisher or their labels call it
    slices: int  # abnormal ones of the test split
    patients: int  # whose they are
    auroc: float  # against all normal slices of the test split, mean over seeds


def measure_classes(studies: Path, runs: Path) -> list[ClassRow]:
    """Every class under every row, sorted by both.

    Args:
        studies: ``studies.csv`` of ingest.
        runs: the folder ``metrics/runs``.

    Raises:
        EvaluationError: a table is missing, or scores are of studies that ingest does not know.
    """
    if not studies.is_file():
        raise EvaluationError(f"{studies}: not found. Run `dvc repro ingest`.")
    kinds: dict[str, str] = {row.study_id: row.lesion_kind for row in read_table(studies, StudyRow)}
    files = sorted(runs.glob("*/*/scores.csv"))
    if not files:
        raise EvaluationError(f"{runs}: no */*/scores.csv. Run `dvc repro` first.")
    return sorted(row for file in files for row in _of_run(file, kinds))


def _of_run(file: Path, kinds: Mapping[str, str]) -> Iterator[ClassRow]:
    rows = read_table(file, ScoreRow)
    if missing := sorted({row.study_id for row in rows} - kinds.keys()):
        raise EvaluationError(
            f"{file}: {len(missing)} of its studies are not in studies.csv, the first is "
            f"{missing[0]}; it is of another data set. Run `dvc repro`."
        )
    normals = [row for row in rows if not row.label]
    by_kind: dict[str, list[ScoreRow]] = {}
    for row in rows:
        if row.label:
            by_kind.setdefault(kinds[row.study_id], []).append(row)
    for kind, abnormal in by_kind.items():
        yield ClassRow(
            run=file.parent.name,
            kind=kind,
            slices=len({row.slice_id for row in abnormal}),
            patients=len({row.patient for row in abnormal}),
            auroc=_auroc(normals, abnormal),
        )


def _auroc(normals: Sequence[ScoreRow], abnormal: Sequence[ScoreRow]) -> float:
    """Mean over seeds; NaN where the test split has no normal slice."""
    found = []
    for seed in sorted({row.seed for row in abnormal}):
        rows = [row for row in (*normals, *abnormal) if row.seed == seed]
        labels = [row.label for row in rows]
        if 0 not in labels:
            return float("nan")
        found.append(roc_auc_score(labels, [row.score for row in rows]))
    return float(np.mean(found))
