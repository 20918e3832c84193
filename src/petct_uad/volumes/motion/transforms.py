"""Every transform that registration may use, and how it is kept as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from petct_uad.core.errors import RegistrationError
from petct_uad.core.files import write_json
from petct_uad.volumes.motion.rigid import RigidTransform, Vector, vector

_DECIMALS = 9  # of a matrix: 1e-9 over 1 m is a nanometre
_ORDER = 3  # cubic


@dataclass(frozen=True)
class AffineTransform:
    """Maps the CT frame to the PET frame: ``y = A (x - centre) + centre + translation``, LPS.

    Attributes:
        matrix: A, row by row.
        translation_mm: along x, y and z.
        centre_mm: the point that A leaves in place.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    matrix: tuple[float, float, float, float, float, float, float, float, float]
    translation_mm: Vector
    centre_mm: Vector
    kind: Literal["affine"] = "affine"

    def to_sitk(self) -> sitk.AffineTransform:
        """The same map for SimpleITK."""
        return sitk.AffineTransform(self.matrix, self.translation_mm, self.centre_mm)

    def inverse_sitk(self) -> sitk.Transform:
        """From the PET frame to the CT frame."""
        return self.to_sitk().GetInverse()

    @classmethod
    def from_sitk(cls, transform: sitk.AffineTransform) -> AffineTransform:
        """The map that SimpleITK holds, rounded so that it survives JSON."""
        a, b, c, d, e, f, g, h, i = (round(v, _DECIMALS) + 0.0 for v in transform.GetMatrix())
        return cls(
            (a, b, c, d, e, f, g, h, i),
            vector(transform.GetTranslation()),
            vector(transform.GetCenter()),
        )

    def apply(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points of the CT frame, (n, 3) in mm, to the PET frame, (n, 3) in mm."""
        centre, matrix = np.array(self.centre_mm), np.array(self.matrix).reshape(3, 3)
        moved = (points_mm - centre) @ matrix.T + centre + np.array(self.translation_mm)
        return np.asarray(moved, dtype=np.float64)


@dataclass(frozen=True)
class BsplineTransform:
    """A cubic B-spline in the CT frame, followed by a rigid motion: ``y = R(x + s(x))``, LPS.

    Attributes:
        rigid: R.
        origin_mm: corner of the spline's domain; beyond the domain s is zero.
        size_mm: edges of the domain along its own axes.
        direction: of the domain's axes, as in a SimpleITK image.
        mesh: how many spline cells along each axis.
        coefficients_mm: displacements of the control points, all of x, then y, then z;
            (mesh + 3) control points along each axis, x running fastest.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    rigid: RigidTransform
    origin_mm: Vector
    size_mm: Vector
    direction: tuple[float, float, float, float, float, float, float, float, float]
    mesh: tuple[int, int, int]
    coefficients_mm: tuple[float, ...]
    kind: Literal["bspline"] = "bspline"

    def spline_sitk(self) -> sitk.BSplineTransform:
        """The spline alone, without the rigid motion."""
        spline = sitk.BSplineTransform(3, _ORDER)
        spline.SetTransformDomainOrigin(self.origin_mm)
        spline.SetTransformDomainPhysicalDimensions(self.size_mm)
        spline.SetTransformDomainDirection(self.direction)
        spline.SetTransformDomainMeshSize(self.mesh)
        spline.SetParameters(self.coefficients_mm)
        return spline

    def to_sitk(self) -> sitk.CompositeTransform:
        """The same map for SimpleITK, whose composite applies the last transform first."""
        return sitk.CompositeTransform([self.rigid.to_sitk(), self.spline_sitk()])

    def inverse_sitk(self) -> sitk.Transform:
        """The rigid part's inverse: a spline has none in closed form."""
        return self.rigid.inverse_sitk()

    @classmethod
    def from_sitk(cls, rigid: RigidTransform, spline: sitk.BSplineTransform) -> BsplineTransform:
        """The map that SimpleITK holds, rounded to a nanometre so that it survives JSON."""
        a, b, c, d, e, f, g, h, i = spline.GetTransformDomainDirection()
        nx, ny, nz = spline.GetTransformDomainMeshSize()
        return cls(
            rigid=rigid,
            origin_mm=vector(spline.GetTransformDomainOrigin()),
            size_mm=vector(spline.GetTransformDomainPhysicalDimensions()),
            direction=(a, b, c, d, e, f, g, h, i),
            mesh=(nx, ny, nz),
            coefficients_mm=tuple(round(v, 6) + 0.0 for v in spline.GetParameters()),
        )

    def apply(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Map points of the CT frame, (n, 3) in mm, to the PET frame, (n, 3) in mm."""
        transform = self.spline_sitk()
        bent = [transform.TransformPoint(point) for point in points_mm.tolist()]
        return self.rigid.apply(np.array(bent, dtype=np.float64).reshape(-1, 3))


Transform = RigidTransform | AffineTransform | BsplineTransform

_READER: TypeAdapter[Transform] = TypeAdapter(Annotated[Transform, Field(discriminator="kind")])


def displacement_mm(transform: Transform, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each of the points, (n, 3) in mm, is moved: (n,) in mm."""
    moved = np.linalg.norm(transform.apply(points_mm) - points_mm, axis=1)
    return np.asarray(moved, dtype=np.float64)


def write_transform(path: Path, transform: Transform) -> None:
    """Write as JSON: the fields, with ``kind`` naming the class."""
    write_json(path, asdict(transform))


def read_transform(path: Path) -> Transform:
    """Read what :func:`write_transform` wrote.

    Raises:
        RegistrationError: a field is missing, unknown or not of its type.
    """
    try:
        return _READER.validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise RegistrationError(
            f"{path}: is not a transform: {where}: {first['msg']}; run register again"
        ) from error
