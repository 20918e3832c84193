"""Which lesions the trained rows find: planted into validation normals (``petct power lesions``).

The test split is not opened. A lesion counts as found where one of the slices within its radius
scores above the threshold that the row's decisions have, from the same validation normals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from petct_uad.audit.planted import (
    PLACES,
    Lesion,
    Site,
    Stack,
    Window,
    draw_sites,
    grid_of,
    planes_within,
    planted,
)
from petct_uad.comparison.markdown import markdown_table
from petct_uad.core.errors import DatasetError, ParamsError
from petct_uad.evaluation.metrics import threshold_from_normals
from petct_uad.evaluation.stacks import pixel_area_mm2
from petct_uad.models.benchmark import BenchmarkEntry
from petct_uad.scoring.context import REACH_SIGMAS, z_positions_mm
from petct_uad.scoring.data import ScoringPaths
from petct_uad.scoring.params import ScoreParams
from petct_uad.scoring.run import score_stores
from petct_uad.scoring.tables import SeedScores
from petct_uad.scoring.trained import seeds_of
from petct_uad.slices.store import SliceStore, read_bodies
from petct_uad.slices.tables import ImageRow
from petct_uad.volumes.resample import FWHM_PER_SIGMA

MOSTLY = 0.8  # of lesions of a kind: they are found
_SEED = 2026  # of the places
_BLUR_SIGMAS = 3.0  # beyond this a lesion's uptake is not seen


@dataclass(frozen=True)
class Question:
    """Which lesions are planted, and how.

    Attributes:
        diameters_mm: of the lesions, rising.
        contrasts: their SUV over that of their surroundings.
        sites: per study and tissue.
        fwhm_mm: the PET's resolution.
        window: of the CT.
        false_positive_rate: of the threshold.
    """

    diameters_mm: tuple[float, ...]
    contrasts: tuple[float, ...]
    sites: int
    fwhm_mm: float
    window: Window
    false_positive_rate: float

    def reach_mm(self, lesion: Lesion) -> float:
        """How far from its middle a lesion is seen."""
        return lesion.radius_mm + _BLUR_SIGMAS * self.fwhm_mm / FWHM_PER_SIGMA


@dataclass(frozen=True)
class DetectionRow:
    """How many lesions of a kind a row of the benchmark finds: ``detection.csv``."""

    run: str
    scanner: str
    place: str
    contrast: float
    diameter_mm: float
    lesions: int  # one of each study, site and training seed
    found: int
    low: float  # 95 % interval (Wilson) of found / lesions, each lesion counted as independent
    high: float


@dataclass(frozen=True)
class _Case:
    """One planted lesion, and where its slices are in the store."""

    lesion: Lesion
    scanner: str
    inside: NDArray[np.intp]


def find_planted(
    entries: Sequence[tuple[BenchmarkEntry, ScoringPaths]],
    params: ScoreParams,
    question: Question,
    device: torch.device,
) -> tuple[DetectionRow, ...]:
    """Plant lesions into the validation normals and ask every row of these entries.

    Args:
        entries: of the benchmark, trained, on one data set; each with its paths.
        params: how maps are fused and smoothed, as in the pipeline.
        question: what is planted.
        device: that the networks run on.

    Raises:
        DatasetError: there are no validation normals, or nowhere to plant.
        TrainingError: weights or a config are missing or do not fit.
    """
    if not entries:
        return ()
    _, first = entries[0]
    val = SliceStore.open(first.processed, "val")
    if val.ct_beside is not None:
        raise DatasetError(
            "preprocess.neighbours_mm: models see the slices beside each, in which nothing can be "
            "planted. Set it to 0 and run `dvc repro`."
        )
    store, cases = _planted_store(val, first, params, question)
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for entry, paths in entries:
        for seed in seeds_of([paths.models / row for row in entry.trained]):
            scored = score_stores(
                entry, seed, val=val, other=store, paths=paths, params=params, device=device
            )
            for run, scores in scored.items():
                found.setdefault(run, []).append(_found(scores, cases, question))
    return tuple(row for run, seeds in found.items() for row in _rows(run, np.array(seeds), cases))


def smallest_markdown(rows: Sequence[DetectionRow], question: Question) -> str:
    """For each row of the benchmark, tissue and scanner: the smallest lesion found, by contrast."""
    header = ("row", "tissue", "scanner", *(f"{x:g} times its surroundings"
                                            for x in question.contrasts))  # fmt: skip
    key = lambda row: (row.run, row.place, row.scanner)  # noqa: E731
    lines = [
        (*of, *(_smallest(list(cells), contrast) for contrast in question.contrasts))
        for of, group in groupby(sorted(rows, key=key), key)
        for cells in [list(group)]
    ]
    note = (
        f"Smallest diameter from which on {MOSTLY:.0%} of the planted lesions are found, of "
        f"{', '.join(f'{x:g}' for x in question.diameters_mm)} mm, where "
        f"{question.false_positive_rate:.0%} of validation normals are called abnormal; PET of "
        f"{question.fwhm_mm:g} mm FWHM. Lesions are round and uniform: real ones are harder."
    )
    return f"{markdown_table(header, lines)}\n\n{note}\n"


def _planted_store(
    val: SliceStore, paths: ScoringPaths, params: ScoreParams, question: Question
) -> tuple[SliceStore, list[_Case]]:
    """Copies of pieces of the validation studies' stacks, each with one lesion."""
    rows: list[ImageRow] = []
    planes: list[tuple[NDArray[np.float16], NDArray[np.float16]]] = []
    cases: list[_Case] = []
    for study, (members, stack) in _stacks(val, paths).items():
        for number, (site, lesion) in enumerate(_plan(stack, question, len(cases))):
            reach_mm = question.reach_mm(lesion) + REACH_SIGMAS * params.z_sigma_mm
            near = planes_within(stack.z_mm, site.plane, reach_mm)
            ct, pet = planted(stack, site, lesion, question.window, question.fwhm_mm)
            planes.append((ct[near].astype(np.float16), pet[near].astype(np.float16)))
            within = np.abs(stack.z_mm[near] - stack.z_mm[site.plane]) <= lesion.radius_mm
            cases.append(_Case(lesion, members[0].scanner, len(rows) + np.flatnonzero(within)))
            # A stack of its own: its slices are smoothed with each other only.
            rows += [replace(members[i], study_id=f"{study}#{number}") for i in near]
    if not cases:
        raise DatasetError(
            f"{paths.processed}: no place in lung or soft tissue of the validation normals that is "
            "a centimetre deep. Expected a thorax with a CT in HU; pictures have none."
        )
    ct, pet = (np.concatenate(x) for x in zip(*planes, strict=True))
    return SliceStore(tuple(rows), ct, pet), cases


