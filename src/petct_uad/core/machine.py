"""What the machine gives this process: cores and memory, less what its control groups withhold.

A container or a batch system bounds both with Linux's control groups (cgroup v2, and v1 before
it), which neither ``os.cpu_count`` nor torch asks.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

_ROOT = Path("/")
_GROUPS = Path("sys/fs/cgroup")
# What Linux says alike of all processors of one kind, on x86 and on ARM.
_SAME_KIND = (
    "vendor_id", "cpu family", "model", "model name", "stepping", "flags",
    "CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features",
)  # fmt: skip


def cores(root: Path = _ROOT) -> int:
    """Cores that this process may use: its affinity, and the quota of time of each of its groups.

    Args:
        root: under which ``proc`` and ``sys`` lie.
    """
    quotas = (_core_quota(group) for group in _groups("cpu", root))
    return max(1, min([_affinity(), *(math.ceil(quota) for quota in quotas if quota)]))


def free_bytes(root: Path = _ROOT) -> int:
    """Memory that this process may still take: what the machine has free, and each of its groups.

    Args:
        root: under which ``proc`` and ``sys`` lie.
    """
    free: int = psutil.virtual_memory().available
    left = (_bytes_left(group) for group in _groups("memory", root))
    return max(0, min([free, *(x for x in left if x is not None)]))


def processor(root: Path = _ROOT) -> str:
    """Which processor this is, with its instruction sets; as much of it as the system tells.

    Args:
        root: under which ``proc`` lies.
    """
    first, _, _ = _text(root / "proc/cpuinfo").partition("\n\n")
    lines = (line.partition(":") for line in first.splitlines())
    told = {key.strip(): value.strip() for key, _, value in lines}
    known = [told[key] for key in _SAME_KIND if key in told]
    return "; ".join(known or [platform.machine(), platform.processor()])


def share_cores(root: Path = _ROOT) -> None:
    """Let OpenMP wait without spinning, on no more threads than there are cores.

    To be called before torch, numba or scikit-learn is imported: their OpenMP reads its settings
    once. Its threads meet after every operation of a network, and by default one that is early
    spins, so that where another program has a core they burn what the late one waits for. What the
    environment says already stays. Neither the wait nor what runs beside it changes a sum; the
    number of threads may, so it stays what torch takes by itself but where a quota is smaller.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if (count := cores(root)) < _affinity():
        os.environ.setdefault("OMP_NUM_THREADS", str(count))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's control groups, each with those around it.

    ``/proc/self/cgroup`` has a line ``number:controllers:path`` for each hierarchy; that of
    version 2 names no controllers. A container may see its own group as the top.
    """
    listed = _text(root / "proc/self/cgroup").splitlines()
    for controllers, path in (line.split(":", 2)[1:] for line in listed if line.count(":") > 1):
        if controllers and controller not in controllers.split(","):
            continue
        top = root / _GROUPS / (controller if controllers else "")
        inner = top / path.strip("/")
        yield from (group for group in (inner, *inner.parents) if group.is_relative_to(top))


def _core_quota(group: Path) -> float | None:
    """Seconds of core time per second; None where nothing bounds it."""
    quota, _, period = _text(group / "cpu.max").partition(" ")
    quota = quota or _text(group / "cpu.cfs_quota_us")
    period = period or _text(group / "cpu.cfs_period_us")
    if not quota.isdigit() or not period.isdigit():  # "max" in version 2, -1 in version 1
        return None
    return int(quota) / int(period)


def _bytes_left(group: Path) -> int | None:
    """Bytes below the limit; None where nothing bounds them. Cached files give way at once."""
    limit = _text(group / "memory.max") or _text(group / "memory.limit_in_bytes")
    used = _text(group / "memory.current") or _text(group / "memory.usage_in_bytes")
    if not limit.isdigit() or not used.isdigit():
        return None
    lines = (line.split() for line in _text(group / "memory.stat").splitlines())
    stat = {words[0]: int(words[1]) for words in lines if len(words) == 2}
    cached = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    return int(limit) - int(used) + cached


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
