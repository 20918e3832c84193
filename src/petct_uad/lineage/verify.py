"""Is every byte what lineage and DVC recorded? Names each file that is not, and what to do.

``dvc.lock`` has the hashes of the lineage tables, the tables those of each file, and each object of
the cache its own: DVC names it by its MD5 but trusts the file's time and size ever after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from petct_uad.core.errors import LineageError, ParamsError
from petct_uad.core.provenance.table import TABLE
from petct_uad.lineage import records
from petct_uad.lineage.claims import (
    Content,
    Disagreement,
    Made,
    compare_claims,
    contents,
    file_claims,
    made_claims,
    read_claims,
)
from petct_uad.lineage.git import try_git
from petct_uad.lineage.graph import StageLineage, lineage_folders
from petct_uad.lineage.hashing import Expected, files_below, hash_files, md5_of_folder
from petct_uad.lineage.records import Change
from petct_uad.lineage.store import Store, Tracked, absent_folders, cache_store, due, tracked
from petct_uad.lineage.table import LineageTable
from petct_uad.lineage.trace import count_of

_SHOWN = 3  # stages named in one line


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that is not as recorded."""

    path: str  # a file, a params key with its file, a stage's lineage, or the outputs of a stage
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}. {self.advice}"


@dataclass(frozen=True)
class Outcome:
    """What was checked and what was found."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]  # worth knowing, and no damage
    files: int
    objects: int


def verify(stores: Sequence[Store], *, with_cache: bool = True) -> Outcome:
    """Check the workspace, the cache and any further stores.

    Args:
        stores: remotes in folders.
        with_cache: re-hash the cache's objects too.

    Raises:
        LineageError: there is neither a lineage table nor a ``dvc.lock``.
    """
    cache, outs = cache_store(), due(tracked())
    stages, broken = _open_stages(outs)
    if not stages and not outs and not broken:
        raise LineageError("nothing to verify: no dvc.lock and no lineage tables. Run `dvc repro`.")
    objects = _objects([*([cache] if with_cache else []), *stores])
    damaged = _damaged(objects)
    mine = {md5 for md5, path in damaged if path.is_relative_to(cache.root)}
    workspace = _Workspace(outs, cache, mine)
    found = [*broken, *_cache_findings(damaged, workspace)]
    found += _records_findings(stages)
    claims, disagreements = _claims(stages)
    found += disagreements
    file_findings, files = _check_files(workspace, claims)
    notes = [
        f"{item.what} is {item.now} here, was {item.then} when {item.stage} ran"
        for item in records.changed_packages(stages)
    ]
    return Outcome(tuple(sorted({*found, *file_findings})), tuple(notes), files, len(objects))


def _open_stages(outs: Sequence[Tracked]) -> tuple[list[StageLineage], list[Finding]]:
    """Lineage that the lock stands for; what an earlier pipeline left behind is no damage."""
    stages, broken = [], []
    for folder in lineage_folders(Path()):
        if outs and not any(folder.is_relative_to(out.path) for out in outs):
            continue
        try:
            stages.append(_open_stage(folder))
        except LineageError as error:
            path, _, problem = str(error).rstrip(".").partition(": ")
            broken.append(Finding(path, problem, "Restore it, or run the stage again."))
    return stages, broken


def _open_stage(folder: Path) -> StageLineage:
    """One that can be read: its columns fit, and it says what ran."""
    stage = StageLineage(folder, LineageTable(folder / TABLE))
    stage.table.check()
    dict(stage.activity.sources)
    return stage


def _objects(stores: Iterable[Store]) -> list[tuple[str, Path]]:
    return [item for store in stores for item in store.objects()]


def _damaged(objects: Sequence[tuple[str, Path]]) -> list[tuple[str, Path]]:
    wanted = [Expected(path, "md5", md5.removesuffix(".dir")) for md5, path in objects]
    hashes = hash_files(wanted, "cache") if wanted else []
    triples = zip(objects, wanted, hashes, strict=True)
    return [item for item, expected, found in triples if found != expected.digest]


class _Workspace:
    """Which file of the workspace is which object of the cache."""

    def __init__(self, outs: Sequence[Tracked], cache: Store, damaged: set[str]) -> None:
        self.outs = outs
        self.cache = cache
        self.damaged = damaged
        self.absent = absent_folders(outs)
        self.folders: list[Content] = contents([x for x in outs if x not in self.absent], cache)
        self.md5 = {out.path: out.md5 for out in outs if not out.md5.endswith(".dir")}
        for folder in self.folders:
            for member in folder.members:
                self.md5[f"{folder.out.path}/{member.path}"] = member.md5

    def out_of(self, path: str) -> Tracked | None:
        """The tracked file or folder that a path lies in."""
        return next((out for out in self.outs if Path(path).is_relative_to(out.path)), None)

    def repair(self, path: str) -> str:
        """How to get the recorded bytes back."""
        out, md5 = self.out_of(path), self.md5.get(path, "")
        if _in_git(path):
            return f"Restore it with `git restore {path}`, or make it anew with `dvc repro`."
        if md5 and md5 not in self.damaged and self.cache.path(md5).is_file():
            target = out.path if out else path
            return f"Restore it: `rm -f {path}` and `dvc checkout --force {target}`."
        if out is None:
            return "Put back the file that was there, or run `dvc repro`."
        again = f"`dvc repro --force {out.stage}`" if out.stage else "the original files"
        return f"Its cache object is no help: try `dvc pull --force {out.path}`, else {again}."


def _in_git(path: str) -> bool:
    return try_git("ls-files", "--error-unmatch", "--", path) is not None


def _cache_findings(
    damaged: Iterable[tuple[str, Path]], workspace: _Workspace
) -> Iterable[Finding]:
    places: dict[str, list[str]] = {}
    for name, held in workspace.md5.items():
        places.setdefault(held, []).append(name)
    for out in workspace.outs:
        places.setdefault(out.md5, []).append(out.path)
    for md5, path in damaged:
        where = sorted(set(places.get(md5, [])))
        use = f" (of {', '.join(where[:_SHOWN])})" if where else " (of an earlier version)"
        yield Finding(
            path.as_posix(),
            f"this stored object{use} no longer has the MD5 that names it",
            f"Remove it with `rm -f {path}`; then `dvc commit --force` if the workspace's file is "
            "sound, else `dvc fetch`.",
        )


def _records_findings(stages: Sequence[StageLineage]) -> list[Finding]:
    try:
        params = records.changed_params(stages)
    except ParamsError as error:
        return [Finding("params.yaml", str(error).removeprefix("params.yaml: "), "Fix it.")]
    return [
        *_changes(params, "params.yaml: ", "", "Set it back, or run `dvc repro`."),
        *_changes(
            records.changed_sources(stages), "", "SHA-256 ", "`git restore` it, or run `dvc repro`."
        ),
    ]


def _changes(changes: Iterable[Change], prefix: str, unit: str, advice: str) -> list[Finding]:
    stages: dict[tuple[str, str, str], list[str]] = {}
    for item in changes:
        stages.setdefault((item.what, item.now, item.then), []).append(item.stage)
    return [
        Finding(f"{prefix}{what}", f"is {unit}{now}, but {_some(names)} ran with {then}", advice)
        for (what, now, then), names in stages.items()
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _claims(stages: Sequence[StageLineage]) -> tuple[dict[str, Made], list[Finding]]:
    made = made_claims(stages)
    given, wrong = compare_claims(made, read_claims(stages))
    readers = sorted({item.read.stage for item in wrong})
    findings = [_stale([item for item in wrong if item.read.stage == name]) for name in readers]
    return file_claims(given | made), findings


def _stale(items: Sequence[Disagreement]) -> Finding:
    """One stage that read what others have written anew since, or that they never wrote."""
    reader, first = items[0].read, items[0]
    path = first.entity_id.removeprefix("file:")
    advice = "Run `dvc repro`; if nothing runs, a lineage table was changed: `dvc checkout -f`."
    if len(items) == 1:
        problem = (
            f"{reader.stage} read it with SHA-256 {reader.sha256[:12]}, but {first.written.stage} "
            f"has {first.written.sha256[:12]}: what {reader.stage} wrote is older"
        )
        return Finding(path, problem, advice)
    writers = _some(sorted({item.written.stage for item in items}))
    problem = (
        f"these are older than what {writers} wrote: {len(items)} of the files that "
        f"{reader.stage} read have changed since, such as {path}"
    )
    return Finding(f"outputs of {reader.stage}", problem, advice)


def _check_files(workspace: _Workspace, claims: dict[str, Made]) -> tuple[list[Finding], int]:
    """Hash every file that lineage or DVC knows; lineage's SHA-256 where there is one."""
    present = {
        f"{item.out.path}/{name}": item
        for item in workspace.folders
        for name in files_below(Path(item.out.path))
    }
    gone = _untracked_folders(workspace, claims)
    nowhere = {path for paths in gone.values() for path in paths}
    wanted = {path: x for path, x in _wanted(workspace, claims).items() if path not in nowhere}
    hashes = hash_files(list(wanted.values()), "workspace")
    digests = dict(zip(wanted, hashes, strict=True))
    found = [
        _wrong(path, digests[path], expected, workspace, claims)
        for path, expected in wanted.items()
        if expected.digest and digests[path] != expected.digest
    ]
    found += map(_absent, workspace.absent)
    found += [_unmade(folder, paths, claims) for folder, paths in gone.items()]
    found += _strangers(present, workspace)
    found += _blind_folders(workspace)
    return found, len(wanted)


