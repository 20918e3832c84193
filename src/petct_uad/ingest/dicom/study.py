"""One study from its files to its volumes: the work of one process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from petct_uad.core.errors import PatternNeededError, RejectedInputError
from petct_uad.core.files import sha256_bytes
from petct_uad.core.volumes import write_volume
from petct_uad.ingest.dicom.choice import StudyImages, StudyLog, StudyTask, choose_images
from petct_uad.ingest.dicom.rows import instance_rows, series_rows, study_row
from petct_uad.ingest.found import FoundInstance, FoundRejection, FoundSeries, FoundStudy
from petct_uad.ingest.rejections import rejected_row
from petct_uad.ingest.tables import NO_STUDY


@dataclass(frozen=True)
class StudyResult:
    """What it hands back; ``row`` is None where the study is refused."""

    row: FoundStudy | None
    series: tuple[FoundSeries, ...]
    instances: tuple[FoundInstance, ...]
    rejected: tuple[FoundRejection, ...]
    passed_over: tuple[str, ...]  # label objects and their names, where none is a lesion's
    organs: tuple[str, ...] = ()  # label objects with organs that the default pattern would take
    slices: tuple[str, ...] = ()  # hashes of their voxels, where the frame of reference is shared


def ingest_study(task: StudyTask) -> StudyResult:
    """Choose, read and write one study's CT, PET and label; refusals come back as rows."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    log = StudyLog()
    try:
        images = choose_images(task, log)
    except RejectedInputError as error:
        log.rejected.append(rejected_row(error))
        return _refused(task, log, error)
    _write(task.volumes / task.study_id, images)
    return _accepted(task, log, images)


def _write(folder: Path, images: StudyImages) -> None:
    folder.mkdir(parents=True, exist_ok=True)  # by a worker that was lost
    label = images.label.image if images.label else None
    found = {"ct": images.ct.image, "pet": images.pet.image, "label": label}
    with ThreadPoolExecutor() as pool:  # compressing lets other threads run
        written = [
            pool.submit(write_volume, image, folder / f"{name}.nii.gz")
            for name, image in found.items()
            if image is not None
        ]
    for each in written:
        each.result()


def _accepted(task: StudyTask, log: StudyLog, images: StudyImages) -> StudyResult:
    label = images.label
    return StudyResult(
        study_row(task, images),
        series_rows(task.study, log, task.study_id, images.pet),
        instance_rows(task.study, task.study_id, images),
        tuple(log.rejected),
        label.named if label and not label.lesions else (),
        slices=_slice_hashes(images) if task.frame_shared else (),
    )


def _refused(task: StudyTask, log: StudyLog, error: RejectedInputError) -> StudyResult:
    log.lose_all(f"study refused ({error.code}): {error.found}")
    series = series_rows(task.study, log, NO_STUDY)
    instances = instance_rows(task.study, NO_STUDY, None)
    organs = error.objects if isinstance(error, PatternNeededError) else ()
    return StudyResult(None, series, instances, tuple(log.rejected), (), organs)


def _slice_hashes(images: StudyImages) -> tuple[str, ...]:
    """Of every CT and PET slice that is not of one value, as blank ones are."""
    arrays = (sitk.GetArrayViewFromImage(volume.image) for volume in (images.ct, images.pet))
    planes = (plane for array in arrays for plane in array if plane.min() < plane.max())
    return tuple(sorted({sha256_bytes(plane.tobytes()) for plane in planes}))
