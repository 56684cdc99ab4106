"""Near-duplicates: pictures that show the same slice, made brighter, moved, mirrored or re-encoded.

Two steps. A *perceptual hash* finds candidates: the picture at 64 x 64 pixels, its tissue moved to
the middle and its brightness equalised, then the signs of the lowest 16 x 16 coefficients of its
discrete cosine transform (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010), 255 bits without the mean. Mirroring a picture only flips known bits. Then the
*correlation* of the two pictures at 128 x 128 pixels, over small shifts and mirror images, judges.

Measured (tests/benchmarks/likeness.md): in 16 million comparisons between slices of different
patients none that the hash lets through correlates above .973; copies that are brighter, shifted,
mirrored or JPEG-coded nearly all do above .98. Darkening a CT that is dark already loses a third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

SAME = 0.98
"""Pictures that correlate at least so much show the same slice."""
CANDIDATE_BITS = 52
"""Hashes that differ in more of their 255 bits are not looked at."""
ENOUGH = 1000
"""So many near-duplicates make the case; no more are looked for."""
Picture = Callable[[int], NDArray[np.uint8]]

_PX, _SIDE = 64, 16
_CONTRAST = 24  # grey levels; a picture that has fewer, such as noise in air, shows nothing
_SHIFT_STEPS = 8  # the tissue's middle is known to an eighth of a pixel
_COMPARE_PX, _SHIFT_PX, _BLUR_PX = 128, 8, 1.0
_REMEMBERED = 4096  # small pictures of each group: 64 MiB
_BLOCK = 1 << 24  # comparisons at once: 64 MiB
_frequency = np.arange(_SIDE * _SIDE)[1:]
_ODD_X, _ODD_Y = _frequency % _SIDE % 2 == 1, _frequency // _SIDE % 2 == 1
_MIRRORED = np.stack([_ODD_X & False, _ODD_X, _ODD_Y, _ODD_X ^ _ODD_Y])


@dataclass(frozen=True)
class Likeness:
    """Two pictures, by their positions, and how they correlate."""

    first: int
    second: int
    correlation: float


def perceptual_hash(picture: NDArray[np.uint8]) -> str:
    """A grey picture (H, W) uint8 -> 64 hexadecimal digits, or "" where it shows nothing.

    All sums are of integers, so that every machine has the same bits. The tissue is moved to the
    middle by moving the cosines; a mirrored picture then differs exactly in the bits of odd
    frequencies.
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
    """The lowest frequencies (16, 64) along one axis, about the middle of the tissue there."""
    middle = np.average(np.arange(_PX), weights=tissue)
    shift = np.rint(((_PX - 1) / 2 - middle) * _SHIFT_STEPS) / _SHIFT_STEPS
    places = np.arange(_PX) + 0.5 + shift
    waves = np.cos(np.pi / _PX * np.outer(np.arange(_SIDE), places))
    return np.asarray(np.rint(4096 * waves), np.int64)


def correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """The best correlation (-1 to 1) of two grey pictures over small shifts and mirror images."""
    return _correlation(_thumbnail(first), _thumbnail(second))


def _thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    size = (_COMPARE_PX, _COMPARE_PX)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    # blurred, so that a shift by half a pixel does not tell copies apart
    return np.asarray(cv2.GaussianBlur(small, (0, 0), _BLUR_PX), np.uint8)


def _correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
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
    here, there = (
        lru_cache(_REMEMBERED)(lambda at, read=read: _thumbnail(read(at))) for read in pictures
    )
    found: list[Likeness] = []
    for one, other in candidates(first, second):
        if len(found) == ENOUGH:
            break
        if wanted(one, other):
            alike = _correlation(here(one), there(other))
            if alike >= SAME:
                found.append(Likeness(one, other, alike))
    return found


def candidates(first: Sequence[str], second: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Positions of hashes that differ in few bits, mirror images included."""
    (here, one), (there, other) = _signs(first), _signs(second)
    if not len(here) or not len(there):
        return
    mirrored = np.concatenate([np.where(flips, -other, other) for flips in _MIRRORED])
    step = max(1, _BLOCK // len(mirrored))
    for start in range(0, len(one), step):
        # the product of two vectors of +-1 is the number of equal bits less that of different ones
        agree = one[start : start + step] @ mirrored.T
        rows, columns = np.nonzero(agree >= one.shape[1] - 2 * CANDIDATE_BITS)
        near = zip(here[rows + start].tolist(), there[columns % len(there)].tolist(), strict=True)
        yield from sorted(set(near))


def _signs(hashes: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions of the hashes that say something, and their bits as -1 and 1, (N, 255)."""
    known = [position for position, text in enumerate(hashes) if text]
    raw = np.frombuffer(bytes.fromhex("".join(hashes[k] for k in known)), np.uint8)
    bits = np.unpackbits(raw.reshape(len(known), _SIDE * _SIDE // 8), axis=1)[:, : len(_frequency)]
    return np.array(known, np.int64), (bits * 2.0 - 1.0).astype(np.float32)
