"""Step time beside anomalib's RD4AD: ``PYTHONPATH=src python benchmarks/reverse_distillation.py``.

Same frozen ResNet-18 (random weights: they cost the same), same batch, same image size, a student
of the same size, Adam on both as each trains with it. A step is what a training repeats for a
batch: anomalib's runs the teacher, ours starts from the teacher's maps of the clean slice, which
the training loop computes once per slice; with the contrastive term ours runs the teacher on the
noisy slice. The four take turns, so that whatever else the machine does falls on all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median
from time import perf_counter

import torch
import typer
from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode
from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss
from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
from torch import Tensor, nn

from petct_uad.core.console import console
from petct_uad.core.params.reading import ParamsFile
from petct_uad.models.common.batch import Batch
from petct_uad.models.scrd4ad.params import Scrd4adParams
from petct_uad.models.scrd4ad.scrd4ad import Scrd4ad
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.loop.optimisers import make_optimiser

TEACHER = TeacherParams(name="resnet18", weights="random")
BAR = 0.8

Step = Callable[[], None]


def main(threads: int = 2, rounds: int = 30, side_px: int = 128) -> None:
    """Print the ratios for batches of 1 and 8."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    section = ParamsFile.read().section(Scrd4adParams, "models.scrd4ad")
    params = section.model_copy(update={"width": 64})
    for batch_size in (1, 8):
        images = torch.rand(batch_size, 1, side_px, side_px)
        steps = {
            "anomalib": _anomalib(images),
            "ours, RD4AD": _ours(params, images, contrastive=False, scale_aware=False),
            "ours, SCRD4AD": _ours(params, images),
            "ours, RD4AD, teacher not cached": _ours(
                params, images, cached=False, contrastive=False, scale_aware=False
            ),
        }
        _report(batch_size, _interleaved(steps, rounds))


def _anomalib(images: Tensor) -> Step:
    layers = ["layer1", "layer2", "layer3"]
    mode = AnomalyMapGenerationMode.ADD
    size = (images.shape[-1], images.shape[-1])
    model = ReverseDistillationModel(TEACHER.name, size, layers, mode, pre_trained=False).train()
    criterion = ReverseDistillationLoss()
    student = [*model.bottleneck.parameters(), *model.decoder.parameters()]
    # Its bottleneck carries a layer that nothing calls.
    unused = {*model.bottleneck.conv4.parameters(), *model.bottleneck.bn4.parameters()}
    console.print(f"anomalib: {_millions(p for p in student if p not in unused):.3f} M learn")
    three = images.expand(-1, 3, -1, -1).contiguous()
    optimiser = torch.optim.Adam(student, lr=0.005, betas=(0.5, 0.99))  # its Lightning module's
    return _step(optimiser, lambda: criterion(*model(three)))


def _ours(params: Scrd4adParams, images: Tensor, cached: bool = True, **switches: bool) -> Step:
    own = params.model_copy(update=switches)
    model = Scrd4ad.build(own, TEACHER, "pet", images.shape[-1]).train()
    batch = Batch(images, images, tuple("a" * len(images)))
    with torch.no_grad():
        prepared = model.prepare(batch)
    student = [p for p in model.parameters() if p.requires_grad]
    console.print(f"ours {switches}: {_millions(student):.3f} M learn")
    optimiser = make_optimiser(student, own.schedule)
    if cached:
        return _step(optimiser, lambda: model.loss(*prepared))
    return _step(optimiser, lambda: model.loss(*model.prepare(batch)))


def _step(optimiser: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> Step:
    def step() -> None:
        optimiser.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def _interleaved(steps: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step in each round; the first two rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 2):
        for name, step in steps.items():
            started = perf_counter()
            step()
            times[name].append(1e3 * (perf_counter() - started))
    return {name: values[2:] for name, values in times.items()}


def _report(batch_size: int, times: dict[str, list[float]]) -> None:
    reference = times["anomalib"]
    for name, values in times.items():
        ratio = median(own / other for own, other in zip(values, reference, strict=True))
        console.print(
            f"batch {batch_size}, {name}: median {median(values):.1f} ms, best "
            f"{min(values):.1f} ms, {ratio:.2f} times anomalib's (at best "
            f"{min(values) / min(reference):.2f}; the bar is {BAR})"
        )


def _millions(parameters: Iterable[nn.Parameter]) -> float:
    return sum(p.numel() for p in parameters) / 1e6


if __name__ == "__main__":
    typer.run(main)
