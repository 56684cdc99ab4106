"""Whether one drawing obeys one rule: within the tolerance, and to the voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.structure import cuts
from pipeline.structure.cuts import Floats, Ids
from pipeline.structure.shapes import Shape

BORDER_VOXELS = 0.5
STRAY = 0.01
LEAST_AREA = 0.2
"""Of a border, as a share of the smaller class's volume to the power of 2/3."""
_FLAT = 0.5  # of the faces of a border, those that no other face faces


@dataclass(frozen=True)
class Verdict:
    """Of one rule in one drawing; of a plane also the cut's mean Dice.

    ``axis`` and ``side``: the nearest of x, y and z, and whether the first class is at its end.
    """

    holds: bool = False
    exact: bool = False
    dice: float = np.nan
    axis: int = 0
    side: int = 0


def one_piece(shape: Shape, label: int) -> Verdict:
    """Of a class: nearly all voxels must be in one piece."""
    return Verdict(bool(shape.strays[label] <= STRAY), bool(shape.pieces[label] == 1))


def inside(shape: Shape, outer: int, inner: int) -> Verdict:
    """Of a class in another: of its border, as far as it is known, the other has nearly all."""
    *borders, unknown = shape.areas[inner].tolist()
    whole = sum(borders)
    share = borders[outer] / whole if whole else 0.0
    return Verdict(share >= 1 - STRAY and unknown <= whole, 0 < borders[outer] == whole)


def apart(shape: Shape, first: int, second: int) -> Verdict:
    """Of classes that lie side by side and share next to no border."""
    least = min(shape.areas[label].sum() for label in (first, second))
    little = bool(shape.areas[first, second] <= STRAY * least)
    near = bool(shape.near[first, second])
    return Verdict(near and little, near and not shape.touching[first, second])


def flat(shape: Shape, first: int, second: int) -> bool:
    """Whether two classes share a border, and little of it faces back."""
    vector = shape.vectors[first, second]
    one, two, three = shape.voxel.T
    faces = np.stack([np.cross(two, three), np.cross(three, one), np.cross(one, two)])
    left = np.abs(np.linalg.solve(faces.T, vector)) @ np.linalg.norm(faces, axis=1)
    smaller = min(shape.voxels[first], shape.voxels[second]) * _voxel_mm3(shape)
    wide = np.linalg.norm(vector) >= LEAST_AREA * smaller ** (2 / 3)
    return bool(wide and left >= _FLAT * shape.areas[first, second])


def normal(shape: Shape, first: int, second: int) -> Floats:
    """The direction (3,) of the border of two classes, from the second to the first."""
    vector = shape.vectors[second, first]
    towards: Floats = vector / (np.linalg.norm(vector) or 1)
    return towards


def of_axis(ids: Ids, world: Floats, shape: Shape, first: int, second: int) -> Verdict:
    """Of the plane perpendicular to that of x, y and z which the border's direction is nearest."""
    towards = normal(shape, first, second)
    axis = int(np.abs(towards).argmax())
    side = 1 if towards[axis] > 0 else -1
    found = of_plane(ids, world, shape, (first, second), side * np.eye(3)[axis])
    return Verdict(found.holds, found.exact, found.dice, axis, side)


def of_plane(
    ids: Ids, world: Floats, shape: Shape, pair: tuple[int, int], towards: Floats
) -> Verdict:
    """Of the best plane perpendicular to a direction: the border's mean distance from it."""
    cut = cuts.along(ids, *pair, world, towards)
    thick = float(np.abs(shape.voxel.T @ towards).max())
    area = float(np.linalg.norm(shape.vectors[pair])) or np.inf
    deviation = sum(cut.wrong) * _voxel_mm3(shape) / (area * thick)
    dice = [
        2 * (size - lost) / (2 * size - lost + gained)
        for size, lost, gained in zip(
            (int(shape.voxels[label]) for label in pair), cut.wrong, cut.wrong[::-1], strict=True
        )
    ]
    fits = cut.divides and deviation <= BORDER_VOXELS
    return Verdict(fits, not sum(cut.wrong), float(np.mean(dice)))


def _voxel_mm3(shape: Shape) -> float:
    return float(abs(np.linalg.det(shape.voxel)))
