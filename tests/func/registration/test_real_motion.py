"""One real study whose motion is known: STS_019's annotated contours lie 6.6 mm apart."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import SimpleITK as sitk

from petct_uad.ingest.params import IngestParams
from petct_uad.ingest.run import ingest_dataset
from petct_uad.registration.align import align
from petct_uad.schema import load_params
from petct_uad.volumes.motion.rigid import RigidTransform

ROOT = Path(__file__).parents[3]
STUDY = Path(os.environ.get("PETCT_DATA", "/nowhere")) / "sts/dicom/STS_019"
INGEST = IngestParams(
    labels="auto",
    label_roi=".*",
    pseudonyms="public",
    suv="bw",
    on_reject="report",
    max_gap_mm=0.1,
)


@pytest.mark.skipif(not STUDY.is_dir(), reason="PETCT_DATA does not hold sts/dicom/STS_019")
def test_the_offset_along_the_body_is_that_of_the_annotated_contours(tmp_path: Path) -> None:
    ingest_dataset(STUDY, tmp_path, INGEST)
    (folder,) = (tmp_path / "volumes").iterdir()
    ct, pet = (sitk.ReadImage(folder / f"{name}.nii.gz") for name in ("ct", "pet"))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    params = load_params(ROOT / "params.yaml").register_.model_copy(update={"refine": "auto"})
    decision = align(ct, pet, params)
    assert decision.accepted, decision.reason
    assert isinstance(decision.transform, RigidTransform)
    # Centroid of GTV_Mass_PET minus that of GTV_Mass_CT in the two RTSTRUCTs: 3.1, 0.0, -6.6 mm.
    assert decision.transform.translation_mm[2] == pytest.approx(-6.6, abs=pet.GetSpacing()[2])
