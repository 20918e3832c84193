"""Choices on a development cohort: ``PYTHONPATH=src python benchmarks/development.py train ...``.

``train`` trains rows with several seeds on a cohort or a set of pictures that has been preprocessed
(a repository's folder; never with the test patients who are reported) and keeps what their models
say of it; ``choose`` reads that and prints the AUROC of each way to fuse, to smooth and to score,
as the mean over seeds, beside its difference to the first of them with the interval over patients.
Rows are separate processes of their own choosing; what is kept lies outside of any repository.

Example:
    python benchmarks/development.py train /tmp/dev100 /tmp/kept new cmad petct --seeds 1,2,3 \\
        --set targets=below_input --set schedule.batch_size=4
    python benchmarks/development.py choose /tmp/dev100 /tmp/kept new-petct --score top:0.01

    Pictures, in a repository whose ``split.test_patients`` is ``development``:
    python benchmarks/development.py train . /tmp/kept lite2 patchcore pet --seeds 42 \\
        --section models.patchcore --teacher teachers.efficientnet_lite2 --set strides=[16,32]
    python benchmarks/development.py choose . /tmp/kept lite2-pet --fusion raw_sum --score max
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Annotated, Any, Literal, cast, get_args

import numpy as np
import torch
import typer
import yaml
from numpy.typing import NDArray
from rich.table import Table
from safetensors.numpy import load_file, save_file

from petct_uad.comparison.paired import PairedAurocs
from petct_uad.core.console import console
from petct_uad.core.params.base import Modality
from petct_uad.core.params.reading import PARAMS_FILE, ParamsFile
from petct_uad.evaluation.metrics import Scores
from petct_uad.evaluation.params import EvaluateParams
from petct_uad.evaluation.seeds import SeedDecisions
from petct_uad.models.benchmark import SHARED_TEACHER, RunParams
from petct_uad.models.common.batch import Batch, at_side
from petct_uad.models.common.fusion import FusedMaps, MapFusion
from petct_uad.models.common.interface import AnomalyModel
from petct_uad.models.common.maps import score_maps, smooth_maps
from petct_uad.models.common.params import AnyModelParams, Fusion
from petct_uad.schema import load_params
from petct_uad.scoring.context import smooth_along_z, z_positions_mm
from petct_uad.scoring.tables import SeedScores
from petct_uad.scoring.trained import load_trained
from petct_uad.slices.store import SliceStore
from petct_uad.slices.tables import ImageRow
from petct_uad.teachers.params import TeacherParams
from petct_uad.training.run import TrainingTask, train_run

BATCH = 16
EVALUATE = EvaluateParams(false_positive_rate=0.05, bootstrap_samples=1000, confidence=0.95, seed=0)
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
Maps = NDArray[np.float32]  # (K, n, S, S)
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Cohort:
    """The validation normals and the test split of a repository's processed data."""

    repository: Path

    @cached_property
    def dataset(self) -> str:
        """The one that the repository's params name."""
        return ParamsFile.read(self.repository / PARAMS_FILE).dataset

    @property
    def processed(self) -> Path:
        """Its shards."""
        return self.repository / "data/processed" / self.dataset

    def rows(self) -> dict[str, tuple[ImageRow, ...]]:
        """Validation normals, test slices."""
        val, test = (SliceStore.open(self.processed, split).rows for split in ("val", "test"))
        return {"val": tuple(row for row in val if row.label == 0), "test": test}

    def z_mm(self, rows: Sequence[ImageRow]) -> NDArray[np.float64]:
        """Where slices lie along the body."""
        table = self.repository / "data/interim" / self.dataset / "split/slices.csv"
        return z_positions_mm(table, rows)


@app.command()
def train(  # noqa: PLR0917
    repository: Annotated[Path, typer.Argument(help="whose data/processed is the cohort")],
    kept: Annotated[Path, typer.Argument(help="takes maps, a file per seed")],
    name: Annotated[str, typer.Argument(help="what this variant is called")],
    model: Annotated[str, typer.Argument(help="a model of the house")],
    modality: Annotated[str, typer.Argument(help="pet, ct or petct")],
    section: Annotated[str, typer.Option(help="of params.yaml")] = "model",
    teacher: Annotated[str, typer.Option(help="its section of params.yaml")] = SHARED_TEACHER,
    image_size_px: Annotated[int | None, typer.Option(help="at most the shards'")] = None,
    seeds: Annotated[str, typer.Option(help="separated by commas")] = "1,2,3",
    set_: Annotated[list[str], typer.Option("--set", help="a key of the section, KEY=VALUE")] = [],  # noqa: B006
) -> None:
    """Train one row with each seed, and keep each modality's maps of the cohort."""
    cohort, whole = Cohort(repository), load_params()
    params = changed(whole.model_section(section), set_)
    after = type(params).waits_for
    run = RunParams(model=model, modality=cast("Modality", modality), params=section, after=after)
    for seed in map(int, seeds.split(",")):
        once = whole.train.model_copy(update={"seeds": (seed,), "checkpoint_every": 0})
        began = process_time()
        with TemporaryDirectory() as folder:
            task = TrainingTask(
                run=run,
                params=params,
                teacher=ParamsFile.read().section(TeacherParams, teacher),
                train=once,
                processed=cohort.processed,
                model_folder=Path(folder) / "model",
                curve_file=Path(folder) / "curve.csv",
                image_size_px=image_size_px,
            )
            train_run(task)
            seconds = process_time() - began
            trained = load_trained(Path(folder) / "model", seed, torch.device("cpu"))
        maps = {split: maps_of(trained.model, cohort, split) for split in ("val", "test")}
        path = kept / f"{name}-{modality}" / f"seed-{seed}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(maps, path)
        console.print(f"{path}: trained in {seconds:.0f} s of processor time")


