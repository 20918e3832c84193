"""A public cohort of whole bodies, from its archive's server to the report of their thoraxes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.files import read_table, sha256_file
from petct_uad.core.params.base import VALIDATED
from petct_uad.core.sources import read_sources
from petct_uad.lineage.graph import Graph
from petct_uad.phantom.truth import read_truth
from petct_uad.slices.tables import ImageRow, RegionRow, SliceRow
from tests.archive import Archive, served, write_recipe
from tests.e2e.conftest import Clone, environment, make_clone
from tests.e2e.test_pipeline import ancestors
from tests.stages import run_stage
from tests.whole_bodies import PARAMS, made_once

pytestmark = pytest.mark.e2e

COHORT = "bodies"
# By this name two patients train, one validates, and one with lesions tests.
SPLIT = {"name": "bodies-77", "train": 0.5, "val": 0.25, "patients": [2, 1, 1]}
MODEL = "nearest_slice"
NEAREST_SLICE = {
    "model": MODEL,
    "modalities": ["pet"],
    "params": "models.nearest_slice",
    "teacher": "teacher",
    "after": VALIDATED,
}
PIXEL_MM = 500.0 / PARAMS.ct_matrix  # of the CT, coarse
STAGES = (
    ("ingest",), ("register",), ("split",), ("preprocess",), ("validate",), ("train", MODEL),
    ("score", MODEL), ("evaluate", MODEL), ("evaluate_trivial",), ("compare",),
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    raw = made_once(tmp_path_factory) / "raw"
    with served(raw, tmp_path_factory.mktemp("site"), COHORT) as found:
        yield found


@pytest.fixture(scope="module")
def fetched(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the cohort was fetched, and its thoraxes read to the report.

    The stages run in this process, which has loaded torch once; that DVC runs them on a data set of
    one's own is told by ``test_real_data``.
    """
    clone = make_clone(tmp_path_factory.mktemp("fetched") / "repository")
    like = clone.root / "data/cohorts/fdg_pet_ct_lesions.yaml"
    labels = YAML(typ="safe").load(like)["labels"] | {"series": "SEG"}
    write_recipe(like.with_name(f"{COHORT}.yaml"), like, labels=labels, split=SPLIT)
    make_smaller(clone.root / "params.yaml")
    shutil.rmtree(clone.root / "metrics/runs")  # of the default run, which DVC would remove
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(archive.index))
        patch.setenv("PATH", environment()["PATH"])
        patch.chdir(clone.root)
        result = CliRunner().invoke(app, ["fetch", COHORT, "--endpoint", archive.endpoint])
        assert result.exit_code == 0, result.output
        for stage in STAGES:
            run_stage(*stage)
    return clone


def make_smaller(path: Path) -> None:
    """The thoraxes of the cohort: the PET where the scanner has it, coarse grids, a cheap model."""
    yaml = YAML()
    params = yaml.load(path)
    params["dataset"] = COHORT
    params["preprocess"]["region"] = "thorax"
    params["register"].update({"refine": "none", "spacing_mm": 4.0})
    params["preprocess"].update({"image_size_px": 32})
    params["benchmark"] = {MODEL: NEAREST_SLICE}
    yaml.dump(params, path)


@pytest.fixture(scope="module")
def interim(fetched: Clone) -> Path:
    return fetched.root / "data/interim" / COHORT


def test_slices_outside_the_thorax_are_in_no_split(
    fetched: Clone, interim: Path, archive: Archive
) -> None:
    slices = read_table(interim / "split/slices.csv", SliceRow)
    kept = {
        row.slice_id
        for row in read_table(fetched.root / f"data/processed/{COHORT}/index.csv", ImageRow)
    }
    outside = {row.slice_id for row in slices if "outside the thorax" in row.reason}
    assert kept
    assert outside
    assert kept.isdisjoint(outside)
    truths = [read_truth(x) for x in (archive.loose.parent / "truth").glob("*.json")]
    lungs = sorted(
        (truth.whole_body.lung_base_mm, truth.whole_body.lung_apex_mm)
        for truth in truths
        if truth.whole_body
    )
    regions = read_table(interim / "split/regions.csv", RegionRow)
    found = sorted((row.base_mm, row.apex_mm) for row in regions)
    assert len(found) == len(lungs) == PARAMS.patients + 1
    for ends, truth in zip(found, lungs, strict=True):
        assert ends == pytest.approx(truth, abs=2 * PIXEL_MM)


def test_split_is_the_recipes_and_both_studies_of_a_patient_are_in_one(interim: Path) -> None:
    rows = read_table(interim / "split/slices.csv", SliceRow)
    parts = {
        patient: {x.split for x in rows if x.patient == patient} - {"excluded"}
        for patient in {row.patient for row in rows}
    }
    assert sorted(map(sorted, parts.values())) == [["test"], ["train"], ["train"], ["val"]]


def test_test_slice_traces_back_to_objects_that_were_fetched(
    fetched: Clone, archive: Archive
) -> None:
    rows = read_table(fetched.root / f"data/processed/{COHORT}/index.csv", ImageRow)
    (first, *_) = (row for row in rows if row.split == "test")
    edges: dict[str, set[str]] = {}
    bytes_of: dict[str, str] = {}
    for stage in Graph.open(fetched.root).stages:
        if stage.folder.is_relative_to(fetched.root / "data"):
            for output, _, source, digest in stage.table.rows():
                edges.setdefault(output, set()).add(source)
                bytes_of[source] = digest
    found = ancestors(f"slice:{first.slice_id}", edges)
    read = {bytes_of[name] for name in found if name.startswith("instance:")}
    # CT, PET and label of the one patient who tests, as the server has them; not the second PET.
    home = archive.loose / "PHANTOM-0001"
    files = [path for kind in ("CT", "PET", "SEG") for path in (home / kind).glob("*.dcm")]
    assert read == {sha256_file(path) for path in files}
    sources = read_sources(fetched.root / "data/raw" / COHORT)
    assert sum(row.instances for row in sources if row.patient == home.name) > len(files)


def test_thorax_expectations_ran_and_the_report_shows_the_kept_range(fetched: Clone) -> None:
    content = json.loads((fetched.root / "metrics/validation.json").read_text())
    ran = {
        f"{x['table']}.{x['name']}": x["passed"]
        for x in content["expectations"]
        if x["table"] == "regions"
    }
    asked = ("lungs_found", "nothing_outside_in_use", "seen_whole", "lungs_plausible")
    assert {f"regions.{name}" for name in asked} <= set(ran)
    assert all(ran.values())
    report = (fetched.root / "reports/index.html").read_text()
    assert '<section id="region">' in report
    assert f"of {PARAMS.patients + 1} studies lie between" in report
    assert "small-cell carcinoma" in report.split('<section id="classes">')[1]
