"""The split that a publisher has assigned, less what would leak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from petct_uad.core.console import console
from petct_uad.core.errors import SplitError
from petct_uad.ingest.tables import PictureRow, StudyRow
from petct_uad.slices.tables import SliceRow, slice_id_of
from petct_uad.split.params import SplitParams

_ORDER = {"train": 0, "val": 1, "test": 2}


def keep_assigned(
    images: Sequence[PictureRow], studies: Sequence[StudyRow], params: SplitParams
) -> list[SliceRow]:
    """One row per image, in the split that its publisher gives it, sorted by slice_id.

    Without validation normals of its own, a set gives up ``val_fraction`` of its distinct training
    pictures for them, by ``seed``; copies of one picture stay together. Abnormal validation
    pictures are excluded, since nothing may be chosen on them. A picture of val or test whose
    pixels are those of one that was seen before it is dropped, or kept and named, as
    ``duplicates`` says.

    Raises:
        SplitError: the protocol is ``cmad``, which divides slices of patients.
    """
    if params.protocol != "patient":
        raise SplitError(
            f"split.protocol: {params.protocol} divides the slices of patients; pictures have a "
            "split of their own and no patients. Set split.protocol: patient."
        )
    placed = _hold_out(images, params)
    first = {x.pixels_sha256: x.split for x in sorted(placed, key=lambda x: -_ORDER[x.split])}
    patients = {study.study_id: study for study in studies}
    rows = [_place(x, patients[x.study_id], first[x.pixels_sha256], params) for x in placed]
    repeated = sum(first[x.pixels_sha256] != x.split for x in placed)
    console.print(f"{repeated} images of val and test are in an earlier split too")
    return sorted(rows, key=lambda row: row.slice_id)


def _hold_out(images: Sequence[PictureRow], params: SplitParams) -> list[PictureRow]:
    """Move a seeded fraction of the distinct training pictures to an empty validation split."""
    if any((image.split, image.label) == ("val", 0) for image in images):
        return list(images)
    distinct = sorted({x.pixels_sha256 for x in images if x.split == "train"})
    count = max(round(params.val_fraction * len(distinct)), 1)
    if count >= len(distinct):
        raise SplitError(
            f"{len(distinct)} distinct training picture(s) cannot give up {count} for validation; "
            "add pictures, or lower split.val_fraction"
        )
    order = np.random.default_rng(params.seed).permutation(len(distinct))
    held_out = {distinct[i] for i in order[:count]}
    return [
        replace(x, split="val") if x.split == "train" and x.pixels_sha256 in held_out else x
        for x in images
    ]


def _place(image: PictureRow, study: StudyRow, first: str, params: SplitParams) -> SliceRow:
    split, reason = image.split, "abnormal" if image.label else "normal"
    if split == "val" and image.label:
        split, reason = "excluded", "abnormal validation picture: nothing is chosen on these"
    elif first != split:
        reason = f"{reason}, with the pixels of a {first} picture"
        split = "excluded" if params.duplicates == "drop" else split
    return SliceRow(
        slice_id=slice_id_of(study.study_id, 0),
        study_id=study.study_id,
        patient=study.patient,
        scanner=study.scanner,
        slice_index=0,
        z_mm=0.0,
        position=0.0,
        lesion_area_mm2=float(image.lesion_area_px),
        label=image.label,
        split=split,
        reason=reason,
    )
