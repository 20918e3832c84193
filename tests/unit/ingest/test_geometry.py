"""A stack is regular, or it is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from petct_uad.core.errors import GeometryError
from petct_uad.ingest.dicom.geometry import Grid, overlap_mm, stack_slices
from petct_uad.ingest.dicom.header import Header

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def headers(depths: list[float], orientation: tuple[float, ...] = AXIAL) -> list[Header]:
    normal = np.cross(orientation[:3], orientation[3:])
    return [
        Header(
            file=f"{index}.dcm", sha256="", modality="CT", sop_instance_uid=str(index),
            series_instance_uid="1", study_instance_uid="2", frame_of_reference_uid="3",
            patient="P", birth_date="", sex="", manufacturer="", model_name="", description="",
            image_type=(), corrected_image=(), number_of_slices=None, rows=10, columns=20,
            pixel_spacing_mm=(2.0, 1.0), position_mm=tuple((depth * normal).tolist()),
            orientation=orientation, referenced_series=(),
        )
        for index, depth in enumerate(depths)
    ]  # fmt: skip


def refusal(stack: list[Header], max_gap_mm: float = 0.1) -> GeometryError:
    with pytest.raises(GeometryError) as caught:
        stack_slices(stack, max_gap_mm)
    return caught.value


def test_order_and_spacing_come_from_positions() -> None:
    stack = stack_slices(headers([6.0, 0.0, 3.0]), 0.1)
    assert [header.file for header in stack.headers] == ["1.dcm", "2.dcm", "0.dcm"]
    assert stack.grid.spacing_mm == pytest.approx((1.0, 2.0, 3.0))
    assert stack.grid.size == (20, 10, 3)


def test_feet_first_slices_run_along_their_own_normal() -> None:
    stack = stack_slices(headers([0.0, 3.0, 6.0], (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)), 0.1)
    assert stack.grid.axes[:, 2].tolist() == [0, 0, -1]
    assert np.linalg.det(stack.grid.axes) == pytest.approx(1)


def test_oblique_grid_maps_points_to_indices_and_back() -> None:
    tilted = (1.0, 0.0, 0.0, 0.0, float(np.cos(0.3)), float(np.sin(0.3)))
    grid = stack_slices(headers([0.0, 3.0, 6.0, 9.0], tilted), 0.1).grid
    index = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, 2.2]])
    assert grid.indices(grid.points(index)) == pytest.approx(index)


def test_missing_slice_is_named_with_its_gap() -> None:
    error = refusal(headers([0.0, 3.0, 6.0, 12.0, 15.0]))
    assert error.subject == "2.dcm"
    assert "gap of 6.000 mm" in error.found
    assert "1 missing?" in error.advice


def test_gap_tolerance_is_the_parameter() -> None:
    uneven = headers([0.0, 3.0, 6.2, 9.0])
    assert "gap" in refusal(uneven, 0.1).found
    assert stack_slices(uneven, 0.5).grid.spacing_mm[2] == pytest.approx(3.0)


def test_slow_drift_of_the_gaps_is_refused() -> None:
    depths = np.concatenate([np.arange(20) * 3.0, 57 + np.arange(1, 20) * 3.09]).tolist()
    assert "even grid" in refusal(headers(depths)).found


def test_duplicate_position_names_both_files() -> None:
    error = refusal(headers([0.0, 3.0, 3.0, 6.0]))
    assert error.subject == "1.dcm"
    assert "2.dcm" in error.found


@pytest.mark.parametrize("degrees", [1.0, 0.3])
def test_gantry_tilt_is_refused(degrees: float) -> None:
    lean = float(np.tan(np.radians(degrees)))
    tilted = [
        replace(header, position_mm=(0.0, lean * 3.0 * index, 3.0 * index))
        for index, header in enumerate(headers([0.0] * 20))
    ]
    assert "gantry tilt" in refusal(tilted).found


def test_cosines_rounded_to_three_digits_are_no_tilt() -> None:
    exact = (1.0, 0.0, 0.0, 0.0, float(np.cos(0.2)), float(np.sin(0.2)))
    rounded = tuple(round(cosine, 3) for cosine in exact)
    whole_body = headers([3.0 * index for index in range(300)], exact)
    stack = stack_slices([replace(header, orientation=rounded) for header in whole_body], 0.1)
    assert stack.grid.spacing_mm[2] == pytest.approx(3.0, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        ({"position_mm": None}, "(0020,0032)"),
        ({"orientation": None}, "(0020,0037)"),
        ({"orientation": (0.0, 1.0, 0.0, 1.0, 0.0, 0.0)}, "(0020,0037)"),
        ({"pixel_spacing_mm": None}, "(0028,0030)"),
        ({"pixel_spacing_mm": (2.0, 1.5)}, "(0028,0030)"),
        ({"pixel_spacing_mm": (0.0, 1.0)}, "(0028,0030)"),
        ({"rows": 11}, "11x20"),
    ],
)  # fmt: skip
def test_slices_that_differ_are_refused_by_tag(change: dict[str, Any], tag: str) -> None:
    stack = headers([0.0, 3.0, 6.0])
    stack[1] = replace(stack[1], **change)
    error = refusal(stack)
    assert error.subject == "1.dcm"
    assert tag in error.found


def test_single_slice_is_refused() -> None:
    assert "single slice" in refusal(headers([0.0])).found


def test_overlap_is_negative_for_grids_apart() -> None:
    near = stack_slices(headers([0.0, 3.0, 6.0]), 0.1).grid
    far = Grid((0.0, 0.0, 100.0), near.spacing_mm, near.direction, near.size)
    assert overlap_mm(near, near) == pytest.approx([20, 20, 9])
    assert overlap_mm(near, far)[2] < 0
