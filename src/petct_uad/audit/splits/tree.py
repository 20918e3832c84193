"""Splits as folders: train/, val/ and test/ anywhere in a tree, or nnU-Net's imagesTr, imagesTs."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from petct_uad.audit.splits.listing import Entry, Listing, listing_of, printable, split_within
from petct_uad.core.files import sha256_file

# Below it, two images may be alike by chance: a black slice, a mask of zeros.
_SMALLEST_BYTES = 4096
_MASKS = ("label", "mask", "ground_truth", "annotation", "seg")


def read_tree(root: Path) -> Listing:
    """A split from a folder: of each file the first folder on its way that names a split says it.

    Files of one size are hashed, so that a copy under another name is found. Links are not
    followed, and hidden files not read.

    Raises:
        SplitFileError: no two folders name a split.
    """
    files = tuple(_files(root))
    chosen = [(path, split) for path in files if (split := _split_of(path))]
    contents = dict(_contents(root, [path for path, _ in chosen]))
    entries = [Entry(path.as_posix(), split, content=contents.get(path)) for path, split in chosen]
    folders = sorted({f"{split} from {_folder(path)!r}" for path, split in chosen})
    said = [", ".join(folders[:12])]
    if left_out := len(files) - len(chosen):
        said.append(f"{left_out} files lie in no folder that names a split, and are not read")
    return listing_of(root, "a folder per split", entries, said)


def _files(root: Path) -> Iterator[Path]:
    """Every file that is not hidden, relative to the root."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(x for x in folders if not x.startswith("."))
        within = Path(parent).relative_to(root)
        yield from (within / name for name in sorted(names) if not name.startswith("."))


def _split_of(path: Path) -> str | None:
    return next(filter(None, map(split_within, path.parts[:-1])), None)


def _folder(path: Path) -> str:
    return printable(next(part for part in path.parts[:-1] if split_within(part)))


def _contents(root: Path, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    sizes: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        if not any(word in part.lower() for part in path.parts for word in _MASKS):
            sizes[(root / path).lstat().st_size].append(path)
    for size, alike in sizes.items():
        if size >= _SMALLEST_BYTES and len(alike) > 1:
            yield from ((x, sha256_file(root / x)) for x in alike if (root / x).is_file())
