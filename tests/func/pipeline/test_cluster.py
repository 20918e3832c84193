"""The same work on a real Dask cluster: a scheduler and two workers on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from petct_uad.core.errors import ExecutorError, UnitsError
from petct_uad.core.files import sha256_file
from petct_uad.core.parallel import EXECUTOR, map_in_processes
from petct_uad.phantom.cohort import make_cohort
from petct_uad.phantom.params import PhantomParams

pytest.importorskip("dask_jobqueue", reason="pip install '.[cluster]'")

ROOT = Path(__file__).parents[3]
SCHEDULER, SLURM_JOBS = "PETCT_DASK_SCHEDULER", "PETCT_SLURM_JOBS"
MOST_SECONDS = 60.0
# The workers import this file, so it lies on their path; a lost worker is forgiven once.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
}


def process_of(item: int) -> tuple[int, int]:
    time.sleep(0.5)  # so that no worker takes all of them
    return item, os.getpid()


def refuses(item: int) -> int:
    """Item 1 after the others."""
    if item == 1:
        time.sleep(1)
    if item:
        raise UnitsError(f"study {item}", found="no dose", expected="(0018,1074)", advice="Ask.")
    return item


def kills_its_worker(item: int, *, times: int, folder: Path) -> int:
    done = len(list(folder.iterdir()))
    if item == 1 and done < times:
        (folder / str(done)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def waits(item: int, *, folder: Path) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(MOST_SECONDS)
    return item


def waits_or_fails(item: int, *, folder: Path) -> int:
    if item == 0:
        assert eventually(lambda: any(folder.iterdir()))
        return refuses(1)
    return waits(item, folder=folder)


def eventually(holds: Callable[[], bool]) -> bool:
    before = time.monotonic()
    while not (found := holds()) and time.monotonic() - before < MOST_SECONDS:
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def start(stack: ExitStack, *command: str) -> psutil.Popen:
    line = [sys.executable, "-m", "dask", *command]
    process = stack.enter_context(psutil.Popen(line, env=ENVIRONMENT, stderr=subprocess.DEVNULL))
    stack.callback(end, process)
    return process


def end(process: psutil.Popen) -> None:
    for one in (*process.children(recursive=True), process) if process.is_running() else ():
        one.kill()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The file that tells workers and clients where the scheduler is."""
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    quiet = ("--scheduler-file", str(file), "--no-dashboard")
    with ExitStack() as stack:
        start(stack, "scheduler", "--host", "127.0.0.1", "--port", "0", *quiet)
        assert eventually(file.is_file)
        yield file


@pytest.fixture(scope="module")
def workers(scheduler: Path) -> Iterator[None]:
    """Two, each with one thread and Dask's nanny, which starts a lost one anew."""
    with ExitStack() as stack:
        places = ("--scheduler-file", str(scheduler), "--host", "127.0.0.1", "--no-dashboard")
        start(stack, "worker", *places, "--nthreads", "1", "--nworkers", "2")
        yield


@pytest.fixture(autouse=True)
def on_the_cluster(scheduler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXECUTOR, "dask")
    monkeypatch.setenv(SCHEDULER, str(scheduler))


def test_a_worker_of_two_threads_is_refused_with_how_to_start_one(scheduler: Path) -> None:
    with ExitStack() as stack:
        places = ("--scheduler-file", str(scheduler), "--host", "127.0.0.1", "--no-dashboard")
        start(stack, "worker", *places, "--nthreads", "2")
        with pytest.raises(ExecutorError, match=r"found 2 threads, expected 1.*--nthreads 1"):
            map_in_processes(process_of, [1], "items", workers=2)


@pytest.mark.usefixtures("workers")
def test_both_workers_work_and_results_keep_the_order_of_the_items() -> None:
    done = map_in_processes(process_of, [3, 1, 2, 5, 4, 0], "items", workers=1)
    assert [item for item, _ in done] == [3, 1, 2, 5, 4, 0]
    processes = {process for _, process in done}
    assert len(processes) == 2
    assert os.getpid() not in processes


