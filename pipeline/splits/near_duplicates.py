"""Near-duplicates: pictures that show the same slice, made brighter, moved, mirrored or re-encoded.

Two steps. A *perceptual hash* finds candidates: the picture at 64 x 64 pixels, its tissue centred
and its brightness equalised, then the signs of the lowest 16 x 16 coefficients of its
discrete cosine transform (Zauner, "Implementation and benchmarking of perceptual image hash
functions", 2010), 255 bits without the mean. Mirroring a picture only flips known bits. Then the
*correlation* of the two pictures at 128 x 128 pixels, over small shifts and mirror images, decides.

Measured (tests/benchmarks/likeness.md): in 16 million comparisons between slices of different
patients no candidate correlates above .973; nearly all copies that are brighter, shifted, mirrored
or JPEG-coded correlate above .98. Of copies of a dark CT that are darker still, a third is missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.pairs.likeness import SIDE
from pipeline.volumes.arrays import Image8

SAME = 0.98
"""Pictures with at least this correlation show the same slice."""
CANDIDATE_BITS = 52
"""Pictures whose hashes differ in more of their 255 bits are not compared."""
ENOUGH = 1000
"""The search ends after this many near-duplicates."""
ReadPicture = Callable[[int], Image8]
"""Reads a picture (H, W) uint8 by its position."""

_COMPARE_PX, _SHIFT_PX, _BLUR_PX = 128, 8, 1.0
_REMEMBERED = 4096  # small pictures of each group: 64 MiB
_BLOCK, _COLUMNS = 1 << 18, 1 << 12  # comparisons at once, so few that the cache holds them
_frequency = np.arange(SIDE * SIDE)[1:]
_ODD_X, _ODD_Y = _frequency % SIDE % 2 == 1, _frequency // SIDE % 2 == 1
_PARITIES = (~_ODD_X & ~_ODD_Y, _ODD_X & ~_ODD_Y, ~_ODD_X & _ODD_Y, _ODD_X & _ODD_Y)
_WORD = SIDE * SIDE // 4  # bits of each parity; the first has one less, that of the mean


class Look(NamedTuple):
    """What is known of a picture without reading it; equal digests are the same picture."""

    hash: str
    patient: str
    digest: str


@dataclass(frozen=True)
class Likeness:
    """Two pictures, by their positions, and how they correlate."""

    first: int
    second: int
    correlation: float


def correlation(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """The best correlation (-1 to 1) of two grey pictures over small shifts and mirror images."""
    return moved(thumbnail(first), thumbnail(second))


def in_place(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """The correlation of two :func:`thumbnail` pictures as they lie, 0 for one of a single value.

    Neighbouring slices of a scan show the head in one place. The sums are exact, so that every
    machine gives the same number.
    """
    first, second = one.ravel().astype(np.int64), other.ravel().astype(np.int64)
    count, both = first.size, int(first @ second)
    a, b = int(first.sum()), int(second.sum())
    spread = (count * int(first @ first) - a * a) * (count * int(second @ second) - b * b)
    return (count * both - a * b) / math.sqrt(spread) if spread else 0.0


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A grey picture (H, W) uint8 -> what is compared of it, (128, 128) uint8."""
    size = (_COMPARE_PX, _COMPARE_PX)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    # blurred, so that a shift by half a pixel hardly lowers the correlation of copies
    return np.asarray(cv2.GaussianBlur(small, (0, 0), _BLUR_PX), np.uint8)


