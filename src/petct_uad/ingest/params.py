"""``ingest`` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from petct_uad.core.params.base import Section

Second = Annotated[float, Field(ge=0, le=86400)]


class IngestParams(Section):
    """Reading a data set."""

    labels: Literal["auto", "seg", "rtstruct", "csv"]
    label_roi: str = Field(min_length=1, description="regular expression on ROI or segment names")
    suv: Literal["bw", "lbm", "lbm_james", "lbm_morgan", "ibw", "bsa"] = Field(
        description="what concentrations are normalised to"
    )
    suv_reference: Literal["back_computed", "earliest_acquisition"] = Field(
        default="back_computed",
        description="the scan's start, of a series that was written after its acquisition",
    )
    dose_unit: Literal["auto", "bq", "mbq"] = Field(
        default="auto", description="of Radionuclide Total Dose (0018,1074)"
    )
    pseudonyms: Literal["auto", "public", "secret"]
    key: str = Field(
        default="any", pattern="^(any|k-[0-9a-f]{16})$", description="fingerprint, petct key show"
    )
    on_reject: Literal["report", "stop"]
    dynamic: Literal["refuse", "last", "sum"] = Field(
        default="refuse", description="what is taken of a dynamic or gated PET"
    )
    dynamic_window_s: tuple[Second, Second] = Field(
        default=(0.0, 86400.0), description="of sum: from and to, after the first frame's start"
    )
    colour: bool = Field(
        default=False, description="keep the colours of pictures, not their luma alone"
    )
    max_gap_mm: float = Field(ge=0, le=5, description="tolerance on even slice spacing")
