"""Near-duplicates: pictures that show the same slice, made brighter, moved, mirrored or re-encoded.

Two steps. A *perceptual hash* finds candidates: the picture at 64 x 64 pixels, its tissue moved to
the middle and its brightness equalised, then the signs of the lowest 16 x 16 coefficients of its
discrete cosine transform (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010), 255 bits without the mean. Mirroring a picture only flips known bits. Then the
*correlation* of the two pictures at 128 x 128 pixels, over small shifts and mirror images, judges.

Measured (tests/benchmarks/likeness.py): different patients' slices correlate at most .969, copies
that are brighter, darker, shifted, mirrored or JPEG-coded almost always above .975.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

SAME = 0.975
"""Pictures that correlate at least so much show the same slice."""
CANDIDATE_BITS = 40
"""Hashes that differ in more of their 255 bits are not looked at."""
ENOUGH = 1000
"""So many near-duplicates make the case; no more are looked for."""
Picture = Callable[[int], NDArray[np.uint8]]

_PX, _SIDE, _TISSUE, _CONTRAST = 64, 16, 0.1, 8
_COMPARE_PX, _SHIFT_PX = 128, 8
_BLOCK = 1 << 24  # comparisons at once: 64 MiB
_frequency = np.arange(_SIDE * _SIDE)[1:]
_ODD_X, _ODD_Y = _frequency % _SIDE % 2 == 1, _frequency // _SIDE % 2 == 1
_MIRRORED = np.stack([_ODD_X & False, _ODD_X, _ODD_Y, _ODD_X ^ _ODD_Y])
_COSINES = np.rint(
    4096 * np.cos(np.pi / _PX * np.outer(np.arange(_SIDE), np.arange(_PX) + 0.5))
).astype(np.int64)


@dataclass(frozen=True)
class Likeness:
    """Two pictures, by their positions, and how they correlate."""

    first: int
    second: int
    correlation: float


def perceptual_hash(picture: NDArray[np.uint8]) -> str:
    """A grey picture (H, W) uint8 -> 64 hexadecimal digits, or "" where it shows nothing."""
    small = cv2.resize(picture, (_PX, _PX), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, (1, 99))
    if high - low < _CONTRAST:
        return ""
    tissue = small > low + _TISSUE * (high - low)
    counts = np.bincount(small[tissue], minlength=256)
    rank = 50 + 205 * (2 * np.cumsum(counts) - counts) // (2 * counts.sum())
    even = np.where(tissue, rank[small], 0).astype(np.uint8)
    rows, columns = np.nonzero(tissue)
    middle = (_PX - 1) / 2
    to_middle = np.array([[1, 0, middle - columns.mean()], [0, 1, middle - rows.mean()]])
    centred = cv2.warpAffine(even, to_middle, (_PX, _PX)).astype(np.int64)
    bits = (_COSINES @ centred @ _COSINES.T).ravel()[1:] > 0  # integers: no rounding anywhere
    return np.packbits(bits).tobytes().hex()


def correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """The best correlation (-1 to 1) of two grey pictures over small shifts and mirror images."""
    one, other = (
        cv2.resize(picture, (_COMPARE_PX, _COMPARE_PX), interpolation=cv2.INTER_AREA)
        for picture in (first, second)
    )
    inner = one[_SHIFT_PX:-_SHIFT_PX, _SHIFT_PX:-_SHIFT_PX]
    if inner.std() == 0 or other.std() == 0:
        return 0.0
    return max(
        float(cv2.matchTemplate(turned, inner, cv2.TM_CCOEFF_NORMED).max())
        for turned in (other, other[:, ::-1].copy(), other[::-1].copy(), other[::-1, ::-1].copy())
    )


def near_duplicates(
    first: Sequence[str],
    second: Sequence[str],
    pictures: tuple[Picture, Picture],
    wanted: Callable[[int, int], bool] = lambda _one, _other: True,
) -> list[Likeness]:
    """Pairs of pictures, one of each group, that show the same slice; at most :data:`ENOUGH`.

    ``first`` and ``second`` are perceptual hashes; ``pictures`` reads a picture of each group by
    its position. It is asked for candidates only, and of these for what is ``wanted``.
    """
    found = []
    for one, other in _candidates(first, second):
        if wanted(one, other):
            alike = correlation(pictures[0](one), pictures[1](other))
            if alike >= SAME:
                found.append(Likeness(one, other, alike))
        if len(found) == ENOUGH:
            break
    return found


def _candidates(first: Sequence[str], second: Sequence[str]) -> list[tuple[int, int]]:
    """Positions of hashes that differ in few bits, mirror images included."""
    (here, one), (there, other) = _signs(first), _signs(second)
    if not len(here) or not len(there):
        return []
    mirrored = np.concatenate([np.where(flips, -other, other) for flips in _MIRRORED])
    pairs: set[tuple[int, int]] = set()
    step = max(1, _BLOCK // len(mirrored))
    for start in range(0, len(one), step):
        # the product of two vectors of +-1 is the number of equal bits less that of different ones
        agree = one[start : start + step] @ mirrored.T
        rows, columns = np.nonzero(agree >= one.shape[1] - 2 * CANDIDATE_BITS)
        found = here[rows + start].tolist(), there[columns % len(there)].tolist()
        pairs.update(zip(*found, strict=True))
    return sorted(pairs)


def _signs(hashes: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions of the hashes that say something, and their bits as -1 and 1, (N, 255)."""
    known = [position for position, text in enumerate(hashes) if text]
    raw = np.frombuffer(bytes.fromhex("".join(hashes[k] for k in known)), np.uint8)
    bits = np.unpackbits(raw.reshape(len(known), _SIDE * _SIDE // 8), axis=1)[:, : len(_frequency)]
    return np.array(known, np.int64), (bits * 2.0 - 1.0).astype(np.float32)
