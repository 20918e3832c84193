"""What falls out of the data on the way is counted by its reason, the commonest first."""

from petct_uad.ingest.tables import SeriesRow
from petct_uad.registration.tables import AFTER_MOTION, AS_SCANNED, CutSliceRow
from petct_uad.report.flow import FlowTables, Loss, SplitCount, flow_steps, split_counts
from petct_uad.slices.tables import SliceRow
from tests.samples import instance_row, rejected_row, series_row, study_row

from .conftest import image_rows


def series(study: str, role: str, reason: str = "chosen") -> SeriesRow:
    return series_row(
        series_instance_uid=f"{study}.{role}.{reason}",
        study_instance_uid=study,
        study_id="" if role == "unused" else study,
        role=role,
        reason=reason,
    )


def slices(split: str, reason: str, count: int) -> list[SliceRow]:
    return [
        SliceRow(f"{reason}_{i}", "S", "P", "x", i, 0.0, 0.0, 0.0, 0, split, reason)
        for i in range(count)
    ]


def test_reasons_are_counted_and_the_commonest_comes_first() -> None:
    tables = FlowTables(
        instances=tuple(
            instance_row(file=str(i), sop_instance_uid=str(i), study_id="", role=role)
            for i, role in enumerate(["ct", "pet", "unused", "unused", "unused"])
        ),
        series=(
            series("A", "ct"), series("A", "pet"), series("A", "unused", "a localizer"),
            series("B", "unused", "no partner"), series("B", "unused", "no partner too"),
        ),
        studies=(study_row(study_id="A", patient="P"),),
        rejected=(rejected_row(subject="B", code="pet_missing"),),
        cut=(
            CutSliceRow("A", 0, 0.0, 0.0, AS_SCANNED), CutSliceRow("A", 1, 5.0, 0.0, AS_SCANNED),
            CutSliceRow("A", 27, 135.0, 40.0, AFTER_MOTION),
        ),
        slices=(
            *slices("excluded", "a guard", 1), *slices("excluded", "no body", 2),
            *slices("test", "by patient", 4),
        ),
        images=tuple(image_rows()[:4]),
    )  # fmt: skip
    files, stacks, studies, covered, cut, shards = flow_steps(tables)
    assert (files.entered, files.kept) == (5, 2)
    assert files.losses == (Loss("in a series that no study uses", 3),)
    assert (stacks.entered, stacks.kept) == (5, 2)
    assert (studies.entered, studies.kept) == (2, 1)
    assert studies.losses == (Loss("pet_missing", 1),)
    assert (covered.entered, covered.kept) == (10, 7)
    assert covered.losses == (Loss(AS_SCANNED, 2), Loss(f"{AFTER_MOTION}, with lesion", 1))
    assert (cut.entered, cut.kept) == (7, 4)
    assert cut.losses == (Loss("no body", 2), Loss("a guard", 1))
    assert (shards.entered, shards.kept) == (4, 4)


def test_each_split_is_counted_by_patients_and_labels() -> None:
    # Of the 12 test patients 4 have no lesion, the others one on 6 of their 20 slices.
    assert split_counts(image_rows()) == (
        SplitCount("train", 0, 0, 0, 0),
        SplitCount("val", 4, 4, 80, 0),
        SplitCount("test", 12, 12, 192, 48),
    )
