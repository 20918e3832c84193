"""The rigid motion between the CT frame and the PET frame."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from petct_uad.errors import RegistrationError
from petct_uad.files import write_json

Vector = tuple[float, float, float]

_ORIGIN: Vector = (0.0, 0.0, 0.0)
_DECIMALS = 6


@dataclass(frozen=True)
class RigidTransform:
    """Maps a point of the CT frame to the PET frame: ``y = R (x - centre) + centre + translation``.

    This is the direction in which SimpleITK resamples the PET onto the CT's grid. All in DICOM's
    patient frame (LPS).

    Attributes:
        rotation_deg: Euler angles about x, y and z; R = Rz Rx Ry, ITK's default order.
        translation_mm: along x, y and z.
        centre_mm: point about which R turns.
    """

    rotation_deg: Vector = _ORIGIN
    translation_mm: Vector = _ORIGIN
    centre_mm: Vector = _ORIGIN

    def to_sitk(self) -> sitk.Euler3DTransform:
        """The same motion for SimpleITK."""
        angles = [math.radians(angle) for angle in self.rotation_deg]
        return sitk.Euler3DTransform(self.centre_mm, *angles, self.translation_mm)

    @classmethod
    def from_sitk(cls, transform: sitk.Euler3DTransform) -> RigidTransform:
        """The motion that SimpleITK holds, rounded to six decimals so that it survives JSON."""
        angles = (transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ())
        return cls(
            _vector([math.degrees(angle) for angle in angles]),
            _vector(transform.GetTranslation()),
            _vector(transform.GetCenter()),
        )

    def apply(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points of the CT frame, (n, 3) in mm, to the PET frame, (n, 3) in mm."""
        transform = self.to_sitk()
        rotation = np.array(transform.GetMatrix()).reshape(3, 3)
        centre = np.array(self.centre_mm)
        moved = (points_mm - centre) @ rotation.T + centre + np.array(self.translation_mm)
        return np.asarray(moved, dtype=np.float64)

    def displacement_mm(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each of the points, (n, 3) in mm, is moved: (n,) in mm."""
        moved = np.linalg.norm(self.apply(points_mm) - points_mm, axis=1)
        return np.asarray(moved, dtype=np.float64)

    def write(self, path: Path) -> None:
        """Write as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> RigidTransform:
        """Read what :meth:`write` wrote.

        Raises:
            RegistrationError: a field is missing, unknown or no triple of numbers.
        """
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return cls(**{name: _vector(value) for name, value in fields.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise RegistrationError(f"{path}: is not a rigid transform: {error}") from error


def _vector(values: object) -> Vector:
    x, y, z = (round(float(value), _DECIMALS) + 0.0 for value in values)  # type: ignore[attr-defined]
    return (x, y, z)
