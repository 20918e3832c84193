"""Public cohorts by recipe: what a recipe may say, and that the archive's index says the same."""

from __future__ import annotations

import socket
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from petct_uad.cli.app import app
from petct_uad.cohorts.index import (
    IndexedSeries,
    citation,
    index_is_installed,
    index_version,
    read_series,
)
from petct_uad.cohorts.recipe import RECIPES, UNVERIFIED, Recipe, read_recipe, recipe_names
from petct_uad.cohorts.selection import SelectedStudy, counted, first_patients, labelled, select
from petct_uad.cohorts.show import plan_text
from petct_uad.core.errors import CohortError, ParamsError

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / RECIPES
NAMES = recipe_names(FOLDER)
FDG = "fdg_pet_ct_lesions"

each_cohort = pytest.mark.parametrize("name", NAMES)
needs_index = pytest.mark.skipif(
    not index_is_installed(), reason="idc-index-data and duckdb are not installed: extra cohorts"
)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["fetch", *words])


@cache
def archived(name: str) -> tuple[IndexedSeries, ...]:
    return read_series(name)


@cache
def chosen(name: str) -> tuple[SelectedStudy, ...]:
    return select(read_recipe(name, FOLDER), archived(name))


def series(patient: str, study: str, modality: str, **other: str) -> IndexedSeries:
    uid = "-".join((study, modality, *other.values()))
    plain = IndexedSeries(patient, study, uid, modality, "", "", "CC BY 4.0", "10.1/x", 1.5, 2, "v")
    return replace(plain, **other)  # type: ignore[arg-type]


# Two studies of one patient, one of another, and what no recipe takes.
SERIES = (
    series("B", "b1", "CT"),
    series("B", "b1", "PT"),
    series("A", "a1", "CT"),
    series("A", "a1", "PT"),
    series("A", "a1", "SEG", description="Segmentation"),
    series("A", "a1", "SEG", description="Segmentation", analysis="somebody's"),
    series("A", "a1", "SEG", description="Liver"),
    series("A", "a1", "MR"),
    series("A", "a2", "CT"),
    series("A", "a2", "PT"),
    series("C", "c1", "CT"),
    series("D", "d1", "CT"),
    series("D", "d2", "PT"),
)


def test_the_seven_cohorts_have_recipes() -> None:
    assert set(NAMES) == {
        "acrin_nsclc_fdg_pet",
        "fdg_pet_ct_lesions",
        "lung_pet_ct_dx",
        "nsclc_radiogenomics",
        "psma_pet_ct_lesions",
        "rider_lung_pet_ct",
        "soft_tissue_sarcoma",
    }


@each_cohort
@needs_index
def test_a_recipes_counts_are_the_indexs(name: str) -> None:
    recipe = read_recipe(name, FOLDER)
    if recipe.index != index_version():
        pytest.skip(f"the recipe is of index {recipe.index}, and {index_version()} is installed")
    assert counted(chosen(name)) == recipe.expected
    assert labelled(recipe, chosen(name)) == (recipe.labels.series_count, recipe.labels.studies)


@each_cohort
@needs_index
def test_a_recipes_split_gives_every_patient_one_part_and_says_how_many(name: str) -> None:
    split = read_recipe(name, FOLDER).split
    patients = {study.patient for study in chosen(name)}
    parts = [split.of(patient) for patient in patients]
    assert tuple(parts.count(part) for part in ("train", "val", "test")) == split.patients
    shares = [count / len(patients) for count in split.patients]
    assert shares == pytest.approx([split.train, split.val, 0.375], abs=0.12)


