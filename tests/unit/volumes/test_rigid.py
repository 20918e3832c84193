from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from petct_uad.volumes.motion.rigid import RigidTransform

MOTION = RigidTransform((1.5, -2.0, 0.75), (4.0, -3.25, 7.5), (10.0, -20.0, 30.0))


def test_it_moves_points_as_simpleitk_does() -> None:
    points = np.array([[0.0, 0.0, 0.0], [120.0, -80.0, 60.0]])
    moved = MOTION.apply(points)
    expected = [MOTION.to_sitk().TransformPoint(point) for point in points.tolist()]
    assert moved == pytest.approx(np.array(expected))


def test_it_survives_simpleitk() -> None:
    assert RigidTransform.from_sitk(MOTION.to_sitk()) == MOTION
    assert RigidTransform.from_sitk(sitk.Euler3DTransform()) == RigidTransform()
