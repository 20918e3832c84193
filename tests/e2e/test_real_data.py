"""A folder of real DICOM goes through the whole pipeline with two commands."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from petct_uad.ingest.pseudonyms import PUBLIC
from tests.e2e.conftest import ROOT, make_clone

pytestmark = pytest.mark.e2e

STS = Path(os.environ.get("PETCT_DATA", ROOT.parent / "shared/data")) / "sts/dicom"
# Two with known defects: 019 starts 6.6 mm away from its CT, 035 has two PET slices fewer.
PATIENTS = ("STS_001", "STS_004", "STS_013", "STS_019", "STS_035")


# One that is trained by gradient and one that is not; test_pipeline runs every model.
ROWS = ("cmad", "patchcore")


def keep_rows(path: Path) -> None:
    """Leave these in the benchmark."""
    yaml = YAML()
    params = yaml.load(path)
    params["benchmark"] = {name: params["benchmark"][name] for name in ROWS}
    yaml.dump(params, path)


@pytest.mark.skipif(not STS.is_dir(), reason="PETCT_DATA holds no sts/dicom")
def test_real_patients_go_from_a_folder_to_a_results_table(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for patient in PATIENTS:
        shutil.copytree(STS / patient, source / patient)
    clone = make_clone(tmp_path / "repository")
    keep_rows(clone.root / "params.yaml")
    petct = str(Path(sys.executable).with_name("petct"))
    clone.run(petct, "add", "sts", str(source))
    clone.run("git", "add", "--all")
    clone.run("git", "commit", "--quiet", "--message", "Add sts")
    said = clone.dvc("exp", "run", "-S", "dataset=sts", "-S", "validate.min_train_slices=2")
    assert "phantom" not in clone.stages_run(said)

    with (clone.root / "data/interim/sts/ingest/studies.csv").open() as stream:
        studies = {row["patient"]: row for row in csv.DictReader(stream)}
    # The publishers say that identities are removed, so the pseudonyms are the public ones.
    assert set(studies) == set(map(PUBLIC.patient, PATIENTS))
    assert "6.58 mm" in studies[PUBLIC.patient("STS_019")]["notes"]
    assert "61 PET slices for 63 CT slices" in studies[PUBLIC.patient("STS_035")]["notes"]
    summary = json.loads((clone.root / "metrics/summary.json").read_text())
    assert {"cmad-petct", "patchcore-petct", "suvmax", "position"} <= set(summary["auroc"])
    assert (clone.root / "reports/index.html").is_file()
