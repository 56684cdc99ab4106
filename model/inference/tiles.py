"""Pictures larger than what a network sees: asked about part by part, and put together smoothly.

Near its border a network sees little of what surrounds a pixel. So parts overlap, and of each the
middle counts most: weights fall as a Gaussian with a standard deviation of an eighth of the part's
side (Isensee et al., Nat Methods 18, 2021).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from model.inference.mirrors import Run
from model.network_input import starts

OVERLAP = 0.5
"""The share of a part that neighbours have in common, at least; 0 is edge to edge."""

_DEVIATIONS = 8  # of the Gaussian in a part's side
_BATCH_PIXELS = 1 << 19  # of the pictures that are held or asked about at once
_MOST_AT_ONCE = 32


def at_once(px: int) -> int:
    """How many pictures or parts of (px, px) are asked about at once."""
    return max(1, min(_BATCH_PIXELS // px**2, _MOST_AT_ONCE))


def asked(
    run: Run, pictures: NDArray[np.uint8], px: int, overlap: float = OVERLAP
) -> NDArray[np.float32]:
    """Whole pictures (B, P, P, channels) -> (B, P, P, classes), by ``run`` of parts (px, px).

    Pictures of (px, px) are what ``run`` answers to them.
    """
    whole = pictures.shape[1]
    if whole == px:
        return run(pictures)
    corners, weights = starts(whole, px, overlap), _weights(whole, px, overlap)
    rows = columns = list(zip(corners, weights, strict=True))
    parts = list(product(range(len(pictures)), rows, columns))
    total: NDArray[np.float32] | None = None
    step = at_once(px)
    for some in (parts[start : start + step] for start in range(0, len(parts), step)):
        seen = [pictures[n, y : y + px, x : x + px] for n, (y, _), (x, _) in some]
        answers = run(np.stack(seen))
        if total is None:
            total = np.zeros((*pictures.shape[:3], answers.shape[-1]), np.float32)
        for answer, (n, (y, down), (x, across)) in zip(answers, some, strict=True):
            total[n, y : y + px, x : x + px] += answer * np.outer(down, across)[..., None]
    assert total is not None
    return total


@lru_cache(maxsize=8)
def _weights(whole: int, px: int, overlap: float) -> NDArray[np.float32]:
    """Of the pixels of every part along one axis (parts, px); those of each pixel add up to 1.

    A part's weights are the products of its rows' and its columns', and so are their sums. The
    least before division, exp(-8) at an end, is far above 0 in float32, and so is its square.
    """
    deviation = px / _DEVIATIONS
    bell = np.exp(-0.5 * ((np.arange(px) - (px - 1) / 2) / deviation) ** 2)
    corners, total = starts(whole, px, overlap), np.zeros(whole)
    for corner in corners:
        total[corner : corner + px] += bell
    weights = [bell / total[corner : corner + px] for corner in corners]
    return np.stack(weights).astype(np.float32)
