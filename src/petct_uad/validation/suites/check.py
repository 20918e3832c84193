"""What an expectation is, and short names for those of Great Expectations that the suites use."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, Self

# Before its first import, which otherwise looks for a telemetry host.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

from great_expectations import expectations as gxe

from petct_uad.core.params.base import Protocol, Region, RegionPart
from petct_uad.core.params.reading import ParamsFile
from petct_uad.validation.params import RegisterPart, SplitPart, ValidateParams

Severity = Literal["critical", "warning"]  # critical stops the pipeline, a warning is reported


@dataclass(frozen=True)
class Promises:
    """What params.yaml asked of the stages, to which their tables are held."""

    protocol: Protocol
    keeps_duplicates: bool  # split.duplicates
    min_lesion_area_mm2: float
    guard_mm: float
    max_displacement_mm: float
    bounds: ValidateParams
    region: Region = "all"

    @classmethod
    def read(cls, params: ParamsFile) -> Self:
        """Those of params.yaml's sections.

        Raises:
            ParamsError: naming each wrong key.
        """
        split = params.section(SplitPart, "split")
        return cls(
            protocol=split.protocol,
            keeps_duplicates=split.duplicates == "keep",
            min_lesion_area_mm2=split.min_lesion_area_mm2,
            guard_mm=split.guard_mm,
            max_displacement_mm=params.section(RegisterPart, "register").max_displacement_mm,
            bounds=params.section(ValidateParams, "validate"),
            region=params.section(RegionPart, "preprocess").region,
        )

    @property
    def leak(self) -> Severity:
        """Under the paper's own protocol patients do straddle splits; that is reported."""
        return "critical" if self.protocol == "patient" else "warning"

    @property
    def seen(self) -> Severity:
        """Copies of training pictures that params.yaml keeps are known; that is reported."""
        return "warning" if self.keeps_duplicates else "critical"


@dataclass(frozen=True)
class Check:
    """One expectation on one table."""

    table: str
    name: str
    severity: Severity
    reason: str
    expectation: Any  # a great_expectations Expectation; the library ships no types


def between(column: str, low: float | None, high: float | None, where: Any = None) -> Any:
    """Every value lies in ``[low, high]``; None is no bound."""
    return gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, row_condition=where
    )


def unique(*columns: str) -> Any:
    """No two rows agree in all of ``columns``."""
    if len(columns) == 1:
        return gxe.ExpectColumnValuesToBeUnique(column=columns[0])
    return gxe.ExpectCompoundColumnsToBeUnique(column_list=list(columns))


def in_set(column: str, values: Collection[object], where: Any = None) -> Any:
    """Every value is one of ``values``."""
    return gxe.ExpectColumnValuesToBeInSet(
        column=column, value_set=list(values), row_condition=where
    )


def holds(column: str, where: Any = None) -> Any:
    """A column of truth values that :mod:`petct_uad.validation.frames` worked out is all true."""
    return in_set(column, [True], where)


def matches(column: str, pattern: str) -> Any:
    """Every value matches a regular expression."""
    return gxe.ExpectColumnValuesToMatchRegex(column=column, regex=pattern)


def finite() -> Any:
    """No number of the row is NaN or infinite: the other expectations pass over NaN."""
    return in_set("not_finite", [""])