def _stacks(
    val: SliceStore, paths: ScoringPaths
) -> Mapping[str, tuple[tuple[ImageRow, ...], Stack]]:
    """The normal slices of each validation study, along the body."""
    normal = np.array([i for i, row in enumerate(val.rows) if row.label == 0], dtype=np.intp)
    z_mm = z_positions_mm(paths.slices, [val.rows[i] for i in normal])
    found = {}
    for study in sorted({val.rows[i].study_id for i in normal}):
        of = np.array([val.rows[i].study_id == study for i in normal])
        order = np.argsort(z_mm[of], kind="stable")
        chosen = normal[of][order]
        members = tuple(val.rows[i] for i in chosen)
        body = read_bodies(paths.processed, members)
        pixel_mm = math.sqrt(pixel_area_mm2(members, int(body.sum())))
        ct, pet = (x[chosen].astype(np.float32) for x in (val.ct, val.pet))
        found[study] = (members, Stack(ct, pet, body, z_mm[of][order], pixel_mm))
    return found


def _plan(stack: Stack, question: Question, stream: int) -> Iterator[tuple[Site, Lesion]]:
    """Every lesion at the same sites of its tissue, so that sizes and contrasts compare."""
    lesions = grid_of(question.diameters_mm, question.contrasts)
    for number, place in enumerate(PLACES):
        generator = np.random.default_rng([_SEED, stream, number])
        for site in draw_sites(stack, place, question.window, question.sites, generator):
            yield from ((site, lesion) for lesion in lesions if lesion.place == place)


def _found(scores: SeedScores, cases: Sequence[_Case], question: Question) -> NDArray[np.bool_]:
    threshold = threshold_from_normals(scores.val, question.false_positive_rate)
    return np.array([scores.test[case.inside].max() > threshold for case in cases])


def _rows(run: str, found: NDArray[np.bool_], cases: Sequence[_Case]) -> Iterator[DetectionRow]:
    """Of the seeds' decisions (seeds, cases): a row per scanner, tissue, contrast and size."""
    kinds = [(x.scanner, x.lesion.place, x.lesion.contrast, x.lesion.diameter_mm) for x in cases]
    for kind in sorted(set(kinds)):
        hits = found[:, [i for i, other in enumerate(kinds) if other == kind]]
        count = int(hits.sum())
        interval = stats.binomtest(count, hits.size).proportion_ci(method="wilson")
        yield DetectionRow(run, *kind, hits.size, count, float(interval.low), float(interval.high))


def _smallest(cells: Sequence[DetectionRow], contrast: float) -> str:
    """The smallest size that is found, together with every larger one."""
    smallest = ""
    of = [row for row in cells if row.contrast == contrast]
    for row in sorted(of, key=lambda row: -row.diameter_mm):
        if row.found < MOSTLY * row.lesions:
            break
        smallest = f"{row.diameter_mm:g} mm ({row.found} of {row.lesions})"
    return smallest or "none"


def trained_entries(
    dataset: str, benchmark: Mapping[str, BenchmarkEntry], names: Sequence[str]
) -> list[tuple[BenchmarkEntry, ScoringPaths]]:
    """The entries of these names, by default all whose models are there.

    Raises:
        ParamsError: none is trained, or not one of these.
    """
    paths = {name: ScoringPaths.of(dataset, name) for name in benchmark}
    trained = {name: x for name, x in paths.items() if Path(x.models).is_dir()}
    if not trained:
        raise ParamsError("models: no row of the benchmark is trained. Run `dvc repro`.")
    if unknown := sorted(set(names) - trained.keys()):
        raise ParamsError(
            f"{unknown[0]}: no entry of benchmark in params.yaml that is trained. There are: "
            f"{', '.join(trained)}."
        )
    return [(benchmark[name], trained[name]) for name in names or trained]
