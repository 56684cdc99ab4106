"""What of one drawing's shapes the rules ask: sizes, pieces, borders, and where classes lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.structure.cuts import Floats, Ids

NEAR_VOXELS = 2
"""Classes no further apart than this, along every axis, lie side by side."""
_CORNERS = np.ones((3, 3, 3), bool)
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Shape:
    """Of one drawing, by class id, background first; lengths in mm.

    ``voxels``, ``pieces`` (connected by sides, edges and corners) and ``strays`` (the share of the
    voxels that is not in the largest piece): (classes,). ``centres`` (classes, 3), and ``spreads``
    (classes,): the root mean square distance of a class from the foreground's centre; both are NaN
    of what is not there. ``areas`` (classes + 1, classes + 1): of the faces between two classes in
    mm2; the last is what is not known or lies beyond the scan. ``vectors`` (classes, classes, 3):
    the vector area of the faces from one class to another, which of a plane's steps is the plane's
    own. ``touching``, ``near`` (classes, classes): by a side, an edge or a corner, and within
    :data:`NEAR_VOXELS`. ``voxel``: its steps (3, 3), in columns.
    """

    voxels: NDArray[np.int64]
    pieces: NDArray[np.int64]
    strays: Floats
    centres: Floats
    spreads: Floats
    areas: Floats
    vectors: Floats
    touching: Mask
    near: Mask
    voxel: Floats

    def present(self, *classes: int) -> bool:
        """Whether all of these are drawn."""
        return all(self.voxels[one] for one in classes)


def measure(ids: Ids, world: Floats, classes: int) -> Shape:
    """The shapes of class ids (N, rows, columns); ``world`` (4, 4): these indices to mm.

    Ids from ``classes`` on are not known.
    """
    known = np.where(ids < classes, ids, np.uint8(classes))
    drawn = (known > 0) & (known < classes)
    sides = ndimage.find_objects(drawn.view(np.uint8)) or [None]
    box = sides[0] or (slice(0),) * 3
    corner = np.array([one.start for one in box], np.float64)
    part = np.pad(known, 1, constant_values=classes)[tuple(slice(s.start, s.stop + 2) for s in box)]
    found = [ndimage.find_objects(part, classes)[one - 1] for one in range(1, classes)]
    pieces, strays = np.zeros(classes, np.int64), np.zeros(classes)
    touching, near = np.zeros((2, classes, classes), bool)
    for label, place in enumerate(found, 1):
        if place is not None:
            numbers, count = ndimage.label(part[place] == label, _CORNERS)
            sizes = np.bincount(numbers.ravel())[1:]
            pieces[label], strays[label] = count, 1 - sizes.max() / sizes.sum()
            touching[label], near[label] = (
                _around(part, place, label, reach, classes) for reach in (1, NEAR_VOXELS)
            )
    centres, spreads = _spots(part, world, corner - 1, classes)
    areas, vectors = _borders(part, world, classes)
    voxels = np.bincount(part.ravel(), minlength=classes + 1)[:classes]
    return Shape(
        voxels, pieces, strays, centres, spreads, areas, vectors, touching, near, world[:3, :3]
    )


def _around(part: Ids, place: tuple[slice, ...], label: int, reach: int, classes: int) -> Mask:
    """The classes (classes,) within ``reach`` voxels of a class, by each axis."""
    wide = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in place)
    here = part[wide]
    reached = ndimage.maximum_filter(here == label, 2 * reach + 1, mode="constant")
    return np.bincount(here[reached], minlength=classes + 1)[:classes] > 0


def _spots(part: Ids, world: Floats, corner: Floats, classes: int) -> tuple[Floats, Floats]:
    """Centres (classes, 3), and spreads (classes,) about the foreground's centre."""
    foreground = np.flatnonzero((part > 0) & (part < classes))
    which = part.ravel()[foreground]
    index = np.stack(np.unravel_index(foreground, part.shape), axis=1) + corner
    points = index @ world[:3, :3].T + world[:3, 3]
    counts = np.bincount(which, minlength=classes).astype(np.float64)
    counts[counts == 0] = np.nan
    sums = [np.bincount(which, points[:, axis], classes) for axis in range(3)]
    away = ((points - points.mean(axis=0)) ** 2).sum(axis=1) if len(points) else np.empty(0)
    spreads: Floats = np.sqrt(np.bincount(which, away, classes) / counts)
    return np.stack(sums, axis=1) / counts[:, None], spreads


def _borders(part: Ids, world: Floats, classes: int) -> tuple[Floats, Floats]:
    """Areas (classes + 1, classes + 1) and vector areas (classes, classes, 3) of all borders."""
    count = classes + 1
    areas, vectors = np.zeros((count, count)), np.zeros((count, count, 3))
    steps = world[:3, :3].T
    for axis in range(3):
        others = [steps[one] for one in range(3) if one != axis]
        face = np.cross(*others)
        face *= np.sign(face @ steps[axis])  # towards the next voxel
        rest = (slice(None),) * axis
        low, high = part[(*rest, slice(-1))], part[(*rest, slice(1, None))]
        pairs = np.bincount((low * np.intp(count) + high).ravel(), minlength=count**2).reshape(
            count, count
        )
        areas += (pairs + pairs.T) * np.linalg.norm(face)
        vectors += (pairs - pairs.T)[..., None] * face
    np.fill_diagonal(areas, 0)
    return areas, vectors[:classes, :classes]
