"""What a recipe takes from the archive's index: studies with CT and PET, and their labels."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from petct_uad.cohorts.index import IndexedSeries
from petct_uad.cohorts.recipe import Expected, Labels, Recipe
from petct_uad.core.errors import CohortError
from petct_uad.core.files import sha256_bytes

_IMAGES = ("CT", "PT")


@dataclass(frozen=True)
class SelectedStudy:
    """One study that is taken.

    Attributes:
        patient: PatientID of the collection.
        study: StudyInstanceUID.
        series: its CT, PET and labels, sorted.
    """

    patient: str
    study: str
    series: tuple[IndexedSeries, ...]

    @property
    def size_mb(self) -> float:
        """In units of 1,000,000 bytes."""
        return math.fsum(x.size_mb for x in self.series)

    @property
    def kinds(self) -> str:
        """How many series of each modality: ``1 CT, 1 PT, 1 SEG``."""
        counts = Counter(x.modality for x in self.series)
        return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def select(recipe: Recipe, series: Iterable[IndexedSeries]) -> tuple[SelectedStudy, ...]:
    """The studies that hold CT and PET of the collection's own, by patient and study.

    Args:
        recipe: says which label series are taken with them.
        series: of the whole collection.
    """
    studies: dict[tuple[str, str], list[IndexedSeries]] = defaultdict(list)
    for x in series:
        if is_image(x) or is_label(x, recipe.labels):
            studies[x.patient, x.study].append(x)
    return tuple(
        SelectedStudy(patient, study, tuple(sorted(taken)))
        for (patient, study), taken in sorted(studies.items())
        if set(_IMAGES) <= {x.modality for x in taken}
    )


def is_image(series: IndexedSeries) -> bool:
    """Is it a CT or a PET?"""
    return not series.analysis and series.modality in _IMAGES


def is_label(series: IndexedSeries, labels: Labels) -> bool:
    """Is it one of the label objects that a recipe takes?"""
    return (
        series.modality == labels.kind
        and series.analysis == labels.analysis
        and re.search(labels.series, series.description) is not None
    )


def first_patients(studies: Sequence[SelectedStudy], count: int) -> tuple[SelectedStudy, ...]:
    """All studies of the first patients, by PatientID."""
    chosen = set(sorted({x.patient for x in studies})[:count])
    return tuple(x for x in studies if x.patient in chosen)


def licensed(series: Iterable[IndexedSeries], licence: str) -> tuple[IndexedSeries, ...]:
    """Series under a licence of a kind, such as ``cc-by``, in whatever version.

    Raises:
        CohortError: there are none; says which licences there are.
    """
    every = tuple(series)
    found = tuple(x for x in every if _kind(x.licence) == _kind(licence))
    if not found:
        known = ", ".join(sorted({_kind(x.licence) for x in every}))
        raise CohortError(f"--license {licence}: no series has it; there is {known}.")
    return found


def _kind(licence: str) -> str:
    """``cc-by`` of ``CC BY 4.0``: licences that ask for the same, whatever their version."""
    return re.sub(r"[ -]*\d[\d.]*$", "", licence.strip().casefold()).replace(" ", "-")


def counted(studies: Sequence[SelectedStudy]) -> Expected:
    """What these studies amount to."""
    series = [x for study in studies for x in study.series]
    lines = sorted(f"{x.series} {x.version}\n" for x in series)
    return Expected(
        patients=len({x.patient for x in studies}),
        studies=len(studies),
        series=len(series),
        size_mb=round(math.fsum(x.size_mb for x in series)),
        sha256=sha256_bytes("".join(lines).encode()),
    )


def labelled(recipe: Recipe, studies: Sequence[SelectedStudy]) -> tuple[int, int]:
    """How many label series there are, and how many studies have one."""
    found = [sum(is_label(x, recipe.labels) for x in study.series) for study in studies]
    return sum(found), sum(count > 0 for count in found)