def moved(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """:func:`correlation` of two :func:`thumbnail` pictures."""
    inner = one[_SHIFT_PX:-_SHIFT_PX, _SHIFT_PX:-_SHIFT_PX]
    if inner.std() == 0 or other.std() == 0:
        return 0.0
    return max(
        float(cv2.matchTemplate(turned, inner, cv2.TM_CCOEFF_NORMED).max())
        for turned in (other, other[:, ::-1].copy(), other[::-1].copy(), other[::-1, ::-1].copy())
    )


def near_duplicates(
    first: Sequence[Look], second: Sequence[Look], pictures: tuple[ReadPicture, ReadPicture]
) -> list[Likeness]:
    """Pictures of two patients, one of each group, that show the same slice and are not copies.

    At most :data:`ENOUGH`. ``pictures`` reads a picture of each group by its position; only
    candidates are read. Equal hashes are compared once: the work grows with the number of
    different hashes, not with the number of pictures.
    """
    here, there = (
        lru_cache(_REMEMBERED)(lambda at, read=read: thumbnail(read(at))) for read in pictures
    )
    patients: dict[str, int] = {}
    one, other = _Hashes(first, patients), _Hashes(second, patients)
    found: list[Likeness] = []
    for codes in candidates(one.texts, other.texts, (one.patients, other.patients)):
        kinds = product(one.members(codes[0]).items(), other.members(codes[1]).items())
        for (digest, mine), (another, theirs) in kinds:
            if digest == another or (mine.keys() == theirs.keys() and len(mine) == 1):
                continue
            alike = moved(here(_any(mine)), there(_any(theirs)))
            if alike < SAME:
                continue
            for patient, stranger in product(mine, theirs):
                if patient == stranger:
                    continue
                for pair in product(mine[patient], theirs[stranger]):
                    found.append(Likeness(*pair, alike))
                    if len(found) == ENOUGH:
                        return found
    return found


_Members = Mapping[str, Mapping[str, Sequence[int]]]


class _Hashes:
    """The different hashes (``texts``) of a group, without empty ones, and the pictures of each.

    ``patients``: for each hash the number of its patient if there is only one, else -1.
    """

    def __init__(self, looks: Sequence[Look], patients: dict[str, int]) -> None:
        self._looks = looks
        codes: dict[str, int] = {}
        of = [codes.setdefault(look.hash, len(codes)) if look.hash else -1 for look in looks]
        whose = [patients.setdefault(look.patient, len(patients)) for look in looks]
        self.texts = list(codes)
        self._order = np.argsort(of, kind="stable")
        self._starts = np.searchsorted(np.array(of)[self._order], np.arange(len(codes) + 1))
        shown = np.array(whose, np.int64)[self._order]
        least, most = (
            edge.reduceat(shown, self._starts[:-1]) if codes else np.empty(0, np.int64)
            for edge in (np.minimum, np.maximum)
        )
        self.patients = np.where(least == most, least, -1)

    def members(self, code: int) -> _Members:
        """Digest -> patient -> positions of the pictures of a hash."""
        found: dict[str, dict[str, list[int]]] = {}
        for at in self._order[self._starts[code] : self._starts[code + 1]].tolist():
            look = self._looks[at]
            found.setdefault(look.digest, {}).setdefault(look.patient, []).append(at)
        return found


def _any(members: Mapping[str, Sequence[int]]) -> int:
    return next(iter(members.values()))[0]


def candidates(
    first: Sequence[str],
    second: Sequence[str],
    patients: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Iterator[tuple[int, int]]:
    """Positions of hashes that differ in few bits, mirror images included, in order.

    Two hashes of the same one of ``patients`` (numbers from 0; -1 is several) are left out.
    """
    (here, one), (there, other) = _words(first), _words(second)
    columns = min(_COLUMNS, _BLOCK)
    rows = _BLOCK // columns
    for top in range(0, len(here), rows):
        near: list[tuple[int, int]] = []
        for left in range(0, len(there), columns):
            few = _differ(one[:, top : top + rows], other[:, left : left + columns])
            row, column = np.nonzero(few <= CANDIDATE_BITS)
            row, column = here[row + top], there[column + left]
            if patients is not None and len(row):
                known = patients[0][row]
                strangers = (known < 0) | (known != patients[1][column])
                row, column = row[strangers], column[strangers]
            near += zip(row.tolist(), column.tolist(), strict=True)
        yield from sorted(near)


def _differ(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """The number of bits in which hashes (4, N) and (4, M) differ, least of all mirrorings: (N, M).

    Mirroring flips all bits of odd frequencies.
    """
    even, x, y, both = (
        np.bitwise_count(mine[:, None] ^ theirs) for mine, theirs in zip(one, other, strict=True)
    )
    upright, turned = x + both, x + (_WORD - both)
    upright = np.minimum(upright, 2 * _WORD - upright) + y
    turned = np.minimum(turned, 2 * _WORD - turned) + (_WORD - y)
    fewest: NDArray[np.uint8] = even + np.minimum(upright, turned)
    return fewest


def _words(hashes: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Positions of the hashes that are not empty, and their bits by parity, (4, N)."""
    known = [position for position, text in enumerate(hashes) if text]
    raw = np.frombuffer(bytes.fromhex("".join(hashes[k] for k in known)), np.uint8)
    bits = np.unpackbits(raw.reshape(len(known), SIDE * SIDE // 8), axis=1)[:, : len(_frequency)]
    words = np.zeros((len(_PARITIES), len(known), _WORD // 8), np.uint8)
    for word, parity in zip(words, _PARITIES, strict=True):
        word[:] = np.packbits(bits[:, parity], axis=1)
    return np.array(known, np.int64), words.view(np.uint64)[..., 0]
