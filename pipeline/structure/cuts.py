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
_MOST_VOXELS = 3  # that a voxel on the wrong side can cost
_SAMPLE = 1 << 14  # voxels of a class that decide a direction
_FIRST_TILT, _LAST_TILT = 16.0, 0.25  # degrees


@dataclass(frozen=True)
class Cut:
    """A plane: voxels whose place along ``normal`` (3,) is ``above`` or more are the first class.

    Places are those of :func:`places`. ``wrong``: how many voxels of the first and of the second
    class lie on the other's side. ``divides``: whether each class has some on its own.
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
    """The cut perpendicular to ``normal`` that comes closest to two classes (N, rows, columns).

    A voxel on the wrong side costs its distance from the plane, three voxels at most: what lies
    astray does not move the plane, and of a frayed border it takes the middle, more exactly than
    the number of such voxels would. Of equally good places, the middle one.
    """
    ours: list[Places] = []
    theirs: list[Places] = []
    for at, place in places(ids.shape, world, normal):
        ours.append(place[ids[at] == first])
        theirs.append(place[ids[at] == second])
    return _best(np.concatenate(ours), np.concatenate(theirs), world, normal)[0]


def _best(ours: Places, theirs: Places, world: Floats, normal: Floats) -> tuple[Cut, float]:
    """The cut between the places of two classes, and what it costs."""
    most = _MOST_VOXELS * float(np.abs(world[:3, :3].T @ normal).max()) / _STEP_MM
    known, which = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
    if len(known) < 2:
        return Cut(normal, 0, (0, len(theirs)), False), len(theirs) * most
    one, other = (
        np.bincount(part, minlength=len(known)).astype(np.float64)
        for part in (which[: len(ours)], which[len(ours) :])
    )
    between = (known[1:] + known[:-1] + 1) // 2
    cost = _astray(known, one, between, most)
    cost += _astray(-known[::-1], other[::-1], -between[::-1], most)[::-1]
    best = np.flatnonzero(cost <= cost.min() * (1 + 1e-9))
    at = int(best[(len(best) - 1) // 2])
    wrong = int(one[: at + 1].sum()), int(other[at + 1 :].sum())
    divides = wrong[0] < len(ours) and wrong[1] < len(theirs)
    return Cut(normal, int(between[at]), wrong, divides), float(cost[at])


def _astray(known: Places, counts: Floats, above: Places, most: float) -> Floats:
    """What voxels at ``known`` places, so many at each, cost that should lie above each plane."""
    number, sums = (np.append(0, np.cumsum(one)) for one in (counts, counts * known))
    below, far = (np.searchsorted(known, one) for one in (above, above - most))
    cost: Floats = (number[below] - number[far]) * above - (sums[below] - sums[far])
    return cost + most * number[far]


def facing(ids: Ids, first: int, second: int, world: Floats, start: Floats) -> Floats:
    """The direction (3,), from second to first, whose cut comes closest to two classes.

    Tilts ``start`` by ever smaller angles as long as that helps.
    """
    ours, theirs = (_points(ids == one, world) for one in (first, second))

    def cost(normal: Floats) -> float:
        mine, others = (
            np.rint(points @ normal / _STEP_MM).astype(np.int64) for points in (ours, theirs)
        )
        return _best(mine, others, world, normal)[1]

    normal, least, degrees = start, cost(start), _FIRST_TILT
    while degrees >= _LAST_TILT and least:
        tilted = list(_tilted(normal, degrees))
        costs = [cost(one) for one in tilted]
        if min(costs) < least:
            least, normal = min(costs), tilted[int(np.argmin(costs))]
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
