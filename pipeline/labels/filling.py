"""The contours of one region on one slice -> the pixels that they enclose together.

Programs that trace a mask write one of two things. Outlines half way between the pixels inside and
those outside, or drawn by hand: a pixel is inside where its centre is
(:mod:`pipeline.labels.scanlines`). Or outlines through the centres of the outermost pixels, as
OpenCV traces them: there a centre on the outline is inside, of an inner contour too, since its
points are pixels of the region as well. Which of both a file holds is seen from its points: by
chance, one in twenty lies as near to a centre.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.labels.scanlines import Polygon, inside

_NEAR = 0.12  # of a pixel: coordinates may have one digit of a mm
_MOST, _ENOUGH = 0.95, 12  # the share of points at centres, and the fewest that are judged

Mask = NDArray[np.bool_]


def through_centres(polygons: Sequence[Polygon]) -> bool:
    """Whether outlines (N, 2), in pixels, run through the centres of pixels."""
    points = np.concatenate(polygons) if polygons else np.empty((0, 2))
    if len(points) < _ENOUGH:
        return False
    near = (np.abs(points - np.rint(points)) <= _NEAR).all(axis=1)
    return bool(near.mean() >= _MOST)


def filled(polygons: Sequence[Polygon], shape: tuple[int, int], centred: bool) -> tuple[Mask, int]:
    """The pixels (I, J) of a slice that polygons enclose, and how many beyond ``shape`` they do."""
    if not centred:
        return inside(polygons, shape)
    snapped = [np.rint(polygon) for polygon in polygons]
    mask, beyond = inside(snapped, shape)
    return mask | _on_lines(snapped, shape), beyond


def _on_lines(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Mask:
    """The pixels whose centres lie exactly on the edges of polygons with whole coordinates."""
    mask = np.zeros(shape, bool)
    for polygon in polygons:
        start = polygon.astype(np.int64)
        way = np.roll(start, -1, axis=0) - start
        parts = np.maximum(np.gcd(way[:, 0], way[:, 1]), 1)
        edge = np.repeat(np.arange(len(parts)), parts)
        number = np.arange(len(edge)) - np.repeat(parts.cumsum() - parts, parts)
        points = start[edge] + way[edge] // parts[edge, None] * number[:, None]
        seen = ((points >= 0) & (points < shape)).all(axis=1)
        mask[tuple(points[seen].T)] = True
    return mask


def single(polygons: Sequence[Polygon], shape: tuple[int, int]) -> tuple[list[Polygon], int, int]:
    """Polygons of which no two enclose the same pixels, how many were left out for that, and how
    many pixels lie in two of which neither is within the other.

    By even-odd, a contour that a file holds twice would enclose nothing.
    """
    masks = [inside([polygon], shape)[0] for polygon in polygons]
    sizes = [int(mask.sum()) for mask in masks]
    order = sorted(range(len(polygons)), key=lambda one: -sizes[one])
    kept: list[int] = []
    innermost = np.full(shape, -1)  # the place in ``kept`` of the smallest that was drawn so far
    crossed = 0
    for number in order:
        here = innermost[masks[number]]
        around = np.unique(here).tolist()
        if len(around) == 1 and around[0] >= 0 and sizes[kept[around[0]]] == sizes[number]:
            continue
        if len(around) > 1:
            crossed += int((here > around[0]).sum())
        innermost[masks[number]] = len(kept)
        kept.append(number)
    return [polygons[number] for number in kept], len(polygons) - len(kept), crossed
