"""Slices without one spacing: where each lies, and how much of the stack it stands for.

A series may have slices of two thicknesses, overlaps or a gap. Each slice is sound by itself and
has a place of its own, but no affine puts all of them there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_SAME_STEP = 0.1  # share by which steps of one protocol differ: positions are rounded

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Uneven:
    """The places of N slices, in the order of the third axis of their grid.

    ``places`` (N, 3): the centre of the first voxel, mm in RAS+. ``normal`` (3,): the unit vector
    across the slices, along which their depth grows.
    """

    places: Vector
    normal: Vector

    @cached_property
    def steps(self) -> Vector:
        """The distances of neighbouring slices along the normal in mm, (N - 1,)."""
        steps: Vector = np.diff(self.places @ self.normal)
        return steps

    @cached_property
    def usual(self) -> float:
        """See :func:`usual_step`."""
        return usual_step(self.steps)

    @cached_property
    def thicknesses(self) -> Vector:
        """How much of the stack each slice stands for in mm along the normal, (N,).

        A slice reaches half the way to each neighbour, so what overlaps counts once; beyond the
        first and the last slice as far as towards their only neighbour; and nowhere further than
        half the :attr:`usual` step, so that nothing is taken for seen within a gap. Rounded to
        1e-6 mm, since the last bits of depths differ between machines.
        """
        reach = np.minimum(self.steps, self.usual) / 2
        thicknesses: Vector = np.append(reach[:1], reach) + np.append(reach, reach[-1:])
        return thicknesses.round(6)

    def shifts(self, affine: NDArray[np.float64]) -> Vector:
        """How far each slice lies from where ``affine`` (4, 4) puts it, (N, 3) in mm."""
        even = affine[:3, 3] + np.arange(len(self.places))[:, None] * affine[:3, 2]
        shifts: Vector = self.places - even
        return shifts


def usual_step(steps: Vector) -> float:
    """The largest of ``steps`` that occurs twice, or the median if that is larger.

    So the thicker slices of two thicknesses count, and a gap does not.
    """
    ascending = np.sort(steps)
    twice = ascending[:-1][np.diff(ascending) <= _SAME_STEP * ascending[:-1]]
    return max(float(np.median(ascending)), float(twice.max(initial=0)))
