"""Counting parameters and operations."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typer.testing import CliRunner

from petct_uad.cli import accounting
from petct_uad.cli.accounting import ENTRIES, Entry, count, measure
from petct_uad.cli.app import app
from petct_uad.core.params.base import Modality
from petct_uad.models.common.interface import AnomalyModel, Batch
from petct_uad.models.patchcore.params import PatchcoreParams
from petct_uad.ops.selective_scan.ss2d import SS2D
from petct_uad.teachers.params import TeacherParams

ROOT = Path(__file__).parents[2]


class OneLayer(AnomalyModel):
    """Images of 4 x 4 pixels as 16 tokens of length 1, through one module; its sum is the map."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.frozen = nn.Linear(3, 5).requires_grad_(False)

    @classmethod
    def build(
        cls, params: PatchcoreParams, teacher: TeacherParams, modality: Modality, side: int
    ) -> Self:
        raise NotImplementedError

    def anomaly_map(self, batch: Batch) -> Tensor:
        tokens: Tensor = self.layer(batch.ct.flatten(2).transpose(1, 2))
        return tokens.sum(-1).view(-1, 4, 4)

    def score(self, maps: Tensor) -> Tensor:
        return maps.amax((1, 2))


class Attention(nn.Module):
    """A product of activations."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ x.transpose(1, 2)


class Scan(nn.Module):
    """One SS2D of width 1 on the grid."""

    def __init__(self) -> None:
        super().__init__()
        self.block = SS2D(1, state=2, expand=3, branches=1, backend="auto")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x.view(1, -1, 4, 4, 1))
        return out.view(x.shape)


class Smooth(nn.Module):
    """A convolution without weights."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x.transpose(1, 2), torch.ones(1, 1, 3), padding=1).transpose(1, 2)


# In: 16 tokens. SS2D: d 1, E 3, R 1, N 2.
_PROJECTIONS = 16 * 1 * 6 + 16 * 3 * 1
_CONVOLUTION = 16 * 9 * 3
_STEP_PROJECTIONS = 16 * 3 * 4 * (1 + 2 * 2) + 16 * 4 * 1 * 3


@pytest.mark.parametrize(
    ("layer", "macs", "flops"),
    [
        (nn.Linear(1, 7), 16 * 7, 2 * 16 * 7),
        (nn.LayerNorm(1), 16, 0),
        (Attention(), 0, 2 * 16 * 16),
        (Smooth(), 0, 0),
        (
            Scan(),
            _PROJECTIONS + _CONVOLUTION + 16 * 3,
            2 * (_PROJECTIONS + _CONVOLUTION + _STEP_PROJECTIONS),
        ),
    ],
    ids=["linear", "layer norm", "attention", "weightless convolution", "SS2D"],
)
def test_each_layer_counts_as_the_rule_says(layer: nn.Module, macs: int, flops: int) -> None:
    size = count(OneLayer(layer).to("meta"), 4)
    assert (size.macs, size.flops) == (macs, flops)


def test_frozen_parameters_are_not_learnt_ones() -> None:
    size = count(OneLayer(nn.Linear(1, 7)).to("meta"), 4)
    assert (size.trainable, size.parameters) == (14, 14 + 20)


def _entry(title: str) -> Entry:
    return next(entry for entry in ENTRIES if entry.printed.title == title)


@pytest.mark.parametrize(
    ("title", "counted"), [("HDHKD, mamba", "trainable"), ("Hetero-AE, hybrid", "parameters")]
)
def test_parameters_are_the_papers_within_2_percent(
    title: str, counted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    entry = _entry(title)
    found = getattr(measure(entry), counted) / 1e6
    assert found == pytest.approx(entry.printed.parameters_m, rel=0.02)


def test_command_prints_the_table_of_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(accounting, "ENTRIES", (_entry("Hetero-AE, hybrid"),))
    result = CliRunner().invoke(app, ["models", "--markdown"])
    header, _, line = result.stdout.splitlines()
    documented = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").splitlines()
    assert header in documented
    assert line in documented
