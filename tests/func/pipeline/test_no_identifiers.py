"""The digital patients have names; no stage between their DICOM and the shards writes one down."""

from __future__ import annotations

import gzip
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.stages import run_stage

ROOT = Path(__file__).parents[3]
STAGES = ("phantom", "ingest", "register", "split", "preprocess", "validate")
SMALL = {"patients": 6, "extent_mm": 80.0, "ct_matrix": 64}
TELLING = (
    "PatientID", "PatientName", "PatientBirthDate", "InstitutionName", "InstitutionAddress",
    "AccessionNumber", "ReferringPhysicianName", "OperatorsName", "StationName", "SOPInstanceUID",
    "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip


def project(home: Path) -> None:
    """The repository's stages on a small phantom, under a secret key."""
    for name in ("src", "stages", "pyproject.toml"):
        (home / name).symlink_to(ROOT / name)
    params = YAML().load((ROOT / "params.yaml").read_text())
    params["workers"] = 1
    params["phantom"] |= SMALL
    params["ingest"] |= {"pseudonyms": "secret"}
    params["register"] |= {"refine": "none"}
    params["preprocess"] |= {"image_size_px": 64}
    params["validate"] |= {"min_train_slices": 1}
    YAML().dump(params, home / "params.yaml")


def planted(raw: Path) -> set[str]:
    """Every identifier in the cohort's files, and the parts of the names."""
    found: set[str] = set()
    for file in raw.rglob("*.dcm"):
        header = pydicom.dcmread(file, stop_before_pixels=True)
        values = {str(header[name].value) for name in TELLING if header.get(name)}
        found |= values | {part for value in values if "^" in value for part in value.split("^")}
    return found


def test_no_stage_writes_an_identifier_of_the_phantom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, key = tmp_path / "project", tmp_path / "pseudonym.key"
    home.mkdir()
    key.write_text("a7" * 32)
    key.chmod(0o600)
    project(home)
    monkeypatch.chdir(home)
    monkeypatch.setenv("PETCT_KEY_FILE", str(key))
    for stage in STAGES:
        run_stage(stage)
    words = planted(home / "data" / "raw")
    assert len(words) > 200
    outputs = [
        path
        for folder in ("data/interim", "data/processed", "metrics", "reports")
        for path in sorted((home / folder).rglob("*"))
        if path.is_file()
    ]
    assert {"studies.csv", "lineage.safetensors", "index.csv", "slices.csv", "validation.json"} <= {
        path.name for path in outputs
    }
    for path in outputs:
        content = readable(path) + path.relative_to(home).as_posix().encode()
        assert [word for word in words if word.encode() in content] == [], path


def readable(path: Path) -> bytes:
    """A file's bytes, uncompressed; of a picture, all but its pixels, where chance spells words."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            return repr(picture.info).encode()
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
