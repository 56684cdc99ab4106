"""The slices of an image along one axis of its grid: where each lies, one by one.

Drawings belong to slices, and the slices of a tilted or unevenly spaced series are no box. Lengths
in mm, RAS+.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.volumes.volume import SAME_GRID, Volume

Vector = NDArray[np.float64]
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


def to_ras(points: Any) -> Vector:
    """Points (..., 3) of a DICOM file, LPS+, in RAS+."""
    turned: Vector = np.asarray(points, np.float64) * _LPS_TO_RAS
    return turned


@dataclass(frozen=True)
class Planes:
    """N slices of ``shape`` (I, J) pixels.

    ``axis``: which of the grid's own axes counts them; the other two, in order, are those of a
    slice. ``ways`` (3, 2): the mm that one pixel along each of these leads. ``places`` (N, 3): the
    centre of each slice's first pixel. ``thicknesses`` (N,): how much of the stack each stands for.
    """

    axis: int
    shape: tuple[int, int]
    ways: Vector
    places: Vector
    thicknesses: Vector

    @classmethod
    def of(cls, image: Volume, axis: int) -> Planes:
        """The slices of an image that an axis of its grid counts."""
        affine, shape = image.grid.affine, image.grid.shape
        one, other = (index for index in range(3) if index != axis)
        ways = affine[:3, [one, other]]
        if image.uneven is not None and axis == 2:
            places, thicknesses = image.uneven.places, image.uneven.thicknesses
        else:
            places = affine[:3, 3] + np.arange(shape[axis])[:, None] * affine[:3, axis]
            step = abs(float(affine[:3, axis] @ _across(ways)))
            thicknesses = np.full(shape[axis], step)
        return cls(axis, (shape[one], shape[other]), ways, places, thicknesses)

    @cached_property
    def normal(self) -> Vector:
        """The unit vector across the slices, (3,)."""
        return _across(self.ways)

    @cached_property
    def depths(self) -> Vector:
        """Where each slice lies along the normal, (N,)."""
        depths: Vector = self.places @ self.normal
        return depths

    @property
    def tolerance(self) -> float:
        """How far a place may be off in mm: :data:`SAME_GRID` of the smallest side."""
        sides = np.sqrt((self.ways**2).sum(axis=0))
        return SAME_GRID * float(min(*sides, self.thicknesses.min()))

    def nearest(self, depth: float) -> int:
        """The slice nearest to a place along the normal."""
        return int(np.abs(self.depths - depth).argmin())

    def pixels(self, points: Vector, index: int) -> Vector:
        """Points (M, 3) in pixels of a slice, (M, 2), as they lie in front of it."""
        pixels: Vector = (points - self.places[index]) @ np.linalg.pinv(self.ways).T
        return pixels

    def points(self, pixels: Vector, index: int) -> Vector:
        """The way back from :meth:`pixels` onto the slice: (M, 2) -> (M, 3)."""
        points: Vector = self.places[index] + pixels @ self.ways.T
        return points

    def slice_of(self, stack: NDArray[Any], index: int) -> NDArray[Any]:
        """The view (I, J) of a slice in an array that the image's grid stores."""
        view: NDArray[Any] = np.moveaxis(stack, self.axis, 0)[index]
        return view


def _across(ways: Vector) -> Vector:
    normal = np.cross(ways[:, 0], ways[:, 1])
    unit: Vector = normal / np.linalg.norm(normal)
    return unit
