"""Colour of pictures is kept where params ask for it, and seen by the models that can see it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from petct_uad.core.files import read_table
from petct_uad.ingest.tables import PictureRow
from petct_uad.models.common.batch import Batch, at_side
from petct_uad.models.common.interface import images_in_channels, images_of
from petct_uad.slices.store import SliceStore
from petct_uad.slices.tables import ReadingRow
from tests.func.images.conftest import ROOT, SIDE, lay_out
from tests.stages import run_stage

MODELS = ("patchcore", "mahalanobis")
HUE = np.array([40, -20, -2])  # adds nothing to the luma: 0.299 R + 0.587 G + 0.114 B
PARTS = {"Training": 16, "Validation": 4, "Test": 12}


def paint(path: Path, seed: int, *, turned: bool) -> None:
    """Reddish tissue of its seed, in which a square is turned to green without a change of luma."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(60, 160, (6, 5), dtype=np.uint8)
    luma = np.asarray(Image.fromarray(coarse).resize((40, 48), Image.Resampling.BILINEAR))
    sign = np.ones((48, 40, 1), int)
    sign[10:26, 10:26] = -1 if turned else 1
    colours = luma[..., None] + sign * HUE
    Image.fromarray(colours.astype(np.uint8)).save(path)


def isic_of_hue(raw: Path) -> Path:
    """ISIC 2018's layout: each abnormal test picture is a normal one but for the square's hue."""
    for part, count in PARTS.items():
        stem = f"ISIC2018_Task3_{part}"
        rows = []
        for i in range(count):
            normal = part != "Test" or i < count // 2
            seed = 1000 * len(part) + (i if normal else i - count // 2)
            paint(raw / f"{stem}_Input/{part}_{i:02}.png", seed, turned=not normal)
            rows.append((f"{part}_{i:02}", float(not normal), float(normal), 0, 0, 0, 0, 0))
        table = raw / f"{stem}_GroundTruth/{stem}_GroundTruth.csv"
        table.parent.mkdir(parents=True)
        with table.open("w", newline="") as file:
            csv.writer(file).writerow(("image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"))
            csv.writer(file).writerows(rows)
    grey = raw / "ISIC2018_Task3_Training_Input/Training_00.png"
    Image.open(grey).convert("L").save(grey)
    return raw


def evaluated(home: Path, *, colour: bool) -> Path:
    """The stages from ingest to AUROC."""
    lay_out(home, isic_of_hue)
    params = YAML().load(home / "params.yaml")
    params["ingest"]["colour"] = colour
    like = YAML(typ="safe").load((ROOT / "params/baselines.yaml").read_text())["benchmark"]
    params["benchmark"] |= {"mahalanobis": like["mahalanobis"] | {"modalities": ["pet"]}}
    YAML().dump(params, home / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name in ("ingest", "register", "split", "preprocess", "validate"):
            run_stage(name)
        for model in MODELS:
            for name in ("train", "score", "evaluate"):
                run_stage(name, model)
    return home


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("grey"), colour=False)


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluated(tmp_path_factory.mktemp("coloured"), colour=True)


def auroc(home: Path, model: str) -> float:
    content = json.loads((home / f"metrics/auroc/{model}.json").read_text())
    return float(content["pet"])


@pytest.mark.parametrize("model", MODELS)
def test_where_only_hue_tells_a_model_sees_it_in_colour_and_not_in_grey(
    grey: Path, coloured: Path, model: str
) -> None:
    assert auroc(grey, model) == pytest.approx(0.5, abs=0.05)
    assert auroc(coloured, model) > 0.95


def opened(home: Path) -> SliceStore:
    return SliceStore.open(home / "data/processed/pictures", "train")


def test_luma_of_a_picture_is_the_same_either_way(grey: Path, coloured: Path) -> None:
    one, other = opened(grey), opened(coloured)
    assert one.colour is None
    everything = list(range(len(one)))
    assert np.array_equal(one.ct[everything], other.ct[everything])
    assert np.array_equal(one.pet[everything], other.pet[everything])
    readings = [
        read_table(home / "data/processed/pictures/readings.csv", ReadingRow)
        for home in (grey, coloured)
    ]
    assert readings[0] == readings[1]


def test_a_grey_picture_among_coloured_ones_has_three_equal_planes(coloured: Path) -> None:
    store = opened(coloured)
    batch = Batch.of(store, range(len(store)))
    (channels,), (luma,) = images_in_channels(batch, "pet"), images_of(batch, "pet")
    assert channels.shape == (len(store), 3, SIDE, SIDE)
    equal = [bool((seen == own).all()) for seen, own in zip(channels, luma, strict=True)]
    assert sum(equal) == 1


def test_a_row_of_smaller_images_sees_them_in_colour(coloured: Path) -> None:
    store = opened(coloured)
    (whole,) = images_in_channels(Batch.of(store, [1]), "ct")
    (small,) = images_in_channels(Batch.of(at_side(store, SIDE // 2), [1]), "ct")
    assert small.shape == (1, 3, SIDE // 2, SIDE // 2)
    assert torch.allclose(small.mean((2, 3)), whole.mean((2, 3)), atol=0.01)


def test_pictures_that_differ_in_hue_only_are_no_copies(grey: Path, coloured: Path) -> None:
    pictures = [
        read_table(home / "data/interim/pictures/ingest/volumes/pictures.csv", PictureRow)
        for home in (grey, coloured)
    ]
    distinct = [len({row.pixels_sha256 for row in rows}) for rows in pictures]
    assert distinct == [sum(PARTS.values()) - PARTS["Test"] // 2, sum(PARTS.values())]
