"""Packed studies: an archive is read as the folder that it was made of, or refused by name."""

from __future__ import annotations

import io
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.add import add_dataset
from petct_uad.cli.app import app
from petct_uad.core.archives import read_members, write_archive
from petct_uad.core.errors import ArchiveError, DatasetError, NothingUsableError
from petct_uad.core.files import sha256_file
from tests.func.ingest.conftest import Patient, Run


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def packed(raw: Path, folder: Path) -> Path:
    """One archive of all that lies below a folder."""
    files = [path for path in raw.rglob("*") if path.is_file()]
    folder.mkdir()
    write_archive(folder / "s.zip", [(x.relative_to(raw).as_posix(), x) for x in files])
    return folder


def test_packed_study_gives_the_volumes_and_hashes_of_the_loose_one(
    phantom_raw: Path, repository: Path, run: Callable[..., Run]
) -> None:
    target = add_dataset("mine", phantom_raw, pack=True).target
    loose, archives = run(phantom_raw, workers=2), run(target, workers=2)
    assert len(list(target.glob("*.zip"))) == 4
    assert digests(loose.out / "volumes") == digests(archives.out / "volumes")
    assert archives.tables.studies == loose.tables.studies
    assert archives.tables.series == loose.tables.series
    by_uid = {row.sop_instance_uid: row for row in loose.tables.instances}
    for row in archives.tables.instances:
        archive, member = row.file.split("!/")
        assert replace_file(row, by_uid[row.sop_instance_uid].file) == by_uid[row.sop_instance_uid]
        assert (target / archive).is_file()
        assert (phantom_raw / member).is_file()


def replace_file(row: object, file: str) -> object:
    return row._replace(file=file)  # type: ignore[attr-defined]


def test_same_files_give_the_same_archives(phantom_raw: Path, repository: Path) -> None:
    again = repository / "elsewhere"
    for path in sorted(phantom_raw.rglob("*"), reverse=True):
        if path.is_file():
            copy = again / path.relative_to(phantom_raw)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            os.utime(copy, (1e9, 1e9))
            copy.chmod(0o400)
    first = add_dataset("one", phantom_raw, pack=True).target
    assert digests(first) == digests(add_dataset("two", again, pack=True).target)


@pytest.mark.parametrize("pack", [False, True])
def test_study_more_is_added_alone_and_said(
    phantom_raw: Path, repository: Path, tmp_path: Path, pack: bool
) -> None:
    first, *others = sorted(path for path in phantom_raw.iterdir() if path.is_dir())
    shutil.copytree(others[0], tmp_path / "some" / others[0].name)
    target = add_dataset("mine", tmp_path / "some", pack=pack).target
    before = {path: path.stat().st_ino for path in target.rglob("*") if path.is_file()}
    shutil.copytree(first, tmp_path / "some" / first.name)
    done = CliRunner().invoke(app, ["add", "mine", str(tmp_path / "some")])
    assert done.exit_code == 0, done.stderr
    files = [path for path in (tmp_path / "some" / first.name).rglob("*") if path.is_file()]
    there = [path for path in (tmp_path / "some" / others[0].name).rglob("*") if path.is_file()]
    said = " ".join(done.stderr.split())
    assert f"{1 if pack else len(files)} new" in said
    assert f"{len(there)} files were there" in said
    assert {path: path.stat().st_ino for path in before} == before
    whole = add_dataset("whole", tmp_path / "some", pack=pack).target
    assert digests(whole) == digests(target)


def test_study_with_a_series_more_is_one_archive_of_both(
    raw: Path, patient: Callable[..., Patient], repository: Path, run: Callable[..., Run]
) -> None:
    made = patient()
    made.ct()
    target = add_dataset("mine", raw, pack=True).target
    made.pet()
    added = add_dataset("mine", raw)
    assert added.extended == (f"{made.study}.zip",)
    assert added.known == made.slices
    assert len(run(target).tables.studies) == 1


