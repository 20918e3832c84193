"""What was computed of a study is found again, and only where it is the same to the byte."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from multiprocessing import get_context
from pathlib import Path

import pytest
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.errors import SettingError
from petct_uad.core.provenance import sources
from petct_uad.core.store import study_store as module
from petct_uad.core.store.entries import entries, trim
from petct_uad.core.store.map_stored import map_stored
from petct_uad.core.store.settings import GIB, store_folder
from petct_uad.core.store.study_store import Storable, StudyStore


@dataclass(frozen=True)
class Shout(Storable):
    """Write a file in capitals, and count its letters; ``calls`` has a line for each that does."""

    source: Path
    target: Path
    calls: Path
    ending: str = "!"

    @property
    def sources(self) -> tuple[Path, ...]:
        return (self.source,)

    @property
    def said(self) -> str:
        return self.ending

    @property
    def outputs(self) -> dict[str, Path]:
        return {"loud.txt": self.target}


@dataclass(frozen=True)
class Counted:
    letters: int
    share: float | None
    words: tuple[str, ...]


def shout(task: Shout) -> Counted:
    with task.calls.open("a") as calls:
        calls.write(f"{task.source.stem}\n")
    text = task.source.read_text()
    task.target.parent.mkdir(parents=True, exist_ok=True)
    task.target.write_text(text.upper() + task.ending)
    return Counted(len(text), 0.1 + 0.2 if text else None, tuple(text.split()))


def store_at(home: Path, bound: int = GIB) -> StudyStore:
    return StudyStore(home / "store", "shout", "code", bound)


@dataclass
class House:
    """A folder of studies, and runs over it."""

    home: Path
    runs: int = 0

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.home / f"{name}.txt").write_text(text)

    def tasks(self, ending: str = "!") -> list[Shout]:
        """Of another run."""
        self.runs += 1
        out, calls = self.home / f"out-{self.runs}", self.home / f"calls-{self.runs}"
        calls.touch()
        return [
            Shout(path, out / path.name, calls, ending) for path in sorted(self.home.glob("*.txt"))
        ]

    def run(
        self, store: StudyStore | None, workers: int = 1, ending: str = "!"
    ) -> tuple[dict[str, str], list[Counted], list[str]]:
        """What was written, returned and computed."""
        tasks = self.tasks(ending)
        found = map_stored(shout, tasks, Counted, "shouting", workers=workers, store=store)
        out, calls = self.home / f"out-{self.runs}", self.home / f"calls-{self.runs}"
        written = {path.stem: path.read_text() for path in sorted(out.glob("*.txt"))}
        return written, found, sorted(calls.read_text().split())


def stderr() -> AbstractContextManager[StringIO]:
    """What the terminal said, whichever thread did."""
    return redirect_stderr(StringIO())


@pytest.fixture
def house(tmp_path: Path) -> House:
    made = House(tmp_path)
    made.write(a="one study", b="two", c="three little words")
    return made


def test_the_same_study_is_computed_once_and_gives_the_same(house: House) -> None:
    store = store_at(house.home)
    without = house.run(None)
    first = house.run(store)
    again = house.run(store)
    assert without == first
    assert first[2] == ["a", "b", "c"]
    assert again == (first[0], first[1], [])


@pytest.mark.parametrize("workers", [1, 2])
def test_one_study_more_less_or_changed_costs_that_study(house: House, workers: int) -> None:
    store = store_at(house.home)
    house.run(store, workers)
    house.write(d="another")
    assert house.run(store, workers)[2] == ["d"]
    house.write(b="two and a half")
    (house.home / "a.txt").unlink()
    written, found, computed = house.run(store, workers)
    assert computed == ["b"]
    assert (written, found) == house.run(None)[:2]


def test_another_param_or_another_code_is_another_result(house: House) -> None:
    store = store_at(house.home)
    house.run(store)
    assert house.run(store, ending="?")[2] == ["a", "b", "c"]
    assert house.run(replace(store, code="fixed"))[2] == ["a", "b", "c"]
    assert house.run(replace(store, stage="whisper"))[2] == ["a", "b", "c"]
    assert house.run(store)[2] == []


def test_a_renamed_study_is_computed_alone(house: House) -> None:
    store = store_at(house.home)
    house.run(store)
    (house.home / "a.txt").rename(house.home / "z.txt")
    written, _, computed = house.run(store)
    assert (computed, sorted(written)) == (["z"], ["b", "c", "z"])


def entry_of(store: StudyStore, content: str) -> Path:
    (found,) = (
        entry.folder
        for entry in entries(store.root)
        if (entry.folder / "loud.txt").read_text() == content
    )
    return found


def cut_short(entry: Path) -> None:
    (entry / "loud.txt").write_text("TW")


def another_byte(entry: Path) -> None:
    (entry / "loud.txt").write_text("TWO?")


def other_numbers(entry: Path) -> None:
    told = json.loads((entry / "result.json").read_text())
    (entry / "result.json").write_text(json.dumps(told | {"letters": 4}))


def no_manifest(entry: Path) -> None:
    (entry / "manifest.json").unlink()


def a_broken_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_bytes(b'{"key": "\xff')


def a_file_less(entry: Path) -> None:
    (entry / "loud.txt").unlink()


def a_file_more(entry: Path) -> None:
    (entry / "extra.txt").write_text("who put me here?")


def a_link(entry: Path) -> None:
    elsewhere = entry.parent / "elsewhere.txt"
    (entry / "loud.txt").rename(elsewhere)
    (entry / "loud.txt").symlink_to(elsewhere)


def that_of_another_study(entry: Path) -> None:
    other = next(path for path in sorted(entry.parent.iterdir()) if path != entry)
    for path in entry.iterdir():
        path.unlink()
    for path in other.iterdir():
        (entry / path.name).write_bytes(path.read_bytes())


@pytest.mark.parametrize(
    "damage",
    [
        cut_short, another_byte, other_numbers, no_manifest, a_broken_manifest, a_file_less,
        a_file_more, a_link, that_of_another_study,
    ],
    ids=lambda damage: damage.__name__,
)  # fmt: skip
def test_a_damaged_entry_is_named_and_never_used(house: House, damage: object) -> None:
    store = store_at(house.home)
    first = house.run(store)
    entry = entry_of(store, "TWO!")
    assert callable(damage)
    damage(entry)
    with stderr() as said:
        again = house.run(store)
    assert again == (*first[:2], ["b"])
    assert entry.name in said.getvalue()
    assert "computed anew" in said.getvalue()
    assert house.run(store)[2] == []


def test_an_output_that_is_replaced_leaves_the_store_as_it_was(house: House) -> None:
    store = store_at(house.home)
    house.run(store)
    house.run(store)
    (house.home / "out-2/b.txt").unlink()
    (house.home / "out-2/b.txt").write_text("something else")
    assert house.run(store)[2] == []


def test_a_study_that_is_begun_again_is_not_written_into_its_entry(house: House) -> None:
    store, tasks = store_at(house.home), house.tasks()

    def run() -> list[Counted]:
        return map_stored(shout, tasks, Counted, "shouting", workers=1, store=store)

    first = run()
    house.write(b="two and a half")
    run()
    house.write(b="two")
    with stderr() as said:
        assert run() == first
    assert "warning" not in said.getvalue()
    assert "3 of 3 taken" in said.getvalue()
    assert [task.target.read_text() for task in tasks][1] == "TWO!"


def test_a_study_that_cannot_be_read_is_refused_as_without_a_store(house: House) -> None:
    (house.home / "b.txt").write_bytes(b"\xff\xfe\xfd")
    for store in (None, store_at(house.home)):
        with pytest.raises(UnicodeDecodeError):
            house.run(store)
    assert [(path / "loud.txt").read_text() for path in (house.home / "store/shout").iterdir()] == [
        "ONE STUDY!"
    ]


def test_of_two_runs_at_once_both_are_right_and_one_entry_stays(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, keep = store_at(house.home), StudyStore.keep

    def other_run_first(self: StudyStore, key: str, task: Shout, content: bytes) -> None:
        keep(self, key, task, content)
        keep(self, key, task, content)

    monkeypatch.setattr(StudyStore, "keep", other_run_first)
    with stderr() as said:
        first = house.run(store)
    assert "warning" not in said.getvalue()
    assert len(entries(store.root)) == 3
    assert house.run(store) == (*first[:2], [])


def test_two_processes_that_run_at_once_share_a_store(house: House) -> None:
    house.write(**{f"study{i:02d}": f"number {i}" for i in range(40)})
    store = store_at(house.home)
    without = house.run(None)
    start = get_context("fork").Barrier(2)

    def run(number: int) -> None:
        house.runs = 10 * number
        start.wait(60)
        written, found, _ = house.run(store)
        sys.exit(0 if (written, found) == without[:2] else 1)

    both = [get_context("fork").Process(target=run, args=(number,)) for number in (1, 2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(x.name for x in store.root.iterdir()) == ["shout"]  # nothing half written
    assert house.run(store) == (*without[:2], [])


def test_what_would_come_back_as_another_value_is_not_kept(house: House) -> None:
    store = store_at(house.home)

    def whole(task: Shout) -> Counted:
        return replace(shout(task), share=1)  # an int, which is 1.0 to the reader of a float

    for _ in range(2):
        found = map_stored(whole, house.tasks(), Counted, "shouting", workers=1, store=store)
        assert [repr(one.share) for one in found] == ["1", "1", "1"]
    assert entries(store.root) == []


def test_an_entry_that_another_run_trims_meanwhile_is_computed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(house.home)
    first = house.run(store)
    place = module._place

    def trimmed(targets: dict[Path, Path]) -> None:
        trim(store.root, 0)
        place(targets)

    monkeypatch.setattr(module, "_place", trimmed)
    with stderr() as said:
        assert house.run(store)[:2] == first[:2]
    assert "warning" not in said.getvalue()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_least_recently_used_go_first_and_the_bound_holds(house: House, workers: int) -> None:
    store = store_at(house.home)
    house.run(store)
    sizes = {entry.folder: entry.size_bytes for entry in entries(store.root)}
    oldest = entry_of(store, "ONE STUDY!")
    os.utime(oldest / "manifest.json", (1, 1))
    assert trim(store.root, sum(sizes.values()) - 1) == sum(sizes.values()) - sizes[oldest]
    assert house.run(store)[2] == ["a"]

    small = replace(store, bound_bytes=max(sizes.values()) + 10)
    house.write(**{f"study{i}": f"number {i}" for i in range(8)})
    house.run(small, workers)
    assert 0 < sum(entry.size_bytes for entry in entries(store.root)) <= small.bound_bytes


def test_nothing_is_kept_where_it_would_fill_the_disk(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(house.home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    store = store_at(house.home)
    assert house.run(store) == house.run(None)
    assert entries(store.root) == []


def test_a_full_disk_is_no_fault_of_an_entry(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(house.home)
    house.run(store)

    def full(_: Path, __: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(Path, "hardlink_to", full)
        house.run(store)
    assert house.run(store)[2] == []


def test_a_store_that_cannot_be_written_costs_a_warning_and_no_result(house: House) -> None:
    (house.home / "store").write_text("no folder")
    with stderr() as said:
        assert house.run(store_at(house.home)) == house.run(None)
    assert said.getvalue().count("not kept") == 1


def test_what_a_killed_run_left_behind_goes_after_a_day(house: House) -> None:
    store = store_at(house.home)
    house.run(store)
    for name, age in ((".tmp-old", 1), (".tmp-new", None)):
        (store.root / name).mkdir()
        (store.root / name / "half").write_text("half of it")
        if age:
            os.utime(store.root / name, (age, age))
    trim(store.root, GIB)
    assert {path.name for path in store.root.iterdir()} == {"shout", ".tmp-new"}


def forget_imports() -> None:
    """What a process reads once of the project in which it began."""
    for read_once in (
        sources._imported_names,
        sources._own_files,
        sources._owner,
        sources._project_packages,
    ):
        read_once.cache_clear()


def test_scores_make_room_for_what_is_kept_of_the_data(house: House) -> None:
    store = store_at(house.home)
    house.run(store)
    house.run(replace(store, stage="score"))  # used last
    kept = entries(store.root)
    data = sum(entry.size_bytes for entry in kept if entry.stage == "shout")
    trim(store.root, data)
    assert [entry.stage for entry in entries(store.root)] == ["shout"] * 3


@pytest.fixture
def _another_project() -> Iterator[None]:
    """This process is in another project while the test runs."""
    forget_imports()
    yield
    forget_imports()


@pytest.mark.usefixtures("_another_project")
def test_the_code_of_a_stage_is_part_of_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "src/petct_uad/room"
    package.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["numpy"]\n[project.optional-dependencies]\n'
    )
    (package / "used.py").write_text("import numpy\n")
    (package / "idle.py").write_text("")
    entry = tmp_path / "stage.py"
    entry.write_text("from petct_uad.room.used import numpy\n")

    def code() -> str:
        forget_imports()  # as a process of its own sees it
        found = StudyStore.of_stage("stage", Path("stage.py"))
        assert found is not None
        return found.code

    first = code()
    (package / "idle.py").write_text("NUMBER = 1\n")
    assert code() == first
    (package / "used.py").write_text("import numpy  # another way\n")
    second = code()
    assert second != first
    monkeypatch.setattr(module, "package_versions", lambda _: {"numpy": "0.1"})
    assert code() not in {first, second}


def test_the_machine_says_whether_and_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Path(module.__file__).parents[4] / "stages"
    assert stage.is_dir()
    monkeypatch.setenv("PETCT_STORE", "off")
    assert StudyStore.of_stage("ingest") is None
    monkeypatch.setenv("PETCT_STORE", "on")
    monkeypatch.setenv("PETCT_STORE_GIB", "1.5")
    found = StudyStore.of_stage("ingest")
    assert found is not None
    assert found.bound_bytes == 1.5 * GIB


def test_workspaces_share_the_store_of_a_folder_that_the_machine_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of ``dvc exp run --queue`` and ``--temp``, each of which is a copy elsewhere."""
    monkeypatch.setenv("PETCT_STORE", str(tmp_path / "shared"))
    houses = [House(tmp_path / name) for name in ("one", "other")]
    for house, computed in zip(houses, (["a", "b"], []), strict=True):
        house.home.mkdir()
        house.write(a="ay", b="bee")
        monkeypatch.chdir(house.home)
        assert house.run(replace(store_at(house.home), root=store_folder()))[2] == computed
        assert not (house.home / ".cache").exists()


