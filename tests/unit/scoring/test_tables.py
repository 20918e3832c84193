"""Scores and maps of a study come back as they were written, as far as half precision goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from petct_uad.core.claims import Claim
from petct_uad.core.errors import EvaluationError
from petct_uad.core.files import sha256_file
from petct_uad.scoring.tables import (
    RowIdentity,
    ScoredRow,
    StudyScores,
    read_study,
    scored_rows,
    write_study,
)
from tests.samples import image_row

IDENTITY = RowIdentity(
    run="cmad-petct",
    model="cmad",
    modality="petct",
    teacher="efficientnet_lite0",
    image_size_px=128,
    parameters=12,
    scan="numba",
    gflops_per_pair=0.25,
    claims=(Claim("it helps", "CMAD", "Table 4", "cmad-petct", ("cmad-pet", "cmad-ct")),),
)


def study_of(maps: np.ndarray) -> StudyScores:
    count = len(maps)
    return StudyScores(np.arange(count) * 2, np.linspace(0, 1, count) / 3, maps)


def random_maps(scale: float, count: int = 3) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(count, 8, 8))
    return (scale * drawn).astype(np.float32)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 6e4, 1e9, 1e30])
def test_maps_keep_eleven_bits_at_any_scale(tmp_path: Path, scale: float) -> None:
    maps = random_maps(scale)
    write_study(tmp_path / "a.safetensors", study_of(maps))
    found = read_study(tmp_path / "a.safetensors").maps
    assert found.dtype == np.float32
    assert np.abs(found / maps - 1).max() <= 2**-11


def test_what_the_pet_gives_comes_back_beside_its_map_at_a_scale_of_its_own(tmp_path: Path) -> None:
    study = replace(study_of(random_maps(1.0)), pet_parts=random_maps(1e6))
    write_study(tmp_path / "a.safetensors", study)
    found = read_study(tmp_path / "a.safetensors")
    assert found.maps == pytest.approx(study.maps, rel=2**-11)
    assert found.pet_parts == pytest.approx(study.pet_parts, rel=2**-11)
    write_study(tmp_path / "b.safetensors", study_of(random_maps(1.0)))
    assert read_study(tmp_path / "b.safetensors").pet_parts is None


def test_values_far_below_the_largest_are_off_by_a_tiny_part_of_it(tmp_path: Path) -> None:
    maps = random_maps(1e-12)
    maps[0, 0, 0] = 1.0
    write_study(tmp_path / "a.safetensors", study_of(maps))
    found = read_study(tmp_path / "a.safetensors").maps
    assert found[0, 0, 0] == 1
    assert np.abs(found - maps).max() <= 2**-39


@pytest.mark.parametrize("value", [0.0, 65504.0, 65536.0, -65520.0])
def test_constant_maps_stay_finite(tmp_path: Path, value: float) -> None:
    maps = np.full((1, 4, 4), value, dtype=np.float32)
    write_study(tmp_path / "a.safetensors", study_of(maps))
    assert read_study(tmp_path / "a.safetensors").maps == pytest.approx(maps, rel=2**-11)


def test_what_is_not_finite_stays_so_and_spoils_nothing_else(tmp_path: Path) -> None:
    maps = random_maps(3.0)
    maps[0, 0, :2] = np.nan, np.inf
    write_study(tmp_path / "a.safetensors", study_of(maps))
    found = read_study(tmp_path / "a.safetensors").maps
    assert np.isnan(found[0, 0, 0])
    assert np.isinf(found[0, 0, 1])
    assert found[1:] == pytest.approx(maps[1:], rel=2**-11)


def test_scores_and_places_come_back_bit_by_bit(tmp_path: Path) -> None:
    study = study_of(random_maps(1.0))
    write_study(tmp_path / "a.safetensors", study)
    found = read_study(tmp_path / "a.safetensors", with_maps=False)
    assert found.scores.tobytes() == study.scores.tobytes()
    assert found.shard_rows.tolist() == [0, 2, 4]
    assert not found.maps.size


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_study(tmp_path / name, study_of(random_maps(1.0)))
    assert sha256_file(tmp_path / "a") == sha256_file(tmp_path / "b")


def test_a_row_comes_back_with_its_slices_in_the_order_asked(tmp_path: Path) -> None:
    row = ScoredRow(tmp_path / "cmad-petct", IDENTITY, (3, 11))
    row.write()
    assert ScoredRow.read(row.folder) == row
    assert scored_rows(tmp_path) == (row,)
    maps = {"a": random_maps(1.0), "b": random_maps(100.0)}
    for name, of_study in maps.items():
        study = study_of(of_study)
        write_study(row.file(3, name), replace(study, scores=study.scores + ord(name)))
    rows = [image_row(study_id=name, shard_row=at) for name, at in (("b", 4), ("a", 2), ("b", 0))]
    assert row.scores(3, rows) == pytest.approx([ord("b") + 1 / 3, ord("a") + 1 / 6, ord("b")])
    expected = np.stack([maps["b"][2], maps["a"][1], maps["b"][0]])
    assert row.maps(3, rows).shape == expected.shape
    assert row.maps(3, rows)[[0, 1, 2]] == pytest.approx(expected, rel=2**-11)


def test_a_slice_that_was_not_scored_is_named(tmp_path: Path) -> None:
    row = ScoredRow(tmp_path, IDENTITY, (3,))
    write_study(row.file(3, "a"), study_of(random_maps(1.0)))
    with pytest.raises(EvaluationError, match=r"lacks slice a_0005, which index.csv has"):
        row.scores(3, [image_row(slice_id="a_0005", study_id="a", shard_row=5)])


def test_files_of_another_version_are_refused_by_name(tmp_path: Path) -> None:
    row = ScoredRow(tmp_path / "cmad-petct", IDENTITY, (3,))
    with pytest.raises(EvaluationError, match=r"row\.json: not found"):
        ScoredRow.read(row.folder)
    row.folder.mkdir()
    (row.folder / "row.json").write_text('{"run": "cmad-petct"}')
    with pytest.raises(EvaluationError, match=r"row\.json: of another version"):
        ScoredRow.read(row.folder)
    path = row.file(3, "a")
    write_study(path, study_of(random_maps(1.0)))
    save_file({k: x for k, x in load_file(path).items() if k != "exponent"}, path)
    with pytest.raises(EvaluationError, match="lacks exponent"):
        read_study(path)


def test_an_entry_without_rows_says_how_to_score_it(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="Run `dvc repro score@padim`"):
        scored_rows(tmp_path / "padim")
