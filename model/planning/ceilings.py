"""How coarse pixels may be: what is left of the labels themselves when they are drawn with fewer.

No network can be better than its grid. Each class of the labels that convert kept is brought to
larger pixels, as pictures are, where it has a share of each pixel: the probabilities of a network
that is never wrong. These are taken back as predictions are, and the Dice of what returns with what
was there is the ceiling of a network with such pixels.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.inference.sampling import Sampler, class_ids
from pipeline.pairs import manifest
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.limits import Limits

COARSER = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""How many times larger than the source's the pixels are that are tried."""
_CASES, _SLICES = 8, 6  # of a case, that are looked at, evenly spread

Ids = NDArray[np.uint8]


def measured(
    folder: Path, pairs: Sequence[Pair], classes: int, limits: Limits
) -> dict[float, float]:
    """The ceiling of each of :data:`COARSER`, mean over classes and cases that show them.

    ``folder`` is ``data/converted/<dataset>``. Cases without foreground say nothing; where all are,
    there is no ceiling.
    """
    shown = [
        members
        for members in manifest.grouped(
            (pair for pair in pairs if not pair.parent), "case", "rater"
        )
        if any(not pair.empty for pair in members)
    ]
    step = max(1, -(-len(shown) // _CASES))
    found: dict[float, list[float]] = {coarser: [] for coarser in COARSER[1:]}
    for members in shown[::step]:
        stack = KeptTruth.of(folder, members[0], limits).stack(members[0].rater)
        filled = np.flatnonzero((stack > 0).any(axis=(1, 2)))
        slices = stack[filled[:: max(1, -(-filled.size // _SLICES))]]
        spacing = _pixel(members[0])
        for coarser, dices in found.items():
            dices += left(slices, spacing, coarser, classes)
    left_of = {coarser: statistics.mean(dices) for coarser, dices in found.items() if dices}
    return {COARSER[0]: 1.0, **left_of} if left_of else {}


def left(slices: Ids, spacing: tuple[float, float], coarser: float, classes: int) -> list[float]:
    """The Dice of every class that slices (N, rows, columns) show, after the way there and back.

    ``spacing``: of rows and columns, in mm; the coarser pixels are square.

    >>> ids = np.zeros((1, 8, 8), np.uint8); ids[0, 2:6, 2:6] = 1
    >>> left(ids, (1.0, 1.0), 1.0, 2)
    [1.0]
    """
    rows, columns = slices.shape[1:]
    side = max(rows * spacing[0], columns * spacing[1])
    px = max(1, round(side / (min(spacing) * coarser)))
    canvas = Canvas.fit((rows, columns), spacing, px)
    sampler = Sampler.of(canvas, px)
    back = np.stack([class_ids(sampler(_shares(canvas, one, classes))) for one in slices])
    dices: list[float] = []
    for label in range(1, classes):
        true, drawn = slices == label, back == label
        if true.any():
            both = np.count_nonzero(true & drawn)
            dices.append(float(2 * both / (np.count_nonzero(true) + np.count_nonzero(drawn))))
    return dices


def _shares(canvas: Canvas, ids: Ids, classes: int) -> NDArray[np.float32]:
    """The share (px, px, classes) that every class has of each pixel of a slice's picture."""
    shares = [canvas.image(ids == label) for label in range(1, classes)]
    return np.stack([1 - sum(shares), *shares], axis=-1)


def ceiling(known: Mapping[float, float], coarser: float) -> float:
    """The ceiling of pixels so many times larger, between and beyond those that are known.

    1 where nothing is known: then only time decides.
    """
    if not known:
        return 1.0
    return float(np.interp(coarser, list(known), list(known.values())))


def _pixel(pair: Pair) -> tuple[float, float]:
    """Rows' and columns' spacing of the slices of a pair, as its canvas states them: in the same
    unit, which is enough."""
    _, _, _, row_scale, col_scale, _, _ = pair.canvas
    return float(row_scale), float(col_scale)