@needs_index
def test_the_page_splits_the_public_benchmark_as_the_recipe_does() -> None:
    page = (ROOT / "docs/public-benchmark.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    patients = sorted({study.patient for study in chosen(FDG)})
    rule = read_recipe(FDG, FOLDER).split
    assert [names["split"](x) for x in patients] == [rule.of(x) for x in patients]
    train, val, test = rule.patients
    assert f"{train} patients train, {val} validate, {test} test" in page


def test_a_patients_split_depends_on_nobody_else() -> None:
    """Who wants to check it needs SHA-256 alone."""
    split = read_recipe(FDG, FOLDER).split
    digest = sha256(b"fdg_pet_ct_lesions-1\0PETCT_0011f3deaf").digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    expected = "train" if share < 0.5 else "val" if share < 0.625 else "test"
    assert split.of("PETCT_0011f3deaf") == expected


@each_cohort
@needs_index
def test_a_recipe_cites_all_that_it_takes_under_its_licence(name: str) -> None:
    taken = {(x.doi, x.licence) for study in chosen(name) for x in study.series}
    sources = read_recipe(name, FOLDER).sources
    assert {(x.doi, x.licence) for x in sources} == taken
    for source in sources:
        assert " ".join(source.citation.split()) == citation(source.doi)


@needs_index
def test_what_notes_say_of_labels_is_in_the_index() -> None:
    psma = [x.description for study in chosen("psma_pet_ct_lesions") for x in study.series]
    assert psma.count("Segmentation - No tumor lesions detected") == 58
    for name, count in (
        ("acrin_nsclc_fdg_pet", 15),
        ("nsclc_radiogenomics", 7),
        ("rider_lung_pet_ct", 2),
    ):
        corrected = [
            x for x in chosen(name) if any("corrected seg" in y.description for y in x.series)
        ]
        assert len(corrected) == count
        assert f"{count} studies have a second object" in read_recipe(name, FOLDER).labels.note
    own = {
        x.study for x in archived("nsclc_radiogenomics") if x.modality == "SEG" and not x.analysis
    }
    assert len(own) == 144
    assert own.isdisjoint(x.study for x in chosen("nsclc_radiogenomics"))


def test_a_cohort_without_lesion_is_never_called_healthy() -> None:
    notes = " ".join(read_recipe(FDG, FOLDER).notes)
    assert "513 of the 1,014 studies have no lesion" in notes
    assert "not healthy" in notes


def test_all_are_listed_without_the_index() -> None:
    result = run("--list")
    assert result.exit_code == 0
    (line,) = (x for x in result.stdout.splitlines() if x.startswith(FDG))
    assert line.split()[1:4] == ["900", "1,014", "419.0"]
    assert "CC BY 4.0" in line
    assert "SEG by people" in line


@needs_index
def test_three_patients_are_looked_up_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a network was used")

    monkeypatch.setattr(socket.socket, "connect", refused)
    result = run(FDG, "--patients", "3", "--dry-run")
    assert result.exit_code == 0
    for words in (
        "3 of 900 patients, 3 studies with CT and PET, 9 series, 1,166 MB",
        "1 CT, 1 PT, 1 SEG",
        "CC BY 4.0, cite: Gatidis",
        "lesions: unverified",
        "From s3://idc-open-data, which ask for no account",
        "About 0 h 02 min at 100 Mbit/s. Disk: 1.2 GB",
    ):
        assert words in result.stdout


@pytest.mark.skipif(index_is_installed(), reason="the extra `cohorts` is installed")
def test_without_the_index_one_cohort_says_what_to_install() -> None:
    result = run(FDG)
    assert result.exit_code == 4
    assert "pip install '.[cohorts]'" in result.output


def test_an_unknown_cohort_is_named_with_the_nearest() -> None:
    result = run("fdg_pet_ct_lesion")
    assert result.exit_code == 4
    assert f"Did you mean '{FDG}'?" in result.output


def test_studies_with_ct_and_pet_of_one_session_are_taken_with_their_labels() -> None:
    recipe = read_recipe(FDG, FOLDER)
    studies = select(recipe, SERIES[::-1])
    assert [(x.patient, x.study, x.kinds) for x in studies] == [
        ("A", "a1", "1 CT, 1 PT, 1 SEG"),
        ("A", "a2", "1 CT, 1 PT"),
        ("B", "b1", "1 CT, 1 PT"),
    ]
    found = counted(studies)
    assert (found.patients, found.studies, found.series, found.size_mb) == (2, 3, 7, 10)
    assert labelled(recipe, studies) == (1, 1)
    assert {x.study for x in first_patients(studies, 1)} == {"a1", "a2"}


def test_another_version_of_one_series_is_told() -> None:
    """The archive replaced its bytes: the same UID, another UUID."""
    recipe = read_recipe(FDG, FOLDER)
    studies = select(recipe, SERIES)
    pinned = recipe.model_copy(update={"expected": counted(studies)})
    assert "has changed" not in plan_text(pinned, studies, studies, "25")
    replaced = select(recipe, (replace(SERIES[0], version="other"), *SERIES[1:]))
    assert "has changed" in plan_text(pinned, replaced, replaced, "26")


def changed(folder: Path, **keys: object) -> Recipe:
    content = YAML(typ="safe").load((FOLDER / f"{FDG}.yaml").read_text(encoding="utf-8"))
    with (folder / f"{FDG}.yaml").open("w", encoding="utf-8") as file:
        YAML().dump({**content, **keys}, file)
    return read_recipe(FDG, folder)


def test_a_recipe_is_read_strictly(tmp_path: Path) -> None:
    labels = read_recipe(FDG, FOLDER).labels.model_dump()
    assert labels["lesions"] == UNVERIFIED
    with pytest.raises(ParamsError, match=r"licence.*unknown key"):
        changed(tmp_path, licence="CC BY 4.0")
    with pytest.raises(ParamsError, match=r"labels.kind = 'NIFTI': expected one of 'SEG'"):
        changed(tmp_path, labels={**labels, "kind": "NIFTI"})
    with pytest.raises(ParamsError, match="no regular expression"):
        changed(tmp_path, labels={**labels, "series": "("})
    with pytest.raises(ParamsError, match=r"sources = .*expected a list"):
        changed(tmp_path, sources=[])
    with pytest.raises(CohortError, match="expected 'fdg_pet_ct_lesions', the name of the file"):
        changed(tmp_path, collection="another")
