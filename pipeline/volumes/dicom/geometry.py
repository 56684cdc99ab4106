"""Where the slices of one DICOM series lie: positions, normal, steps. Lengths in mm, LPS+."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.params.dicom import USUAL, Tolerances
from pipeline.volumes.dicom.header import Instance

Vector = NDArray[np.float64]


def vector(values: Any) -> Vector:
    """Numbers of a header that have to be there, as an array."""
    assert values is not None
    return np.array(values, np.float64)


def normal_of(one: Instance) -> Vector:
    """The unit vector across rows and columns, (3,)."""
    axes = vector(one.orientation)
    normal: Vector = np.cross(axes[:3], axes[3:])
    return normal / np.linalg.norm(normal)


def position_of(one: Instance) -> Vector:
    """The centre of the first pixel, (3,)."""
    return vector(one.position)


def depth_of(one: Instance, normal: Vector) -> float:
    """Where a slice lies along ``normal``, in mm."""
    return float(position_of(one) @ normal)


def ordered(slices: Sequence[Instance]) -> list[Instance]:
    """By position along the normal; at one place by number and UID, never by file name."""
    normal = normal_of(slices[0])
    return sorted(
        slices,
        key=lambda one: (round(depth_of(one, normal), 4), one.number or 0, one.name),
    )


@dataclass(frozen=True)
class Line:
    """Slices in order along their normal: N of them, with N - 1 steps in between."""

    slices: tuple[Instance, ...]
    tolerances: Tolerances = USUAL

    @cached_property
    def normal(self) -> Vector:
        return normal_of(self.slices[0])

    @cached_property
    def positions(self) -> Vector:
        """(N, 3)."""
        return np.stack([position_of(one) for one in self.slices])

    @cached_property
    def along(self) -> Vector:
        """The steps along the normal, (N - 1,)."""
        steps: Vector = np.diff(self.positions, axis=0) @ self.normal
        return steps

    @cached_property
    def mean(self) -> Vector:
        """The mean step, (3,); zeros for a single slice."""
        ends: Vector = self.positions[-1] - self.positions[0]
        return ends / max(len(self.slices) - 1, 1)

    @cached_property
    def step(self) -> float:
        """The length of the mean step in mm."""
        return float(np.linalg.norm(self.mean))

    @cached_property
    def off(self) -> float:
        """How far a slice lies, at most, from where even steps put it."""
        even = self.positions[0] + np.arange(len(self.slices))[:, None] * self.mean
        return float(np.sqrt(((self.positions - even) ** 2).sum(axis=1)).max())

    @property
    def tilt(self) -> float:
        """The angle in degrees between the mean step and the normal."""
        cosine = np.clip(self.mean @ self.normal / np.linalg.norm(self.mean), -1, 1)
        return float(np.degrees(np.arccos(cosine)))

    @property
    def aside(self) -> float:
        """How far each slice lies aside of the one before, in mm."""
        return float(np.linalg.norm(self.mean - (self.mean @ self.normal) * self.normal))

    def depth(self, index: int) -> float:
        """Where slice ``index`` lies along the normal, in mm."""
        return depth_of(self.slices[index], self.normal)
