"""Image benchmarks whose publishers name a class of each picture: by its folder, or in a table.

A set is an entry of :data:`SETS`: where its pictures lie, which class is normal, and what the
others are called. Anomaly detection trains on normal pictures only, so that abnormal ones of a
training split are left out, and named. Where a publisher has no test split, this is ours: of normal
pictures those whose name's SHA-256 lies in the lower 60 % train, and all others test.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from petct_uad.core.errors import DatasetError
from petct_uad.core.patient_split import share_of

Split = Literal["train", "val", "test"]

NORMAL = "normal"
_TRAIN_SHARE = 0.6
_MOST_ROWS = 1_000_000
_DICOM = frozenset({".dcm", ".dicom"})
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}) | _DICOM


@dataclass(frozen=True)
class ClassFolder:
    """Pictures of one class.

    Attributes:
        folder: below the set.
        disease: what they show; ``normal`` where nothing.
        split: None where the publisher has none.
    """

    folder: str
    disease: str
    split: Split | None = None


@dataclass(frozen=True)
class ClassTable:
    """A CSV with the class of each picture.

    Attributes:
        file: the table, below the set.
        folder: of the pictures, whose names without suffix are in the table.
        name_column: of the names; one picture may have several rows.
        class_column: of the class; "" where each class has a column of its own, with 1 for yes.
        diseases: by class as the table has it, ``normal`` among them; a class that is not here is a
            disease under its own name, where the table has one column for all.
        split: None where the publisher has none.
    """

    file: str
    folder: str
    name_column: str
    class_column: str
    diseases: Mapping[str, str]
    split: Split | None = None


@dataclass(frozen=True)
class PublishedSet:
    """One benchmark as its publisher keeps it.

    Attributes:
        name: for people.
        marks: folders and files by all of which it is known.
        folders: its classes, where folders say them; those that are absent have no pictures.
        tables: its classes, where tables do; likewise.
        by_columns: must the first table have its columns, since the marks say too little?
    """

    name: str
    marks: tuple[str, ...]
    folders: tuple[ClassFolder, ...] = ()
    tables: tuple[ClassTable, ...] = ()
    by_columns: bool = False


@dataclass(frozen=True, order=True)
class PublishedImage:
    """One picture, by its POSIX path below the set."""

    file: str
    disease: str
    split: Split


@dataclass(frozen=True)
class Published:
    """What a set holds: pictures for use, abnormal ones for training, and the tables; sorted."""

    images: tuple[PublishedImage, ...]
    abnormal_training: tuple[str, ...]
    listings: tuple[str, ...]


def _by_split(splits: Mapping[str, Split], classes: Mapping[str, str]) -> tuple[ClassFolder, ...]:
    return tuple(
        ClassFolder(f"{folder}/{name}", disease, split)
        for folder, split in splits.items()
        for name, disease in classes.items()
    )


def _below(folder: str, *classes: str) -> tuple[ClassFolder, ...]:
    return tuple(ClassFolder(f"{folder}/{name}", name) for name in classes)


def _isic(part: str, split: Split) -> ClassTable:
    stem = f"ISIC2018_Task3_{part}"
    return ClassTable(
        f"{stem}_GroundTruth/{stem}_GroundTruth.csv", f"{stem}_Input", "image", "", _SKIN, split
    )


def _vindr(file: str, folder: str, split: Split | None) -> ClassTable:
    chest = MappingProxyType({"No finding": NORMAL})
    return ClassTable(file, folder, "image_id", "class_name", chest, split)


_SKIN = MappingProxyType(
    {
        "NV": NORMAL,
        "MEL": "melanoma",
        "BCC": "basal cell carcinoma",
        "AKIEC": "actinic keratosis",
        "BKL": "benign keratosis",
        "DF": "dermatofibroma",
        "VASC": "vascular lesion",
    }
)
_GUT = "labeled-images/lower-gi-tract"
SETS = (
    PublishedSet(
        "OCT 2017 (Kermany et al. 2018)",
        ("train/NORMAL", "train/CNV", "test/NORMAL"),
        _by_split(
            {"train": "train", "val": "val", "test": "test"},
            {"NORMAL": NORMAL, "CNV": "CNV", "DME": "DME", "DRUSEN": "drusen"},
        ),
    ),
    PublishedSet(
        "Br35H (Hamada 2020)",
        ("no", "yes"),
        (ClassFolder("no", NORMAL), ClassFolder("yes", "tumour")),
    ),
    PublishedSet(
        "LAG (Li et al. 2019)",
        ("non_glaucoma/image", "suspicious_glaucoma/image"),
        (
            ClassFolder("non_glaucoma/image", NORMAL),
            ClassFolder("suspicious_glaucoma/image", "suspicious glaucoma"),
        ),
    ),
    PublishedSet(
        # Normal are clean mucosa and landmarks, as Tian et al. (2021) take them.
        "Hyper-Kvasir (Borgli et al. 2020)",
        (f"{_GUT}/anatomical-landmarks", f"{_GUT}/pathological-findings"),
        (
            ClassFolder(f"{_GUT}/anatomical-landmarks/cecum", NORMAL),
            ClassFolder(f"{_GUT}/anatomical-landmarks/ileum", NORMAL),
            ClassFolder(f"{_GUT}/quality-of-mucosal-views/bbps-2-3", NORMAL),
            *_below(
                f"{_GUT}/pathological-findings",
                "hemorrhoids",
                "polyps",
                "ulcerative-colitis-grade-0-1",
                "ulcerative-colitis-grade-1",
                "ulcerative-colitis-grade-1-2",
                "ulcerative-colitis-grade-2",
                "ulcerative-colitis-grade-2-3",
                "ulcerative-colitis-grade-3",
            ),
        ),
    ),
    PublishedSet(
        "APTOS 2019",
        ("train.csv", "train_images"),
        tables=(
            ClassTable(
                "train.csv",
                "train_images",
                "id_code",
                "diagnosis",
                MappingProxyType(
                    {
                        "0": NORMAL,
                        "1": "mild retinopathy",
                        "2": "moderate retinopathy",
                        "3": "severe retinopathy",
                        "4": "proliferative retinopathy",
                    }
                ),
            ),
        ),
    ),
    PublishedSet(
        # A naevus is normal, as in the anomaly detection papers.
        "ISIC 2018, task 3",
        ("ISIC2018_Task3_Training_GroundTruth", "ISIC2018_Task3_Training_Input"),
        tables=(_isic("Training", "train"), _isic("Validation", "val"), _isic("Test", "test")),
    ),
    PublishedSet(
        "RSNA pneumonia (2018)",
        ("stage_2_detailed_class_info.csv", "stage_2_train_images"),
        tables=(
            ClassTable(
                "stage_2_detailed_class_info.csv",
                "stage_2_train_images",
                "patientId",
                "class",
                MappingProxyType({"Normal": NORMAL}),
            ),
        ),
    ),
    PublishedSet(
        "VinDr-CXR (Nguyen et al. 2022)",
        ("annotations/annotations_train.csv", "train"),
        tables=(
            _vindr("annotations/annotations_train.csv", "train", "train"),
            _vindr("annotations/annotations_test.csv", "test", "test"),
        ),
    ),
    PublishedSet(
        "VinDr-CXR as Kaggle has it, whose test split has no classes",
        ("train.csv", "train"),
        tables=(_vindr("train.csv", "train", None),),
        by_columns=True,
    ),
)


def find_published(raw: Path) -> tuple[PublishedSet, Path] | None:
    """The set that a folder, or the only folder in it, holds; None where it is none of them."""
    for root in (raw, *_only_folder(raw)):
        for known in SETS:
            if all((root / mark).exists() for mark in known.marks) and _is_it(known, root):
                return known, root
    return None


def _is_it(known: PublishedSet, root: Path) -> bool:
    """Marks are plain words, which folders of scans may have too: are there pictures, or names?"""
    if known.by_columns:
        table = known.tables[0]
        with suppress(OSError, UnicodeDecodeError, csv.Error):
            return _wanted(table) <= set(_header(root / table.file))
        return False
    pictures = (path for place in known.folders for path in _pictures(root / place.folder))
    return not known.folders or any(path.suffix.lower() not in _DICOM for path in pictures)


def _header(path: Path) -> Sequence[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return csv.DictReader(file).fieldnames or ()


def _wanted(table: ClassTable) -> set[str]:
    return {table.name_column, table.class_column} - {""}


def read_published(known: PublishedSet, root: Path, raw: Path) -> Published:
    """The pictures of a set, each with its split and disease.

    Raises:
        DatasetError: a table lacks a column, or a picture has no class or two that differ in being
            normal.
    """
    found = [*_of_folders(known, root), *_of_tables(known, root)]
    if not any(split == "test" for _, _, split in found):
        found = [(path, disease, _own_split(path, disease)) for path, disease, _ in found]
    below = [(path.relative_to(raw).as_posix(), disease, split) for path, disease, split in found]
    images = [PublishedImage(file, disease, split or "train") for file, disease, split in below]
    unusable = {x for x in images if x.split == "train" and x.disease != NORMAL}
    tables = [root / table.file for table in known.tables]
    return Published(
        images=tuple(sorted(set(images) - unusable)),
        abnormal_training=tuple(sorted(x.file for x in unusable)),
        listings=tuple(p.relative_to(raw).as_posix() for p in tables if p.is_file()),
    )


_Found = tuple[Path, str, Split | None]


def _only_folder(raw: Path) -> list[Path]:
    inside = list(raw.iterdir()) if raw.is_dir() else []
    return inside if len(inside) == 1 and inside[0].is_dir() else []


def _of_folders(known: PublishedSet, root: Path) -> Iterator[_Found]:
    for place in known.folders:
        for path in _pictures(root / place.folder):
            yield path, place.disease, place.split


def _of_tables(known: PublishedSet, root: Path) -> Iterator[_Found]:
    for table in known.tables:
        if (root / table.file).is_file():
            yield from _of_table(table, root)


def _of_table(table: ClassTable, root: Path) -> Iterator[_Found]:
    """Every picture of the table; one that is not there is refused when it is read."""
    files = {path.stem: path for path in _pictures(root / table.folder)}
    classes: dict[str, set[str]] = {}
    for name, disease in _rows(table, root / table.file):
        classes.setdefault(name, set()).add(disease)
    for name, diseases in sorted(classes.items()):
        path = files.get(name, root / table.folder / name)
        abnormal = diseases - {NORMAL}
        yield path, "+".join(sorted(abnormal)) or NORMAL, table.split


def _rows(table: ClassTable, path: Path) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if missing := _wanted(table) - set(reader.fieldnames or ()):
                raise DatasetError(
                    f"{path}: lacks the column(s) {', '.join(sorted(missing))}; found "
                    f"{', '.join(reader.fieldnames or ()) or 'none'}. Restore it from its "
                    "publisher."
                )
            for number, row in enumerate(reader, start=2):
                if number > _MOST_ROWS:
                    raise DatasetError(f"{path}: more than {_MOST_ROWS} rows")
                yield (
                    _name(row[table.name_column], path, number),
                    _disease(table, row, path, number),
                )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a CSV in UTF-8 ({error})") from error


def _name(name: str | None, path: Path, number: int) -> str:
    if not name or Path(name).name != name or "\0" in name:
        raise DatasetError(f"{path}, line {number}: {name!r} is no name of a picture")
    return name


def _disease(table: ClassTable, row: Mapping[str, str], path: Path, number: int) -> str:
    if table.class_column:
        found = row[table.class_column]
        return table.diseases.get(found, found) if found else _no_class(path, number)
    told = [name for column, name in table.diseases.items() if _is_yes(row.get(column))]
    return told[0] if len(told) == 1 else _no_class(path, number)


def _is_yes(value: str | None) -> bool:
    return (value or "").strip() in {"1", "1.0"}


def _no_class(path: Path, number: int) -> str:
    raise DatasetError(
        f"{path}, line {number}: no class, or several where there can be one. Restore it from its "
        "publisher."
    )


def _pictures(folder: Path) -> list[Path]:
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in inside if path.suffix.lower() in _SUFFIXES and path.is_file()]


def _own_split(path: Path, disease: str) -> Split:
    if disease != NORMAL:
        return "test"
    return "train" if share_of(path.name) < _TRAIN_SHARE else "test"
