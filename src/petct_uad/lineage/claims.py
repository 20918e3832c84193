"""What lineage and DVC say that the workspace's files should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from petct_uad.lineage.graph import StageLineage
from petct_uad.lineage.sets import marked
from petct_uad.lineage.store import Member, Store, Tracked

_FILE = "file:"


@dataclass(frozen=True)
class Made:
    """What a stage says of something that it made or read."""

    sha256: str
    stage: str


@dataclass(frozen=True)
class Disagreement:
    """A stage read something else than what another stage says that it wrote."""

    entity_id: str
    read: Made
    written: Made


@dataclass(frozen=True)
class Content:
    """A tracked folder: what it should hold, or only the hash of its list."""

    out: Tracked
    members: tuple[Member, ...]  # empty where the cache has no list of it


def made_claims(stages: Iterable[StageLineage]) -> dict[str, Made]:
    """What every stage says that it made, by entity."""
    found: dict[str, Made] = {}
    for stage in stages:
        table = stage.table
        pairs = zip(table.ids(table.outputs), table.digests(table.outputs), strict=True)
        found |= {name: Made(digest, stage.activity.stage) for name, digest in pairs}
    return found


def read_claims(stages: Iterable[StageLineage]) -> Iterator[tuple[str, Made]]:
    """What every stage says that it read and did not make itself: files and slices.

    Instances are raw files; of a teacher's weights, each model reads another part.
    """
    for stage in stages:
        table = stage.table
        others = ~marked(table.outputs, len(table))
        for kind in ("instance:", "teacher:"):
            others[table.starting_with(kind)] = False
        rows = np.flatnonzero(others)
        for name, digest in zip(table.ids(rows), table.digests(rows), strict=True):
            yield name, Made(digest, stage.activity.stage)


def compare_claims(
    made: dict[str, Made], read: Iterable[tuple[str, Made]]
) -> tuple[dict[str, Made], list[Disagreement]]:
    """What was read and made by nobody; and where two stages disagree."""
    given: dict[str, Made] = {}
    wrong = []
    for name, claim in read:
        written = made.get(name) or given.setdefault(name, claim)
        if written.sha256 != claim.sha256:
            wrong.append(Disagreement(name, claim, written))
    return given, wrong


def file_claims(claims: dict[str, Made]) -> dict[str, Made]:
    """Those of files, by path."""
    return {
        name.removeprefix(_FILE): claim for name, claim in claims.items() if name.startswith(_FILE)
    }


def contents(outs: Iterable[Tracked], cache: Store) -> list[Content]:
    """Every tracked folder with its files."""
    return [Content(out, tuple(cache.folder(out.md5))) for out in outs if out.md5.endswith(".dir")]
