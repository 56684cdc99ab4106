"""Polygons -> pixels: a pixel is inside where its centre is, by the even-odd rule.

Each row of pixel centres is a line; an odd number of edges cross it to the left of what is inside.
Outlines of one region are drawn together, so one within another is a hole, two that are one behind
the other with a keyhole between are a ring, and the order of points does not matter. A centre on
an outline is inside where the region lies towards higher indices alone, so regions that touch share
no pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem

MOST_CROSSINGS = 10_000_000
"""Of edges and lines of one region and slice; a thousand outlines of a whole picture have fewer."""
Polygon = NDArray[np.float64]


def inside(polygons: Sequence[Polygon], shape: tuple[int, int]) -> tuple[NDArray[np.bool_], int]:
    """Which pixel centres (I, J) are inside an odd number of polygons.

    And how many centres beyond ``shape`` are.

    Polygons are points (N, 2) in pixels: (0, 0) is the centre of the first pixel, and the last
    point is joined to the first.
    """
    mask = np.zeros(shape, bool)
    line, across = _crossings(polygons)
    if not len(line):
        return mask, 0
    order = np.lexsort((across, line))
    line, across = line[order], across[order]
    rows = line[::2]  # edges are closed, so every line is crossed an even number of times
    starts, stops = np.ceil(across[::2]), np.ceil(across[1::2])
    total = int((stops - starts).sum())
    seen = (rows >= 0) & (rows < shape[0])
    within: NDArray[np.intp] = rows[seen].astype(np.intp)
    bounds: NDArray[np.intp] = np.clip([starts[seen], stops[seen]], 0, shape[1]).astype(np.intp)
    turns = np.zeros((shape[0], shape[1] + 1), np.int32)
    np.add.at(turns, (within, bounds[0]), 1)
    np.add.at(turns, (within, bounds[1]), -1)
    mask = turns.cumsum(axis=1)[:, :-1] > 0
    return mask, total - int((bounds[1] - bounds[0]).sum())


def require_within_reach(polygons: Sequence[Polygon], where: object) -> None:
    """Raises :class:`Problem` for more than :data:`MOST_CROSSINGS`, before memory is taken."""
    edges = [np.abs(np.diff(one[:, 0], append=one[:1, 0])).sum() for one in polygons]
    if sum(edges) > MOST_CROSSINGS:
        raise Problem(
            f"expected contours within reach of the image, got {sum(edges):,.0f} crossings with"
            " lines of its pixels",
            where=where,
            remedy="Are the contours those of this scan?",
        )


def _crossings(polygons: Sequence[Polygon]) -> tuple[Polygon, Polygon]:
    """Where edges cross lines of pixel centres: the number of the line, and the place on it."""
    closed = [polygon for polygon in polygons if len(polygon)]
    if not closed:
        return np.empty(0), np.empty(0)
    start = np.concatenate(closed)
    end = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in closed])
    falls = (start[:, 0] > end[:, 0])[:, None]  # an edge gives the same crossings either way
    low, high = np.where(falls, end, start), np.where(falls, start, end)
    first = np.ceil(low[:, 0])
    counts = np.maximum(np.ceil(high[:, 0]) - first, 0).astype(np.int64)
    edge = np.repeat(np.arange(len(counts)), counts)
    within = np.arange(len(edge)) - np.repeat(counts.cumsum() - counts, counts)
    line = first[edge] + within
    low, high = low[edge], high[edge]
    slope = (high[:, 1] - low[:, 1]) / (high[:, 0] - low[:, 0])
    return line, low[:, 1] + (line - low[:, 0]) * slope
