"""What this machine and this folder lack for ``dvc repro``, and what to do: ``petct doctor``.

Everything is only looked at: nothing is written, downloaded or run.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

import petct_uad
from petct_uad.core.errors import ParamsError, PetctError, PseudonymError
from petct_uad.core.machine import cores, free_bytes
from petct_uad.core.store.entries import entries
from petct_uad.core.store.settings import BOUND, GIB, SWITCH, bound_bytes, is_on, store_folder
from petct_uad.lineage.git import try_git
from petct_uad.lineage.store import LOCK, PIPELINES
from petct_uad.schema import Params, load_params

if TYPE_CHECKING:
    from dvc.repo import Repo

State = Literal["ok", "note", "problem"]

_SETUP = "Run `make setup`, then `source .venv/bin/activate`."
_ACTIVATE = "Activate the environment: `source .venv/bin/activate`."
_ROOT = "Run it from the repository's root."
_SHOWN = 3  # packages that are named
_LEAST_MEMORY_GIB = 4  # an estimate: two trainings of the default preset at once
_LEAST_DISK_GIB = 1  # what the store leaves free, petct_uad.core.store
_ROOM_GIB = 10  # an estimate: a run, its cache, and temporary files


@dataclass(frozen=True)
class Finding:
    """What was looked at, and how it is.

    Attributes:
        subject: such as ``GPU``.
        state: ``ok``; ``note``, which is slower or not there and may be meant; ``problem``, which
            stops a run.
        found: what is there.
        advice: what to do about a note or a problem.
    """

    subject: str
    state: State
    found: str
    advice: str = ""

    @property
    def line(self) -> str:
        """As a terminal, a log or ``grep`` shows it."""
        return f"{self.state:<8} {self.subject:<15} {self.found}" + (
            f"\n{'':<8} {'':<15} {self.advice}" if self.advice else ""
        )


def examine(root: Path = Path()) -> tuple[Finding, ...]:
    """Look at everything; what one check cannot read does not keep the others from it.

    Args:
        root: the repository.
    """
    params, read = _params(root)
    looked: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("Python", lambda: _python(root)),
        ("packages", lambda: _packages(root / "requirements.lock")),
        ("code", lambda: _code(root)),
        ("params", lambda: iter([read])),
        ("data set", lambda: _dataset(root, params)),
        ("GPU", lambda: _gpu(params)),
        ("selective scan", lambda: _scan(params)),
        ("threads", _threads),
        ("memory", _memory),
        ("disk", lambda: _disk(root)),
        ("DVC", lambda: _dvc(root)),
        ("key", lambda: _key(params)),
        ("study store", lambda: _store(root)),
    )
    return tuple(finding for subject, look in looked for finding in _careful(subject, look))


def as_text(findings: tuple[Finding, ...]) -> str:
    """A line per finding, and how many problems there are."""
    problems = sum(finding.state == "problem" for finding in findings)
    notes = sum(finding.state == "note" for finding in findings)
    last = f"{problems} problems, {notes} notes. " + (
        "A run would stop: see above." if problems else "`dvc repro` can run here."
    )
    return "\n".join([*(finding.line for finding in findings), last])


def exit_code(findings: tuple[Finding, ...]) -> int:
    """1 where a problem stops a run; notes do not count."""
    return int(any(finding.state == "problem" for finding in findings))


def _careful(subject: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """A library that is broken may raise anything when it is imported or asked."""
    try:
        yield from look()
    except PetctError as error:
        yield Finding(subject, "problem", str(error))
    except Exception as error:
        yield Finding(subject, "problem", f"{type(error).__name__}: {error}", _SETUP)


def _python(root: Path) -> Iterator[Finding]:
    found = platform.python_version()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = SpecifierSet(project["requires-python"])
    if found in asked:
        yield Finding("Python", "ok", f"{found}, {sys.executable}")
    else:
        yield Finding("Python", "problem", f"{found}; expected {asked}", _SETUP)
    first = shutil.which("python")
    if first is None or not Path(first).samefile(sys.executable):
        where = first or "there is none"
        yield Finding("PATH", "problem", f"DVC runs `python`, which is {where}", _ACTIVATE)


def _packages(lock: Path) -> Iterator[Finding]:
    """Installed packages beside the pins of requirements.lock, where its markers apply."""
    if not lock.is_file():
        yield Finding("packages", "problem", f"{lock}: not found", _ROOT)
        return
    pinned = list(_pins(lock.read_text(encoding="utf-8")))
    states = {pin: _installed(pin.name) for pin in pinned}
    missing = [f"{pin}" for pin, there in states.items() if there is None]
    other = [
        f"{pin.name} {there} ({pin.specifier})"
        for pin, there in states.items()
        if there is not None and not pin.specifier.contains(there, prereleases=True)
    ]
    if not missing and not other:
        yield Finding("packages", "ok", f"{len(pinned)} as pinned in {lock.name}")
    if other:
        yield Finding("packages", "problem", f"other versions: {_some(other)}", _SETUP)
    if missing:
        yield Finding("packages", "problem", f"not installed: {_some(missing)}", _SETUP)


def _pins(text: str) -> Iterator[Requirement]:
    for line in text.splitlines():
        if "==" not in line or line.startswith((" ", "#")):
            continue
        try:
            pin = Requirement(line.rstrip(" \\"))
        except InvalidRequirement:
            continue
        if pin.marker is None or pin.marker.evaluate():
            yield pin


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _code(root: Path) -> Iterator[Finding]:
    """Stages import from src/ of this folder; ``petct`` may be installed from another."""
    here = Path(petct_uad.__path__[0]).resolve()
    if here == (root / "src/petct_uad").resolve():
        yield Finding("code", "ok", str(here))
    else:
        advice = f"Stages run the code in this folder. {_ROOT} Or run `make setup` here."
        yield Finding("code", "note", f"`petct` is that of {here}", advice)


def _params(root: Path) -> tuple[Params | None, Finding]:
    try:
        params = load_params(root / "params.yaml")
    except PetctError as error:
        return None, Finding("params", "problem", str(error))
    return params, Finding("params", "ok", f"params.yaml is valid; dataset: {params.dataset}")


def _dataset(root: Path, params: Params | None) -> Iterator[Finding]:
    if params is None or params.dataset == "phantom":  # made by the first run
        return
    folder = root / "data/raw" / params.dataset
    if folder.is_dir():
        yield Finding("data set", "ok", str(folder))
    else:
        track = root / f"data/raw/{params.dataset}.dvc"
        advice = "Run `dvc pull`." if track.is_file() else f"Run `petct add {params.dataset} DIR`."
        yield Finding("data set", "problem", f"{folder}: not found", advice)


def _gpu(params: Params | None) -> Iterator[Finding]:
    import torch

    asked = params.train.device if params else "auto"
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        yield Finding("GPU", "ok", f"{', '.join(names)}; train.device: {asked}")
        return
    state: State = "problem" if asked == "cuda" else "note"
    advice = f"A CPU is enough for the default preset; train.device is {asked}."
    if state == "problem":
        advice = "Set train.device to auto or cpu in params.yaml."
    elif shutil.which("nvidia-smi"):
        advice = (
            f"There is an NVIDIA driver, but this torch ({torch.__version__}) does not see it: "
            "compare `nvidia-smi` with https://pytorch.org/get-started/locally."
        )
    yield Finding("GPU", state, "torch sees none", advice)


def _scan(params: Params | None) -> Iterator[Finding]:
    import torch

    from petct_uad.ops.selective_scan.scan import fastest_backend, resolve_backend

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    asked = params.model.scan if params else "auto"
    try:
        backend = fastest_backend(device) if asked == "auto" else resolve_backend(asked, device)
    except ParamsError as error:
        state: State = "note" if asked == "auto" else "problem"
        advice = "The PyTorch reference computes the same, slower." if asked == "auto" else ""
        yield Finding("selective scan", state, str(error), advice)
    else:
        yield Finding("selective scan", "ok", f"{backend} on {device.type}; model.scan: {asked}")


def _threads() -> Iterator[Finding]:
    here, machine = cores(), os.cpu_count() or 1
    told = os.environ.get("OMP_NUM_THREADS", "")
    found = f"{here} of the machine's {machine} cores (affinity, cgroup)"
    found += f"; OMP_NUM_THREADS={told}" if told else ""
    if told and not told.isdigit():
        yield Finding("threads", "problem", found, "OMP_NUM_THREADS is no number: unset it.")
    elif told and int(told) > here:
        yield Finding("threads", "note", found, f"More threads than cores: set it to {here}.")
    else:
        yield Finding("threads", "ok", found)


def _memory() -> Iterator[Finding]:
    free = free_bytes() / GIB
    if free < _LEAST_MEMORY_GIB:
        advice = "End other programs, or set workers: 1 in params.yaml."
        yield Finding("memory", "note", f"{free:.1f} GiB free", advice)
    else:
        yield Finding("memory", "ok", f"{free:.1f} GiB free")


def _disk(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free / GIB
    found = f"{free:.1f} GiB free below {root.resolve()}"
    advice = "Free some, or remove what no run needs with `dvc gc --workspace` and `petct cache`."
    state: State = "ok" if free >= _ROOM_GIB else "note" if free >= _LEAST_DISK_GIB else "problem"
    yield Finding("disk", state, found, "" if state == "ok" else advice)
    if not os.access(root, os.W_OK):
        yield Finding("disk", "problem", f"{root.resolve()} cannot be written", "Change its owner.")


def _dvc(root: Path) -> Iterator[Finding]:
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        repo = Repo(str(root))
    except NotDvcRepoError:
        yield Finding("DVC", "problem", f"{root.resolve()}: no DVC repository", _ROOT)
        return
    if shutil.which("git") is None:
        yield Finding("DVC", "problem", "git is not on the PATH", "Install git.")
    yield from _git_author(root)
    yield _runs(repo, root)
    yield _cache(Path(repo.cache.local.path))
    yield from _remote(repo.config)
    yield from _busy(Path(repo.tmp_dir) / "rwlock")


def _git_author(root: Path) -> Iterator[Finding]:
    """DVC commits each experiment, and without an author ends with an "unexpected error"."""
    keys = ("user.name", "user.email")
    if missing := [key for key in keys if not try_git("config", key, folder=root)]:
        found = f"{' and '.join(missing)} not set; `dvc exp run` needs both"
        advice = "; ".join(f"`git config --global {key} VALUE`" for key in missing)
        yield Finding("git author", "note", found, f"{advice}.")


def _runs(repo: Repo, root: Path) -> Finding:
    """DVC writes its records in place, so that one which is killed over it leaves a part."""
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException

    if not (root / LOCK).is_file():
        return Finding("DVC runs", "note", "no dvc.lock: nothing was run here", "Run `dvc repro`.")
    for name in (folder / LOCK for folder in PIPELINES):
        try:
            Lockfile(repo, str(root / name)).load()
        except DvcException:
            found = f"{name} cannot be read, as when DVC is killed while it writes it"
            advice = f"Run `git checkout {name}`, or remove it, then `dvc repro`."
            return Finding("DVC runs", "problem", found, advice)
    return Finding("DVC runs", "ok", "dvc.lock is there; `dvc status` says what has changed")


def _cache(folder: Path) -> Finding:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if os.access(there, os.W_OK):
        return Finding("DVC cache", "ok", str(folder))
    advice = "Change its owner, or name another with `dvc cache dir --local DIR`."
    return Finding("DVC cache", "problem", f"{folder} cannot be written", advice)


def _remote(config: Any) -> Iterator[Finding]:
    name = config["core"].get("remote")
    if name is None:
        advice = "Data stay on this machine. `dvc remote add -d NAME URL` names a place for them."
        yield Finding("DVC remote", "note", "none", advice)
        return
    url = re.sub("//[^@/]*@", "//", config["remote"].get(name, {}).get("url", ""))  # no password
    if url.startswith("/") and not Path(url).is_dir():
        yield Finding("DVC remote", "problem", f"{name}: {url} is no folder", "Mount or make it.")
    else:
        yield Finding("DVC remote", "ok", f"{name}: {url or 'without a URL'}; not asked")


def _busy(locks: Path) -> Iterator[Finding]:
    """Commands of DVC that hold files, by the table of locks that DVC keeps."""
    if not locks.is_file():
        return
    try:
        held = json.loads(locks.read_text(encoding="utf-8") or "{}")
        holders = [*held.get("write", {}).values()]
        holders += [one for many in held.get("read", {}).values() for one in many]
        running = sorted({holder["pid"] for holder in holders if psutil.pid_exists(holder["pid"])})
    except (ValueError, AttributeError, KeyError, TypeError):
        yield Finding("DVC lock", "problem", f"{locks}: damaged", f"Remove it: `rm {locks}`.")
        return
    if running:
        pids = ", ".join(map(str, running))
        yield Finding("DVC lock", "note", f"another command runs here: PID {pids}", "Let it end.")


def _key(params: Params | None) -> Iterator[Finding]:
    from petct_uad.ingest.pseudonyms import Pseudonyms, check_key, key_file, read_key

    asked = params.ingest.pseudonyms if params else "auto"
    if asked == "public":
        yield Finding("pseudonym key", "ok", "not needed: ingest.pseudonyms is public")
        return
    path = key_file()
    if not path.exists() and asked == "auto":
        advice = "Only data that still name patients need one: `petct key create`."
        yield Finding("pseudonym key", "note", f"{path}: none", advice)
        return
    if _only_below_here(path):
        found = f"{path}: not looked at, since it lies below this folder, which is no repository"
        yield Finding("pseudonym key", "note", found, _ROOT)
        return
    try:
        key = Pseudonyms("secret", read_key(path))
        check_key(key, params.ingest.key if params else "any")
    except PseudonymError as error:
        yield Finding("pseudonym key", "problem", str(error))
        return
    yield Finding("pseudonym key", "ok", f"{path}: {key.fingerprint()}")


def _only_below_here(key: Path) -> bool:
    """Does the key lie below the working folder and in no repository of git or DVC?

    ``read_key`` takes the working folder for the repository, which a home folder is not.
    """
    here, folders = Path.cwd().resolve(), key.resolve().parents
    if here not in folders or any((folder / ".dvc").is_dir() for folder in folders):
        return False
    there = next(folder for folder in folders if folder.is_dir())
    return try_git("rev-parse", "--show-toplevel", folder=there) is None


def _store(root: Path) -> Iterator[Finding]:
    bound, on = bound_bytes(), is_on()
    kept = sum(entry.size_bytes for entry in entries(root / store_folder())) / GIB
    found = f"{kept:.2f} of at most {bound / GIB:g} GiB ({BOUND})"
    if on:
        yield Finding("study store", "ok", found)
    else:
        advice = f"One more study costs as much as all: unset {SWITCH} to keep them."
        yield Finding("study store", "note", f"{SWITCH} is off", advice)
