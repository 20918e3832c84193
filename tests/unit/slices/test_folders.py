import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from petct_uad.errors import DatasetError
from petct_uad.files import read_table
from petct_uad.slices.folders import ImportedImages, import_image_benchmark
from petct_uad.slices.store import SliceStore
from petct_uad.slices.tables import ImageRow

SIDE = 32
TRAIN = [f"train_{i:02}.png" for i in range(20)]
NORMAL = [f"normal_{i}.png" for i in range(4)]
ABNORMAL = [f"abnormal_{i}.png" for i in range(3)]


def draw(path: Path, seed: int, mode: str = "L") -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 40), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty normal training images; the first normal test image repeats one of them."""
    (tmp_path / "brain" / "images").mkdir(parents=True)
    for seed, name in enumerate([*TRAIN, *NORMAL, *ABNORMAL]):
        draw(tmp_path / "brain" / "images" / name, seed)
    draw(tmp_path / "brain" / "images" / NORMAL[0], seed=5, mode="RGB")
    write_listing(tmp_path / "brain", TRAIN, NORMAL, ABNORMAL)
    return tmp_path / "brain"


def write_listing(folder: Path, train: list[str], normal: list[str], abnormal: list[str]) -> None:
    listing = {"train": {"0": train}, "test": {"0": normal, "1": abnormal}}
    (folder / "data.json").write_text(json.dumps(listing))


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Callable[..., ImportedImages]:
    def importing(**keys: object) -> ImportedImages:
        return import_image_benchmark(folder, tmp_path / "processed", SIDE, **keys)

    return importing


def names(imported: ImportedImages, split: str, label: int = 0) -> set[str]:
    return {row.patient for row in imported.rows if (row.split, row.label) == (split, label)}


def test_every_image_stands_in_both_planes_where_the_listing_says(
    run: Callable[..., ImportedImages], folder: Path, tmp_path: Path
) -> None:
    imported = run()
    assert names(imported, "test", 1) == {Path(name).stem for name in ABNORMAL}
    assert names(imported, "test", 0) == {Path(name).stem for name in NORMAL}
    assert names(imported, "train") | names(imported, "val") == {Path(x).stem for x in TRAIN}
    store = SliceStore.open(tmp_path / "processed", "test")
    assert store.image_size_px == SIDE
    np.testing.assert_array_equal(store.pet, store.ct)
    for row, plane in zip(store.rows, store.ct, strict=True):
        picture = Image.open(folder / "images" / f"{row.patient}.png").convert("L")
        expected = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255
        np.testing.assert_allclose(plane, expected, atol=1e-3)


def test_index_on_disk_is_what_is_returned_with_its_source_files(
    run: Callable[..., ImportedImages], folder: Path, tmp_path: Path
) -> None:
    imported = run()
    index = read_table(tmp_path / "processed" / "index.csv", ImageRow)
    keys = [(row.slice_id, row.patient, row.sha256) for row in imported.rows]
    assert [(row.slice_id, row.patient, row.sha256) for row in index] == keys == sorted(keys)
    assert [path.stem for path in imported.files] == [row.patient for row in imported.rows]
    assert all(path.parent == folder / "images" for path in imported.files)


def test_a_tenth_of_the_training_normals_validates_and_the_seed_says_which(
    run: Callable[..., ImportedImages],
) -> None:
    first, again, other = run(), run(), run(seed=3)
    assert first == again
    assert len(names(first, "val")) == len(names(other, "val")) == 2
    assert names(first, "val") != names(other, "val")
    assert not names(first, "val") & names(first, "train")


def test_the_same_input_gives_the_same_bytes(
    run: Callable[..., ImportedImages], tmp_path: Path
) -> None:
    def content() -> dict[str, bytes]:
        run()
        paths = (tmp_path / "processed").rglob("*.*")
        return {path.name: path.read_bytes() for path in paths}

    assert content() == content()


def test_identical_training_images_never_straddle_training_and_validation(
    run: Callable[..., ImportedImages], folder: Path
) -> None:
    for name in TRAIN[:10]:
        draw(folder / "images" / name, seed=100)
    copies = {Path(name).stem for name in TRAIN[:10]}
    for seed in range(8):
        assert copies & names(run(seed=seed), "val") in (set(), copies)


def test_test_images_with_the_pixels_of_a_training_image_are_named(
    run: Callable[..., ImportedImages],
) -> None:
    imported = run()
    patients = {row.slice_id: row.patient for row in imported.rows}
    assert [patients[name] for name in imported.duplicates] == ["normal_0"]


def test_missing_and_unreadable_files_are_reported_by_name_and_left_out(
    run: Callable[..., ImportedImages], folder: Path
) -> None:
    (folder / "images" / TRAIN[3]).unlink()
    (folder / "images" / NORMAL[1]).write_bytes(b"no picture")
    whole = (folder / "images" / ABNORMAL[2]).read_bytes()
    (folder / "images" / ABNORMAL[2]).write_bytes(whole[: len(whole) // 2])
    imported = run()
    assert [(x.name, x.split, x.label) for x in imported.refused] == [
        ("abnormal_2.png", "test", 1),
        ("normal_1.png", "test", 0),
        ("train_03.png", "train", 0),
    ]
    assert "unreadable" in imported.refused[0].reason
    assert imported.refused[2].reason == "missing from images/"
    assert len(imported.rows) == len(TRAIN + NORMAL + ABNORMAL) - 3


def test_a_refused_file_can_stop_the_import_and_leaves_what_was_there(
    run: Callable[..., ImportedImages], folder: Path, tmp_path: Path
) -> None:
    run()
    before = (tmp_path / "processed" / "index.csv").read_bytes()
    (folder / "images" / TRAIN[0]).unlink()
    with pytest.raises(DatasetError, match=r"train_00\.png \(train\): missing"):
        run(on_refused="stop")
    assert (tmp_path / "processed" / "index.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("train", "normal", "message"),
    [
        (["../data.json"], NORMAL, "no plain file name"),
        (TRAIN, [TRAIN[0]], "'train_00' is listed twice"),
        ([], NORMAL, "expected"),
        (TRAIN, ["absent.png"], "no usable image in test-normal"),
    ],
)
def test_a_wrong_listing_is_explained(
    run: Callable[..., ImportedImages],
    folder: Path,
    train: list[str],
    normal: list[str],
    message: str,
) -> None:
    write_listing(folder, train, normal, ABNORMAL)
    with pytest.raises(DatasetError, match=message):
        run()


def test_a_folder_without_a_listing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"data\.json: not found"):
        import_image_benchmark(tmp_path, tmp_path / "processed", SIDE)
