"""A recipe of a public cohort: ``data/cohorts/<name>.yaml``.

It says what is taken from the archive, what that should be, whose labels they are and what they
mean. It is data: what it states is checked against the archive's index by a test.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from petct_uad.core.errors import CohortError, did_you_mean
from petct_uad.core.params.base import Fraction, Section
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.patient_split import Part, share_of

RECIPES = Path("data/cohorts")
UNVERIFIED = "unverified"

Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Source(Section):
    """A data set that the cohort is made of, to be cited.

    Attributes:
        doi: without its resolver.
        licence: short name, as the index has it.
        citation: as its publishers ask for.
    """

    doi: Annotated[str, Field(pattern=r"^10\.\S+/\S+$")]
    licence: Text
    citation: Text


class Labels(Section):
    """Where lesions are known from.

    Attributes:
        kind: Modality (0008,0060) of the label objects.
        made_by: people; AI; or AI, of which people corrected a part.
        analysis: the set of annotations by others that they belong to; "" for the collection's own.
        series: a regular expression that SeriesDescription (0008,103E) must hold.
        series_count: how many such series the chosen studies have.
        studies: how many of the chosen studies have one.
        lesions: a regular expression of the names that are lesions, as ``ingest.label_roi``, or
            ``unverified``: the index does not say how segments are called.
        note: what else must be known before they are used.
    """

    kind: Literal["SEG", "RTSTRUCT", "SR"]
    made_by: Literal["people", "AI", "AI and people"]
    analysis: str
    series: Text
    series_count: Count
    studies: Count
    lesions: Text
    note: Text

    @model_validator(mode="after")
    def _are_patterns(self) -> Self:
        for name, pattern in (("series", self.series), ("lesions", self.lesions)):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{name} {pattern!r}: no regular expression ({error})") from error
        return self


class PatientSplit(Section):
    """Who trains, validates and tests: by a hash, so that it depends on no other patient.

    A patient's share is the first 64 bits of SHA-256 of ``name``, a zero byte and the PatientID,
    over 2 to the power of 64. Below ``train`` it is train, then val, up to ``train`` and ``val``
    together; the rest is test.

    Attributes:
        name: of the split; another name is another split.
        train: fraction of the patients.
        val: likewise.
        patients: how many that are, of train, val and test.
    """

    name: Text
    train: Fraction
    val: Fraction
    patients: tuple[Count, Count, Count]

    def of(self, patient: str) -> Part:
        """The split of a PatientID (0010,0020)."""
        share = share_of(f"{self.name}\0{patient}")
        return "train" if share < self.train else "val" if share < self.train + self.val else "test"

    def count(self, patients: Iterable[str]) -> Mapping[Part, int]:
        """How many of these, each named once, are in train, val and test."""
        found = Counter(map(self.of, patients))
        return {part: found[part] for part in get_args(Part)}


class Expected(Section):
    """What the archive has of it.

    Attributes:
        patients: with a study of CT and PET.
        studies: that hold both CT and PET: one StudyInstanceUID, one session.
        series: CT, PET and labels of those studies.
        size_mb: of those series, in units of 1,000,000 bytes.
        sha256: of a line ``SeriesInstanceUID version`` per series, sorted: which series, and which
            version of each by the archive's ``crdc_series_uuid``.
    """

    patients: Count
    studies: Count
    series: Count
    size_mb: Count
    sha256: Digest


class Recipe(Section):
    """A public cohort of PET/CT studies.

    Attributes:
        title: for people.
        collection: its name in the Imaging Data Commons, and that of the file.
        index: the version of idc-index-data that `expected` and `labels` were looked up in.
        tracer: of the PET.
        region: of the body that the scans show.
        sources: all that must be cited.
        labels: where lesions are known from.
        expected: what there should be.
        split: of its patients, which the stage of that name heeds.
        notes: what a user must know, in sentences.
    """

    title: Text
    collection: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    index: Annotated[str, Field(pattern=r"^\d+(\.\d+)*$")]
    tracer: Text
    region: Literal["whole body", "thorax", "extremities"]
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    labels: Labels
    expected: Expected
    split: PatientSplit
    notes: tuple[Text, ...]


def recipe_names(folder: Path = RECIPES) -> tuple[str, ...]:
    """The names of all recipes."""
    return tuple(sorted(path.stem for path in folder.glob("*.yaml")))


def read_recipe(name: str, folder: Path = RECIPES) -> Recipe:
    """A recipe by its name.

    Raises:
        CohortError: there is none of this name, or it is that of another collection.
        ParamsError: naming each wrong key, its value and what is allowed there.
    """
    names = recipe_names(folder)
    if name not in names:
        known = f"expected one of {', '.join(names)}" if names else f"there is none in {folder}"
        hint = did_you_mean(name, names)
        raise CohortError(f"cohort {name!r}: not found; {known}. Run from the root.{hint}")
    recipe = ParamsFile.read(folder / f"{name}.yaml").section(Recipe)
    if recipe.collection != name:
        raise CohortError(
            f"{folder / name}.yaml: collection = {recipe.collection!r}; expected {name!r}, the "
            "name of the file. Rename one of them."
        )
    return recipe
