"""The graph finds what stands behind an entity and what follows from it, over all tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from petct_uad.audit.graph import Graph, StageLineage, lineage_folders
from petct_uad.audit.table import LineageTable, keys_of
from petct_uad.core.errors import LineageError
from petct_uad.core.files import sha256_bytes
from petct_uad.core.provenance.table import TABLE, write_derivations

Edges = dict[str, list[str]]


def graph_of(root: Path, *tables: Edges) -> Graph:
    stages = []
    for i, edges in enumerate(tables):
        folder = root / f"models/{i}/lineage"
        write_derivations(
            folder / TABLE, {entity(out): list(map(entity, ins)) for out, ins in edges.items()}
        )
        stages.append(StageLineage(folder, LineageTable(folder / TABLE)))
    return Graph(stages)


def entity(name: str) -> tuple[str, str]:
    return name, sha256_bytes(name.encode())


def names(graph: Graph, keys: object) -> set[str]:
    return {item.id for item in graph.entities(keys)}  # type: ignore[arg-type]


def random_tables(seed: int) -> list[Edges]:
    """Up to three tables over 15 files, without circles."""
    draw = np.random.default_rng(seed)
    tables: list[Edges] = []
    for _ in range(draw.integers(1, 4)):
        outputs = draw.choice(15, size=draw.integers(1, 10), replace=False).tolist()
        tables.append({
            f"file:{o}": [f"file:{i}" for i in draw.integers(0, 15, size=4).tolist() if i > o]
            for o in outputs
        })  # fmt: skip
    return tables


@pytest.mark.parametrize("seed", range(20))
def test_walks_agree_with_a_walk_over_plain_sets(tmp_path: Path, seed: int) -> None:
    named = random_tables(seed)
    graph = graph_of(tmp_path, *named)
    back: dict[str, set[str]] = {}
    forth: dict[str, set[str]] = {}
    for table in named:
        for output, inputs in table.items():
            back.setdefault(output, set()).update(inputs)
            for source in inputs:
                forth.setdefault(source, set()).add(output)
    for name in back.keys() | forth.keys():
        assert names(graph, graph.backward(keys_of([name]))) == reached(name, back)
        assert names(graph, graph.forward(keys_of([name]))) == reached(name, forth)


def reached(name: str, steps: dict[str, set[str]]) -> set[str]:
    found, pending = {name}, [name]
    while pending:
        for other in steps.get(pending.pop(), set()) - found:
            found.add(other)
            pending.append(other)
    return found


def test_instance_and_the_raw_file_with_its_bytes_are_one(tmp_path: Path) -> None:
    digest = "a" * 64
    raw, instance = ("file:data/raw/x/1.dcm", digest), ("instance:2.25.1", digest)
    other = ("file:data/raw/x/2.dcm", "b" * 64)
    tables: dict[str, dict[tuple[str, str], list[tuple[str, str]]]] = {
        "0": {raw: [], other: []},
        "1": {entity("file:ct"): [instance]},
    }
    for name, inputs in tables.items():
        write_derivations(tmp_path / name / TABLE, inputs)
    graph = Graph(
        StageLineage(tmp_path / name, LineageTable(tmp_path / name / TABLE)) for name in "01"
    )
    assert names(graph, graph.backward(keys_of(["file:ct"]))) == {"file:ct", instance[0], raw[0]}
    assert names(graph, graph.forward(keys_of([raw[0]]))) == {"file:ct", instance[0], raw[0]}
    assert names(graph, graph.forward(keys_of([other[0]]))) == {other[0]}


def test_lineage_folders_are_found_without_entering_those_of_patients(tmp_path: Path) -> None:
    for name in ("data/interim/x/split", "metrics", "models/m", "data/raw/x", "metrics/runs/r"):
        (tmp_path / name / "lineage").mkdir(parents=True)
    found = [path.relative_to(tmp_path).as_posix() for path in lineage_folders(tmp_path)]
    assert found == [
        "data/interim/x/split/lineage", "metrics/lineage", "metrics/runs/r/lineage",
        "models/m/lineage",
    ]  # fmt: skip


def test_repository_without_lineage_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match="dvc repro"):
        Graph.open(tmp_path)
