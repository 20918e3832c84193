"""What a person reads of cohorts: the list of recipes, and what one amounts to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from petct_uad.cohorts.fetch import Fetched
from petct_uad.cohorts.recipe import UNVERIFIED, Recipe
from petct_uad.cohorts.selection import SelectedStudy, counted, labelled
from petct_uad.core.patient_split import SPLIT_CSV

_SHOWN = 20  # studies
_LINE_MBIT_PER_S = 100
_HEADER = ("cohort", "patients", "PET/CT studies", "GB", "licence", "labels")


def list_text(recipes: Sequence[Recipe]) -> str:
    """A line per recipe, as the recipes have it."""
    rows = [_HEADER, *map(_row, recipes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def plan_text(
    recipe: Recipe, studies: Sequence[SelectedStudy], chosen: Sequence[SelectedStudy], index: str
) -> str:
    """What some studies of a cohort amount to, and all that must be known of them.

    Args:
        recipe: of the cohort.
        studies: all of the cohort.
        chosen: those asked for.
        index: version of the index that they are of.
    """
    return "\n".join(_lines(recipe, studies, chosen, index)) + "\n"


def _row(recipe: Recipe) -> tuple[str, ...]:
    expected, labels = recipe.expected, recipe.labels
    licences = dict.fromkeys(source.licence for source in recipe.sources)
    return (
        recipe.collection,
        f"{expected.patients:,}",
        f"{expected.studies:,}",
        f"{expected.size_mb / 1000:.1f}",
        ", ".join(licences),
        f"{labels.kind} by {labels.made_by}, {labels.studies:,} studies",
    )


def _lines(
    recipe: Recipe, studies: Sequence[SelectedStudy], chosen: Sequence[SelectedStudy], index: str
) -> Iterator[str]:
    part = counted(chosen)
    patients = len({x.patient for x in studies})
    yield f"{recipe.title} ({recipe.collection}): {recipe.tracer}, {recipe.region}"
    yield (
        f"{part.patients:,} of {patients:,} patients, {part.studies:,} studies with CT and PET, "
        f"{part.series:,} series, {part.size_mb:,} MB"
    )
    yield from (_study_line(x) for x in chosen[:_SHOWN])
    if len(chosen) > _SHOWN:
        yield f"  and {len(chosen) - _SHOWN:,} more"
    yield from _label_lines(recipe, chosen)
    yield from (f"Note: {note}" for note in recipe.notes)
    for source in recipe.sources:
        yield f"{source.licence}, cite: {source.citation}"
    yield _split_line(recipe, chosen)
    yield from _effort_lines(chosen)
    yield from _index_lines(recipe, studies, index)


def _study_line(x: SelectedStudy) -> str:
    return f"  {x.patient}  {x.study}  {x.kinds}  {x.size_mb:,.0f} MB"


def _split_line(recipe: Recipe, chosen: Sequence[SelectedStudy]) -> str:
    parts = recipe.split.count({study.patient for study in chosen})
    told = ", ".join(f"{count:,} {part}" for part, count in parts.items())
    if all(parts.values()):
        return f"Patients are split by the recipe ({recipe.split.name}): {told}."
    return (
        f"The recipe's split ({recipe.split.name}) would be {told}. Each needs somebody, so that "
        f"no {SPLIT_CSV} is written of these alone: `split` of params.yaml splits them."
    )


def _label_lines(recipe: Recipe, chosen: Sequence[SelectedStudy]) -> Iterator[str]:
    labels = recipe.labels
    series, with_one = labelled(recipe, chosen)
    yield (
        f"Labels: {labels.kind} by {labels.made_by}, {series:,} series in {with_one:,} of "
        f"{len(chosen):,} studies. {labels.note}"
    )
    if labels.lesions == UNVERIFIED:
        yield "Which names in the label objects are lesions: unverified, the index does not say."
    else:
        yield f"Lesions are the names that match {labels.lesions} (ingest.label_roi)."


def _index_lines(recipe: Recipe, studies: Sequence[SelectedStudy], index: str) -> Iterator[str]:
    yield f"From the index of the Imaging Data Commons (idc-index-data {index}), without a network."
    if counted(studies) != recipe.expected:
        yield (
            f"The recipe is of index {recipe.index}, and the archive has changed what it takes "
            "since: another series, or another version of one. Look before you cite it."
        )


def _effort_lines(chosen: Sequence[SelectedStudy]) -> Iterator[str]:
    """Where it comes from, and what that takes."""
    buckets = sorted({x.url.rsplit("/", 2)[0] for study in chosen for x in study.series})
    size_mb = sum(x.size_mb for x in chosen)
    hours, minutes = divmod(math.ceil(size_mb * 8 / _LINE_MBIT_PER_S / 60), 60)
    yield f"From {', '.join(buckets)}, which ask for no account."
    yield (
        f"About {hours} h {minutes:02d} min at {_LINE_MBIT_PER_S} Mbit/s. Disk: "
        f"{size_mb / 1000:,.1f} GB, and as much again where DVC copies files to its cache "
        "(cache.type) rather than links them."
    )


def fetched_text(
    recipe: Recipe, chosen: Sequence[SelectedStudy], fetched: Fetched, target: Path
) -> str:
    """What was fetched, what of it is not known, and what comes next."""
    lines = [
        f"{target} is under DVC: {fetched.new:,} studies fetched, {fetched.known:,} were there.",
        "Every instance agrees with the index, and with its MD5 where its server has one"
        + (f"; {fetched.by_size:,} have none." if fetched.by_size else "."),
        *_label_lines(recipe, chosen),
        "Next:",
        f"  git add {target}.dvc {target.parent}/.gitignore",
        f"  dvc exp run -S dataset={recipe.collection}",
    ]
    return "\n".join(lines)