def _wanted(workspace: _Workspace, claims: dict[str, Made]) -> dict[str, Expected]:
    wanted = {path: Expected(Path(path), "md5", md5) for path, md5 in workspace.md5.items()}
    wanted |= {path: Expected(Path(path), "sha256", claim.sha256) for path, claim in claims.items()}
    elsewhere = tuple(f"{out.path}/" for out in workspace.absent)
    return {path: wanted[path] for path in sorted(wanted) if not path.startswith(elsewhere)}


def _absent(out: Tracked) -> Finding:
    """One folder, and not one finding for each file that should be in it."""
    get = f"`dvc checkout {out.path}`, else `dvc pull {out.path}`, else `dvc repro {out.stage}`"
    return Finding(out.path, "is not here", f"Get it: {get}.")


def _untracked_folders(workspace: _Workspace, claims: dict[str, Made]) -> dict[str, list[str]]:
    """Folders that are not here and that no lock lists, with the files that stages name there: of
    the data set before, where ``dataset`` names another now."""
    parents = {Path(path).parent for path in claims}
    missing = {folder: _missing_folder(folder) for folder in parents}
    found: dict[str, list[str]] = {}
    for path in claims:
        folder = missing[Path(path).parent]
        if folder and workspace.out_of(path) is None:
            found.setdefault(folder, []).append(path)
    return found


