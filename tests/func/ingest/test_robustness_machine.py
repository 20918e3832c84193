"""Robustness, machine level: a full disk, kill -9, a read-only data set, two runs at once."""

from __future__ import annotations

import shutil
import signal
from itertools import count
from pathlib import Path
from tempfile import mkdtemp

import pytest

from tests.func.ingest.hostile import ingest, somebody, write_good
from tests.func.ingest.machine import (
    HOME,
    Repository,
    killed_at,
    make_repository,
    no_file_longer_than,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the stage writes on a machine without trouble."""
    repository = make_repository(tmp_path_factory.mktemp("whole") / "repository")
    ended = repository.run()
    assert ended.code == 0, ended.said
    output = repository.output()
    assert output is not None
    return output


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return make_repository(tmp_path / "repository")


def test_disk_full_at_each_write(repository: Repository, whole: dict[str, bytes]) -> None:
    """Whatever file is the first that does not fit, the stage says so and leaves no part of it."""
    sizes = {len(content) for content in whole.values()}
    for size in sorted({0, *(size - 1 for size in sizes)}):
        ended = repository.run(no_file_longer_than, size)
        assert ended.code == 1
        assert "error: " in ended.said
        assert "Traceback" not in ended.said
        assert repository.output() is None
        assert left_over(repository) == []
    assert repository.run(no_file_longer_than, 1 << 20).code == 0
    assert repository.output() == whole


def test_kill_9_at_each_write(repository: Repository, whole: dict[str, bytes]) -> None:
    """Killed anywhere, the stage leaves the old output, the new one or none; a rerun gives all."""
    old = {"studies.csv": b"of an earlier run"}
    seen = set()
    for number in count(1):
        put(repository, old)
        code = repository.run(killed_at, number).code
        output = repository.output()
        assert output in (old, whole, None)
        seen.add("old" if output == old else "new")
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert number > 20
    assert repository.output() == whole
    assert seen == {"old", "new"}


def test_read_only_data_folder() -> None:
    """Nothing is written beside the data, not even by a user who could."""
    root = Path(mkdtemp(prefix="petct-read-only-"))
    try:
        write_good(root / "raw")
        (root / "out").mkdir()
        for path in (root / "raw", *(root / "raw").rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        with somebody(root):
            before = state(root / "raw")
            done = ingest(root / "raw", root / "out" / "x")
        assert len(done.tables.studies) == 1
        assert not done.tables.rejected
        assert state(root / "raw") == before
    finally:
        shutil.rmtree(root)


def test_two_runs_at_once(repository: Repository, whole: dict[str, bytes]) -> None:
    for _ in range(5):
        both = [repository.start() for _ in range(2)]
        ended = [running.end() for running in both]
        assert [one.code for one in ended] == [0, 0], ended
        assert repository.output() == whole
        assert left_over(repository) == []


def left_over(repository: Repository) -> list[str]:
    """Temporary files and folders beside the output."""
    home = repository.root / HOME.parent
    return [path.name for path in home.glob("*") if path.name != HOME.name]


def put(repository: Repository, files: dict[str, bytes]) -> None:
    home = repository.root / HOME
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name, content in files.items():
        (home / name).write_bytes(content)


def state(folder: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        found[str(path)] = (stat.st_mode, stat.st_mtime_ns, stat.st_ino, stat.st_size)
    return found


CASES = {
    "disk full at each write": test_disk_full_at_each_write,
    "kill -9 at each write": test_kill_9_at_each_write,
    "read-only data folder": test_read_only_data_folder,
    "two runs at once": test_two_runs_at_once,
}
