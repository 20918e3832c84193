"""What every section of params.yaml is made of."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

DatasetName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
Workers = Annotated[int, Field(ge=0, le=256, description="processes; 0: one per core")]
Device = Literal["auto", "cpu", "cuda"]
Modality = Literal["pet", "ct", "petct"]
Protocol = Literal["patient", "cmad"]
Region = Literal["all", "thorax"]
TestPatients = Literal["all", "development", "held_out"]
ScanBackend = Literal["auto", "reference", "numba", "cuda", "triton"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
# What every model waits for: a line that stands there once the data have passed their checks. It
# never changes, so that a test slice that does, and with it their verdict, retrains nothing.
VALIDATED = "data/validation.passed"


class Section(BaseModel):
    """A group of keys: immutable, strictly typed, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Part(Section):
    """Some keys of a group, for a stage to which the others are nothing."""

    model_config = ConfigDict(extra="ignore")


class GeneralPart(Part):
    """The keys outside any section."""

    dataset: DatasetName
    workers: Workers


class ProtocolPart(Part):
    """Of ``split``, what the results are marked with."""

    protocol: Protocol
    test_patients: TestPatients


class RegionPart(Part):
    """Of ``preprocess``, which slices of a study count."""

    region: Region


class DevicePart(Part):
    """Of ``train``, where to compute."""

    device: Device
