"""From what a person types to entities of the graph."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petct_uad.core.archives import exists
from petct_uad.core.errors import LineageError, PseudonymError, did_you_mean
from petct_uad.core.files import sha256_file
from petct_uad.ingest.pseudonyms import PUBLIC, Pseudonyms, key_file, read_key
from petct_uad.ingest.tables import IDENTITY
from petct_uad.ingest.withdrawn import read_withdrawn
from petct_uad.lineage.graph import Graph
from petct_uad.lineage.instances import ingest_folders, instance_rows, series_of
from petct_uad.lineage.sets import NO_KEYS, Keys, union, within
from petct_uad.lineage.table import keys_of

RUNS = Path("metrics/runs")
_TRIVIAL = "trivial"  # evaluation.trivial.TRIVIAL, whose module takes a second to import
_PSEUDONYM = re.compile(r"p-[0-9a-f]{10}")
_FORMS = (
    "a slice_id, a row of the benchmark (cmad-petct), a metric (cmad-petct:auroc), "
    "a SOPInstanceUID's pseudonym, or a file's path from the repository's root"
)


@dataclass(frozen=True)
class Subject:
    """What a question is about."""

    name: str
    kind: str  # slice, model, metric, file, folder, instance, patient, series, param, source
    keys: Keys  # sorted
    value: float | None = None  # of a metric


def find_traced(graph: Graph, name: str) -> Subject:
    """A slice, model, metric, file, folder or instance.

    Raises:
        LineageError: there is nothing of that name; says what a name may be.
    """
    for find in (_entity, _metric, _file, _run, _folder):
        found = find(graph, name)
        if found is not None:
            return found
    raise LineageError(
        f"{name}: the lineage knows nothing of that name; expected {_FORMS}.{_nearest(name)}"
    )


def find_cause(graph: Graph, name: str) -> Subject:
    """What has consequences: a patient, series, file, param, source file, slice or model.

    Raises:
        LineageError: there is nothing of that name.
        PseudonymError: a PatientID under a secret key that is not here.
    """
    for find in (_source, _param, _entity, _file, _series, _run, _folder, _patient):
        found = find(graph, name)
        if found is not None:
            return found
    raise LineageError(
        f"{name}: nothing in this workspace comes from it. Expected a patient (PatientID or "
        f"pseudonym), a SeriesInstanceUID, a params key (model.cmpt), a source file, or {_FORMS}."
        f"{_nearest(name)}"
    )


def _nearest(name: str) -> str:
    """The row, or the metric of a row, that a name was perhaps meant to be."""
    _, colon, figure = name.partition(":")
    runs = [path.parent.name for path in RUNS.glob("*/*/metrics.json")]
    return did_you_mean(name, sorted(f"{run}{colon}{figure}" for run in runs))


def family_of(run: str) -> str:
    """The folder below ``models`` and ``metrics/runs`` that holds a row of the benchmark."""
    return run.rpartition("-")[0] or _TRIVIAL


def metrics_file(run: str) -> Path:
    """Where the figures of a row lie, as ``evaluation.results.ResultPaths`` has it."""
    return RUNS / family_of(run) / run / "metrics.json"


def patient_pseudonyms(name: str) -> set[str]:
    """A pseudonym as it is; a PatientID under the key of each ingested data set.

    Raises:
        PseudonymError: a data set's key is secret and is not here.
    """
    if _PSEUDONYM.fullmatch(name):
        return {name}
    return {_pseudonyms(folder).patient(name) for folder in ingest_folders()}


def _pseudonyms(ingest: Path) -> Pseudonyms:
    content = _json(ingest / IDENTITY)
    if content.get("pseudonyms") == "public":
        return PUBLIC
    found = Pseudonyms("secret", read_key(key_file()))
    if found.fingerprint() != content.get("key_fingerprint"):
        raise PseudonymError(
            f"{key_file()}: not the key under which {ingest} was written. Name that key in the "
            "environment variable PETCT_KEY_FILE, or give the patient's pseudonym."
        )
    return found


def _entity(graph: Graph, name: str) -> Subject | None:
    for prefix, kind in (("", "entity"), ("slice:", "slice"), ("instance:", "instance")):
        if graph.known(prefix + name):
            return Subject(name, kind, keys_of([prefix + name]))
    return None


def _metric(graph: Graph, name: str) -> Subject | None:
    run, _, figure = name.partition(":")
    path = metrics_file(run)
    if not figure or not path.is_file() or "/" in run:
        return None
    content = _json(path)
    numbers = [key for key, value in content.items() if type(value) in (int, float)]
    if figure not in numbers:
        near = did_you_mean(figure, numbers)
        raise LineageError(f"{path}: has no figure {figure}.{near} It has {', '.join(numbers)}.")
    keys = keys_of([f"file:{path.as_posix()}"])
    return Subject(name, "metric", keys, float(content[figure]))


def _file(graph: Graph, name: str) -> Subject | None:
    path = _relative(name)
    keys = keys_of([f"file:{path.as_posix()}"])
    if graph.known(f"file:{path.as_posix()}"):
        return Subject(path.as_posix(), "file", keys)
    if path.is_relative_to("data/raw") and exists(path):
        keys = graph.with_bytes([sha256_file(path)], "instance:")
        return Subject(path.as_posix(), "file", keys) if len(keys) else None
    return None


def _run(graph: Graph, name: str) -> Subject | None:
    if "/" in name or name in {"", ".", ".."}:
        return None
    for below in (f"{family_of(name)}/{name}", name):  # one row, or all of a model
        keys = graph.keys_starting_with(f"file:models/{below}/")
        if len(keys):
            return Subject(name, "model", keys)
    figures = f"file:{metrics_file(name).as_posix()}"
    keys = keys_of([figures]) if graph.known(figures) else NO_KEYS
    return Subject(name, "model", keys) if len(keys) else None


def _folder(graph: Graph, name: str) -> Subject | None:
    path = _relative(name).as_posix()
    keys = graph.keys_starting_with(f"file:{path}/") if path != "." else NO_KEYS
    return Subject(path, "folder", keys) if len(keys) else None


def _patient(graph: Graph, name: str) -> Subject | None:
    names = sorted(patient_pseudonyms(name)) if not name.startswith("2.25.") else []
    uids = [row.sop_instance_uid for item in names for row in instance_rows(f"{item}_")]
    instances = keys_of(f"instance:{uid}" for uid in uids)
    known = union(stage.table.keys for stage in graph.stages)
    slices = [graph.keys_starting_with(f"slice:{item}_") for item in names]
    found = union([instances[within(instances, known)], *slices])
    withdrawn = {row.patient for row in read_withdrawn()}
    if not len(found) and withdrawn.isdisjoint(names):
        return None
    return Subject(", ".join(names), "patient", found)


def _series(graph: Graph, name: str) -> Subject | None:
    uids = series_of(name) if name.startswith("2.25.") else []
    return Subject(name, "series", keys_of(f"instance:{uid}" for uid in uids)) if uids else None


def _param(graph: Graph, name: str) -> Subject | None:
    stages = [s for s in graph.stages if has_param(s.activity.params, name)]
    keys = union(stage.table.keys[stage.table.outputs] for stage in stages)
    return Subject(name, "param", keys) if stages else None


def _source(graph: Graph, name: str) -> Subject | None:
    path = _relative(name).as_posix()
    stages = [stage for stage in graph.stages if path in stage.activity.sources]
    keys = union(stage.table.keys[stage.table.outputs] for stage in stages)
    return Subject(path, "source", keys) if stages else None


def has_param(params: dict[str, Any], name: str) -> bool:
    """Does this run read the key, one above it or one below it?"""
    return any(_inside(value, key, name) for key, value in params.items())


def _inside(value: Any, key: str, name: str) -> bool:
    if name == key or key.startswith(f"{name}."):
        return True
    if not name.startswith(f"{key}.") or not isinstance(value, dict):
        return False
    rest = name.removeprefix(f"{key}.")
    return any(_inside(inner, inner_key, rest) for inner_key, inner in value.items())


def _relative(name: str) -> Path:
    path = Path(name)
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LineageError(f"{path}: cannot be read ({error}). Run the stage again.") from error
    return content
