"""Which files of an image benchmark are pictures, and what their publisher says of each.

Three kinds of layout are known. That of the medical anomaly detection papers (MedIAnomaly, Cai et
al. 2025): ``images/`` beside a ``data.json`` with ``{"train": {"0": [names]}, "test": {"0":
[names], "1": [names]}}``; sets of DDAD (Cai et al. 2022) list ``unlabeled`` pictures too, under
``train`` or at the top. That of BMAD (Bao et al. 2024): ``train/good``,
``valid/{good,Ungood}/{img,label}`` and ``test/{good,Ungood}/{img,label}``, where ``label`` or
``anomaly_mask`` holds masks; sets without masks have the pictures directly in ``good`` and
``Ungood``. And those of single benchmarks, whose folders or tables say a class of each picture:
:mod:`petct_uad.ingest.images.published`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from petct_uad.core.errors import DatasetError
from petct_uad.ingest.images.published import (
    NORMAL,
    Published,
    Split,
    find_published,
    read_published,
)

LISTING = "data.json"
IMAGES = "images"
_GOOD = "train/good"
_MASKS = ("anomaly_mask", "label")  # the first that is there; a label may be of organs
_FOLDERS: tuple[tuple[str, Split, int], ...] = (
    (_GOOD, "train", 0),
    ("valid/good", "val", 0),
    ("valid/Ungood", "val", 1),
    ("test/good", "test", 0),
    ("test/Ungood", "test", 1),
)


@dataclass(frozen=True, order=True)
class ListedImage:
    """An image that the layout names; it may be missing."""

    file: str  # POSIX path below the data set
    split: Split
    label: int
    mask: str = ""  # POSIX path of its mask; "" where there is none
    disease: str = ""  # what an abnormal one shows; "" where its publisher does not say

    @property
    def kind(self) -> str:
        """What it shows, in a word."""
        return self.disease or ("abnormal" if self.label else "normal")


@dataclass(frozen=True)
class Layout:
    """What a data set of pictures holds.

    Attributes:
        images: sorted by file.
        unlabelled: pictures that the listing calls so, which may be abnormal; sorted.
        others: files that are none of these, nor the mask of a picture, sorted.
        listings: the files that say so; none where the folders do.
        masks: do abnormal pictures have masks?
        abnormal_training: abnormal pictures that their publisher trains with, sorted.
    """

    images: tuple[ListedImage, ...]
    unlabelled: tuple[str, ...]
    others: tuple[str, ...]
    listings: tuple[str, ...]
    masks: bool
    abnormal_training: tuple[str, ...] = ()


def recognises(raw: Path) -> bool:
    """Has the data set one of the layouts?"""
    return _is_listed(raw) or (raw / _GOOD).is_dir() or find_published(raw) is not None


def find_layout(raw: Path) -> Layout:
    """The layout of a data set that has one.

    Raises:
        DatasetError: ``data.json`` is not as expected, names a file twice or one outside
            ``images``; two masks have one picture's name; or a table of classes is broken.
    """
    if _is_listed(raw):
        images, unlabelled = _listed(raw / LISTING)
        return _layout(raw, images, unlabelled, LISTING)
    if not (raw / _GOOD).is_dir() and (found := find_published(raw)):
        return _published(raw, read_published(*found, raw))
    return _layout(raw, [x for folder in _FOLDERS for x in _in_folder(raw, *folder)], [], "")


def _published(raw: Path, published: Published) -> Layout:
    images = [
        ListedImage(x.file, x.split, int(x.disease != NORMAL), disease=x.disease)
        for x in published.images
    ]
    known = {*published.listings, *published.abnormal_training, *(x.file for x in images)}
    return Layout(
        images=tuple(images),
        unlabelled=(),
        others=tuple(sorted(_files(raw) - known)),
        listings=published.listings,
        masks=False,
        abnormal_training=published.abnormal_training,
    )


def _files(raw: Path) -> set[str]:
    return {path.relative_to(raw).as_posix() for path in raw.rglob("*") if path.is_file()}


def _is_listed(raw: Path) -> bool:
    return (raw / LISTING).is_file() and (raw / IMAGES).is_dir()


def _layout(raw: Path, images: list[ListedImage], unlabelled: list[str], listing: str) -> Layout:
    known = {listing, *unlabelled, *(x.file for x in images), *(x.mask for x in images)}
    masks = any(image.mask for image in images if image.label)
    return Layout(
        images=tuple(sorted(images)),
        unlabelled=tuple(sorted(unlabelled)),
        others=tuple(sorted(_files(raw) - known)),
        listings=(listing,) if listing else (),
        masks=masks,
    )


class _Lists(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Unlabelled(_Lists):
    """Whose labels a paper may have used to mix them; nothing here reads which list is which."""

    normal: list[str] = Field(alias="0", default_factory=list)
    abnormal: list[str] = Field(alias="1", default_factory=list)


class _Train(_Lists):
    normal: list[str] = Field(alias="0", min_length=1)
    unlabeled: list[str] | _Unlabelled = Field(default_factory=list)


class _Test(_Lists):
    normal: list[str] = Field(alias="0", min_length=1)
    abnormal: list[str] = Field(alias="1", min_length=1)


class _Listing(_Lists):
    train: _Train
    test: _Test
    unlabeled: list[str] | _Unlabelled = Field(default_factory=list)

    @property
    def every_unlabelled(self) -> list[str]:
        parts = (self.train.unlabeled, self.unlabeled)
        return [x for part in parts for x in (part if isinstance(part, list) else
                                              (*part.normal, *part.abnormal))]  # fmt: skip


def _listed(path: Path) -> tuple[list[ListedImage], list[str]]:
    """The pictures that are used, and those without a label."""
    try:
        listing = _Listing.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        raise DatasetError(
            f'{path}: expected {{"train": {{"0": [...]}}, "test": {{"0": [...], "1": [...]}}}}'
            f', and "unlabeled": [...] if there is such a list: {error}'
        ) from error
    train, test, unlabelled = listing.train, listing.test, listing.every_unlabelled
    groups: tuple[tuple[list[str], Split, int], ...] = (
        (train.normal, "train", 0), (test.normal, "test", 0), (test.abnormal, "test", 1),
    )  # fmt: skip
    _check_names(path, [*(name for names, *_ in groups for name in names), *unlabelled])
    images = [ListedImage(f"{IMAGES}/{x}", split, k) for names, split, k in groups for x in names]
    return images, [f"{IMAGES}/{name}" for name in unlabelled]


def _check_names(path: Path, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if PurePath(name).name != name or "\0" in name:
            raise DatasetError(f"{path}: {name!r} is no plain file name in {IMAGES}/")
        if name in seen:
            raise DatasetError(f"{path}: {name!r} is listed twice; a picture has one split")
        seen.add(name)


def _in_folder(raw: Path, folder: str, split: Split, label: int) -> Iterator[ListedImage]:
    place = raw / folder
    images = place / "img" if (place / "img").is_dir() else place
    folders = [place / name for name in _MASKS if (place / name).is_dir()]
    masks = _masks(folders[0]) if folders else {}
    for path in sorted(images.iterdir()) if images.is_dir() else ():
        if path.is_file():
            mask = masks.get(path.stem)
            yield ListedImage(
                path.relative_to(raw).as_posix(),
                split,
                label,
                mask.relative_to(raw).as_posix() if mask else "",
            )


def _masks(folder: Path) -> dict[str, Path]:
    """Masks by the name that they share with their picture, whatever the suffix of each."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if (other := found.setdefault(path.stem, path)) is not path:
            raise DatasetError(f"{path}: {other} is a mask too; keep one mask of each picture")
    return found
