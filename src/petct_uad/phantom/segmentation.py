"""Writes the lesions of a patient as a DICOM Segmentation, one binary segment per lesion kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from petct_uad.phantom.dicom_writer import PhantomStudy
from petct_uad.phantom.grids import Mask


def write_segmentation(
    study: PhantomStudy, lesions: Sequence[Mask], images: Sequence[Dataset], folder: Path
) -> Path | None:
    """Write the SEG on a series' frame, labelled by lesion kind; nothing for a healthy patient.

    Args:
        lesions: a mask (z, y, x) per lesion of the patient, on the grid of ``images``.
        images: the CT's or the PET's data sets, feet first.

    highdicom stamps the present time and draws one UID; both are replaced, so that the bytes
    follow from the seed.
    """
    kinds = _masks_by_kind(study, lesions)
    if not kinds:
        return None
    segmentation = hd.seg.Segmentation(
        source_images=list(images),
        pixel_array=np.stack(list(kinds.values()), axis=-1).astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_describe(i + 1, kind, study) for i, kind in enumerate(kinds)],
        series_instance_uid=study.uid("SEG"),
        series_number=10,
        sop_instance_uid=study.uid("SEG", 0),
        instance_number=1,
        manufacturer="petct-uad",
        manufacturer_model_name="digital thorax",
        software_versions="1",
        device_serial_number="1",
        content_label="LESIONS",
        series_description="Lesions",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    _fix(segmentation, study)
    path = folder / "SEG.0001.dcm"
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path, enforce_file_format=True)
    return path


def _masks_by_kind(study: PhantomStudy, lesions: Sequence[Mask]) -> dict[str, Mask]:
    """One (z, y, x) mask per kind that is present, in the order of the lesions."""
    masks: dict[str, Mask] = {}
    for lesion, mask in zip(study.patient.lesions, lesions, strict=True):
        if mask.any():
            masks[lesion.kind] = masks.get(lesion.kind, np.zeros_like(mask)) | mask
    return masks


def _describe(number: int, kind: str, study: PhantomStudy) -> hd.seg.SegmentDescription:
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=kind,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        tracking_uid=study.uid("SEG", kind),
        tracking_id=kind,
    )


def _fix(segmentation: Dataset, study: PhantomStudy) -> None:
    """Replace every instant and UID that highdicom did not get from us."""
    moment = study.identity.pet_start + timedelta(days=1)
    for prefix in ("Content", "Series", "InstanceCreation"):
        setattr(segmentation, f"{prefix}Date", f"{moment:%Y%m%d}")
        setattr(segmentation, f"{prefix}Time", _time(moment))
    for equipment in segmentation.ContributingEquipmentSequence:
        equipment.ContributionDateTime = f"{moment:%Y%m%d}{_time(moment)}"
    organization = study.uid("SEG", "dimensions")
    segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization


def _time(moment: datetime) -> str:
    return f"{moment:%H%M%S}"
