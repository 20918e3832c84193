"""``petct fetch`` from an S3 server on loopback: nothing cut or damaged is taken for whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from petct_uad.cli.app import app
from petct_uad.cohorts.fetch import Cohort, Fetched
from petct_uad.cohorts.index import read_series
from petct_uad.cohorts.recipe import read_recipe
from petct_uad.cohorts.selection import select
from petct_uad.cohorts.transfer import Buckets
from petct_uad.core.errors import CohortError
from petct_uad.core.files import sha256_file
from petct_uad.core.patient_split import read_patient_split
from petct_uad.core.provenance.record import Entity
from petct_uad.core.sources import read_sources
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.ingest.run import derivations, ingest_dataset
from tests.archive import BUCKET, OPEN, Archive, served, unspoilt, write_recipe
from tests.func.ingest.conftest import Patient, ingest_params

ROOT = Path(__file__).resolve().parents[3]
RECIPE = ROOT / "data/cohorts/fdg_pet_ct_lesions.yaml"
COHORT = "tiny"
PATIENTS = ("A", "B", "E")  # train, val and test, by the recipe
SLICES = 6
RAW = Path("data/raw") / COHORT


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Three studies under the layout of the Imaging Data Commons, open to all, and their index."""
    folder = tmp_path_factory.mktemp("archive")
    for name in PATIENTS:
        Patient(folder / "loose", name, slices=SLICES).both()
    with served(folder / "loose", folder / "site", COHORT) as archive:
        yield archive


@pytest.fixture
def archive(bucket: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """Nobody has asked for anything yet; the working directory holds a recipe alone."""
    bucket.wire.reset()
    monkeypatch.syspath_prepend(str(bucket.index))
    write_recipe(tmp_path / f"data/cohorts/{COHORT}.yaml", RECIPE)
    monkeypatch.chdir(tmp_path)
    return bucket


def run(archive: Archive, *words: str) -> Result:
    return CliRunner().invoke(app, ["fetch", COHORT, "--endpoint", archive.endpoint, *words])


def fetch(archive: Archive, target: Path = RAW) -> Fetched:
    """All of the cohort, without DVC."""
    recipe = read_recipe(COHORT)
    studies = select(recipe, read_series(COHORT))
    return Cohort(recipe, "99.0.0", Buckets(archive.endpoint), target).fetch(studies)


def keys(archive: Archive) -> set[str]:
    listed = archive.client.list_objects_v2(Bucket=BUCKET)["Contents"]
    return {item["Key"] for item in listed}


def whole_studies() -> list[str]:
    return sorted(path.stem for path in RAW.glob("*.zip"))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def test_cohort_is_fetched_verified_packed_and_tracked_with_its_sources(archive: Archive) -> None:
    for command in (["git"], [sys.executable, "-m", "dvc"]):
        subprocess.run([*command, "init", "--quiet"], check=True)
    done = run(archive, "--patients", "2")
    assert done.exit_code == 0, done.output
    assert "2 studies fetched, 0 were there" in done.output
    assert done.output.count("lesions: unverified") == 2  # before, and after
    assert Path(f"{RAW}.dvc").is_file()
    # One trains and one validates: nobody would be left to test.
    assert "1 train, 1 val, 0 test" in done.output
    assert not (RAW / "split.csv").exists()
    rows = read_sources(RAW)
    assert [(row.patient, row.modality) for row in rows] == [
        (patient, modality) for patient in "AB" for modality in ("CT", "PT")
    ]
    assert {(row.collection, row.index, row.instances) for row in rows} == {(COHORT, "99.0.0", 6)}
    assert all(row.url == f"s3://{BUCKET}/{row.version}/*" for row in rows)
    assert fetch(archive) == Fetched(new=1, known=2, by_size=0)
    assert archive.wire.asked == Counter(keys(archive))
    check_ingest(archive)


def check_ingest(archive: Archive) -> None:
    """It reads as the loose files do, and its sources are in the lineage."""
    volumes = []
    for raw in (archive.loose, RAW):
        out = Path(f"out-{raw.name}")
        out.mkdir()
        reading = ingest_dataset(raw, out, ingest_params())
        assert reading.tables.rejected == ()
        files = sorted((out / "volumes").rglob("*.nii.gz"))
        volumes.append([(path.relative_to(out), sha256_file(path)) for path in files])
    assert volumes[0] == volumes[1]
    given = read_patient_split(Path(f"out-{COHORT}/volumes"))
    rule = read_recipe(COHORT).split
    assert given == {PUBLIC.patient(patient): rule.of(patient) for patient in PATIENTS}
    made = derivations(Path(f"out-{COHORT}"), Path("data/interim/tiny/ingest"), RAW)
    assert Entity.of_file(RAW / "sources.csv") in made[0].inputs


def test_nothing_is_asked_of_anybody_without_being_told_to(archive: Archive) -> None:
    done = run(archive, "--dry-run", "--license", "cc-by")
    assert done.exit_code == 0, done.output
    assert f"From s3://{BUCKET}" in done.output
    refused = run(archive, "--dry-run", "--license", "cc-by-nc")
    assert refused.exit_code == 4
    assert "there is cc-by" in " ".join(refused.output.split())
    assert not archive.wire.asked
    assert not RAW.exists()


def test_fetch_killed_in_the_middle_goes_on_and_takes_nothing_twice(archive: Archive) -> None:
    wire = archive.wire
    wire.hold_after = 2 * SLICES + 3  # one study, and three objects of the next
    process = subprocess.Popen(
        [sys.executable, "-c", "from petct_uad.cli.app import app; app()", "fetch", COHORT],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(archive.index), *sys.path]),
            "PETCT_S3_ENDPOINT": archive.endpoint,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while wire.asked.total() <= wire.hold_after and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.wait()
    wire.release.set()
    assert whole_studies() == [read_sources(RAW)[0].study_instance_uid]
    kept = {path.name for path in Path(".cache/fetch").rglob("*.dcm") if path.name[0] != "."}
    wire.reset()
    assert fetch(archive) == Fetched(new=2, known=1, by_size=0)
    assert {key.rpartition("/")[2] for key in wire.asked}.isdisjoint(kept)
    assert wire.asked.total() == 2 * 2 * SLICES - len(kept)
    assert not list(Path(".cache/fetch").iterdir())
    fetch(archive, Path("undisturbed"))
    assert digests(RAW) == digests(Path("undisturbed"))


