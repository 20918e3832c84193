"""A training's whole state in one file, so that a killed training can resume.

DVC deletes a stage's outputs before it runs the stage, so these files lie outside of them, below
``.checkpoints``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import safe_open, save_file
from torch import Tensor

import petct_uad
from petct_uad.core.console import console
from petct_uad.core.files import atomic_path, sha256_bytes
from petct_uad.core.provenance.sources import source_hash
from petct_uad.training.loop.tables import LoggedRow, TrainingRow

_CODE = ("models", "ops", "slices", "teachers", "training")
_TENSOR = "$tensor"  # marks in the JSON a tensor of this name


@dataclass
class Progress:
    """How far a training has come; the loop keeps it up to date."""

    iteration: int = 0
    losses: list[float] = field(default_factory=list)  # of the iterations since the last row
    rows: list[TrainingRow] = field(default_factory=list)
    logged: list[LoggedRow] = field(default_factory=list)
    best_loss: float = inf
    looks_without_gain: int = 0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What :func:`dataclasses.asdict` gave, through JSON."""
        rows = [TrainingRow(**row) for row in values["rows"]]
        logged = [LoggedRow(**row) for row in values["logged"]]
        return cls(**(values | {"rows": rows, "logged": logged}))


@dataclass(frozen=True)
class Checkpoint:
    """Everything that a training needs to resume.

    Attributes:
        progress: iterations, rows and best loss so far.
        model: the model's student state.
        best: the student state of the best validation loss; empty before the first one.
        optimiser: its ``state_dict()``.
        rates: the ``state_dict()`` of the learning rate's schedule.
        random: per rank, the states of torch's generators: CPU, then GPU where there is one.
    """

    progress: Progress
    model: dict[str, Tensor]
    best: dict[str, Tensor]
    optimiser: dict[str, Any]
    rates: dict[str, Any]
    random: list[list[Tensor]]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """From the attributes by name, after JSON has turned the optimiser's indices to text."""
        optimiser = values["optimiser"]
        state = {int(index): moments for index, moments in optimiser["state"].items()}
        progress = Progress.from_json(values["progress"])
        return cls(
            **(values | {"progress": progress, "optimiser": optimiser | {"state": state}}),
        )


@dataclass(frozen=True)
class CheckpointFile:
    """Where the checkpoints of one training go, each in place of the last.

    Attributes:
        path: one safetensors file; what is no tensor is JSON in its header.
        key: a hash of everything that the training depends on (:func:`checkpoint_key`).
        every: iterations between two checkpoints.
    """

    path: Path
    key: str
    every: int

    def save(self, checkpoint: Checkpoint) -> None:
        """Write atomically: a kill at any moment leaves the last checkpoint or this one."""
        tensors: dict[str, Tensor] = {}
        values = vars(checkpoint) | {"progress": asdict(checkpoint.progress)}
        header = {"key": self.key, "state": json.dumps(_take_tensors(values, tensors))}
        with atomic_path(self.path) as temporary:
            save_file(tensors, temporary, header)

    def load(self) -> Checkpoint | None:
        """The last checkpoint; None, and a printed line, where it belongs to another training."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, "pt") as stream:
                header = stream.metadata() or {}
                if header.get("key") == self.key:
                    tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
                    return Checkpoint.from_json(_put_tensors(json.loads(header["state"]), tensors))
        except SafetensorError as error:
            console.print(f"{self.path}: is no checkpoint ({error}); training starts anew")
            return None
        console.print(f"{self.path}: of other params, data or code; training starts anew")
        return None


def checkpoint_key(*parts: str) -> str:
    """SHA-256 over what a training depends on, and over the source files that compute it."""
    package = Path(petct_uad.__file__).parent
    modules = [path for folder in _CODE for path in (package / folder).rglob("*.py")]
    return sha256_bytes(json.dumps([*parts, source_hash(sorted(modules))]).encode())


def _take_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON takes it; its tensors move to ``tensors``, copied to the CPU."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # Cloned, since safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {str(key): _take_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_take_tensors(item, tensors) for item in value]
    return value


def _put_tensors(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Undo :func:`_take_tensors`."""
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _put_tensors(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    return value
