"""Cores and memory are what the control groups leave of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from petct_uad.core.machine import cores, free_bytes, processor, share_cores

ROOT = Path(__file__).parents[3]
V2 = Path("sys/fs/cgroup")
MIB = 1 << 20
TORCH_STAGES = ("distil", "train", "score")


def write(root: Path, **files: str) -> None:
    """``proc__self__cgroup="0::/"`` and the like; dots stay."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A machine on which this process is in the group /batch/job of cgroup v2."""
    write(tmp_path, proc__self__cgroup="0::/batch/job")
    (tmp_path / V2 / "batch/job").mkdir(parents=True)
    return tmp_path


def test_without_a_quota_cores_are_those_of_the_affinity(job: Path) -> None:
    (job / V2 / "batch/job/cpu.max").write_text("max 100000\n")
    assert cores(job) == len(os.sched_getaffinity(0))


def test_affinity_bounds_cores() -> None:
    code = "from petct_uad.core.machine import cores; print(cores())"
    only = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{only}}}); {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "1\n"


@pytest.mark.parametrize("group", ["batch/job", "batch", "."])
def test_quota_of_a_group_or_of_one_around_it_bounds_cores(job: Path, group: str) -> None:
    (job / V2 / group / "cpu.max").write_text("50000 100000\n")
    assert cores(job) == 1


def test_quota_of_cgroup_version_1_bounds_cores(tmp_path: Path) -> None:
    """A container of Docker sees its own group as the top, and the host's path as its name."""
    write(
        tmp_path,
        proc__self__cgroup="4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n1:name=systemd:/x",
        sys__fs__cgroup__cpu__cpu="",
    )
    (tmp_path / V2 / "cpu/cpu.cfs_quota_us").write_text("100000\n")
    (tmp_path / V2 / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cores(tmp_path) == 1


def test_without_control_groups_memory_is_what_the_machine_has_free(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) == pytest.approx(psutil.virtual_memory().available, rel=0.2)


@pytest.mark.parametrize("group", ["batch/job", "batch", "."])
def test_limit_less_what_is_used_bounds_memory(job: Path, group: str) -> None:
    """Of what is used, files that nobody reads any more give way."""
    folder = job / V2 / group
    (folder / "memory.max").write_text(f"{64 * MIB}\n")
    (folder / "memory.current").write_text(f"{40 * MIB}\n")
    (folder / "memory.stat").write_text(f"anon 1\ninactive_file {8 * MIB}\n")
    assert free_bytes(job) == 32 * MIB


def test_limit_of_cgroup_version_1_bounds_memory(tmp_path: Path) -> None:
    write(tmp_path, proc__self__cgroup="4:memory:/slurm/uid_0/job_7")
    folder = tmp_path / V2 / "memory/slurm/uid_0/job_7"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{64 * MIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{40 * MIB}\n")
    (folder / "memory.stat").write_text(f"total_inactive_file {8 * MIB}\n")
    assert free_bytes(tmp_path) == 32 * MIB


@pytest.mark.parametrize(
    ("kind", "apart"),
    [
        ("vendor_id\t: GenuineIntel\nmodel\t: 143\nflags\t: fpu avx2", "avx2"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xd40\nFeatures\t: fp asimd sve", "sve"),
    ],
)
def test_processors_of_one_kind_are_told_apart_by_instruction_sets_and_not_by_clock(
    tmp_path: Path, kind: str, apart: str
) -> None:
    def told(core: str, kind: str) -> str:
        write(tmp_path, proc__cpuinfo=f"processor\t: {core}\ncpu MHz\t: {core}900\n{kind}\n")
        return processor(tmp_path)

    assert told("1", kind) == told("2", kind)
    assert told("1", kind.removesuffix(f" {apart}")) != told("1", kind)


def test_a_system_that_says_little_of_its_processor_still_names_it(tmp_path: Path) -> None:
    assert platform.machine() in processor(tmp_path)


def test_threads_are_those_of_a_quota_and_else_what_torch_takes(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of threads may change sums, and so the bytes of weights."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    share_cores(job)
    assert "OMP_NUM_THREADS" not in os.environ
    (job / V2 / "cpu.max").write_text("50000 100000\n")
    share_cores(job)
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_what_the_environment_says_of_openmp_stays(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    (job / V2 / "cpu.max").write_text("50000 100000\n")
    share_cores(job)
    assert (os.environ["OMP_NUM_THREADS"], os.environ["OMP_WAIT_POLICY"]) == ("3", "active")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's OpenMP on Linux only")
@pytest.mark.parametrize("stage", TORCH_STAGES)
def test_openmp_does_not_spin_in_a_stage_that_loads_torch(stage: str) -> None:
    """Said by OpenMP itself, which reads its environment once, when torch loads it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, f"stages/{stage}.py", "--help"],
        cwd=ROOT, env=kept | {"PYTHONPATH": "src", "OMP_DISPLAY_ENV": "verbose"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "OMP_WAIT_POLICY" in line]
    assert said
    assert all("PASSIVE" in line.upper() for line in said)
