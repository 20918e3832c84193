"""The graph finds what stands behind an entity and what follows from it, over all tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from petct_uad.core.errors import LineageError
from petct_uad.core.files import sha256_bytes
from petct_uad.core.provenance.table import TABLE, write_derivations
from petct_uad.lineage.graph import Graph, StageLineage, lineage_folders
from petct_uad.lineage.table import LineageTable, keys_of

Edges = dict[str, list[str]]
Versions = dict[tuple[str, str], list[tuple[str, str]]]  # names, each with its SHA-256


def graph_of(root: Path, *tables: Edges) -> Graph:
    named = ({entity(o): [*map(entity, ins)] for o, ins in edges.items()} for edges in tables)
    return Graph(written(root / f"models/{i}/lineage", edges) for i, edges in enumerate(named))


def written(folder: Path, edges: Versions) -> StageLineage:
    write_derivations(folder / TABLE, edges)
    return StageLineage(folder, LineageTable(folder / TABLE))


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
    tables: list[Versions] = [{raw: [], other: []}, {entity("file:ct"): [instance]}]
    graph = Graph(written(tmp_path / str(i), edges) for i, edges in enumerate(tables))
    assert names(graph, graph.backward(keys_of(["file:ct"]))) == {"file:ct", instance[0], raw[0]}
    assert names(graph, graph.forward(keys_of([raw[0]]))) == {"file:ct", instance[0], raw[0]}
    assert names(graph, graph.forward(keys_of([other[0]]))) == {other[0]}


def test_what_read_an_earlier_version_follows_from_its_name_only(tmp_path: Path) -> None:
    index, table, report = "file:index.csv", "file:table.csv", "file:report.html"
    tables: list[Versions] = [
        {(index, "b" * 64): [entity("slice:added")]},
        {entity(table): [(index, "a" * 64)]},
        {entity(report): [entity(table)]},
    ]
    graph = Graph(written(tmp_path / str(i), edges) for i, edges in enumerate(tables))
    added = keys_of(["slice:added"])
    assert names(graph, graph.forward(added)) == {"slice:added", index}
    assert names(graph, graph.forward_by_name(added)) == {"slice:added", index, table, report}
    assert names(graph, graph.forward(keys_of([table]))) == {table, report}
    behind_report = graph.backward(keys_of([report]))
    assert [stage.folder.name for stage in graph.older(behind_report)] == ["1"]
    assert graph.older(keys_of([index])) == []


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
