"""The perceptual hash of a picture, which every pair carries.

The picture at 64 x 64 pixels, its tissue centred and its brightness equalised, then
the signs of the lowest 16 x 16 coefficients of its discrete cosine transform (Zauner,
"Implementation and benchmarking of perceptual image hash functions", 2010), 255 bits without the
mean. Mirroring a picture only flips known bits.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_PX, SIDE = 64, 16
_CONTRAST = 24  # grey levels; a picture with a smaller range, such as noise in air, has no hash
_SHIFT_STEPS = 8  # the centre of the tissue is rounded to an eighth of a pixel


def perceptual_hash(picture: NDArray[np.uint8]) -> str:
    """A grey picture (H, W) uint8 -> 64 hexadecimal digits, or "" for one without contrast.

    All sums are of integers, so that every machine gives the same bits. The tissue is centred by
    shifting the cosines; a mirrored picture then differs exactly in the bits of odd frequencies.
    """
    small = cv2.resize(picture, (_PX, _PX), interpolation=cv2.INTER_AREA).astype(np.int64)
    ordered = np.sort(small, axis=None)
    low, high = ordered[len(ordered) // 100], ordered[-1 - len(ordered) // 100]
    if high - low < _CONTRAST:
        return ""
    above = small - low
    tissue = 2 * above.size * above > above.sum()  # more than half the mean
    counts = np.bincount(small[tissue], minlength=256)
    rank = 50 + 205 * (2 * np.cumsum(counts) - counts) // (2 * counts.sum())
    even = np.where(tissue, rank[small], 0)
    rows, columns = _cosines(tissue.sum(axis=1)), _cosines(tissue.sum(axis=0))
    bits = (rows @ even @ columns.T).ravel()[1:] > 0
    return np.packbits(bits).tobytes().hex()


def _cosines(tissue: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cosines of the lowest frequencies (16, 64) along an axis, about the centre of the tissue."""
    middle = np.average(np.arange(_PX), weights=tissue)
    shift = np.rint(((_PX - 1) / 2 - middle) * _SHIFT_STEPS) / _SHIFT_STEPS
    places = np.arange(_PX) + 0.5 + shift
    waves = np.cos(np.pi / _PX * np.outer(np.arange(SIDE), places))
    return np.asarray(np.rint(4096 * waves), np.int64)
