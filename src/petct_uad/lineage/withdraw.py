"""What taking a patient out of a repository reaches, and what it does not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from petct_uad.core.archives import archive_of
from petct_uad.core.console import track
from petct_uad.core.errors import PseudonymError
from petct_uad.core.files import sha256_file
from petct_uad.core.store.settings import store_folder
from petct_uad.ingest.run import whose_file
from petct_uad.lineage.git import try_git
from petct_uad.lineage.instances import inputs_below, instance_rows
from petct_uad.lineage.names import patient_pseudonyms
from petct_uad.lineage.store import Store, cache_store, remotes, tracked


@dataclass(frozen=True)
class Beyond:
    """What still holds the patient, and no ``dvc repro`` removes."""

    raw: tuple[Path, ...]  # the patient's raw files in the workspace
    cached: tuple[str, ...]  # names of cache objects that hold the patient's files
    idle: int  # cache objects that the workspace no longer uses, which may hold models of theirs
    remotes: tuple[str, ...]
    commits: int  # that hold a dvc.lock or a metric


def find_beyond(patient: str, root: Path = Path()) -> Beyond:
    """Look wherever can be looked from here."""
    cache = cache_store(root)
    raw = _raw_files(patient, root)
    return Beyond(
        raw=tuple(raw),
        cached=tuple(_cached(cache, patient, raw, root)),
        idle=len(_idle(cache, root)),
        remotes=tuple(f"{name} ({url})" for name, url in remotes(root).items()),
        commits=_commits(root),
    )


def _raw_files(patient: str, root: Path) -> list[Path]:
    """By what they say of themselves, in every data set: once a patient is out, no table has them.

    A file that says nothing, such as a picture, is known by its bytes. Of a member, its archive.
    """
    digests = {row.sha256 for row in instance_rows(f"{patient}_")}
    files = [folder / name for folder in _data_sets(root) for name in inputs_below(folder)]
    owners = [whose_file(path).patient for path in track(files, "looking for raw files")]
    names = {owner: _pseudonyms(owner) if owner else set() for owner in {*owners}}
    held = (
        path
        for path, owner in zip(files, owners, strict=True)
        if (patient in names[owner] if names[owner] else sha256_file(path) in digests)
    )
    return sorted({archive_of(path) or path for path in held})


def _data_sets(root: Path) -> list[Path]:
    return sorted(path for path in (root / "data/raw").glob("*") if path.is_dir())


def _pseudonyms(patient_id: str) -> set[str]:
    """None where the key is not here."""
    with suppress(PseudonymError):
        return patient_pseudonyms(patient_id)
    return set()


def _cached(cache: Store, patient: str, raw: list[Path], root: Path) -> list[str]:
    """Objects that some folder, now or once, held under the patient's name or in their raw data."""
    held = {path.relative_to(root).as_posix() for path in raw}
    folders = [item for item in tracked(root) if item.path.startswith("data/raw")]
    found = {
        member.md5
        for folder in folders
        for member in cache.folder(folder.md5)
        if f"{folder.path}/{member.path}" in held
    }
    for members in cache.folders():
        found |= {member.md5 for member in members if patient in member.path}
    return sorted(md5 for md5 in found if cache.path(md5).is_file())


def _idle(cache: Store, root: Path) -> set[str]:
    used = {item.md5 for item in tracked(root)}
    used |= {member.md5 for md5 in sorted(used) for member in cache.folder(md5)}
    return {md5 for md5, _ in cache.objects()} - used


def _commits(root: Path) -> int:
    if not (root / ".git").exists():
        return 0
    words = ("rev-list", "--count", "--all", "--", "dvc.lock", "data/dvc.lock", "metrics")
    return int(try_git(*words, folder=root) or 0)


def advice(patient: str, beyond: Beyond, *, gone: bool) -> list[str]:
    """What to do about each, in the order to do it.

    Args:
        patient: the pseudonym.
        beyond: what holds them.
        gone: nothing that a stage has made depends on them any more.
    """
    next_step = f"Next: dvc repro, then petct lineage impact {patient}, which must find nothing."
    lines = [f"dvc repro has nothing left to do for {patient}." if gone else next_step]
    lines.append("What dvc repro cannot reach:")
    for folder, files in groupby(beyond.raw, lambda path: path.parents[-4]):
        first, *others = files
        lines.append(
            f"  {len(others) + 1} raw files below {folder}, such as {first}: delete them, then "
            f"`dvc add {folder}` (a phantom's are made anew by its stage)"
        )
    lines.append(
        f"  {len(beyond.cached)} objects of theirs in the cache, and {beyond.idle} that this "
        f"workspace no longer uses: after {'' if gone else 'dvc repro and '}git commit, "
        "`dvc gc --workspace`"
    )
    lines.append(f"  what stages keep of studies, in {store_folder()}: `petct cache trim --gib 0`")
    for remote in beyond.remotes:
        lines.append(f"  remote {remote}: `dvc gc --workspace --cloud` removes them there too")
    lines.append(
        f"  git history: {beyond.commits} commits hold a dvc.lock or figures; they name hashes and "
        "pseudonyms, no images. Rewriting history is a person's decision"
    )
    lines.append(
        "  other clones, other caches, backups, exported copies: nobody here knows of them"
    )
    return lines
