"""Splits as folders: train/, val/ and test/ anywhere in a tree, or nnU-Net's imagesTr, imagesTs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from petct_uad.audit.splits.listing import Entry, Listing, listing_of, split_within, terminal_text
from petct_uad.core.files import sha256_file
from petct_uad.ingest.run import whose_file

# Below it, two images may be alike by chance: a black slice, a mask of zeros.
_SMALLEST_BYTES = 4096
_DOCUMENTS = (
    ".csv",
    ".html",
    ".json",
    ".log",
    ".md",
    ".pdf",
    ".txt",
    ".tsv",
    ".xml",
    ".yaml",
    ".yml",
)
_MASKS = ("label", "mask", "ground_truth", "annotation", "seg")


def read_tree(root: Path) -> Listing:
    """A split from a folder: of each file the first folder on its way that names a split says it.

    A DICOM file says itself whose it is. Files of one size are hashed, so that a copy under another
    name is found. Linked folders are not followed; hidden files and documents are not read.

    Raises:
        SplitFileError: no two folders name a split.
    """
    files = tuple(_files(root))
    chosen = [(path, split) for path in files if (split := _split_of(path))]
    contents = dict(_contents(root, [path for path, _ in chosen]))
    entries = [
        Entry(path.as_posix(), split, "", whose.patient, whose.study, contents.get(path))
        for path, split in chosen
        for whose in (whose_file(root / path),)
    ]
    folders = sorted({f"{split} from {_folder(path)!r}" for path, split in chosen})
    said = [", ".join(folders[:12])]
    if dicom := sum(x.patient is not None for x in entries):
        said.append(f"PatientID (0010,0020) of {dicom} DICOM files")
    if left_out := len(files) - len(chosen):
        said.append(f"{left_out} files lie in no folder that names a split, and are not read")
    if links := _links(root):
        said.append(f"{links} linked folders are not followed, and not read")
    return listing_of(root, "a folder per split", entries, said)


def _files(root: Path) -> Iterator[Path]:
    """Every file that is not hidden, relative to the root; to open a pipe would wait for ever."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(x for x in folders if not x.startswith("."))
        within = Path(parent).relative_to(root)
        seen = (within / name for name in sorted(names) if not name.startswith("."))
        files = (path for path in seen if path.suffix.lower() not in _DOCUMENTS)
        yield from (path for path in files if (root / path).is_file())


def _links(root: Path) -> int:
    walk = ((Path(parent), folders) for parent, folders, _ in os.walk(root))
    return sum((parent / folder).is_symlink() for parent, folders in walk for folder in folders)


def _split_of(path: Path) -> str | None:
    return next(filter(None, map(split_within, path.parts[:-1])), None)


def _folder(path: Path) -> str:
    return terminal_text(next(part for part in path.parts[:-1] if split_within(part)))


def _contents(root: Path, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if not any(word in part.lower() for part in path.parts for word in _MASKS):
            sizes[(root / path).stat().st_size].append(path)
    for size, alike in sizes.items():
        if size >= _SMALLEST_BYTES and len(alike) > 1:
            yield from ((x, sha256_file(root / x)) for x in alike)