def test_file_with_other_bytes_is_never_overwritten(
    raw: Path, patient: Callable[..., Patient], repository: Path
) -> None:
    made = patient().both()
    target = add_dataset("mine", raw, pack=True).target
    before = digests(target)
    made.ct(edit=lambda dataset, _index: setattr(dataset, "StudyID", "2"))
    with pytest.raises(DatasetError, match=r"other bytes and is not overwritten"):
        add_dataset("mine", raw)
    assert digests(target) == before


def test_packing_what_is_no_dicom_is_refused(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "train" / "good").mkdir(parents=True)
    (tmp_path / "pictures" / "train" / "good" / "a.png").write_bytes(b"no DICOM")
    with pytest.raises(DatasetError, match="without --pack"):
        add_dataset("mine", tmp_path / "pictures", pack=True)
    assert not (repository / "data/raw/mine").exists()


def rewritten(path: Path, change: Callable[[zipfile.ZipFile, list[zipfile.ZipInfo]], None]) -> None:
    """Another archive in its place."""
    content = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info))
        change(new, old.infolist())
    path.write_bytes(content.getvalue())


def named(name: str) -> Callable[[Path], None]:
    return lambda path: rewritten(path, lambda new, _old: new.writestr(name, b"x"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def compressed(path: Path) -> None:
    bomb = zipfile.ZipInfo("bomb.dcm")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    rewritten(path, lambda new, _old: new.writestr(bomb, b"\0" * (1 << 24)))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def duplicate(path: Path) -> None:
    rewritten(path, lambda new, old: new.writestr(old[0].filename, b"x"))


def encrypted(path: Path) -> None:
    """The flag of its first member, in both of its headers."""
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)


def overlapping(path: Path) -> None:
    """The directory has the second member where the first one is."""
    content = bytearray(path.read_bytes())
    first = content.index(b"PK\1\2")
    second = content.index(b"PK\1\2", first + 4)
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    path.write_bytes(content)


HOSTILE = {
    "cut short": cut,
    "leads out": named("../outside.dcm"),
    "leads out of": named("/etc/passwd"),
    "compressed": compressed,
    "one name": duplicate,
    "encrypted": encrypted,
    "says something else": overlapping,
    "archive in an archive": named("inner.zip"),
    "plain text": named("a\nb.dcm"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@pytest.mark.parametrize("found", HOSTILE)
def test_hostile_archive_is_refused_by_name_and_the_others_are_read(
    raw: Path, patient: Callable[..., Patient], tmp_path: Path, run: Callable[..., Run], found: str
) -> None:
    patient("P1").both()
    folder = packed(raw, tmp_path / "both")
    (folder / "s.zip").rename(folder / "good.zip")
    shutil.rmtree(raw)
    patient("P2").both()
    shutil.copyfile(packed(raw, tmp_path / "other") / "s.zip", folder / "bad.zip")
    HOSTILE[found](folder / "bad.zip")
    tables = run(folder).tables
    assert [study.patient for study in tables.studies] == ["P1"]
    (row,) = tables.rejected
    assert row.subject == "bad.zip"
    assert row.code == "unreadable"
    assert found in row.found
    assert not (tmp_path / "outside.dcm").exists()


def test_damaged_member_is_named_and_costs_its_study(
    raw: Path, patient: Callable[..., Patient], tmp_path: Path, run: Callable[..., Run]
) -> None:
    patient().both()
    folder = packed(raw, tmp_path / "both")
    member = read_members(folder / "s.zip")["P1/CT/90.dcm"]
    content = bytearray((folder / "s.zip").read_bytes())
    content[member.start + member.size - 9] ^= 1
    (folder / "s.zip").write_bytes(content)
    with pytest.raises(NothingUsableError, match=r"s\.zip!/P1/CT/90\.dcm: .* CRC-32"):
        run(folder)


def test_archive_of_a_damaged_member_is_not_written(
    raw: Path, patient: Callable[..., Patient], tmp_path: Path
) -> None:
    patient().both()
    archive = packed(raw, tmp_path / "both") / "s.zip"
    member = read_members(archive)["P1/CT/90.dcm"]
    broken = replace(member, crc32=(member.crc32 or 0) ^ 1)
    with pytest.raises(ArchiveError, match="CRC-32"):
        broken.read()
