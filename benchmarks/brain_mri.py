"""Every model on the public brain MRI benchmark: ``python benchmarks/brain_mri.py --rows NAME``.

Reads ``$PETCT_DATA/brain_mri`` (default ``../shared/data``), trains each row with params.yaml and
prints a markdown table. CMAD sees each image twice, as PET and as CT; the other models see it as
PET. HDHKD's teacher is distilled on the same images first, as its stage does. 94 of the 599 normal
test images are pixel-identical to a training image, so AUROC stands there with and without them.
The test split is scored once per row and chooses nothing.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from petct_uad.console import console, fail_cleanly
from petct_uad.errors import ParamsError, PetctError
from petct_uad.evaluation.bootstrap import auroc_of, draw_patients, estimate
from petct_uad.evaluation.inference import score_slices
from petct_uad.evaluation.metrics import Scores, auroc
from petct_uad.evaluation.tables import Estimate
from petct_uad.evaluation.trained import load_trained
from petct_uad.models.hdhkd.distil import distil_pdn
from petct_uad.models.hdhkd.pdn import PDN_FOLDER
from petct_uad.params import PARAMS_FILE, EvaluateParams, Params, RunParams, load_params
from petct_uad.slices.folders import ImportedImages, import_image_benchmark
from petct_uad.slices.store import SliceStore
from petct_uad.training.device import choose_device
from petct_uad.training.train import train_run

# AUROC in the papers, with what they were measured on where that is another test set than this.
PUBLISHED = {
    "patchcore": "93.63 (WideResNet-50, 256 px)",
    "scrd4ad": "98.88 (WideResNet-50, 256 px)",
    "hetero_ae": "99.21 (ResNet-18, 256 px; another split of the same source)",
    "hdhkd": "96.38 (Br35H, other images)",
    "cmad": "92.18 (BraTS2021, other images)",
}


@dataclass(frozen=True)
class Row:
    """One trained row on the test images."""

    name: str
    every: Estimate
    unseen: Estimate  # without the images that are also training images
    seconds: float


def main(
    rows: Annotated[list[str] | None, typer.Option(help="A row of `benchmark`; repeat it.")] = None,
    params: Annotated[Path, typer.Option(help="Which params.yaml.")] = PARAMS_FILE,
    image_size_px: Annotated[int, typer.Option(help="Side of the square images.")] = 128,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
) -> None:
    """Import, train, score, and print the table."""
    folder = Path(os.environ.get("PETCT_DATA", "../shared/data")) / "brain_mri"
    if not folder.is_dir():
        console.print(f"{folder.resolve()}: no brain MRI data here; set PETCT_DATA. Nothing done.")
        raise typer.Exit(1)
    torch.set_num_threads(threads)
    folder, config = folder.resolve(), load_params(params)
    # The PDN is looked for below the working folder, where the pipeline's stage leaves it.
    with fail_cleanly(), tempfile.TemporaryDirectory() as temporary, chdir(temporary):
        chosen = _choose(config, rows)
        processed = Path("processed")
        imported = import_image_benchmark(folder, processed, image_size_px)
        _describe(imported)
        typer.echo("| row | AUROC | without duplicates | published | training, s |")
        typer.echo("| --- | --- | --- | --- | --- |")
        for name, run in chosen.items():
            typer.echo(_line(name, run, config, imported, processed))


def _choose(params: Params, rows: list[str] | None) -> dict[str, RunParams]:
    """The rows asked for; by default CMAD on both planes and every other model on one."""
    trained = {name: run for x in params.benchmark.values() for name, run in x.trained.items()}
    if unknown := sorted(set(rows or ()) - trained.keys()):
        raise ParamsError(f"--rows {unknown[0]}: expected some of {', '.join(trained)}")
    both = {run.model for run in trained.values() if run.modality == "petct"}
    return {
        name: run
        for name, run in trained.items()
        if (name in rows if rows else run.modality == ("petct" if run.model in both else "pet"))
    }


def _describe(imported: ImportedImages) -> None:
    for image in imported.refused:
        console.print(f"refused: {image.name} ({image.split}): {image.reason}")
    counts = {
        f"{split}, label {label}": sum((x.split, x.label) == (split, label) for x in imported.rows)
        for split, label in (("train", 0), ("val", 0), ("test", 0), ("test", 1))
    }
    counts["test images seen in training"] = len(imported.duplicates)
    console.print("; ".join(f"{name}: {count}" for name, count in counts.items()))


def _line(
    name: str, run: RunParams, params: Params, imported: ImportedImages, processed: Path
) -> str:
    """A row of the table; a row that cannot be trained says why and stops no other."""
    published = PUBLISHED.get(run.model, "none")
    try:
        row = _measure(name, run, params, imported, processed)
    except PetctError as error:
        return f"| {name} | not run: {' '.join(str(error).split())} | | {published} | |"
    return (
        f"| {name} | {_percent(row.every)} | {_percent(row.unseen)} | {published} "
        f"| {row.seconds:.0f} |"
    )


def _measure(
    name: str, run: RunParams, params: Params, imported: ImportedImages, processed: Path
) -> Row:
    model_folder = Path("models") / name
    began = monotonic()
    if run.model == "hdhkd":
        distil_pdn(
            params=params.distil,
            teacher=params.teacher,
            train=params.train,
            processed=processed,
            folder=PDN_FOLDER,
            curve_file=Path("distil.csv"),
        )
    train_run(
        run=run,
        params=params.model_section(name.rpartition("-")[0]),
        teacher=params.teacher,
        train=params.train,
        processed=processed,
        model_folder=model_folder,
        curve_file=model_folder / "training.csv",
    )
    seconds = monotonic() - began
    store = SliceStore.open(processed, "test")
    scores = _score(name, model_folder, params, store)
    seen = set(imported.duplicates)
    unseen = np.array([row.slice_id not in seen for row in store.rows])
    return Row(
        name,
        _interval(store, scores, np.ones_like(unseen), params.evaluate),
        _interval(store, scores, unseen, params.evaluate),
        seconds,
    )


def _score(name: str, model_folder: Path, params: Params, store: SliceStore) -> NDArray[np.float64]:
    """The test images through the model of the first seed."""
    device = choose_device(params.train.device)
    model = load_trained(model_folder, min(params.train.seeds), device).model
    return score_slices(model, store, list(range(len(store))), device, name).scores


def _interval(
    store: SliceStore,
    scores: NDArray[np.float64],
    chosen: NDArray[np.bool_],
    bounds: EvaluateParams,
) -> Estimate:
    labels = np.array([row.label for row in store.rows], dtype=np.int64)[chosen]
    # Every image is a patient of its own: none is known.
    sample = Scores(labels, scores[chosen], np.arange(len(labels)))
    drawn = draw_patients(sample, bounds.bootstrap_samples, bounds.seed)
    return estimate(auroc(sample), auroc_of(sample, drawn.weights), bounds.confidence)


def _percent(figure: Estimate) -> str:
    return f"{100 * figure.value:.2f} ({100 * figure.low:.2f} to {100 * figure.high:.2f})"


if __name__ == "__main__":
    typer.run(main)