def flipped(body: bytes) -> bytes:
    return body[:-9] + bytes([body[-9] ^ 1]) + body[-8:]


@pytest.mark.parametrize(
    ("spoil", "found"), [(flipped, "MD5"), (lambda body: body[:-50], "no answer")]
)
def test_object_damaged_or_cut_on_the_way_is_named_and_its_study_not_there(
    archive: Archive, spoil: Callable[[bytes], bytes], found: str
) -> None:
    bad = max(keys(archive))
    archive.wire.spoil = lambda key, body: spoil(body) if key == bad else body
    with pytest.raises(CohortError, match=rf"{bad}.* {found}"):
        fetch(archive)
    assert archive.wire.asked[bad] >= 3
    assert len(whole_studies()) < 3
    archive.wire.spoil = unspoilt
    fetch(archive)
    assert len(whole_studies()) == 3


def test_object_damaged_once_is_asked_for_again(archive: Archive) -> None:
    bad = max(keys(archive))
    wire = archive.wire
    wire.spoil = lambda key, body: flipped(body) if key == bad and wire.asked[key] < 2 else body
    fetch(archive)
    assert wire.asked[bad] == 2


def another_patients(body: bytes) -> bytes:
    return body.replace(b"LO\x02\x00E ", b"LO\x02\x00D ")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda body: body[:-100], "bytes, by the index"),
        (lambda body: bytes(len(body)), "cannot be read"),
        (another_patients, r"of \['D',"),
        (None, f"found {SLICES - 1} objects; expected {SLICES}"),
    ],
)
def test_object_that_is_not_what_the_index_says_is_found(
    archive: Archive, change: Callable[[bytes], bytes] | None, found: str
) -> None:
    """Replaced on the server, so that its MD5 is that of the wrong bytes; or removed."""
    (series,) = (x for x in read_series(COHORT) if (x.patient, x.modality) == ("E", "CT"))
    client, key = archive.client, min(x for x in keys(archive) if x.startswith(series.version))
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    client.delete_object(Bucket=BUCKET, Key=key)
    if change is not None:
        client.put_object(Bucket=BUCKET, Key=key, Body=change(body), ACL=OPEN)
    with pytest.raises(CohortError, match=found):
        fetch(archive)
    assert series.study not in whole_studies()
    client.put_object(Bucket=BUCKET, Key=key, Body=body, ACL=OPEN)


def test_cut_archive_of_an_earlier_fetch_is_fetched_again(archive: Archive) -> None:
    fetch(archive)
    cut = min(RAW.glob("*.zip"))
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    assert fetch(archive) == Fetched(new=1, known=2, by_size=0)
    assert cut.read_bytes() == whole


def test_folder_that_was_not_fetched_is_left_alone(archive: Archive) -> None:
    RAW.mkdir(parents=True)
    (RAW / "mine.dcm").touch()
    with pytest.raises(CohortError, match="Move it away"):
        fetch(archive)
    assert not archive.wire.asked


def test_server_that_does_not_answer_is_named(archive: Archive) -> None:
    done = CliRunner().invoke(app, ["fetch", COHORT, "--endpoint", "http://127.0.0.1:9"])
    assert done.exit_code == 4
    assert "no answer that can be used" in " ".join(done.output.split())
