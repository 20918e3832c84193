"""What a study has: native volumes, the body and the motion; or a flat image and its mask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import SimpleITK as sitk

from petct_uad.core.errors import DatasetError
from petct_uad.core.patient_split import SPLIT_CSV
from petct_uad.ingest.tables import DRAWN_ON_CT, DRAWN_ON_PET, PICTURES_CSV, VOLUMES
from petct_uad.volumes.boxes import Box
from petct_uad.volumes.motion.transforms import Transform, read_transform
from petct_uad.volumes.resample import add_moved, native_slices


@dataclass(frozen=True)
class StudyFolder:
    """One study's files, and which of them there are: a CT and a PET, or one flat image.

    Attributes:
        native: ``{ct,pet,label}.nii.gz`` of ingest, or ``{image,mask}.png``; label and mask may be
            absent.
        registered: ``{body.nii.gz,transform.json}`` of register; a flat image has none.
    """

    native: Path
    registered: Path

    @property
    def flat_image(self) -> Path | None:
        """The image where the study is a flat one; None where it has volumes."""
        return _there(self.native / "image.png")

    @property
    def flat_mask(self) -> Path | None:
        """The lesion of a flat image, where it has a mask."""
        return _there(self.native / "mask.png")

    @property
    def ct(self) -> Path:
        """The CT."""
        return self.native / "ct.nii.gz"

    @property
    def pet(self) -> Path:
        """The PET."""
        return self.native / "pet.nii.gz"

    @property
    def label(self) -> Path | None:
        """The lesion of the volumes, where the study has a label."""
        return _there(self.native / "label.nii.gz")

    @property
    def label_sources(self) -> tuple[Path, ...]:
        """Every file that the lesion on the CT is made from."""
        # What was drawn on the PET is moved with it.
        return (self.body, self.label, self.transform) if self.label else (self.body,)

    @property
    def body(self) -> Path:
        """The body's mask."""
        return self.registered / "body.nii.gz"

    @property
    def transform(self) -> Path:
        """Where the PET lies on the CT."""
        return self.registered / "transform.json"

    @property
    def sources(self) -> tuple[Path, ...]:
        """Every file that the study's slices are made from."""
        marks = (self.flat_mask,) if self.flat_image else self.label_sources
        return tuple(sorted({path for path in (*self.image_sources, *marks) if path}))

    @property
    def image_sources(self) -> tuple[Path, ...]:
        """Those of them that say nothing of a lesion."""
        if self.flat_image:
            return (self.flat_image,)
        return (self.body, self.ct, self.pet, self.transform)


@dataclass(frozen=True)
class VolumeFolders:
    """Where the studies lie.

    Attributes:
        native: holds a folder per study, of ingest.
        registered: holds a folder per registered study, of register.
    """

    native: Path
    registered: Path

    @classmethod
    def of(cls, interim: Path) -> Self:
        """Those below ``data/interim/<dataset>``."""
        return cls(interim / "ingest" / VOLUMES, interim / "register" / VOLUMES)

    def study(self, study_id: str) -> StudyFolder:
        """One study's files."""
        return StudyFolder(self.native / study_id, self.registered / study_id)

    @property
    def assigned(self) -> Path | None:
        """The table of each study's split and label, where their publisher has assigned them."""
        return _there(self.native / PICTURES_CSV)

    @property
    def patient_split(self) -> Path | None:
        """The table of each patient's split, where the data set brings one."""
        return _there(self.native / SPLIT_CSV)

    def label_sources(self, study_ids: Iterable[str]) -> tuple[Path, ...]:
        """Every file that these studies' labels come from."""
        if self.assigned:
            return (self.assigned,)
        studies = [self.study(study_id) for study_id in study_ids]
        return tuple(path for study in studies for path in study.label_sources)


@dataclass(frozen=True)
class StudyVolumes:
    """One study's volumes, as SimpleITK images (x, y, z).

    Attributes:
        ct: float32 HU on its native grid, reduced to the slices of ``body``.
        pet: float32 SUV on its native grid.
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


def read_study(folder: StudyFolder) -> StudyVolumes:
    """Read all that the slices of a study with volumes are made from.

    Raises:
        DatasetError: a volume is missing or unreadable, or there is no body.
        RegistrationError: the transform is none, or the CT is another than the one registered.
    """
    body = read_mask(folder.body)
    slices = native_slices(read_native(folder.ct), body)
    lesion = read_lesion(folder, body)
    if lesion is None:
        lesion = sitk.Image(slices.GetSize(), sitk.sitkUInt8)
        lesion.CopyInformation(slices)
    return StudyVolumes(
        ct=slices,
        pet=read_native(folder.pet),
        lesion=lesion,
        body=_bounded(body, folder.native.name),
        transform=read_transform(folder.transform),
    )


def read_lesion(folder: StudyFolder, body: sitk.Image) -> sitk.Image | None:
    """The native lesion mask on the slices of ``body``; None for a study without a label object.

    What was drawn on the PET takes the PET's motion; what was drawn on the CT stays.

    Raises:
        DatasetError: the label cannot be read.
        RegistrationError: its slices are not those that were registered, or the transform is none.
    """
    if folder.label is None:
        return None
    return native_slices(read_moved_label(folder.label, read_transform(folder.transform)), body)


def read_moved_label(label: Path, motion: Transform) -> sitk.Image:
    """A lesion mask on its whole native grid, where the PET has been moved: uint8, 0 or 1.

    Args:
        label: ``label.nii.gz`` of ingest, whose voxels say on which images each was drawn.
        motion: maps a point of the CT frame to the PET frame.

    Raises:
        DatasetError: the label cannot be read.
    """
    drawn = _read(label, sitk.sitkUInt8)
    box = Box.occupied(drawn, (1, 1, 1))
    if not box:
        return drawn
    lesion = box.of(drawn)
    on_ct = box.put(sitk.And(lesion, DRAWN_ON_CT) > 0, drawn)
    on_pet = sitk.And(lesion, DRAWN_ON_PET) > 0
    moves = sitk.GetArrayViewFromImage(on_pet).any()
    return add_moved(on_pet, on_ct, motion) if moves else on_ct


def read_mask(path: Path) -> sitk.Image:
    """A mask as uint8, 0 or 1.

    Raises:
        DatasetError: the file is missing or unreadable.
    """
    return _read(path, sitk.sitkUInt8) > 0


def read_native(path: Path) -> sitk.Image:
    """A CT or a PET on its native grid: float32, HU or SUV.

    Raises:
        DatasetError: the file is missing or unreadable.
    """
    return _read(path, sitk.sitkFloat32)


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None


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
    box = Box.occupied(body, (0, 0, 0))
    if not box:
        raise DatasetError(
            f"{study_id}: the registered CT holds no body; lower register.body_threshold_hu, or "
            "look at reports/registration for the study"
        )
    (x, y, _), (width, height, _) = box.first, box.size
    return body[x : x + width, y : y + height, :]
