"""Probabilities at the network's size -> probabilities on the grid that a picture was made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.pairs.canvas import Canvas

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Sampler:
    """Linear interpolation at the native pixel centres of one canvas, rows first.

    The way from a native pixel (``canvas.height`` x ``canvas.width``) through the picture to the
    network's ``px`` x ``px`` is one affine map for each axis, so one interpolation covers it. An
    axis whose pixels are the network's own has None.
    """

    rows: NDArray[np.float32] | None
    columns: NDArray[np.float32] | None

    @classmethod
    def of(cls, canvas: Canvas, px: int) -> Sampler:
        """For pictures of ``canvas`` that the network sees at ``px`` x ``px``."""
        return cls(
            _weights(canvas.height, canvas.row_scale, canvas.row_offset, canvas.px, px),
            _weights(canvas.width, canvas.col_scale, canvas.col_offset, canvas.px, px),
        )

    def __call__(self, probability: Probabilities) -> Probabilities:
        """Those of one picture (px, px, classes) -> (classes, height, width)."""
        return self.tall(self.wide(probability), slice(None))

    def wide(self, probability: Probabilities) -> Probabilities:
        """Those of one picture (px, px, classes), columns alone -> (classes, px, width)."""
        by_class: Probabilities = np.ascontiguousarray(probability.transpose(2, 0, 1))
        return by_class if self.columns is None else by_class @ self.columns.T

    def tall(self, wide: Probabilities, rows: slice) -> Probabilities:
        """Some rows of what :meth:`wide` gave -> (classes, rows, width)."""
        if self.rows is None:
            return wide[:, rows]
        sampled: Probabilities = self.rows[rows] @ wide
        return sampled


def class_ids(probability: Probabilities) -> NDArray[np.uint8]:
    """The likeliest class of (classes, ...); the first of equal ones."""
    ids = np.zeros(probability.shape[1:], np.uint8)
    best = probability[0].copy()
    for label in range(1, len(probability)):
        better = probability[label] > best
        ids[better] = label
        np.maximum(best, probability[label], out=best)
    return ids


def _weights(
    native: int, scale: float, offset: int, canvas_px: int, px: int
) -> NDArray[np.float32] | None:
    """Row i holds the weights (px,) of the network's pixels at native pixel i: two of them."""
    place = ((np.arange(native) + 0.5) * scale + offset) * (px / canvas_px) - 0.5
    place = np.clip(place, 0, px - 1)
    lower = np.minimum(np.floor(place).astype(np.intp), max(px - 2, 0))
    weights = np.zeros((native, px), np.float32)
    each = np.arange(native)
    weights[each, lower] = 1 - (place - lower)
    if px > 1:
        weights[each, lower + 1] += (place - lower).astype(np.float32)
    return None if np.array_equal(weights, np.eye(px, dtype=np.float32)) else weights
