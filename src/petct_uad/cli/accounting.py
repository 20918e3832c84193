"""How large the models are at the papers' sizes: parameters, multiply-accumulates, FLOPs.

Models are built on the meta device, where tensors have shapes and no values, so that any machine
can count a ViT-L. No paper says what it counts; the first rule reproduces CMAD's Table 4, and is
what a tool sees that hooks into the linear, convolution and LayerNorm layers of VMamba's code:

- MACs: products with weights in linear layers and convolutions, and one per element of a LayerNorm.
  Not in it: attention's two products of activations, the selective scan, and the two projections
  that make its step sizes and input weights, which in VMamba's code are no layers.
- FLOPs: two for every multiply-accumulate of a matrix product or convolution, attention's products
  and those projections included. Not in it: norms, activations, the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from petct_uad.cli.presets import preset_content
from petct_uad.models.benchmark import model_names, params_class, sections_of
from petct_uad.models.build import class_of
from petct_uad.models.common.batch import Batch
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.models.common.params import PublishedSize
from petct_uad.ops.selective_scan.ss2d import SS2D
from petct_uad.schema import Params, parse_params

_aten = torch.ops.aten
_CONVOLUTIONS = {_aten.convolution, _aten._convolution}


@dataclass(frozen=True)
class Entry:
    """One model of the table: what its paper prints, as the model's params declare it."""

    model: str
    printed: PublishedSize

    @property
    def preset(self) -> str:
        """The preset that gives the paper's size."""
        return f"paper-{self.model.replace('_', '-')}"

    @property
    def section(self) -> str:
        """The dotted key of the section of params.yaml that it is built from."""
        return sections_of(self.model)[0]


@dataclass(frozen=True)
class Size:
    """Of one model, for one slice at inference.

    Attributes:
        trainable: parameters that training changes.
        parameters: all of them, frozen networks included.
        macs: multiply-accumulates by the rule of this module.
        flops: likewise.
    """

    trainable: int
    parameters: int
    macs: int
    flops: int


ENTRIES = tuple(
    Entry(model, printed) for model in model_names() for printed in params_class(model).published
)


def measure(entry: Entry) -> Size:
    """Build a model at its paper's size, run one slice through it on the meta device and count.

    Raises:
        ParamsError: its preset does not fit params.yaml's keys.
    """
    params = _paper_params(entry)
    with torch.device("meta"):
        return count(_build(entry, params), params.preprocess.image_size_px)


def count(model: AnomalyModel, image_size_px: int) -> Size:
    """Run one slice through a model on the meta device, as evaluation does, and count."""
    images = torch.empty(1, 1, image_size_px, image_size_px, device="meta")
    counter = _Counter(model)
    # Not inference mode: layers then reach the counter as products and convolutions.
    with torch.device("meta"), torch.no_grad(), counter:
        model.eval().detect(Batch(pet=images, ct=images, slice_ids=("0",)))
    learnt = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return Size(learnt, total, counter.macs, counter.flops)


def _paper_params(entry: Entry) -> Params:
    params = parse_params(preset_content(entry.preset), Path(f"params/{entry.preset}.yaml"))
    # Sizes need no weights; nothing is downloaded.
    return params.model_copy(
        update={"teacher": params.teacher.model_copy(update={"weights": "random"})}
    )


def _build(entry: Entry, params: Params) -> AnomalyModel:
    section = params.model_section(entry.section)
    offline = {
        name: "random"
        for name in ("encoder_weights", "perceptual_weights")
        if name in type(section).model_fields
    }
    changed = section.model_copy(update=offline | dict(entry.printed.changes))
    side = params.preprocess.image_size_px
    return class_of(entry.model).build_untrained(
        changed, params.teacher, entry.printed.modality, side, params
    )


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs inside its context; the model tells weights from activations."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0
        self.flops = 0
        blocks = [module for module in model.modules() if isinstance(module, SS2D)]
        unseen = {_storage(p) for block in blocks for p in (block.x_proj, block.dt_proj)}
        self._weights = {_storage(p) for p in model.parameters()} - unseen

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        operation = func._overloadpacket
        if operation not in flop_registry and operation is not _aten.native_layer_norm:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        out = func(*args, **kwargs)
        self._count(operation, args, kwargs, out)
        return out

    def _count(
        self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any
    ) -> None:
        if operation is _aten.native_layer_norm:
            self.macs += args[0].numel()
        if operation not in flop_registry:
            return
        by_weights = any(isinstance(x, Tensor) and _storage(x) in self._weights for x in args)
        if operation in _CONVOLUTIONS and not by_weights:  # a Gaussian on the map
            return
        flops = flop_registry[operation](*args, **kwargs, out_val=out)
        self.flops += flops
        self.macs += flops // 2 if by_weights else 0


def _storage(tensor: Tensor) -> int:
    """What a view shares with its parameter; addresses are all zero on the meta device."""
    return cast("int", tensor.untyped_storage()._cdata)


@dataclass(frozen=True)
class SizeRow(Size):
    """One line of the table: what was counted, beside what the paper prints.

    Attributes:
        title: the model, as the table calls it.
        where: the paper's table.
        paper_parameters_m: its parameters, in millions; None where it prints none.
        paper_operations_g: its column called FLOPs, in 10^9; None likewise.
    """

    title: str
    where: str
    paper_parameters_m: float | None
    paper_operations_g: float | None


def size_row(entry: Entry) -> SizeRow:
    """Count one model.

    Raises:
        ParamsError: its preset does not fit params.yaml's keys.
    """
    printed = entry.printed
    return SizeRow(
        **asdict(measure(entry)),
        title=printed.title,
        where=printed.where,
        paper_parameters_m=printed.parameters_m,
        paper_operations_g=printed.operations_g,
    )


_COLUMNS: tuple[tuple[str, Callable[[SizeRow], str]], ...] = (
    ("model", lambda row: row.title),
    ("learnt (M)", lambda row: f"{row.trainable / 1e6:.1f}"),
    ("all (M)", lambda row: f"{row.parameters / 1e6:.1f}"),
    ("paper (M)", lambda row: _or_nothing(row.paper_parameters_m)),
    ("GMACs", lambda row: f"{row.macs / 1e9:.1f}"),
    ("GFLOPs", lambda row: f"{row.flops / 1e9:.1f}"),
    ("paper (G)", lambda row: _or_nothing(row.paper_operations_g)),
    ("its table", lambda row: row.where),
)
HEADER = tuple(name for name, _ in _COLUMNS)


def cells(row: SizeRow) -> tuple[str, ...]:
    """One line of the table, under :data:`HEADER`."""
    return tuple(show(row) for _, show in _COLUMNS)


def _or_nothing(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")
