"""A kind of input declares itself: one reader, and one door that everybody else goes through."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from petct_uad.cli.validate import validate_folder
from petct_uad.core.errors import NothingUsableError
from petct_uad.core.files import read_table, sha256_file, write_text
from petct_uad.core.params.reading import ParamsFile
from petct_uad.core.provenance.record import Derivation
from petct_uad.core.store.study_store import StudyStore
from petct_uad.ingest import run
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.pseudonyms import PUBLIC
from petct_uad.ingest.reader import Reader, Reading, Whose, Written, instance_entity
from petct_uad.ingest.tables import InstanceRow, PublishedTables
from petct_uad.validation.checks import Promises

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "src/petct_uad"
PARAMS = IngestParams(
    labels="auto", label_roi=".*", suv="bw", pseudonyms="public", on_reject="report", max_gap_mm=0.1
)
KINDS = ("petct_uad.ingest.dicom", "petct_uad.ingest.images")


class LetterReader(Reader):
    """A kind of input that nobody but this test knows."""

    name = "letters"

    def recognises(self, raw: Path) -> bool:
        return (raw / "letter.txt").is_file()

    def read(
        self,
        raw: Path,
        out: Path,
        params: IngestParams,
        workers: int = 1,
        store: StudyStore | None = None,
    ) -> Reading:
        uid, study = PUBLIC.uid("letter.txt"), PUBLIC.study_id("letter.txt", "letter.txt")
        write_text(out / f"volumes/{study}/copy.txt", (raw / "letter.txt").read_text())
        sha256 = sha256_file(raw / "letter.txt")
        row = InstanceRow(PUBLIC.file("letter.txt"), sha256, uid, uid, study, "unused", None)
        tables = PublishedTables((row,), (), (), ())
        return Reading(tables, tables, PUBLIC, ("1 letter",), {"a word": ["to the wise"]})

    def derivations(self, raw: Path, written: Written) -> Iterator[Derivation]:
        for row in written.instances:
            made = written.entity(f"volumes/{row.study_id}/copy.txt")
            yield Derivation(made, (instance_entity(row),))

    def whose(self, path: Path) -> Whose:
        return Whose(patient=path.read_text()) if path.name == "letter.txt" else Whose()


@pytest.fixture
def letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "READERS", (LetterReader(), *run.READERS))
    write_text(tmp_path / "letters/letter.txt", "Dear colleague")
    return tmp_path / "letters"


def test_a_new_kind_of_input_is_its_reader_and_a_line_among_the_readers(letters: Path) -> None:
    out = Path("out")
    out.mkdir()
    found = run.ingest_with_lineage(letters, out, Path("data/interim/x/ingest"), PARAMS)
    (row,) = read_table(out / "instances.csv", InstanceRow)
    assert (out / f"volumes/{row.study_id}/copy.txt").read_text() == "Dear colleague"
    assert json.loads((out / "identity.json").read_text())["pseudonyms"] == "public"
    made = {item.output.id: [source.id for source in item.inputs] for item in found}
    home = "file:data/interim/x/ingest"
    letter = f"instance:{row.sop_instance_uid}"
    assert made[f"{home}/volumes/{row.study_id}/copy.txt"] == [letter]
    assert made[f"{home}/instances.csv"] == [letter]
    for name in ("series.csv", "studies.csv", "rejected.csv", "identity.json"):
        assert made[f"{home}/{name}"] == [f"{home}/instances.csv"]


def test_petct_validate_lets_the_reader_say_what_is_there(letters: Path) -> None:
    promises = Promises.read(ParamsFile.read(ROOT / "params.yaml"))
    lines = validate_folder(letters, PARAMS, promises).lines
    assert lines[0] == f"{letters}: 1 letter"
    at = lines.index("a word: 1")
    assert lines[at + 1] == "  to the wise"


def test_the_door_asks_each_reader_whose_a_file_is(letters: Path) -> None:
    (letters / "bill.txt").write_text("to pay")
    assert run.whose_file(letters / "letter.txt") == Whose("Dear colleague")
    assert run.whose_file(letters / "bill.txt") == Whose()


def test_a_missing_or_empty_data_set_is_refused_before_any_reader_is_asked(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(NothingUsableError, match=f"petct add {name} FOLDER"):
            run.ingest_dataset(tmp_path / name, tmp_path / "out", PARAMS)


def test_nothing_outside_its_folder_knows_a_kind_of_input_but_the_door() -> None:
    knows = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module
        and node.module.startswith(KINDS)
        and not path.is_relative_to(SOURCE / "ingest" / node.module.split(".")[2])
    }
    assert knows == {"ingest/run.py"}
