"""Nothing that names a person, a visit or a place reaches an output of any stage."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from petct_uad.cli.app import app as cli
from petct_uad.core.errors import PseudonymError
from petct_uad.core.provenance.record import Activity, write_lineage
from petct_uad.ingest.pseudonyms import KEY_VARIABLE, PUBLIC, Pseudonyms, choose_pseudonyms
from petct_uad.ingest.run import derivations, ingest_dataset
from petct_uad.registration.register import RegisterPaths, register_studies
from petct_uad.schema import load_params
from tests.func.ingest.conftest import Patient, Run, ingest_params, save
from tests.func.ingest.hostile import hostile_values

PLANTED = {
    "PatientID": "HOSP-4711x",
    "PatientName": "Schmidtova^Annegret",
    "PatientBirthDate": "19471123",
    "InstitutionName": "Klinikum Neustadt",
    "AccessionNumber": "ACC99812345",
    "ReferringPhysicianName": "Delacroix^Odile",
    "OperatorsName": "Quintanilla^Rosa",
}
TOLD = (
    "HOSP-4711x", "Schmidtova", "Annegret", "SCHM", "19471123", "1947-11-23", "23.11.1947",
    "Klinikum Neustadt", "ACC99812345", "Delacroix", "Odile", "Quintanilla", "Weissmueller",
    "REFUSED-8150",
)  # fmt: skip
KEY = "5e" * 32


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A secret key outside the repository."""
    path = tmp_path / "keys" / "pseudonym.key"
    path.parent.mkdir()
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    monkeypatch.setenv(KEY_VARIABLE, str(path))
    return path


def plant(description: str) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, _index: int) -> None:
        for name, value in PLANTED.items():
            setattr(dataset, name, value)
        dataset.SeriesDescription = description
        del dataset.PatientIdentityRemoved

    return edit


@pytest.fixture
def planted(patient: Callable[..., Patient], raw: Path) -> set[str]:
    """A data set full of identifiers; returns every UID in it."""
    case = patient("Schmidtova Annegret 23.11.1947")
    case.ct("CT ACC99812345", plant("thorax of Schmidtova, born 1947-11-23"))
    case.pet("PET", plant("FDG for Delacroix (Klinikum Neustadt)"))
    square = [[-20, -20, 16], [20, -20, 16], [20, 20, 16], [-20, 20, 16]]
    edit = plant("contours by Quintanilla")
    case.rtstruct([np.array(square, float)], "CT ACC99812345", "GTVschmidtova Annegret", edit)
    folder = raw / case.patient
    (folder / "notes of Annegret.txt").write_text("no DICOM")
    (raw / "SCHMÍDTOVÁ.txt").write_text("no DICOM, and the name with its accents")
    (raw / "Weissmueller.txt").write_text("no DICOM either")
    whole = (folder / "PET" / "99.dcm").read_bytes()
    (folder / "copy for Odile.dcm").write_bytes(whole)
    other = pydicom.dcmread(folder / "PET" / "99.dcm")
    other.Modality, other.PatientID = "MR", "REFUSED-8150"
    other.SOPInstanceUID = case.uid("refused")
    save(other, raw / "8150 REFUSED-8150" / "mr.dcm")
    for file in sorted((folder / "PET").iterdir())[:2]:
        file.rename(file.with_name(f"{pydicom.dcmread(file).SOPInstanceUID}.dcm"))
    uids = set()
    for file in raw.rglob("*.dcm"):
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        uids |= {dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.StudyInstanceUID}
        uids.add(dataset.FrameOfReferenceUID)
    return uids