@pytest.mark.usefixtures("workers")
def test_a_cohort_has_the_same_bytes_as_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative, and the workers were started elsewhere."""
    monkeypatch.chdir(tmp_path)
    params = PhantomParams(
        patients=4, seed=7, extent_mm=80.0, ct_matrix=64, max_shift_mm=8.0, max_rotation_deg=2.0
    )
    hashes = []
    for kind in ("dask", "none"):
        monkeypatch.setenv(EXECUTOR, kind)
        files = make_cohort(params, Path(kind, "raw"), Path(kind, "truth"))
        hashes.append([(file.relative_to(kind), sha256_file(file)) for file in files])
    assert hashes[0] == hashes[1]


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("kind", ["dask", "processes"])
def test_of_two_studies_that_fail_the_first_in_order_is_named_on_workers_as_at_home(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EXECUTOR, kind)
    with pytest.raises(UnitsError, match=r"^study 1: found no dose; expected \(0018,1074\). Ask.$"):
        map_in_processes(refuses, [0, 1, 2], "items", workers=2)


@pytest.mark.usefixtures("workers")
def test_a_worker_that_is_killed_is_named_and_nothing_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = partial(kills_its_worker, times=1, folder=tmp_path)
    assert map_in_processes(work, list(range(8)), "items", workers=2) == list(range(8))
    said = capsys.readouterr().err
    assert "worker tcp://127.0.0.1:" in said
    assert "is gone; what it was at is done again by another" in said


@pytest.mark.usefixtures("workers")
def test_an_item_that_kills_worker_after_worker_is_named(tmp_path: Path) -> None:
    work = partial(kills_its_worker, times=9, folder=tmp_path)
    with pytest.raises(ExecutorError, match="items: 1 has ended 2 workers, the last was tcp://"):
        map_in_processes(work, [0, 1, 2], "items", workers=2)


@pytest.mark.usefixtures("workers")
def test_an_item_that_fails_ends_what_the_other_workers_do(tmp_path: Path) -> None:
    with pytest.raises(UnitsError):
        map_in_processes(partial(waits_or_fails, folder=tmp_path), [0, 1], "items", workers=2)
    (process,) = (int(path.name) for path in tmp_path.iterdir())
    assert eventually(lambda: not alive(process))


@pytest.mark.usefixtures("workers")
@pytest.mark.parametrize("told", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_what_a_caller_that_ended_had_begun_ends_too(tmp_path: Path, told: signal.Signals) -> None:
    """Else it would write into what the next run makes."""
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from functools import partial; from pathlib import Path\n"
        "from petct_uad.core.parallel import map_in_processes\n"
        "from tests.func.pipeline.test_cluster import waits\n"
        f"map_in_processes(partial(waits, folder=Path({str(tmp_path)!r})), [1], 'items', 1)\n"
    )
    run = [sys.executable, "-c", script]
    environment = ENVIRONMENT | {name: os.environ[name] for name in (EXECUTOR, SCHEDULER)}
    with subprocess.Popen(run, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL) as caller:
        assert eventually(lambda: any(tmp_path.iterdir()))
        caller.send_signal(told)
    (process,) = (int(path.name) for path in tmp_path.iterdir())
    assert eventually(lambda: not alive(process))


@pytest.mark.parametrize(
    ("kind", "name", "value", "message"),
    [
        ("dask", SCHEDULER, "", "not set. Expected the address"),
        ("dask", SCHEDULER, "tcp://127.0.0.1:9", "no scheduler answers"),
        ("dask", SCHEDULER, "nowhere.json", "no scheduler answers"),
        ("slurm", SLURM_JOBS, "many", "found 'many', expected how many jobs"),
    ],
)
def test_a_setting_that_leads_nowhere_says_what_is_expected(
    kind: str, name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("petct_uad.core.cluster._PATIENCE_S", 1)
    monkeypatch.setenv(EXECUTOR, kind)
    monkeypatch.setenv(name, value)
    with pytest.raises(ExecutorError, match=f"{name}.*{message}"):
        map_in_processes(process_of, [1], "items", workers=1)


BY_SLURM = """
import dask
from tests.func.pipeline.test_cluster import process_of
from petct_uad.core.parallel import map_in_processes
dask.config.set({"jobqueue.slurm.memory": "1GiB", "jobqueue.slurm.walltime": "00:05:00"})
found = map_in_processes(process_of, list(range(8)), "items", workers=1)
print([item for item, _ in found], len({process for _, process in found}))
"""


def slurm_answers() -> bool:
    sinfo = shutil.which("sinfo")
    return sinfo is not None and not subprocess.call(
        [sinfo], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.mark.skipif(
    not slurm_answers(), reason="no SLURM answers: apt-get install slurm-wlm munge, and start it"
)
def test_jobs_of_slurm_do_the_work_and_say_what_they_did_in_the_cache_folder(
    tmp_path: Path,
) -> None:
    environment = ENVIRONMENT | {EXECUTOR: "slurm", SLURM_JOBS: "2"}
    done = subprocess.run(
        [sys.executable, "-c", BY_SLURM],
        cwd=tmp_path, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == f"{list(range(8))} 2", done.stderr
    assert "Traceback" not in done.stderr
    written = {path.parent for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {tmp_path / ".cache/slurm"}
