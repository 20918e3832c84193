"""Benchmarks come in as their publishers lay them out, with the disease of each picture."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from petct_uad.core.errors import DatasetError
from petct_uad.core.files import read_table
from petct_uad.ingest.images.layout import find_layout
from petct_uad.ingest.images.reader import ImageReader
from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.run import ingest_dataset
from petct_uad.ingest.tables import InstanceRow, PictureRow, RejectedRow, StudyRow
from petct_uad.schema import load_params
from tests.func.images.conftest import ROOT, draw

PARAMS: IngestParams = load_params(ROOT / "params.yaml").ingest
COUNT = 12  # pictures of a class


def fill(folder: Path, count: int = COUNT, suffix: str = ".jpg") -> None:
    for i in range(count):
        seed = sum(f"{folder}/{i}".encode())
        draw(folder / f"{folder.name}-{i:02}{suffix}", seed + i, mode="RGB")


def table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def radiograph(path: Path, seed: int, *, inverted: bool = False, bits: int = 12) -> None:
    """Bright on the right; ``inverted`` as MONOCHROME1 has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(path)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = 40, 48
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits, bits - 1
    dataset.PixelRepresentation = 0
    ramp = np.linspace(0, 2**bits - 1, 48)[None, :] * np.ones((40, 1))
    noise = np.random.default_rng(seed).uniform(0, 40, ramp.shape)
    values = np.clip(ramp - noise, 0, 2**bits - 1).astype("<u2")
    dataset.PixelData = (2**bits - 1 - values if inverted else values).astype("<u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)


def oct_2017(raw: Path) -> None:
    for part in ("train", "test"):
        for kind in ("NORMAL", "CNV", "DME", "DRUSEN"):
            fill(raw / "OCT2017" / part / kind, suffix=".jpeg")


def br35h(raw: Path) -> None:
    fill(raw / "no", 30)
    fill(raw / "yes")


def lag(raw: Path) -> None:
    for kind in ("non_glaucoma", "suspicious_glaucoma"):
        fill(raw / kind / "image", 30)
        fill(raw / kind / "attention_map")


def hyper_kvasir(raw: Path) -> None:
    lower = raw / "labeled-images/lower-gi-tract"
    for kind in ("anatomical-landmarks/cecum", "quality-of-mucosal-views/bbps-2-3"):
        fill(lower / kind, 20)
    fill(lower / "pathological-findings/polyps")
    fill(lower / "pathological-findings/hemorrhoids")
    fill(lower / "quality-of-mucosal-views/impacted-stool")


def aptos(raw: Path) -> None:
    fill(raw / "train_images", 40, ".png")
    fill(raw / "test_images", 3, ".png")
    rows = [(f"train_images-{i:02}", 0 if i < 30 else 1 + i % 4) for i in range(40)]
    table(raw / "train.csv", ("id_code", "diagnosis"), rows)


def isic_2018(raw: Path) -> None:
    columns = ("image", "MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
    for part in ("Training", "Validation", "Test"):
        stem = f"ISIC2018_Task3_{part}"
        fill(raw / f"{stem}_Input", 16)
        rows = [
            (f"{stem}_Input-{i:02}", *(float(k == (1 if i < 10 else i % 7)) for k in range(7)))
            for i in range(16)
        ]
        table(raw / f"{stem}_GroundTruth/{stem}_GroundTruth.csv", columns, rows)


def rsna(raw: Path) -> None:
    rows = []
    for i in range(30):
        name = f"{i:08x}"
        radiograph(raw / f"stage_2_train_images/{name}.dcm", i, bits=8)
        kind = "Normal" if i < 20 else ("Lung Opacity", "No Lung Opacity / Not Normal")[i % 2]
        rows += [(name, kind)] * (1 + i % 2)  # a row per box
    table(raw / "stage_2_detailed_class_info.csv", ("patientId", "class"), rows)


def vindr(raw: Path) -> None:
    for part in ("train", "test"):
        rows: list[tuple[object, ...]] = []
        for i in range(16):
            name = f"{part}{i:04x}"
            radiograph(raw / part / f"{name}.dicom", i + 100 * len(part), inverted=i % 2 == 1)
            finds = ["No finding"] if i < 10 else ["Nodule/Mass", "Cardiomegaly"]
            rows += [(name, f"R{i}", found) for found in finds]
        table(raw / f"annotations/annotations_{part}.csv", ("image_id", "rad_id", "class_name"),
              rows)  # fmt: skip


def ingest(make: Callable[[Path], None], folder: Path) -> tuple[Path, dict[str, tuple[str, str]]]:
    """The tables, and split and lesion kind of every picture, by file."""
    raw, out = folder / "raw", folder / "out"
    out.mkdir(parents=True)
    make(raw)
    ingest_dataset(raw, out, PARAMS)
    files = {row.study_id: row.file for row in read_table(out / "instances.csv", InstanceRow)}
    kinds = {row.study_id: row.lesion_kind for row in read_table(out / "studies.csv", StudyRow)}
    pictures = read_table(out / "volumes/pictures.csv", PictureRow)
    for row in pictures:
        assert row.label == (kinds[row.study_id] != "normal")
    return out, {files[row.study_id]: (row.split, kinds[row.study_id]) for row in pictures}


DISEASES: dict[Callable[[Path], None], set[str]] = {
    oct_2017: {"CNV", "DME", "drusen"},
    br35h: {"tumour"},
    lag: {"suspicious glaucoma"},
    hyper_kvasir: {"polyps", "hemorrhoids"},
    aptos: {
        "mild retinopathy",
        "moderate retinopathy",
        "severe retinopathy",
        "proliferative retinopathy",
    },
    isic_2018: {
        "melanoma",
        "basal cell carcinoma",
        "actinic keratosis",
        "benign keratosis",
        "dermatofibroma",
        "vascular lesion",
    },
    rsna: {"Lung Opacity", "No Lung Opacity / Not Normal"},
    vindr: {"Cardiomegaly+Nodule/Mass"},
}


@pytest.mark.parametrize("make", DISEASES, ids=lambda make: make.__name__)
def test_each_benchmark_is_read_with_its_diseases(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    _, found = ingest(make, tmp_path)
    assert {kind for split, kind in found.values() if split == "train"} == {"normal"}
    tested = {kind for split, kind in found.values() if split == "test"}
    assert "normal" in tested
    assert {kind for _, kind in found.values()} - {"normal"} <= DISEASES[make]
    assert tested - {"normal"}
    assert make is isic_2018 or tested - {"normal"} == DISEASES[make]


def test_abnormal_training_pictures_are_left_out_by_name(tmp_path: Path) -> None:
    out, found = ingest(oct_2017, tmp_path)
    assert not any("train/CNV" in file for file in found)
    refused = read_table(out / "rejected.csv", RejectedRow)
    reasons = Counter(row.found for row in refused)
    assert reasons == {"an abnormal picture of a training split": 3 * COUNT}


def test_what_a_benchmark_has_besides_is_listed_and_not_used(tmp_path: Path) -> None:
    out, found = ingest(hyper_kvasir, tmp_path)
    assert not any("impacted-stool" in file for file in found)
    subjects = [row.subject for row in read_table(out / "rejected.csv", RejectedRow)]
    assert sum("impacted-stool" in subject for subject in subjects) == COUNT


def test_split_of_a_set_without_one_follows_from_the_names(tmp_path: Path) -> None:
    _, once = ingest(br35h, tmp_path / "once")
    _, again = ingest(br35h, tmp_path / "again")
    assert once == again
    normals = Counter(split for split, kind in once.values() if kind == "normal")
    assert normals["train"] > normals["test"] > 0


def test_radiographs_are_bright_where_the_body_is_dense(tmp_path: Path) -> None:
    out, _ = ingest(vindr, tmp_path)
    images = [np.asarray(Image.open(path)) for path in (out / "volumes").glob("*/image.png")]
    assert len(images) == 26
    for grey in images:
        assert grey[:, -8:].mean() > 200
        assert grey[:, :8].mean() < 50


def test_a_radiograph_that_is_cut_short_is_refused_by_name(tmp_path: Path) -> None:
    def broken(raw: Path) -> None:
        rsna(raw)
        path = raw / "stage_2_train_images/00000003.dcm"
        path.write_bytes(path.read_bytes()[:-1000])
        (raw / "stage_2_train_images/00000004.dcm").write_bytes(b"no DICOM")
        coloured = raw / "stage_2_train_images/00000005.dcm"
        dataset = pydicom.dcmread(coloured)
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        dataset.save_as(coloured)

    out, found = ingest(broken, tmp_path)
    rows = read_table(out / "rejected.csv", RejectedRow)
    refused = {Path(row.subject).name: row.code for row in rows if row.subject.endswith(".dcm")}
    assert set(refused) == {"00000003.dcm", "00000004.dcm", "00000005.dcm"}
    assert refused["00000004.dcm"] == "unreadable"
    assert len(found) == 27


@pytest.mark.parametrize(
    ("columns", "rows", "said"),
    [
        (("id", "diagnosis"), [("a", 0)], r"lacks the column\(s\) id_code"),
        (("id_code", "diagnosis"), [("../a", 0)], "is no name of a picture"),
        (("id_code", "diagnosis"), [("a", "")], "no class"),
    ],
    ids=["another column", "a path", "no class"],
)
def test_a_broken_table_of_classes_stops_by_its_line(
    tmp_path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]], said: str
) -> None:
    def broken(raw: Path) -> None:
        aptos(raw)
        table(raw / "train.csv", columns, rows)

    with pytest.raises(DatasetError, match=said):
        ingest(broken, tmp_path)


@pytest.mark.parametrize("names", [("no", "yes"), ("train",)])
def test_scans_in_folders_of_such_names_are_no_benchmark(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name in names:
        radiograph(tmp_path / name / "0001.dcm", 0)
    table(tmp_path / "train.csv", ("study", "group"), [("a", 1)])
    assert not ImageReader().recognises(tmp_path)


def test_a_listing_stays_what_it_was(tmp_path: Path) -> None:
    """A set with ``data.json`` or BMAD's folders is none of these, whatever else lies in it."""

    def listed(raw: Path) -> None:
        for i in range(6):
            draw(raw / f"images/{i}.png", i)
        (raw / "no").mkdir()
        (raw / "yes").mkdir()
        content = {"train": {"0": ["0.png", "1.png"]}, "test": {"0": ["2.png"], "1": ["3.png"]}}
        (raw / "data.json").write_text(json.dumps(content))

    _, found = ingest(listed, tmp_path)
    assert found["images/3.png"] == ("test", "abnormal")


# BMAD's six sets: the folders that hold masks, and the suffix of the pictures.
BMAD: dict[str, tuple[tuple[str, ...], str]] = {
    "Brain MRI": (("label",), "png"),
    "LiverCT": (("label", "anomaly_mask"), "png"),  # the first is of the organ
    "RESC": (("label",), "png"),
    "OCT 2017": ((), "jpeg"),
    "Chest X-ray": ((), "png"),
    "Camelyon16": ((), "png"),
}


@pytest.mark.parametrize("name", BMAD)
def test_each_set_of_bmad_is_read_as_it_is_laid_out(tmp_path: Path, name: str) -> None:
    masks, suffix = BMAD[name]
    folders = ["train/good", *(f"{x}/{y}" for x in ("valid", "test") for y in ("good", "Ungood"))]
    for folder in folders:
        inner = "img" if masks and folder != "train/good" else "."
        for kind in (inner, *(masks if inner == "img" else ())):
            path = tmp_path / folder / kind / f"001.{suffix if kind == inner else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    layout = find_layout(tmp_path)
    assert layout.others == tuple(f"{x}/label/001.png" for x in sorted(folders[1:]) if masks[1:])
    assert layout.masks == bool(masks)
    assert sorted((x.split, x.label) for x in layout.images) == [
        ("test", 0), ("test", 1), ("train", 0), ("val", 0), ("val", 1),
    ]  # fmt: skip
    (shown,) = (x for x in layout.images if (x.split, x.label) == ("test", 1))
    assert shown.mask == (f"test/Ungood/{masks[-1]}/001.png" if masks else "")
