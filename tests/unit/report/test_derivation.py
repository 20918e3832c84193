"""The picture of a run's origin has every stage behind it and no other."""

from pathlib import Path

import pytest

from petct_uad.report.derivation import Origin, trace_origin

from .conftest import write_stage

FIGURES = Path("metrics/runs/hdhkd/hdhkd-ct/metrics.json")
DIGEST = "0" * 64
# In the order of the pipeline: what each stage makes, and of what.
STAGES = {
    "distil": ("file:teacher", ["instance:1.1"]),
    "ingest": ("file:volume", ["instance:1.2", "instance:1.3"]),
    "aside": ("file:aside", ["file:volume"]),
    "preprocess": ("file:shard", ["file:volume"]),
    "evaluate": (f"file:{FIGURES}", ["file:shard", "file:teacher"]),
}


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    folders = [
        write_stage(tmp_path / name, name, made, [(source, DIGEST) for source in sources])
        for name, (made, sources) in STAGES.items()
    ]
    return trace_origin("hdhkd-ct", FIGURES, folders)


def test_every_stage_behind_a_run_is_shown_those_far_back_too(origin: Origin) -> None:
    names = [node.name for node in origin.nodes]
    assert names == ["raw data", "distil", "ingest", "preprocess", "evaluate"]
    assert origin.nodes[0].made == "3 raw files"


def test_arrows_go_from_each_stage_to_those_that_read_what_it_made(origin: Origin) -> None:
    names = [node.name for node in origin.nodes]
    assert {(names[first], names[second]) for first, second in origin.arrows} == {
        ("raw data", "distil"),
        ("raw data", "ingest"),
        ("ingest", "preprocess"),
        ("preprocess", "evaluate"),
        ("distil", "evaluate"),
    }