def _missing_folder(folder: Path) -> str:
    """The folder itself or the first on the way to it that is not here; else nothing."""
    missing = [x for x in (folder, *folder.parents) if not x.is_dir()]
    return missing[-1].as_posix() if missing else ""


def _unmade(folder: str, paths: Sequence[str], claims: dict[str, Made]) -> Finding:
    """One folder, and not one finding for each file of it."""
    stages = _some(sorted({claims[path].stage for path in paths}))
    problem = (
        f"is not here and dvc.lock does not list it, but records of {stages} name "
        f"{count_of(len(paths), 'file')} of it"
    )
    return Finding(folder, problem, "Run `dvc repro`: it makes anew what was made from it.")


def _wrong(
    path: str, digest: str, expected: Expected, workspace: _Workspace, claims: dict[str, Made]
) -> Finding:
    who = f"{claims[path].stage} recorded" if path in claims else "DVC recorded"
    if not digest:
        return Finding(path, "is missing or cannot be read", workspace.repair(path))
    others = [
        other
        for other, claim in claims.items()
        if expected.algorithm == "sha256" and claim.sha256 == digest
    ]
    what = f"holds what {others[0]} should hold" if others else f"has {digest[:12]}"
    kind = expected.algorithm.upper().replace("SHA", "SHA-")
    problem = f"{what}; {who} {kind} {expected.digest[:12]}"
    return Finding(path, problem, workspace.repair(path))


def _strangers(present: dict[str, Content], workspace: _Workspace) -> list[Finding]:
    return [
        Finding(
            path,
            "is in no list of what should be there",
            f"Remove it, or run `dvc status` on {item.out.path}.",
        )
        for path, item in present.items()
        if item.members and path not in workspace.md5
    ]


def _blind_folders(workspace: _Workspace) -> list[Finding]:
    """Folders that no cached list describes: only the hash of the whole is known."""
    blind = [item for item in workspace.folders if not item.members]
    held = {item.out.path: files_below(Path(item.out.path)) for item in blind}
    wanted = [
        Expected(Path(folder, name), "md5", "") for folder, names in held.items() for name in names
    ]
    hashes = iter(hash_files(wanted, "folders that the cache does not list") if wanted else [])
    return [
        finding
        for item in blind
        if md5_of_folder({name: next(hashes) for name in held[item.out.path]}) != item.out.md5
        for finding in _changed_in_git(item.out, workspace)
    ]


def _changed_in_git(out: Tracked, workspace: _Workspace) -> list[Finding]:
    names = (try_git("diff", "--name-only", "HEAD", "--", out.path) or "").split()
    return [
        Finding(name, "differs from what dvc.lock recorded", workspace.repair(name))
        for name in names or [out.path]
    ]
