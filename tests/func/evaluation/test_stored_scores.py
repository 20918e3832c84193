"""What a network has seen it does not see again, and its scores have the bytes of a new look."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import yaml

from petct_uad.core.files import read_table, sha256_file, write_table
from petct_uad.core.params.base import VALIDATED
from petct_uad.slices.store import Shard, write_index, write_shard
from petct_uad.slices.tables import ImageRow, SliceRow, shard_path
from tests.func.training import tiny
from tests.samples import image_row, slice_row
from tests.stages import run_stage

ROOT = Path(__file__).resolve().parents[3]
PROCESSED, SCORES = Path("data/processed/tiny"), Path("data/scores/patchcore")
PARAMS = {
    "dataset": "tiny",
    "workers": 1,
    "train": {"device": "cpu"},
    "score": {"fusion": "sum", "z_sigma_mm": 0.0},
    "benchmark": {
        "patchcore": {
            "model": "patchcore",
            "modalities": ["pet", "ct", "petct"],
            "params": "models.patchcore",
            "teacher": "teacher",
            "after": VALIDATED,
        }
    },
}
LOOKS = ("patchcore-pet, seed 0: test", "patchcore-ct, seed 0: test")

Change = Callable[[], None]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with trained models, scored once into an empty store."""
    home = tmp_path_factory.mktemp("scored") / "home"
    home.mkdir()
    for name in ("src", "stages", "pyproject.toml"):
        (home / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        say(PARAMS)
        tiny.write_store(PROCESSED)
        place()
        tiny.train(PROCESSED, Path("trained"), "patchcore", modalities=("pet", "ct", "petct"))
        shutil.copytree("trained/models", "models/patchcore")
    assert "taken from" not in score(home)
    return home


@pytest.fixture
def home(scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(scored, tmp_path / "home", symlinks=True)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def say(params: dict[str, object]) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(params))


def place() -> None:
    """``slices.csv`` of every slice that there is."""
    rows = [slice_row(row) for row in read_table(PROCESSED / "index.csv", ImageRow)]
    write_table(Path("data/interim/tiny/split/slices.csv"), SliceRow, rows)


def score(home: Path, *, store: bool = True) -> str:
    """The stage; what the terminal said."""
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(StringIO()) as said:
        patch.chdir(home)
        patch.setenv("PETCT_STORE", "on" if store else "off")
        run_stage("score", "patchcore")
    return said.getvalue()


def files() -> dict[str, str]:
    found = sorted(path for path in SCORES.rglob("*") if path.is_file())
    return {path.relative_to(SCORES).as_posix(): sha256_file(path) for path in found}


def one_patient_more() -> None:
    rows = read_table(PROCESSED / "index.csv", ImageRow)
    pixels = np.random.default_rng(7).random((2, 3, tiny.SIDE, tiny.SIDE)).astype(np.float16)
    body = np.ones((3, tiny.SIDE, tiny.SIDE), np.uint8)
    shard = Shard(ct=pixels[0], pet=pixels[1], lesion=body * 0, body=body)
    study = "p3_00000000"
    write_shard(shard_path(PROCESSED, study), shard)
    rows += [
        image_row(
            slice_id=f"{study}_{index:04d}",
            study_id=study,
            patient=study[:2],
            split="test",
            shard_row=index,
            sha256=shard.sha256_of(index),
        )
        for index in range(3)
    ]
    write_index(PROCESSED, rows)
    place()


def another_fusion() -> None:
    say(PARAMS | {"score": {"fusion": "max", "z_sigma_mm": 0.0}})


def smoothing() -> None:
    say(PARAMS | {"score": {"fusion": "sum", "z_sigma_mm": 4.0}})


def fewer_slices() -> None:
    """As another rule of the split leaves them: one of the test study's two."""
    rows = read_table(PROCESSED / "index.csv", ImageRow)
    write_index(PROCESSED, rows[:-1])
    place()


def other_weights() -> None:
    """Those of the CT in the PET's place."""
    weights, target = (
        next(Path(f"models/patchcore/patchcore-{x}").rglob("*.safetensors")) for x in ("ct", "pet")
    )
    shutil.copy(weights, target)


@pytest.mark.parametrize(
    ("change", "taken"),
    [
        (another_fusion, ("1 of 1", "1 of 1")),
        (smoothing, ("1 of 1", "1 of 1")),
        (one_patient_more, ("1 of 2", "1 of 2")),
        (fewer_slices, ("", "")),
        (other_weights, ("", "1 of 1")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_sees_what_is_new_to_it_and_nothing_else(
    home: Path, change: Change, taken: tuple[str, str]
) -> None:
    before = files()
    change()
    said = score(home)
    for look, share in zip(LOOKS, taken, strict=True):
        assert f"{look}: {share} taken" in said if share else f"{look}: " not in taken_in(said)
    found = files()
    assert found != before
    score(home, store=False)
    assert files() == found


def taken_in(said: str) -> str:
    return "\n".join(line for line in said.splitlines() if "taken from" in line)


def test_a_damaged_map_in_the_store_is_not_believed(home: Path) -> None:
    before = files()
    victim = min(Path(".cache/studies/score").glob("*/planes.safetensors"))
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    assert score(home).count("computed anew") == 1
    assert files() == before


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("torch.get_num_threads", 99),
        ("petct_uad.models.common.device.processor", "another processor"),
    ],
)
def test_on_another_processor_or_number_of_threads_nothing_is_taken(
    home: Path, monkeypatch: pytest.MonkeyPatch, what: str, other: object
) -> None:
    monkeypatch.setattr(what, lambda: other)
    assert "taken from" not in score(home)


def test_what_the_network_took_is_told_where_it_ran_before(home: Path) -> None:
    before = Path("metrics/cost/patchcore-pet.json").read_text()
    smoothing()
    score(home)
    after = Path("metrics/cost/patchcore-pet.json").read_text()
    key = '"seconds_per_pair"'
    assert [x for x in before.splitlines() if key in x] == [
        x for x in after.splitlines() if key in x
    ]
