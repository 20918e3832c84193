"""Which slices of a study count: all, or those of the thorax."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from petct_uad.core.console import console
from petct_uad.core.errors import SplitError
from petct_uad.slices.tables import RegionRow, SliceRow
from petct_uad.split.lungs import MARGIN_MM, Lungs

NO_LUNGS = "no lungs found in the CT"
_SHOWN = 10


def exclude_outside(row: SliceRow, lungs: Lungs) -> SliceRow:
    """The slice as it is within the thorax; else excluded, with the reason."""
    if lungs.holds(row.z_mm):
        return row
    if lungs.base_mm is None:
        return replace(row, split="excluded", reason=NO_LUNGS)
    side = "below" if row.z_mm < lungs.base_mm else "above"
    return replace(row, split="excluded", reason=f"outside the thorax, {side} the lungs")


def check_found(thoraxes: Mapping[str, Lungs]) -> None:
    """Name the studies without lungs, none of whose slices goes further.

    Raises:
        SplitError: there are lungs in none.
    """
    without = sorted(study_id for study_id, lungs in thoraxes.items() if not lungs.found)
    if not without:
        return
    more = f" and {len(without) - _SHOWN} more" if len(without) > _SHOWN else ""
    named = ", ".join(without[:_SHOWN]) + more
    if len(without) == len(thoraxes):
        raise SplitError(
            f"preprocess.region: thorax, and no CT shows lungs ({named}); is it a data "
            "set of another part of the body? Set preprocess.region: all"
        )
    console.print(f"{len(without)} of {len(thoraxes)} studies left out, {NO_LUNGS}: {named}")


def region_rows(thoraxes: Mapping[str, Lungs], slices: Iterable[SliceRow]) -> list[RegionRow]:
    """One row per study, sorted by study_id."""
    of_study: dict[str, list[SliceRow]] = {study_id: [] for study_id in sorted(thoraxes)}
    for row in slices:
        of_study[row.study_id].append(row)
    return [_region_row(name, thoraxes[name], rows) for name, rows in of_study.items()]


def _region_row(study_id: str, lungs: Lungs, slices: Sequence[SliceRow]) -> RegionRow:
    outside = [row for row in slices if not lungs.holds(row.z_mm)]
    return RegionRow(
        study_id=study_id,
        found=lungs.found,
        lungs_ml=lungs.volume_ml,
        base_mm=lungs.base_mm,
        apex_mm=lungs.apex_mm,
        low_mm=None if lungs.base_mm is None else lungs.base_mm - MARGIN_MM,
        high_mm=None if lungs.apex_mm is None else lungs.apex_mm + MARGIN_MM,
        at_low_end=lungs.at_low_end,
        at_high_end=lungs.at_high_end,
        slices=len(slices) - len(outside),
        slices_outside=len(outside),
        lesion_slices_outside=sum(row.lesion_area_mm2 > 0 for row in outside),
    )
