"""``petct validate`` judges an image benchmark as it judges DICOM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from petct_uad.core.files import sha256_file
from tests.func.images.conftest import bmad_set, draw, draw_mask, listed_set
from tests.petct_validate import enter_project, judged

LAYOUTS = pytest.mark.parametrize("make", [listed_set, bmad_set], ids=["data.json", "BMAD"])


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "benchmark"


def contents(folder: Path) -> dict[Path, str]:
    return {path: sha256_file(path) for path in folder.rglob("*") if path.is_file()}


@LAYOUTS
def test_sound_pictures_may_be_added_and_are_left_as_they_were(
    make: Callable[[Path], Path], folder: Path, temporary: Path
) -> None:
    before = contents(make(folder))
    done = judged(folder)
    assert done.exit_code == 0, done.output
    assert "verdict: sound" in done.stdout
    assert f"petct add NAME {folder}" in done.stdout
    assert contents(folder) == before
    assert list(temporary.iterdir()) == []


def test_verdict_counts_splits_labels_and_masks(folder: Path) -> None:
    listed = "usable pictures: 28, 20 train, 0 val, 8 test; abnormal: 4; with a mask: 0"
    assert listed in judged(listed_set(folder)).stdout
    bmad = "usable pictures: 36, 20 train, 8 val, 8 test; abnormal: 8; with a mask: 16"
    assert bmad in judged(bmad_set(folder.parent / "bmad")).stdout


def test_picture_of_an_earlier_split_is_named_with_the_one_it_repeats(folder: Path) -> None:
    said = judged(listed_set(folder)).stdout
    assert "pixels of an earlier split (see split.duplicates): 1" in said
    assert "images/normal_0.png: as images/train_05.png (train)" in said


def test_refused_picture_is_named_with_what_to_do(folder: Path) -> None:
    (listed_set(folder) / "images/train_03.png").write_bytes(b"no picture")
    done = judged(folder)
    assert done.exit_code == 3
    assert "images/train_03.png: unreadable: found no format that Pillow knows" in done.stdout


def test_mask_without_its_lesion_is_refused(folder: Path) -> None:
    draw_mask(bmad_set(folder) / "test/Ungood/label/002.png", lesion=False)
    done = judged(folder)
    assert done.exit_code == 3
    assert "test/Ungood/label/002.png: label: found 0 lesion pixels" in done.stdout


def test_losing_many_pictures_is_critical(folder: Path) -> None:
    listed_set(folder)
    for i in range(6):
        (folder / f"images/train_{i:02}.png").write_bytes(b"")
    done = judged(folder)
    assert done.exit_code == 1
    assert "cohort.few_studies_lost" in done.stdout


def test_set_without_abnormal_test_pictures_is_not_usable(folder: Path, temporary: Path) -> None:
    for i in range(3):
        draw(folder / f"train/good/{i}.png", i)
    assert judged(folder).exit_code == 4
    assert list(temporary.iterdir()) == []


def test_damaged_listing_is_named(folder: Path) -> None:
    (listed_set(folder) / "data.json").write_text("{")
    done = judged(folder)
    assert done.exit_code == 1
    assert "data.json: expected" in done.stderr