def test_nothing_but_the_store_is_trimmed_from_a_folder_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thesis = tmp_path / "thesis/chapter/text"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("all of it")
    monkeypatch.setenv("PETCT_STORE", str(tmp_path))
    house = House(tmp_path / "house")
    house.home.mkdir()
    house.write(a="ay")
    store = replace(store_at(house.home), root=store_folder())
    house.run(store)
    assert CliRunner().invoke(app, ["cache", "trim", "--gib", "0"]).exit_code == 0
    assert entries(store.root) == []
    assert thesis.read_text() == "all of it"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PETCT_STORE", "no"), ("PETCT_STORE", "a/folder"), ("PETCT_STORE_GIB", "much"),
     ("PETCT_STORE_GIB", "-1"), ("PETCT_STORE_GIB", "nan")],
)  # fmt: skip
def test_a_setting_that_cannot_be_taken_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingError, match=f"{name}='{value}'.*expected"):
        StudyStore.of_stage("ingest")


def test_petct_cache_shows_what_is_kept_and_trims_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(house.home)
    store = replace(store_at(house.home), root=store_folder())
    house.run(store)
    shown = CliRunner().invoke(app, ["cache"])
    assert shown.exit_code == 0
    assert "shout" in shown.stdout
    assert "of at most 20 GiB" in shown.stderr
    assert CliRunner().invoke(app, ["cache", "trim", "--gib", "0"]).exit_code == 0
    assert entries(store.root) == []
    assert house.run(store)[2] == ["a", "b", "c"]
