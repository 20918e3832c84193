"""What is exported is valid in each format's own library, and says what the lineage says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlcroissant as mlc
import pytest
from prov.model import ProvDerivation, ProvDocument, ProvEntity, ProvRecord
from rocrate.rocrate import ROCrate
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.files import read_table, sha256_file
from petct_uad.lineage.graph import Graph
from petct_uad.slices.tables import ImageRow
from tests.func.conftest import RUN

INDEX = Path("data/processed/phantom/index.csv")
OUT = "exported.json"


def export(*words: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["lineage", "export", *words, "-o", OUT])
    assert done.exit_code == 0, done.output
    content: dict[str, Any] = json.loads(Path(OUT).read_text())
    Path(OUT).unlink()
    return content


def refusal(*words: str) -> str:
    done = CliRunner().invoke(app, ["lineage", "export", *words])
    assert done.exit_code == 1
    return " ".join(done.output.split())


def local_name(record: ProvRecord) -> str:
    assert record.identifier is not None
    return record.identifier.localpart


def test_prov_reads_back_and_holds_every_entity_and_derivation_of_a_slice(at_tracked: Path) -> None:
    row = read_table(INDEX, ImageRow)[0]
    text = json.dumps(export(row.slice_id, "--format", "prov"))
    document = ProvDocument.deserialize(content=text, format="json")
    assert ProvDocument.deserialize(content=document.serialize(), format="json") == document
    hashes = {
        local_name(entity): {str(v) for v in entity.get_attribute("petct:sha256")}
        for entity in document.get_records(ProvEntity)
    }
    assert hashes[f"slice/{row.slice_id}"] == {row.sha256}
    assert "source/src/petct_uad/preprocess/shards.py" in hashes
    raw = {sha256_file(path) for path in Path("data/raw").rglob("*.dcm")}
    instances = [next(iter(hashes[name])) for name in hashes if name.startswith("instance/")]
    assert instances
    assert set(instances) <= raw
    derived = {
        tuple(str(value.localpart) for _, value in record.formal_attributes[:2])
        for record in document.get_records(ProvDerivation)
    }
    volumes = [name for name in hashes if name.endswith("ct.nii.gz")]
    assert {(f"slice/{row.slice_id}", volume) for volume in volumes} <= derived


def test_prov_of_everything_has_an_activity_for_each_stage_run(at_tracked: Path) -> None:
    document = export("--format", "prov")
    folders = {f"petct:run/{stage.folder.as_posix()}" for stage in Graph.open().stages}
    assert set(document["activity"]) == folders


def test_crate_reads_back_with_the_files_as_they_are_and_the_runs_that_made_them(
    at_tracked: Path,
) -> None:
    content = export(RUN, "--format", "rocrate")
    nodes = list(content["@graph"])
    crate = ROCrate(content)
    files = [node for node in crate.data_entities if node.id != "./"]
    assert {node.id for node in crate.root_dataset["hasPart"]} == {node.id for node in files}
    for node in files:
        assert sha256_file(Path(node.id)) == node["sha256"]
    actions = crate.get_by_type("CreateAction")
    assert {action["name"] for action in actions} >= {"ingest", "preprocess", f"train {RUN}"}
    made = {name for node in nodes if "result" in node for name in references(node["result"])}
    inputs = ("data/raw/", "data/withdrawn.csv", "stages/")
    assert made >= {node.id for node in files if not node.id.startswith(inputs)}
    for action in actions:
        assert action["instrument"]["name"].startswith("stages/")


def test_crate_refers_to_nothing_that_it_does_not_hold(at_tracked: Path) -> None:
    nodes = export("--format", "rocrate")["@graph"]
    known = {node["@id"] for node in nodes} | {"https://w3id.org/ro/crate/1.3"}
    assert len(nodes) == len({node["@id"] for node in nodes})
    assert references(nodes) - {node["@id"] for node in nodes} <= known
    root = next(node for node in nodes if node["@id"] == "./")
    assert {"name", "description", "datePublished", "license"} <= root.keys()


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(references, value))
    if isinstance(value, dict):
        inner = references([item for item in value.values() if isinstance(item, list | dict)])
        return inner | ({value["@id"]} if value.keys() == {"@id"} else set())
    return set()


def test_croissant_is_valid_and_its_records_are_those_of_the_tables(at_tracked: Path) -> None:
    path = at_tracked / "croissant.json"
    path.write_text(json.dumps(export("--format", "croissant")))
    try:
        dataset = mlc.Dataset(jsonld=path)
        assert not dataset.metadata.issues.errors
        records = list(dataset.records("images"))
    finally:
        path.unlink()
    rows = read_table(INDEX, ImageRow)
    assert [record["images/slice_id"].decode() for record in records] == [r.slice_id for r in rows]
    assert [record["images/label"] for record in records] == [row.label for row in rows]


@pytest.mark.parametrize("form", ["prov", "rocrate", "croissant"])
def test_another_process_with_another_hash_seed_writes_the_same(
    form: str, at_tracked: Path, tmp_path: Path
) -> None:
    out = tmp_path / OUT
    words = ["lineage", "export", "--format", form, "-o", str(out)]
    subprocess.run(
        [sys.executable, "-m", "petct_uad.cli.app", *words],
        env=os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": "src"},
        check=True,
        capture_output=True,
    )
    first = out.read_bytes()
    assert CliRunner().invoke(app, words).exit_code == 0
    assert out.read_bytes() == first


def test_a_date_is_the_commits(at_tracked: Path) -> None:
    done = subprocess.run(
        ["git", "log", "-1", "--format=%as"], capture_output=True, text=True, check=True
    )
    root = next(node for node in export("--format", "rocrate")["@graph"] if node["@id"] == "./")
    assert root["datePublished"] == done.stdout.strip()
    assert export("--format", "croissant")["datePublished"].startswith(done.stdout.strip())


def test_what_cannot_be_exported_is_refused(at_tracked: Path) -> None:
    assert "knows nothing of that name" in refusal("nobody", "--format", "prov")
    assert "describes a data set" in refusal(RUN, "--format", "croissant")
    INDEX.rename("index.csv")
    try:
        assert f"{INDEX}: not found" in refusal("--format", "croissant")
    finally:
        Path("index.csv").rename(INDEX)


def test_without_the_extra_the_error_says_what_to_install(
    at_tracked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    monkeypatch.delitem(sys.modules, "petct_uad.lineage.croissant", raising=False)
    assert "pip install '.[export]'" in refusal("--format", "croissant")
