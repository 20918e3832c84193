from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.errors import RegistrationError
from petct_uad.registration.rigid import RigidTransform

MOTION = RigidTransform((1.5, -2.0, 0.75), (4.0, -3.25, 7.5), (10.0, -20.0, 30.0))


def test_it_moves_points_as_simpleitk_does() -> None:
    points = np.array([[0.0, 0.0, 0.0], [120.0, -80.0, 60.0]])
    moved = MOTION.apply(points)
    expected = [MOTION.to_sitk().TransformPoint(point) for point in points.tolist()]
    assert moved == pytest.approx(np.array(expected))


def test_it_survives_simpleitk_and_json(tmp_path: Path) -> None:
    MOTION.write(tmp_path / "transform.json")
    assert RigidTransform.read(tmp_path / "transform.json") == MOTION
    assert RigidTransform.from_sitk(MOTION.to_sitk()) == MOTION


def test_the_identity_moves_nothing() -> None:
    points = np.array([[12.0, 34.0, 56.0]])
    assert RigidTransform().displacement_mm(points) == pytest.approx([0.0])
    assert RigidTransform.from_sitk(sitk.Euler3DTransform()) == RigidTransform()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"rotation_deg": [1, 2]}', '{"angle": [1, 2, 3]}', '{"centre_mm": "abc"}'],
)
def test_a_file_that_is_no_transform_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "transform.json"
    path.write_text(text)
    with pytest.raises(RegistrationError, match=r"transform\.json"):
        RigidTransform.read(path)
