from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.core.errors import RegistrationError
from petct_uad.volumes.motion.rigid import RigidTransform
from petct_uad.volumes.motion.transforms import (
    AffineTransform,
    BsplineTransform,
    Transform,
    displacement_mm,
    read_transform,
    write_transform,
)

RIGID = RigidTransform((1.5, -2.0, 0.75), (4.0, -3.25, 7.5), (10.0, -20.0, 30.0))
AFFINE = AffineTransform(
    (1.02, 0.01, 0.0, -0.01, 0.99, 0.003, 0.0, 0.004, 1.01), (4.0, -3.25, 7.5), (10.0, -20.0, 30.0)
)
POINTS = np.array([[0.0, 0.0, 0.0], [120.0, -80.0, 60.0], [30.0, 35.0, -20.0]])


def _bent() -> BsplineTransform:
    image = sitk.Image(40, 40, 20, sitk.sitkFloat32)
    image.SetSpacing((5.0, 5.0, 5.0))
    image.SetOrigin((-100.0, -100.0, 47.5))
    image.SetDirection((1, 0, 0, 0, 1, 0, 0, 0, -1))
    spline = sitk.BSplineTransformInitializer(image, [4, 4, 2])
    drawn = np.random.default_rng(0).uniform(-8, 8, spline.GetNumberOfParameters())
    spline.SetParameters(drawn.tolist())
    return BsplineTransform.from_sitk(RIGID, spline)


ALL = pytest.mark.parametrize("transform", [RIGID, AFFINE, _bent()], ids=lambda t: str(t.kind))


@ALL
def test_points_move_as_simpleitk_resamples(transform: Transform) -> None:
    expected = [transform.to_sitk().TransformPoint(point) for point in POINTS.tolist()]
    assert transform.apply(POINTS) == pytest.approx(np.array(expected))


@ALL
def test_each_survives_its_file_and_names_its_kind(tmp_path: Path, transform: Transform) -> None:
    path = tmp_path / "transform.json"
    write_transform(path, transform)
    assert read_transform(path) == transform
    assert json.loads(path.read_text())["kind"] == transform.kind


def test_the_identity_moves_nothing() -> None:
    assert displacement_mm(RigidTransform(), POINTS) == pytest.approx([0.0, 0.0, 0.0])


def test_affine_and_spline_survive_simpleitk() -> None:
    bent = _bent()
    assert AffineTransform.from_sitk(AFFINE.to_sitk()) == AFFINE
    assert BsplineTransform.from_sitk(RIGID, bent.spline_sitk()) == bent


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"kind": "rigid", "rotation_deg": [1, 2]}',
        '{"kind": "rigid", "angle": [1, 2, 3]}',
        '{"kind": "rigid", "centre_mm": "abc"}',
        '{"kind": "affine", "matrix": [1]}',
        '{"kind": "thin plate"}',
        '{"rotation_deg": [0, 0, 0]}',
    ],
)
def test_a_file_that_is_no_transform_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "transform.json"
    path.write_text(text)
    with pytest.raises(RegistrationError, match=r"transform\.json: is not a transform"):
        read_transform(path)
