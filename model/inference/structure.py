"""A prediction made to obey rules that the labels of train obey (:mod:`pipeline.structure`).

NumPy alone. Which rules, :mod:`model.scoring.obeying` chooses on valid.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.regions import Mask, Regions, box, holes, regions
from pipeline.structure import cuts
from pipeline.structure.label_rules import DIVIDED, NESTED, ONCE, LabelRule

Ids = NDArray[np.uint8]
CORRECTED = (DIVIDED, NESTED, ONCE)
"""The kinds of rules that say what to do with what breaks them."""


def obey(ids: Ids, rules: Sequence[LabelRule], world: NDArray[np.float64] | None) -> Ids:
    """Class ids (N, rows, columns) that obey ``rules``, one after the other.

    ``world`` (4, 4): these indices to mm in RAS+; None where slices have no one spacing, which
    leaves rules of planes out.

    - Of two classes that a plane divides, each gets the voxels of both on its side of the plane
      that moves fewest.
    - Of a class that is one piece the largest stays. Every other becomes the class (or background)
      that it shares most faces with.
    - Of a class inside another: background that the two enclose becomes the one that it shares
      most faces with, pieces of the inner class that share less than half of their faces with the
      outer become what they share most with, and what of the others still borders on anything
      else becomes the outer one.

    >>> ids = np.array([[[1, 1, 2, 1, 2, 2]]], np.uint8)
    >>> obey(ids, [LabelRule("divided", (1, 2), (-1.0, 0.0, 0.0))], np.eye(4)[[2, 1, 0, 3]])
    array([[[1, 1, 2, 2, 2, 2]]], dtype=uint8)
    """
    changed = ids.copy()
    for rule in rules:
        part = changed[_around(changed, rule.classes)]  # a view
        if rule.kind == DIVIDED and world is not None:
            _divide(part, rule, world)
        elif rule.kind == ONCE:
            _unite(part, *rule.classes)
        elif rule.kind == NESTED:
            _enclose(part, *rule.classes)
    return changed


def _around(ids: Ids, classes: Sequence[int]) -> tuple[slice, ...]:
    """The box of some classes, with a voxel more on every side."""
    boxes = [found for one in classes if (found := box(ids, one))[0].stop]
    if not boxes:
        return (slice(0),) * 3
    return tuple(
        slice(max(min(s.start for s in sides) - 1, 0), max(s.stop for s in sides) + 1)
        for sides in zip(*boxes, strict=True)
    )


def _divide(part: Ids, rule: LabelRule, world: NDArray[np.float64]) -> None:
    """Relabel two classes by the best cut; nothing where one of them is not there."""
    first, second = rule.classes
    normal = np.asarray(rule.normal)
    if not ((part == first).any() and (part == second).any()):
        return
    if rule.free:
        normal = cuts.facing(part, first, second, world, normal)
    cut = cuts.along(part, first, second, world, normal)
    if not cut.divides:
        return
    for at, place in cuts.places(part.shape, world, cut.normal):
        slab, above = part[at], place >= cut.above
        both = (slab == first) | (slab == second)
        slab[both & above] = first
        slab[both & ~above] = second


def _unite(part: Ids, label: int) -> None:
    found = regions(part == label, corners=True, planar=False)
    if found.count > 1:
        small = np.ones(found.count, bool)
        small[found.sizes.argmax()] = False
        _give(part, found, small, _faces(part, found, small))


def _enclose(part: Ids, outer: int, inner: int) -> None:
    together = (part == outer) | (part == inner)
    empty = regions(holes(together, planar=False) & (part == 0), corners=False, planar=False)
    every = np.ones(empty.count, bool)
    _give(part, empty, every, _faces(part, empty, every))
    found = regions(part == inner, corners=True, planar=False)
    faces = _faces(part, found, np.ones(found.count, bool))
    outside = 2 * faces[:, outer] < faces.sum(axis=1) if found.count else np.zeros(0, bool)
    _give(part, found, outside, faces)
    strange = (part != outer) & (part != inner)
    beside = np.zeros(part.shape, bool)
    for axis in range(3):
        rest = (slice(None),) * axis
        beside[(*rest, slice(1, None))] |= strange[(*rest, slice(-1))]
        beside[(*rest, slice(-1))] |= strange[(*rest, slice(1, None))]
    part[beside & (part == inner)] = outer


def _faces(part: Ids, found: Regions, which: Mask) -> NDArray[np.int64]:
    """How many faces of each chosen region (count,) border on each class (count, 256)."""
    counts = np.zeros((found.count, 256), np.int64)
    for region, *place in found.voxels(which):
        own = part[tuple(place)]
        for axis in range(3):
            for step in (-1, 1):
                beside = [*place]
                beside[axis] = place[axis] + step
                there = (beside[axis] >= 0) & (beside[axis] < part.shape[axis])
                ids = part[tuple(one[there] for one in beside)]
                other = ids != own[there]
                np.add.at(counts, (region[there][other], ids[other]), 1)
    return counts


def _give(part: Ids, found: Regions, which: Mask, faces: NDArray[np.int64]) -> None:
    """Give chosen regions the class that they share most faces with; of equals the lowest id."""
    most = faces.argmax(axis=1)
    for label in np.unique(most[which]):
        found.paint(part, which & (most == label), int(label))