@app.command()
def choose(  # noqa: PLR0917
    repository: Annotated[Path, typer.Argument(help="the same as for train")],
    kept: Annotated[Path, typer.Argument(help="what train wrote")],
    rows: Annotated[list[str], typer.Argument(help="folders there; A+B fuses the maps of two")],
    fusion: Annotated[str, typer.Option(help="separated by commas")] = ",".join(FUSIONS),
    sigma_mm: Annotated[str, typer.Option(help="along the body, separated by commas")] = "0",
    sigma_px: Annotated[str, typer.Option(help="in the map, as map_sigma_px, by commas")] = "0",
    score: Annotated[str, typer.Option(help="max, mean or top:FRACTION, by commas")] = "top:0.01",
) -> None:
    """Print the AUROC of every choice, and its paired difference to the first one."""
    cohort = Cohort(repository)
    slices = cohort.rows()
    z_mm = {split: cohort.z_mm(of_split) for split, of_split in slices.items()}
    runs: dict[str, list[Scores]] = {}
    for row, how, blur in itertools.product(rows, fusion.split(","), sigma_px.split(",")):
        seeds = [fused(blurred(x, float(blur)), cast("Fusion", how)) for x in read(kept, row)]
        for reach in map(float, sigma_mm.split(",")):
            smooth = [
                {x: smooth_along_z(maps[x], studies_of(slices[x]), z_mm[x], reach) for x in maps}
                for maps in seeds
            ]
            for scoring in score.split(","):
                called = f"{row}, {how}, {blur} px, {reach:g} mm, {scoring}"
                runs[called] = [decided(maps, scoring, slices["test"]) for maps in smooth]
    report(runs)


def changed(params: AnyModelParams, settings: Sequence[str]) -> AnyModelParams:
    """A section with other values of some keys, ``schedule.iterations=400`` among them."""
    content: dict[str, Any] = params.model_dump(mode="json")
    for setting in settings:
        key, _, value = setting.partition("=")
        *groups, last = key.split(".")
        node = content
        for group in groups:
            node = node[group]
        node[last] = yaml.safe_load(value)
    return type(params).model_validate_json(json.dumps(content))


def maps_of(model: AnomalyModel, cohort: Cohort, split: Literal["val", "test"]) -> Maps:
    """(K, n, S, S): of each modality before fusion, of the one map of a model that has no more."""
    store = at_side(SliceStore.open(cohort.processed, split), getattr(model, "image_size_px", None))
    indices = [i for i, row in enumerate(store.rows) if split == "test" or row.label == 0]
    parts = []
    with torch.inference_mode():
        for start in range(0, len(indices), BATCH):
            batch = Batch.of(store, indices[start : start + BATCH])
            if isinstance(model, FusedMaps):
                found = model.modality_maps(batch)
            else:
                found = model.anomaly_map(batch)[None]
            parts.append(found.float().numpy())
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def read(kept: Path, row: str) -> list[dict[str, Maps]]:
    """The maps of each seed; of ``A+B`` both rows' together."""
    folders = [kept / part for part in row.split("+")]
    names = sorted({path.name for path in folders[0].glob("seed-*.safetensors")})
    every = [[load_file(folder / name) for folder in folders] for name in names]
    return [
        {split: np.concatenate([part[split] for part in parts]) for split in ("val", "test")}
        for parts in every
    ]


def blurred(parts: dict[str, Maps], sigma_px: float) -> dict[str, Maps]:
    """Each map under a Gaussian, of rows that were trained with ``map_sigma_px=0``."""
    if sigma_px == 0:
        return parts
    return {
        split: smooth_maps(torch.from_numpy(maps), maps.shape[-1], sigma_px).numpy()
        for split, maps in parts.items()
    }


def fused(parts: dict[str, Maps], how: Fusion) -> dict[str, NDArray[np.float32]]:
    """(n, S, S) of each split, on the scale of the validation normals."""
    fusion = MapFusion(how, len(parts["val"]))
    fusion.fit(torch.split(torch.from_numpy(parts["val"]), BATCH, dim=1))
    return {split: fusion(torch.from_numpy(maps)).numpy() for split, maps in parts.items()}


def studies_of(rows: Sequence[ImageRow]) -> list[str]:
    """The study of each slice."""
    return [row.study_id for row in rows]


def decided(maps: dict[str, NDArray[np.float32]], how: str, rows: Sequence[ImageRow]) -> Scores:
    """The scores of the test slices."""
    kind, _, fraction = how.partition(":")
    scores = {
        split: score_maps(
            torch.from_numpy(x), cast("Literal['top', 'max', 'mean']", kind), float(fraction or 1)
        ).double()
        for split, x in maps.items()
    }
    seed = SeedScores(0, scores["val"].numpy(), scores["test"].numpy())
    return SeedDecisions.of(seed, rows, EVALUATE.false_positive_rate).scores


def report(runs: dict[str, list[Scores]]) -> None:
    """Every choice beside the first."""
    paired = PairedAurocs.of(runs, EVALUATE)
    first, *others = runs
    differences = dict(zip(others, paired.family([(x, first) for x in others]), strict=True))
    table = Table("choice", "seeds", "AUROC", f"minus {first}", "interval")
    for run, seeds in runs.items():
        cells = [run, str(len(seeds)), f"{paired.values[run]:.4f}"]
        if run in differences:
            found = differences[run]
            cells += [f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"]
        table.add_row(*cells)
    console.print(table)


if __name__ == "__main__":
    app()
