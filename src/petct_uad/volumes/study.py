"""What split and preprocess read of one study: native volumes, the body, and the motion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from petct_uad.core.errors import DatasetError
from petct_uad.volumes.motion.transforms import Transform, read_transform
from petct_uad.volumes.resample import native_slices


@dataclass(frozen=True)
class VolumeFolders:
    """Where the volumes of all studies lie.

    Attributes:
        native: holds ``<study_id>/{ct,pet,label}.nii.gz`` of ingest; the label may be absent. Of a
            data set of pictures ``pictures.csv`` and ``<study_id>/{image,mask}.png``; the mask may
            be absent.
        registered: holds ``<study_id>/{body.nii.gz,transform.json}`` of register.
    """

    native: Path
    registered: Path

    @property
    def pictures(self) -> Path:
        """The table of a data set of pictures; no other has one."""
        return self.native / "pictures.csv"

    def picture(self, study_id: str) -> Path | None:
        """The picture, where the study is one."""
        path = self.native / study_id / "image.png"
        return path if path.is_file() else None

    def mask(self, study_id: str) -> Path | None:
        """The picture's mask, where it has one."""
        path = self.native / study_id / "mask.png"
        return path if path.is_file() else None

    def sources(self, study_id: str) -> tuple[Path, ...]:
        """Every file that a study's slices are made from."""
        if picture := self.picture(study_id):
            files = [picture, self.mask(study_id)]
        else:
            files = [*self.images(study_id), self.body(study_id), self.label(study_id)]
        return tuple(sorted(path for path in files if path))

    def label_sources(self, study_ids: Iterable[str]) -> tuple[Path, ...]:
        """Every file that these studies' labels come from."""
        if self.pictures.is_file():
            return (self.pictures,)
        ids = list(study_ids)
        labels = (self.label(study_id) for study_id in ids)
        return (*map(self.body, ids), *(path for path in labels if path))

    def body(self, study_id: str) -> Path:
        """The body's mask."""
        return self.registered / study_id / "body.nii.gz"

    def label(self, study_id: str) -> Path | None:
        """The label, where the study has one."""
        path = self.native / study_id / "label.nii.gz"
        return path if path.is_file() else None

    def images(self, study_id: str) -> tuple[Path, ...]:
        """CT, PET and transform."""
        native = self.native / study_id
        transform = self.registered / study_id / "transform.json"
        return native / "ct.nii.gz", native / "pet.nii.gz", transform


@dataclass(frozen=True)
class Study:
    """One study's volumes, as SimpleITK images (x, y, z).

    Attributes:
        ct: float32 HU on its native grid, reduced to the slices of ``body``.
        pet: float32 SUVbw on its native grid.
        lesion: uint8, 1 inside a lesion, on a native grid with the slices of ``body``.
        body: uint8, 1 inside the body, on the grid of register cut to the body's bounding box
            in-plane.
        transform: maps a point of the CT frame to the PET frame.
    """

    ct: sitk.Image
    pet: sitk.Image
    lesion: sitk.Image
    body: sitk.Image
    transform: Transform


def read_study(folders: VolumeFolders, study_id: str) -> Study:
    """Read all that a study's slices are made from.

    Raises:
        DatasetError: a volume is missing or unreadable, or there is no body.
        RegistrationError: the transform is none, or the CT is another than the one registered.
    """
    ct, pet, transform = folders.images(study_id)
    body = read_mask(folders.body(study_id))
    slices = native_slices(_read(ct, sitk.sitkFloat32), body)
    lesion = read_lesion(folders, study_id, body)
    if lesion is None:
        lesion = sitk.Image(slices.GetSize(), sitk.sitkUInt8)
        lesion.CopyInformation(slices)
    return Study(
        ct=slices,
        pet=_read(pet, sitk.sitkFloat32),
        lesion=lesion,
        body=_bounded(body, study_id),
        transform=read_transform(transform),
    )


def read_lesion(folders: VolumeFolders, study_id: str, body: sitk.Image) -> sitk.Image | None:
    """The native lesion mask on the slices of ``body``; None for a study without a label object.

    Raises:
        DatasetError: the label cannot be read.
        RegistrationError: its slices are not those that were registered.
    """
    path = folders.label(study_id)
    return None if path is None else native_slices(read_mask(path), body)


def read_mask(path: Path) -> sitk.Image:
    """A mask as uint8, 0 or 1.

    Raises:
        DatasetError: the file is missing or unreadable.
    """
    return _read(path, sitk.sitkUInt8) > 0


def _read(path: Path, pixel_type: int) -> sitk.Image:
    try:
        return sitk.ReadImage(path, pixel_type)
    except RuntimeError as error:
        cause = str(error).strip().splitlines()[-1]
        raise DatasetError(
            f"{path} cannot be read ({cause}); run `dvc repro preprocess`, which makes it again"
        ) from error


def _bounded(body: sitk.Image, study_id: str) -> sitk.Image:
    """The body's bounding box over all slices."""
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(body)
    if not statistics.HasLabel(1):
        raise DatasetError(
            f"{study_id}: the registered CT holds no body; lower register.body_threshold_hu, or "
            "look at reports/registration for the study"
        )
    x, y, _, width, height, _ = statistics.GetBoundingBox(1)
    return body[x : x + width, y : y + height, :]