def found_in(folder: Path, words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Which words are in the bytes or the name of which file, whatever the case."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        text = f"{path.relative_to(folder)}\n".encode() + content
        found += [(path.name, word) for word in words if word.lower().encode() in text.lower()]
    return found


def lineage_of(out: Path) -> None:
    root = Path(__file__).parents[3]
    activity = Activity("ingest", {}, (root / "stages/ingest.py",))
    write_lineage(
        out / "lineage", activity, derivations(out, Path("data/interim/x/ingest"), Path())
    )


@pytest.mark.parametrize("kind", ["secret", "public"])
def test_no_output_byte_holds_a_planted_identifier(
    planted: set[str],
    run: Callable[..., Run],
    key: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = run(pseudonyms=kind)
    assert len(done.tables.studies) == 1
    lineage_of(done.out)
    monkeypatch.chdir(done.out.parent)
    paths = RegisterPaths(
        Path(done.out.name), Path("register"), Path("pictures"), Path("registration.json")
    )
    root = Path(__file__).parents[3]
    register = load_params(root / "params.yaml").register_
    register_studies(paths, register.model_copy(update={"refine": "none"}))
    # A file that cannot be read has no identifiers of its own: only the secret key hides its name.
    told = tuple(word for word in TOLD if kind == "secret" or word != "Weissmueller")
    for folder in (done.out, Path("register"), Path("pictures")):
        assert found_in(folder, (*told, *planted)) == []


def test_the_search_would_find_what_is_there(
    planted: set[str], run: Callable[..., Run], key: Path, raw: Path
) -> None:
    assert {word for _, word in found_in(raw, TOLD)} >= {"Schmidtova", "HOSP-4711x", "Weissmueller"}


def test_refusals_can_still_be_understood(
    planted: set[str], run: Callable[..., Run], key: Path
) -> None:
    done = run(pseudonyms="public")
    with (done.out / "rejected.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    copy = next(row for row in rows if row["code"] == "identity")
    with (done.out / "instances.csv").open() as stream:
        files = {row["file"] for row in csv.DictReader(stream)}
    # The file that it is a copy of is named as instances.csv names it.
    assert any(f"the same bytes in {file}" in copy["found"] for file in files)
    assert copy["subject"].endswith(".dcm")


def test_owner_can_recompute_a_pseudonym_and_nobody_else(
    planted: set[str], run: Callable[..., Run], key: Path
) -> None:
    secret, public = run(pseudonyms="secret"), run(pseudonyms="public")
    names = []
    for done in (secret, public):
        with (done.out / "studies.csv").open() as stream:
            names += [row["patient"] for row in csv.DictReader(stream)]
    mine = Pseudonyms("secret", bytes.fromhex(KEY))
    assert names == [mine.patient("HOSP-4711x"), PUBLIC.patient("HOSP-4711x")]
    fingerprints = [
        json.loads((done.out / "identity.json").read_text()) for done in (secret, public)
    ]
    assert [item["pseudonyms"] for item in fingerprints] == ["secret", "public"]
    assert fingerprints[0]["key_fingerprint"] != fingerprints[1]["key_fingerprint"]
    assert found_in(secret.out, (KEY,)) == []


def test_another_key_changes_both_parts_of_a_study_id() -> None:
    keys = (PUBLIC, Pseudonyms("secret", bytes.fromhex(KEY)))
    one, other = (key.study_id("HOSP-4711x", "1.2.3").split("_") for key in keys)
    assert [a == b for a, b in zip(one, other, strict=True)] == [False, False]


def described(run: Run) -> list[str]:
    with (run.out / "series.csv").open() as stream:
        return [row["description"] for row in csv.DictReader(stream) if row["modality"] == "CT"]


def test_half_a_name_at_the_end_of_a_cut_text_goes(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    words = "thorax " * 27 + "CT2"
    case = patient()
    with hostile_values():
        case.ct(edit=plant(f"{words} Schmidtova"))  # cut to 200 characters: ... CT2 Schmidt
    case.pet(edit=plant("FDG"))
    assert described(run()) == [words]


@pytest.mark.parametrize(
    ("tag", "value", "told"),
    [("PatientName", "Nguyen^Lee", "Lee"), ("AccessionNumber", "A17", "A17")],
)
def test_three_letters_are_enough_to_identify(
    patient: Callable[..., Patient], run: Callable[..., Run], tag: str, value: str, told: str
) -> None:
    def edit(dataset: Dataset, _index: int) -> None:
        setattr(dataset, tag, value)
        dataset.SeriesDescription = f"of {told}"

    case = patient()
    case.ct(edit=edit)
    case.pet()
    assert described(run()) == ["of [removed]"]


def test_auto_is_public_only_where_every_image_says_identity_removed(
    patient: Callable[..., Patient],
    run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "none.key"))
    case = patient().both()
    kind = json.loads((run(pseudonyms="auto").out / "identity.json").read_text())["pseudonyms"]
    assert kind == "public"
    case.pet(edit=plant("FDG"))
    with pytest.raises(PseudonymError, match=r"\(0012,0062\).*petct key create.*public"):
        run(pseudonyms="auto")


def test_identity_that_is_not_removed_and_burned_in_text_are_noted(
    patient: Callable[..., Patient], run: Callable[..., Run]
) -> None:
    case = patient()
    case.ct(edit=plant("CT"))

    def edit(dataset: Dataset, index: int) -> None:
        plant("PET")(dataset, index)
        dataset.BurnedInAnnotation = "YES"

    case.pet(edit=edit)
    notes = run().tables.studies[0].notes
    assert "(0012,0062) is not YES" in notes
    assert "(0028,0301) is not NO" in notes


def test_a_pseudonym_shared_by_two_patients_is_refused(
    patient: Callable[..., Patient], run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    patient("one").both()
    patient("two").both()
    monkeypatch.setattr(Pseudonyms, "patient", lambda _self, _id: "p-0000000000")
    with pytest.raises(PseudonymError, match="one and two"):
        run()


def test_key_is_made_once_and_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "config" / "pseudonym.key"
    monkeypatch.setenv(KEY_VARIABLE, str(path))
    assert CliRunner().invoke(cli, ["key", "create"]).exit_code == 0
    made = path.read_text()
    assert (len(made.strip()), path.stat().st_mode & 0o777) == (64, 0o600)
    assert CliRunner().invoke(cli, ["key", "create"]).exit_code == 1
    assert path.read_text() == made


def test_another_key_than_the_one_asked_for_is_refused(
    patient: Callable[..., Patient], run: Callable[..., Run], key: Path
) -> None:
    patient().both()
    mine = Pseudonyms("secret", bytes.fromhex(KEY)).fingerprint()
    assert mine in CliRunner().invoke(cli, ["key", "show"]).output
    assert run(pseudonyms="secret", key=mine).tables.studies
    with pytest.raises(PseudonymError, match=f"{mine}.*{PUBLIC.fingerprint()}.*dvc repro"):
        run(pseudonyms="public", key=mine)


def test_change_of_key_since_the_last_run_is_told(
    patient: Callable[..., Patient],
    run: Callable[..., Run],
    key: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    patient().both()
    last = run(pseudonyms="secret").out
    capsys.readouterr()
    ingest_dataset(tmp_path / "raw", tmp_path / "again", ingest_params(), last=last)
    said = " ".join(capsys.readouterr().err.split())
    assert json.loads((last / "identity.json").read_text())["key_fingerprint"] in said
    assert f"now under {PUBLIC.fingerprint()}: every patient" in said
    ingest_dataset(tmp_path / "raw", tmp_path / "third", ingest_params(), last=tmp_path / "again")
    assert "now under" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (KEY, 0o644, "chmod 600"),
        (KEY, 0o640, "chmod 600"),
        (KEY[:40], 0o600, "too short"),
        ("not a key" * 20, 0o600, "not a key"),
    ],
)
def test_unsafe_key_is_refused(key: Path, content: str, mode: int, expected: str) -> None:
    key.write_text(content)
    key.chmod(mode)
    with pytest.raises(PseudonymError, match=expected):
        choose_pseudonyms("secret", [])


def test_missing_key_says_how_to_make_one(key: Path) -> None:
    key.unlink()
    with pytest.raises(PseudonymError, match="petct key create"):
        choose_pseudonyms("secret", [])


def test_key_inside_a_repository_is_refused(
    key: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    choose_pseudonyms("secret", [])
    (key.parent / ".dvc").mkdir()
    with pytest.raises(PseudonymError, match="inside a repository"):
        choose_pseudonyms("secret", [])
    (key.parent / ".dvc").rmdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PseudonymError, match="inside a repository"):
        choose_pseudonyms("secret", [])
