"""Pictures go through the same stages as PET/CT, and their results say what they are."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from ruamel.yaml import YAML
from typer.testing import CliRunner

from petct_uad.cli.app import app
from petct_uad.core.errors import DatasetError, InputsRefusedError, NothingUsableError, SplitError
from petct_uad.core.files import read_table, sha256_file
from petct_uad.ingest.run import ingest_with_lineage
from petct_uad.ingest.tables import InstanceRow, PictureRow, RejectedRow
from petct_uad.ingest.withdrawn import WITHDRAWN
from petct_uad.lineage import trace
from petct_uad.lineage.graph import Graph
from petct_uad.lineage.names import find_cause, find_traced
from petct_uad.lineage.verify import verify
from petct_uad.schema import load_params
from petct_uad.slices.store import SliceStore
from petct_uad.slices.tables import ImageRow, SliceRow
from tests.func.images.conftest import (
    MODEL,
    RUN,
    SIDE,
    bmad_set,
    draw,
    draw_mask,
    lay_out,
    listed_set,
    run_all,
)
from tests.stages import run_stage

RAW = Path("data/raw/pictures")
INGEST = Path("data/interim/pictures/ingest")
PROCESSED = Path("data/processed/pictures")


@pytest.fixture
def finished(whole_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(whole_run)
    return whole_run


def file_of(study_id: str) -> str:
    rows = read_table(INGEST / "instances.csv", InstanceRow)
    return next(row.file for row in rows if (row.study_id, row.role) == (study_id, "picture"))


def placed() -> dict[str, tuple[str, int, str]]:
    """Split, label and reason of every picture, by file."""
    rows = read_table(Path("data/interim/pictures/split/slices.csv"), SliceRow)
    return {file_of(row.study_id): (row.split, row.label, row.reason) for row in rows}


def test_each_picture_stands_in_both_planes_as_its_file_has_it(finished: Path) -> None:
    store = SliceStore.open(PROCESSED, "test")
    every = list(range(len(store)))
    np.testing.assert_array_equal(store.pet[every], store.ct[every])
    for row, plane in zip(store.rows, store.ct[every], strict=True):
        grey = Image.open(RAW / file_of(row.study_id)).convert("L")
        expected = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) / 255
        np.testing.assert_allclose(plane, expected, atol=1e-3)


def test_nothing_is_registered_and_every_check_passes(finished: Path) -> None:
    assert json.loads(Path("metrics/registration.json").read_text())["studies"] == 0
    assert json.loads(Path("metrics/validation.json").read_text())["critical_failures"] == 0


def test_the_publishers_split_and_labels_are_kept(finished: Path) -> None:
    for file, (split, label, _) in placed().items():
        abnormal = "abnormal" in file or "Ungood" in file
        assert label == abnormal
        if "train" in file:
            assert split in {"train", "val"}
        elif "valid" in file:
            assert split == ("excluded" if abnormal else "val")
        elif file != "images/normal_0.png":
            assert split == "test"


def test_masks_give_pixel_figures_where_there_are_any(finished: Path) -> None:
    metrics = json.loads((Path("metrics/runs") / MODEL / RUN / "metrics.json").read_text())
    if (RAW / "train/good").is_dir():
        assert metrics["pixel_auroc"] > 0.5
        lesions = {row.lesion_area_mm2 for row in SliceStore.open(PROCESSED, "test").rows}
        assert lesions == {0.0, 144.0}
    else:
        assert metrics["pixel_auroc"] is None


def test_results_say_that_patients_are_unknown(finished: Path) -> None:
    for path in ("metrics/summary.md", "reports/index.html"):
        assert "Each slice counts as a patient of its own" in Path(path).read_text()


def test_a_slice_traces_back_to_its_own_file_and_verify_finds_nothing_wrong(
    finished: Path,
) -> None:
    row = next(row for row in read_table(PROCESSED / "index.csv", ImageRow) if row.label)
    graph = Graph.open()
    found = trace.trace(graph, find_traced(graph, row.slice_id))
    files = [RAW / Path(item.file).relative_to(RAW) for item in found.instances()]
    assert RAW / file_of(row.study_id) in files
    assert len(files) == (2 if row.lesion_area_mm2 else 1)
    assert [item.sha256 for item in found.instances()] == [sha256_file(path) for path in files]
    assert find_cause(graph, file_of(row.study_id)).kind == "patient"
    said = CliRunner().invoke(app, ["lineage", "trace", row.slice_id]).stdout
    assert f"{len(files)} picture file" in said
    assert "DICOM" not in said
    assert not verify([], with_cache=False).findings


def on_black(raw: Path) -> Path:
    """The BMAD set, each picture and mask off-centre on black, as an organ in its slice."""
    for file in sorted(bmad_set(raw).rglob("*.png")):
        black = Image.new("L", (90, 100))
        with Image.open(file) as drawn:
            black.paste(drawn.convert("L").resize((20, 24)), (55, 10))
        black.save(file)
    return raw


def test_pictures_on_a_canvas_go_through_every_stage_at_their_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = lay_out(tmp_path / "canvas", on_black)
    params = YAML().load((home / "params.yaml").read_text())
    params["preprocess"]["pictures"] = "canvas"
    YAML().dump(params, home / "params.yaml")
    monkeypatch.chdir(run_all(home))
    store = SliceStore.open(PROCESSED, "test")
    for plane in store.ct[list(range(len(store)))]:
        rows, columns = np.nonzero(plane)
        # 20 by 24 pixels as in the file, in the middle of 32 by 32 where a stretch leaves 7 by 8.
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 27, 6, 25)
    assert json.loads(Path("metrics/validation.json").read_text())["critical_failures"] == 0
    metrics = json.loads((Path("metrics/runs") / MODEL / RUN / "metrics.json").read_text())
    assert metrics["pixel_auroc"] > 0.5
    assert RUN in Path("metrics/summary.md").read_text()


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(lay_out(tmp_path, listed_set))
    return tmp_path


def split_again() -> dict[str, tuple[str, int, str]]:
    home = Path("data")
    if not (home / "interim").exists():
        run_stage("ingest")
        run_stage("register")
    run_stage("split")
    return placed()


def test_a_test_picture_that_is_also_a_training_picture_is_dropped_or_kept_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for choice, split in (("drop", "excluded"), ("keep", "test")):
        monkeypatch.chdir(lay_out(tmp_path / choice, listed_set, duplicates=choice))
        found = split_again()["images/normal_0.png"]
        assert found[0] == split
        assert "with the pixels of a" in found[2]
        assert "1 images of val and test are in an earlier split" in capsys.readouterr().err


def test_pictures_that_choose_params_are_not_those_that_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for part in ("all", "development", "held_out"):
        make = partial(listed_set, tested=20)
        monkeypatch.chdir(lay_out(tmp_path / part, make, test_patients=part))
        found[part] = split_again()
    tested = {part: in_split(rows, "test") for part, rows in found.items()}
    assert tested["development"] | tested["held_out"] == tested["all"]
    assert not tested["development"] & tested["held_out"]
    assert 1 <= len(tested["development"]) < len(tested["held_out"])
    for split in ("train", "val"):
        assert len({frozenset(in_split(rows, split)) for rows in found.values()}) == 1


def in_split(rows: dict[str, tuple[str, int, str]], split: str) -> set[str]:
    return {name for name, row in rows.items() if row[0] == split}


def test_a_copy_that_is_kept_is_reported_and_does_not_stop_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, listed_set, duplicates="keep"))
    split_again()
    run_stage("preprocess")
    run_stage("validate")
    assert "warning: duplicates.no_identical_across_splits" in capsys.readouterr().err


def test_copies_of_a_training_picture_stay_on_one_side(listed: Path) -> None:
    for i in range(10):
        draw(RAW / f"images/train_{i:02}.png", 100)
    assert len({split_again()[f"images/train_{i:02}.png"][0] for i in range(10)}) == 1


def test_the_papers_leaking_protocol_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, listed_set, protocol="cmad"))
    run_stage("ingest")
    run_stage("register")
    with pytest.raises((SplitError, SystemExit)):
        run_stage("split")


def ingest(out: str = "out", **changes: object) -> list[RejectedRow]:
    params = load_params().ingest.model_copy(update=changes)
    ingest_with_lineage(RAW, Path(out), Path(out), params)
    return read_table(Path(out) / "rejected.csv", RejectedRow)


def test_files_that_are_no_usable_pictures_are_refused_by_name(listed: Path) -> None:
    images = RAW / "images"
    (images / "train_00.png").unlink()
    (images / "train_01.png").write_bytes(b"no picture")
    whole = (images / "train_02.png").read_bytes()
    (images / "train_02.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (40, 48), 7).save(images / "train_03.png")
    Image.fromarray(np.arange(1920, dtype=np.uint16).reshape(48, 40) * 30).save(
        images / "train_04.png"
    )
    draw(images / "stray.png", 3)
    refused = {str(row.subject): (row.code, row.found) for row in ingest()}
    assert {Path(name).name: code for name, (code, _) in refused.items()} == {
        "train_00.png": "unreadable",
        "train_01.png": "unreadable",
        "train_02.png": "pixels",
        "train_03.png": "pixels",
        "train_04.png": "pixels",
        "stray.png": "unsupported",
    }
    assert "I;16" in refused["images/train_04.png"][1]
    assert len(read_table(Path("out/instances.csv"), InstanceRow)) == 23


def test_a_picture_is_stored_upright(listed: Path) -> None:
    path = RAW / "images/train_00.png"
    picture = Image.open(path)
    picture.load()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # its top is at the right
    picture.save(path, exif=exif)
    assert not ingest()
    rows = read_table(Path("out/instances.csv"), InstanceRow)
    study_id = next(row.study_id for row in rows if row.file == "images/train_00.png")
    stored = Image.open(Path("out/volumes") / study_id / "image.png")
    upright = picture.transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(np.asarray(stored), np.asarray(upright))


def test_a_picture_of_several_frames_is_refused(listed: Path) -> None:
    path = RAW / "images/train_00.png"
    picture = Image.open(path)
    picture.load()
    picture.save(path, "TIFF", save_all=True, append_images=[picture.rotate(180)])
    (row,) = ingest()
    assert (row.subject, row.code) == ("images/train_00.png", "pixels")
    assert row.found.startswith("2 frame(s)")


def test_4096_pixels_are_the_longest_side(listed: Path) -> None:
    for name, side in (("train_00.png", 4096), ("train_01.png", 4097)):
        Image.linear_gradient("L").resize((side, 2)).save(RAW / "images" / name)
    assert [row.subject for row in ingest()] == ["images/train_01.png"]


def test_a_refused_picture_can_stop_ingest(listed: Path) -> None:
    (RAW / "images/train_00.png").unlink()
    with pytest.raises(InputsRefusedError, match=r"train_00\.png: unreadable"):
        ingest(on_reject="stop")


def test_a_set_without_one_class_is_refused(listed: Path) -> None:
    for path in (RAW / "images").glob("abnormal_*"):
        path.unlink()
    with pytest.raises(NothingUsableError, match="test abnormal"):
        ingest()


@pytest.mark.parametrize(
    ("file", "mask", "found"),
    [
        ("test/Ungood/label/000.png", Image.new("L", (40, 48)), "0 lesion pixels"),
        ("test/Ungood/label/000.png", Image.new("L", (41, 48), 255), "41 x 48"),
        ("test/good/label/000.png", Image.new("L", (40, 48), 1), "1920 lesion pixels"),
    ],
)
def test_a_mask_that_contradicts_its_picture_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, mask: Image.Image, found: str
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, bmad_set))
    mask.save(RAW / file)
    (row,) = ingest()
    assert (row.subject, row.code) == (file, "label")
    assert found in row.found


def test_an_abnormal_picture_that_lost_its_mask_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, bmad_set))
    (RAW / "test/Ungood/label/001.png").unlink()
    (row,) = ingest()
    assert (row.subject, row.code) == ("test/Ungood/img/001.png", "label")


def lesion_areas(folder: str = "out") -> dict[str, int]:
    """Of the pictures of test/Ungood, by file."""
    areas = {
        r.study_id: r.lesion_area_px
        for r in read_table(Path(folder) / "volumes/pictures.csv", PictureRow)
    }
    rows = read_table(Path(folder) / "instances.csv", InstanceRow)
    return {
        Path(row.file).name: areas[row.study_id]
        for row in rows
        if row.file.startswith("test/Ungood/img")
    }


def test_masks_in_a_folder_anomaly_mask_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, bmad_set))
    for folder in RAW.glob("*/*/label"):
        folder.rename(folder.with_name("anomaly_mask"))
    assert not ingest()
    assert set(lesion_areas().values()) == {144}


def test_of_two_folders_the_anomaly_mask_counts_and_the_other_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, bmad_set))
    place = RAW / "test/Ungood"
    (place / "label").rename(place / "anomaly_mask")
    organ = place / "label/000.png"
    organ.parent.mkdir()
    Image.new("L", (40, 48), 255).save(organ)
    assert [row.subject for row in ingest()] == ["test/Ungood/label/000.png"]
    assert lesion_areas()["000.png"] == 144


def test_every_class_of_a_mask_is_lesion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As BraTS has 1, 2 and 4: half of the largest would keep the last only."""
    monkeypatch.chdir(lay_out(tmp_path, bmad_set))
    mask = Image.new("L", (40, 48))
    for level, left in ((1, 0), (2, 10), (4, 20)):
        mask.paste(level, (left, 0, left + 10, 10))
    mask.save(RAW / "test/Ungood/label/000.png")
    assert not ingest()
    assert lesion_areas()["000.png"] == 300


