"""The plane that divides two classes best: its place along a direction, and its direction.

NumPy alone: a prediction is corrected by the same cut that the probe judges labels by.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.uint8]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]
_STEP_MM = 1 / 128  # places nearer than this are one: affines of whole slices are not exact
_VOXELS = 1 << 22  # at once
_SAMPLE = 1 << 14  # voxels of a class that decide a direction
_FIRST_TILT, _LAST_TILT = 16.0, 0.25  # degrees


@dataclass(frozen=True)
class Cut:
    """A plane: voxels whose place along ``normal`` (3,) is ``above`` or more are the first class.

    ``wrong``: how many voxels of the first and of the second class lie on the other's side.
    ``divides``: whether both sides have voxels at all.
    """

    normal: Floats
    above: int
    wrong: tuple[int, int]
    divides: bool


def places(shape: tuple[int, ...], world: Floats, normal: Floats) -> Iterator[tuple[slice, Places]]:
    """Where the voxels of a stack (N, rows, columns) lie along a normal, some slices at a time.

    In steps of 1/128 mm from the first voxel. ``world`` (4, 4): (slice, row, column) to mm.
    """
    steps = world[:3, :3].T @ normal / _STEP_MM
    of_slice, of_row, of_column = (np.arange(shape[axis]) * steps[axis] for axis in range(3))
    within = of_row[:, None] + of_column
    count = max(1, _VOXELS // max(1, within.size))
    for start in range(0, shape[0], count):
        at = slice(start, min(start + count, shape[0]))
        yield at, np.rint(of_slice[at, None, None] + within).astype(np.int64)


def along(ids: Ids, first: int, second: int, world: Floats, normal: Floats) -> Cut:
    """The cut perpendicular to ``normal`` that puts fewest voxels on the wrong side.

    Of class ids (N, rows, columns). Of equally good places, the middle one.
    """
    ours: list[Places] = []
    theirs: list[Places] = []
    for at, place in places(ids.shape, world, normal):
        ours.append(place[ids[at] == first])
        theirs.append(place[ids[at] == second])
    return _best(np.concatenate(ours), np.concatenate(theirs), normal)


def _best(ours: Places, theirs: Places, normal: Floats) -> Cut:
    known, which = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    below, beyond = (
        np.append(0, np.cumsum(np.bincount(part, minlength=len(known))))
        for part in (which[: len(ours)], which[len(ours) :])
    )  # how many of each class lie below each place
    wrong = below + (len(theirs) - beyond)
    best = np.flatnonzero(wrong == wrong.min())
    at = int(best[(len(best) - 1) // 2])
    inside = 0 < at < len(known)
    above = int(known[at - 1] + known[at] + 1) // 2 if inside else 0
    return Cut(normal, above, (int(below[at]), int(len(theirs) - beyond[at])), inside)


def facing(ids: Ids, first: int, second: int, world: Floats, start: Floats) -> Floats:
    """The direction (3,), from second to first, whose cut puts fewest voxels on the wrong side.

    Tilts ``start`` by ever smaller angles as long as that helps.
    """
    ours, theirs = (_points(ids == one, world) for one in (first, second))

    def wrong(normal: Floats) -> int:
        mine, others = (
            np.rint(points @ normal / _STEP_MM).astype(np.int64) for points in (ours, theirs)
        )
        return sum(_best(mine, others, normal).wrong)

    normal, fewest, degrees = start, wrong(start), _FIRST_TILT
    while degrees >= _LAST_TILT and fewest:
        tilted = list(_tilted(normal, degrees))
        counts = [wrong(one) for one in tilted]
        if min(counts) < fewest:
            fewest, normal = min(counts), tilted[int(np.argmin(counts))]
        else:
            degrees /= 2
    return normal


def _points(mask: NDArray[np.bool_], world: Floats) -> Floats:
    """The voxels of a mask in mm (n, 3); of very many, some that do not depend on their order."""
    points = np.argwhere(mask) @ world[:3, :3].T + world[:3, 3]
    if len(points) <= _SAMPLE:
        return points
    order = np.lexsort(np.rint(points.T / _STEP_MM))
    return points[order[:: -(-len(points) // _SAMPLE)]]


def _tilted(normal: Floats, degrees: float) -> Iterator[Floats]:
    """A normal tilted to eight sides."""
    flat = np.eye(3)[int(np.abs(normal).argmin())]
    one = np.cross(normal, flat)
    one /= np.linalg.norm(one)
    other = np.cross(normal, one)
    for turn in range(8):
        side = np.cos(turn * np.pi / 4) * one + np.sin(turn * np.pi / 4) * other
        yield np.cos(np.radians(degrees)) * normal + np.sin(np.radians(degrees)) * side
