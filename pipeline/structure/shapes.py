"""What of one drawing's shapes the rules ask: sizes, pieces, borders, and where classes lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.structure.cuts import Floats, Ids

NEAR_VOXELS = 2
"""Classes no further apart than this, along every axis, lie side by side."""
_VOXELS = 1 << 22  # at once
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
    found = ndimage.find_objects(part, classes)[: classes - 1]
    pieces, strays = np.zeros(classes, np.int64), np.zeros(classes)
    touching, near = np.zeros((2, classes, classes), bool)
    centres, spreads = np.full((classes, 3), np.nan), np.full(classes, np.nan)
    for label, place in enumerate(found, 1):
        if place is not None:
            inside = part[place] == label
            numbers, count = ndimage.label(inside, _CORNERS)
            sizes = np.bincount(numbers.ravel())[1:]
            pieces[label], strays[label] = count, 1 - sizes.max() / sizes.sum()
            touching[label], near[label] = _beside(part, place, label, classes)
            index, spreads[label] = _spot(inside, world)
            first = corner - 1 + [side.start for side in place]
            centres[label] = world[:3, :3] @ (index + first) + world[:3, 3]
    counts = [np.bincount(one.ravel(), minlength=classes + 1) for one in part]
    voxels = np.sum(counts, axis=0)[:classes]
    if voxels[1:].any():
        there = np.flatnonzero(voxels[1:]) + 1
        whole = np.average(centres[there], axis=0, weights=voxels[there])
        spreads = np.sqrt(spreads**2 + ((centres - whole) ** 2).sum(axis=1))
    areas, vectors = _borders(part, world, classes)
    return Shape(
        voxels, pieces, strays, centres, spreads, areas, vectors, touching, near, world[:3, :3]
    )


def _beside(part: Ids, place: tuple[slice, ...], label: int, classes: int) -> tuple[Mask, Mask]:
    """Which classes (classes,) touch a class, and which lie near it."""
    wide = tuple(slice(max(one.start - NEAR_VOXELS, 0), one.stop + NEAR_VOXELS) for one in place)
    here = part[wide]
    touched = _grown(here == label, 1)
    near = _grown(touched, NEAR_VOXELS - 1)
    return _there(here[touched], classes), _there(here[near], classes)


def _grown(mask: Mask, reach: int) -> Mask:
    """A mask with all voxels that are no further from it, along any axis."""
    for axis in range(3):
        narrow, mask = mask, mask.copy()
        rest = (slice(None),) * axis
        for step in range(1, reach + 1):
            mask[(*rest, slice(step, None))] |= narrow[(*rest, slice(-step))]
            mask[(*rest, slice(-step))] |= narrow[(*rest, slice(step, None))]
    return mask


def _there(ids: Ids, classes: int) -> Mask:
    """Which classes (classes,) are among some ids."""
    return np.bincount(ids, minlength=classes + 1)[:classes] > 0


def _spot(inside: Mask, world: Floats) -> tuple[Floats, float]:
    """The centre (3,) of a mask as an index, and how widely it is spread about it, in mm.

    As if the axes stood upright on each other.
    """
    flat = np.count_nonzero(inside, axis=2)
    along = (flat.sum(axis=1), flat.sum(axis=0), np.count_nonzero(inside, axis=(0, 1)))
    centre, squares = np.zeros(3), np.zeros(3)
    for axis, counts in enumerate(along):
        index = np.arange(len(counts))
        centre[axis] = np.average(index, weights=counts)
        squares[axis] = np.average((index - centre[axis]) ** 2, weights=counts)
    sides = (world[:3, :3] ** 2).sum(axis=0)
    return centre, float(np.sqrt(squares @ sides))


def _borders(part: Ids, world: Floats, classes: int) -> tuple[Floats, Floats]:
    """Areas (classes + 1, classes + 1) and vector areas (classes, classes, 3) of all borders."""
    count = classes + 1
    areas, vectors = np.zeros((count, count)), np.zeros((count, count, 3))
    steps = world[:3, :3].T
    for axis in range(3):
        others = [steps[one] for one in range(3) if one != axis]
        face = np.cross(*others)
        face *= np.sign(face @ steps[axis])  # towards the next voxel
        pairs = np.zeros((count, count), np.int64)
        for low, high in _neighbours(part, axis):
            both = (low * np.intp(count) + high).ravel()
            pairs += np.bincount(both, minlength=count**2).reshape(count, count)
        areas += (pairs + pairs.T) * np.linalg.norm(face)
        vectors += (pairs - pairs.T)[..., None] * face
    np.fill_diagonal(areas, 0)
    return areas, vectors[:classes, :classes]


def _neighbours(part: Ids, axis: int) -> Iterator[tuple[Ids, Ids]]:
    """Voxels and those next to them along an axis, some slices at a time."""
    rest = (slice(None),) * axis
    low, high = part[(*rest, slice(-1))], part[(*rest, slice(1, None))]
    step = max(1, _VOXELS // max(1, part[0].size))
    for start in range(0, len(low), step):
        yield low[start : start + step], high[start : start + step]
