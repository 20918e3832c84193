"""What is scored: the validation normals and the test split of a data set, study by study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import torch

from petct_uad.core.errors import DatasetError
from petct_uad.core.store.study_store import StudyStore
from petct_uad.scoring.context import z_positions_mm
from petct_uad.scoring.forward import BATCH
from petct_uad.scoring.params import ScoreParams
from petct_uad.scoring.tables import LINEAGE
from petct_uad.slices.store import SliceStore
from petct_uad.slices.tables import OPTIONAL_PLANES, SLICES, ImageRow


@dataclass(frozen=True)
class ScoringPaths:
    """Where the rows of an entry are read from and written to, a folder or file per row."""

    processed: Path  # data/processed/<dataset>
    slices: Path  # slices.csv of the split stage; read where slices are seen in context
    models: Path  # models/<entry>
    scores: Path  # data/scores/<entry>
    costs: Path  # metrics/cost; differs between machines, so no output of a stage

    @classmethod
    def of(cls, dataset: str, entry: str) -> ScoringPaths:
        """Those of a data set and an entry, below the repository's root."""
        return cls(
            processed=Path("data/processed") / dataset,
            slices=Path("data/interim") / dataset / "split" / SLICES,
            models=Path("models") / entry,
            scores=Path("data/scores") / entry,
            costs=Path("metrics/cost"),
        )

    @property
    def record(self) -> Path:
        """Receives the lineage, apart from the maps, at each of which DVC would look for it."""
        return LINEAGE / self.scores.name


@dataclass(frozen=True)
class StudySlices:
    """Slices of one study that stand together in a split."""

    study_id: str
    rows: tuple[ImageRow, ...]


@dataclass(frozen=True)
class SplitToScore:
    """What is scored of one split, in the order of the index.

    Attributes:
        store: its slices.
        indices: of those that are scored.
    """

    store: SliceStore
    indices: list[int]

    @property
    def rows(self) -> tuple[ImageRow, ...]:
        """Of the slices that are scored."""
        return tuple(self.store.rows[i] for i in self.indices)

    @property
    def seen(self) -> tuple[str, ...]:
        """Which images there are beside the two of each slice, by name."""
        return tuple(name for name in OPTIONAL_PLANES if getattr(self.store, name) is not None)

    @cached_property
    def studies(self) -> tuple[StudySlices, ...]:
        """One after the other.

        Raises:
            DatasetError: slices of one study stand apart.
        """
        groups = groupby(self.rows, key=attrgetter("study_id"))
        studies = [StudySlices(study_id, tuple(rows)) for study_id, rows in groups]
        if len({study.study_id for study in studies}) < len(studies):
            raise DatasetError(
                "index.csv: slices of one study stand apart. Run `dvc repro preprocess`."
            )
        return tuple(studies)

    @cached_property
    def groups(self) -> tuple[tuple[StudySlices, ...], ...]:
        """What a model sees together: a study, or some of those that are a single picture."""
        found: list[tuple[StudySlices, ...]] = []
        for single, run in groupby(self.studies, lambda study: len(study.rows) == 1):
            studies, step = tuple(run), BATCH if single else 1
            found += [studies[i : i + step] for i in range(0, len(studies), step)]
        return tuple(found)


@dataclass(frozen=True)
class ScoringData:
    """What every row is scored on.

    Attributes:
        paths: of the entry.
        params: how maps are fused and smoothed.
        val: the normals of the validation split.
        test: all of the test split.
        device: that the networks run on.
        store: where what they say is kept; None where nothing is.
    """

    paths: ScoringPaths
    params: ScoreParams
    val: SplitToScore
    test: SplitToScore
    device: torch.device
    store: StudyStore | None = None

    @classmethod
    def of(
        cls,
        paths: ScoringPaths,
        params: ScoreParams,
        stores: Sequence[SliceStore],
        device: torch.device,
        store: StudyStore | None = None,
    ) -> ScoringData:
        """Of the validation split and the test split, or of what is scored in its place."""
        val, test = stores
        normals = [i for i, row in enumerate(val.rows) if row.label == 0]
        every = list(range(len(test)))
        splits = SplitToScore(val, normals), SplitToScore(test, every)
        return cls(paths, params, *splits, device, store)

    @property
    def scored_rows(self) -> tuple[ImageRow, ...]:
        """The slices that are scored: the validation normals, then the test split."""
        return (*self.val.rows, *self.test.rows)

    @cached_property
    def z_mm(self) -> dict[str, float]:
        """Of each scored slice, by its name."""
        rows = self.scored_rows
        z_mm = z_positions_mm(self.paths.slices, rows)
        return {row.slice_id: float(z) for row, z in zip(rows, z_mm, strict=True)}
