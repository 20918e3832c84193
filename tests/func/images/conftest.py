"""Small image benchmarks in both layouts, and the real stages over them in a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.stages import run_stage

ROOT = Path(__file__).resolve().parents[3]
STAGES = ("ingest", "register", "split", "preprocess", "validate")
MODEL = "patchcore"
RUN = "patchcore-pet"
SIDE = 32


def draw(path: Path, seed: int, *, lesion: bool = False, mode: str = "L") -> None:
    """A smooth picture of its seed, with a bright square where there is a lesion."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(40, 120, (6, 5), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((40, 48), Image.Resampling.BILINEAR)
    if lesion:
        picture.paste(255, (10, 10, 22, 22))
    picture.convert(mode).save(path)


def draw_mask(path: Path, *, lesion: bool) -> None:
    """The square of :func:`draw`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", (40, 48))
    if lesion:
        mask.paste(255, (10, 10, 22, 22))
    mask.save(path)


def listed_set(raw: Path, tested: int = 4) -> Path:
    """``data.json``: twenty training pictures; normal_0 is train_05 again, as colour."""
    names: dict[str, list[str]] = {
        "train": [f"train_{i:02}.png" for i in range(20)],
        "normal": [f"normal_{i}.png" for i in range(tested)],
        "abnormal": [f"abnormal_{i}.png" for i in range(tested)],
    }
    everything = [name for group in names.values() for name in group]
    for seed, name in enumerate(everything):
        draw(raw / "images" / name, seed, lesion=name.startswith("ab"))
    draw(raw / "images/normal_0.png", 5, mode="RGB")
    test = {"0": names["normal"], "1": names["abnormal"]}
    (raw / "data.json").write_text(json.dumps({"train": {"0": names["train"]}, "test": test}))
    return raw


def bmad_set(raw: Path) -> Path:
    """BMAD's folders with masks; one name is in every folder."""
    for i in range(20):
        draw(raw / f"train/good/{i:03}.png", i)
    seed = 100
    for part in ("valid", "test"):
        for kind in ("good", "Ungood"):
            for i in range(4):
                draw(raw / f"{part}/{kind}/img/{i:03}.png", seed, lesion=kind == "Ungood")
                draw_mask(raw / f"{part}/{kind}/label/{i:03}.png", lesion=kind == "Ungood")
                seed += 1
    return raw


def lay_out(home: Path, make: Callable[[Path], Path], **split: object) -> Path:
    """A repository whose data set is ``pictures``."""
    home.mkdir(exist_ok=True)
    for name in ("src", "stages", "pyproject.toml"):
        (home / name).symlink_to(ROOT / name)
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["dataset"] = "pictures"
    params["workers"] = 1
    params["split"] |= {"val_fraction": 0.2, **split}
    params["preprocess"] |= {"image_size_px": SIDE}
    params["validate"] |= {"min_train_slices": 8}
    params["evaluate"] |= {"bootstrap_samples": 100}
    params["benchmark"] = {MODEL: params["benchmark"][MODEL] | {"modalities": ["pet"]}}
    YAML().dump(params, home / "params.yaml")
    make(home / "data/raw/pictures")
    (home / "data/withdrawn.csv").write_text("patient,date\n")
    return home


def run_all(home: Path) -> Path:
    """Every stage but distil, in a folder from :func:`lay_out`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for name in (*STAGES, "evaluate_trivial"):
            run_stage(name)
        run_stage("train", MODEL)
        run_stage("score", MODEL)
        run_stage("evaluate", MODEL)
        run_stage("compare")
    return home


@pytest.fixture(params=[listed_set, bmad_set], ids=["data.json", "BMAD"], scope="session")
def whole_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every stage but distil, over each layout."""
    return run_all(lay_out(tmp_path_factory.mktemp("run"), request.param))