def test_a_mask_with_soft_edges_is_lesion_where_it_is_brighter_than_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, bmad_set))
    ramp = Image.linear_gradient("L").resize((40, 48))
    ramp.save(RAW / "test/Ungood/label/000.png")
    expected = int((np.asarray(ramp) > int(np.asarray(ramp).max()) // 2).sum())
    assert not ingest()
    assert lesion_areas()["000.png"] == expected < 40 * 48 * 0.6


UNLABELLED = [f"unlabelled_{i}.png" for i in range(3)]


@pytest.mark.parametrize(
    ("place", "lists"),
    [
        ("train", UNLABELLED),
        ("train", {"0": UNLABELLED[:1], "1": UNLABELLED[1:]}),
        ("top", UNLABELLED),
    ],
)
def test_unlabelled_pictures_of_a_listing_are_left_out_and_named(
    listed: Path, capsys: pytest.CaptureFixture[str], place: str, lists: object
) -> None:
    for seed, name in enumerate(UNLABELLED):
        draw(RAW / "images" / name, 200 + seed)
    listing = json.loads((RAW / "data.json").read_text())
    (listing["train"] if place == "train" else listing)["unlabeled"] = lists
    (RAW / "data.json").write_text(json.dumps(listing))
    refused = ingest()
    assert [row.subject for row in refused] == [f"images/{name}" for name in UNLABELLED]
    assert {row.found for row in refused} == {"a picture that the listing calls unlabeled"}
    assert len(read_table(Path("out/instances.csv"), InstanceRow)) == 28
    assert "3 of them pictures without a label" in capsys.readouterr().err


def test_a_picture_that_is_labelled_and_unlabelled_is_refused(listed: Path) -> None:
    listing = json.loads((RAW / "data.json").read_text())
    listing["train"]["unlabeled"] = ["abnormal_0.png"]
    (RAW / "data.json").write_text(json.dumps(listing))
    with pytest.raises(DatasetError, match=r"'abnormal_0\.png' is listed twice"):
        ingest()


def test_two_masks_of_one_picture_are_refused_with_both_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lay_out(tmp_path, bmad_set))
    draw_mask(RAW / "test/Ungood/label/001.tif", lesion=True)
    with pytest.raises(DatasetError, match=r"label/001\.tif: .*label/001\.png is a mask too"):
        ingest()


def test_a_withdrawn_picture_is_left_out(listed: Path) -> None:
    ingest("before")
    rows = read_table(Path("before/instances.csv"), InstanceRow)
    patient = next(r.study_id for r in rows if r.file.endswith("train_07.png")).split("_")[0]
    WITHDRAWN.write_text(f"patient,date\n{patient},2026-01-01\n")
    assert not ingest("after")
    after = read_table(Path("after/instances.csv"), InstanceRow)
    assert {r.file for r in rows} - {r.file for r in after} == {"images/train_07.png"}


def test_the_same_pictures_give_the_same_bytes(listed: Path) -> None:
    def content(out: str) -> dict[str, bytes]:
        ingest(out)
        files = (path for path in Path(out).rglob("*") if path.is_file())
        return {str(path.relative_to(out)): path.read_bytes() for path in files}

    assert content("one") == content("two")


def test_verify_names_a_picture_that_was_changed_by_hand(listed: Path) -> None:
    run_stage("ingest")
    path = next((INGEST / "volumes").glob("*/image.png"))
    draw(path, 999)
    assert any(path.as_posix() in str(item) for item in verify([], with_cache=False).findings)
