"""Spatial warps: displacement fields, their composition, and resampling through them.

A warp maps backwards. Its field (H, W, 2) float32 holds, per pixel, the displacement (x, y) in
pixels to its source: ``result[p] = picture[p + field[p]]``. :mod:`pipeline.warps.fields`
draws warps, :mod:`pipeline.warps.chains` makes chains of them. A picture at another size takes the
same field, looked up at the centres of its own pixels (:func:`composed`).

Images are sampled linearly at 1/32 px, labels take the nearest pixel of the exact
position, and positions outside the picture are 0 (air, background).

Same bytes on every machine: knots are quantised to 14 bits and weights of linear
interpolation are dyadic, so every sum of products fits float32's 24 bits and is exact
in any order, with or without fused multiplication; all else is single operations,
which IEEE 754 rounds alike everywhere. No processor's rounding can move a pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.volumes.arrays import Image8

Field = NDArray[np.float32]
Shape = tuple[int, int]
_QUANTUM = 2.0**-8  # px, of displacements below 64 px
_KNOT_BITS = 14
_MATRIX_BITS = 24
_STRIP_PIXELS = 2**14  # of so many, positions and maps stay in a core's cache
_NO_MAP: Any = None  # OpenCV's type stubs do not allow a missing second map


class Warp(Protocol):
    """Displacements (x, y) in px towards the source."""

    def field(self, shape: Shape) -> Field:
        """At every pixel of a picture (H, W): (H, W, 2)."""

    def at(self, points: Field) -> Field:
        """At positions (H, W, 2), which may lie between pixels and outside the picture."""

    @property
    def folds(self) -> bool:
        """Whether the map folds anywhere, so that tissue would appear twice."""


@dataclass(frozen=True)
class Affine:
    """Sources at ``centre`` + ``matrix`` (p - ``centre``) + ``shift``; matrix row by row, px."""

    matrix: tuple[float, float, float, float]
    centre: tuple[float, float]
    shift: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def of(matrix: Sequence[float], shape: Shape, shift: Sequence[float] = (0.0, 0.0)) -> Affine:
        """About the middle of a picture (H, W), with entries that are the same everywhere."""
        xx, xy, yx, yy = (round(entry * 2**_MATRIX_BITS) / 2**_MATRIX_BITS for entry in matrix)
        right, down = (round(px / _QUANTUM) * _QUANTUM for px in shift)
        centre = (shape[1] - 1) / 2, (shape[0] - 1) / 2
        return Affine((xx, xy, yx, yy), centre, (right, down))

    def field(self, shape: Shape) -> Field:
        return self.at(_pixels(shape))

    def at(self, points: Field) -> Field:
        xx, xy, yx, yy = self.matrix
        x, y = (points[..., axis] - np.float32(self.centre[axis]) for axis in (0, 1))
        moved = np.empty_like(points)
        moved[..., 0] = x * np.float32(xx - 1) + y * np.float32(xy)
        moved[..., 1] = x * np.float32(yx) + y * np.float32(yy - 1)
        return moved + np.array(self.shift, np.float32) if any(self.shift) else moved

    @property
    def folds(self) -> bool:
        return False  # a flip mirrors the whole picture, and nothing appears twice


@dataclass(frozen=True, eq=False)
class KnotGrid:
    """Displacements (h, w, 2) at knots ``cell`` px apart, a power of two; linear in between.

    Knot 0 lies half a pixel before the first pixel (on it if ``cell`` is 1).
    """

    knots: Field
    cell: int

    @staticmethod
    def of(displacements: NDArray[np.float64], cell: int) -> KnotGrid:
        """Displacements rounded to 14 bits of the largest, at the finest to 1/256 px."""
        largest = max(displacements.max(initial=0), -displacements.min(initial=0))
        quantum = max(_QUANTUM, 2.0 ** (int(np.frexp(largest)[1]) - _KNOT_BITS))
        knots = displacements / quantum
        np.rint(knots, out=knots)  # in place: at 512 px memory is what costs
        knots *= quantum
        return KnotGrid(knots.astype(np.float32), cell)

    def field(self, shape: Shape) -> Field:
        if self.cell == 1:
            return self.knots[: shape[0], : shape[1]]
        fine: Any = cv2.resize(
            self.knots, None, fx=self.cell, fy=self.cell, interpolation=cv2.INTER_LINEAR
        )
        first = self.cell // 2
        enlarged: Field = fine[first : first + shape[0], first : first + shape[1]]
        return enlarged

    def at(self, points: Field) -> Field:
        places = points if self.cell == 1 else (points + np.float32(0.5)) / np.float32(self.cell)
        maps = cv2.convertMaps(places, _NO_MAP, cv2.CV_16SC2)  # 1/32 of a cell: weights are dyadic
        bent = cv2.remap(self.knots, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(bent, np.float32)

    @property
    def folds(self) -> bool:
        """By the Jacobian's determinant, which within a cell is least at one of its corners."""
        x, y = cv2.split(self.knots / np.float32(self.cell))
        xx, yx = x[:, 1:] - x[:, :-1] + np.float32(1), y[:, 1:] - y[:, :-1]
        xy, yy = x[1:] - x[:-1], y[1:] - y[:-1] + np.float32(1)
        low, high = slice(None, -1), slice(1, None)
        return any(
            bool((xx[row] * yy[:, col] - yx[row] * xy[:, col]).min(initial=1) <= 0)
            for row in (low, high)
            for col in (low, high)
        )


def composed(warps: Sequence[Warp], shape: Shape, reference: Shape | None = None) -> Field:
    """One field that does what ``warps`` would do to a picture (H, W) one after the other.

    It looks through all of them at once: nothing is interpolated twice, and what one
    warp moves out of the picture and a later one moves back in is not lost.

    ``reference``: the shape of the picture that the warps were drawn for, if it is another. The
    field is then theirs at the centres of this picture's pixels, in pixels of this picture.
    """
    *earlier, last = warps
    if reference is None or reference == shape:
        points, field = _pixels(shape), last.field(shape)
    else:
        points = _pixels(shape, reference)
        field = last.at(points)
    for warp in reversed(earlier):
        field = field + warp.at(field + points)
    if reference is None or reference == shape:
        return field
    return field * np.array([shape[1] / reference[1], shape[0] / reference[0]], np.float32)


class Strip(NamedTuple):
    """Some rows of a field in fixed point, as :func:`cv2.remap` takes it fastest."""

    first: int
    pixel: NDArray[np.int16]  # (rows, W, 2): the source's pixel
    between: NDArray[np.uint16]  # (rows, W): how far beyond it, in 1/32 px
    nearest: NDArray[np.int16]  # (rows, W, 2)


def strips(field: Field) -> Iterator[Strip]:
    """The field from top to bottom. Used up one by one they are fast, kept they can be shared."""
    pixels = _pixels((field.shape[0], field.shape[1]))
    rows_each = max(1, _STRIP_PIXELS // field.shape[1])
    for first in range(0, len(field), rows_each):
        rows = slice(first, first + rows_each)
        sources = field[rows] + pixels[rows]
        pixel, between = cv2.convertMaps(sources, _NO_MAP, cv2.CV_16SC2)
        # without nninterpolation positions are truncated and labels move half a pixel
        nearest, _ = cv2.convertMaps(sources, _NO_MAP, cv2.CV_16SC2, nninterpolation=True)
        yield Strip(
            first,
            np.asarray(pixel, np.int16),
            np.asarray(between, np.uint16),
            np.asarray(nearest, np.int16),
        )


def bend(image: Image8, ids: Image8, field: Iterable[Strip]) -> tuple[Image8, Image8]:
    """An image (H, W) or (H, W, channels) and class ids (H, W) through the same field."""
    bent_image, bent_ids = np.empty_like(image), np.empty_like(ids)
    for strip in field:
        rows = slice(strip.first, strip.first + len(strip.pixel))
        maps = strip.pixel, strip.between
        cv2.remap(image, *maps, cv2.INTER_LINEAR, bent_image[rows], cv2.BORDER_CONSTANT)
        maps = strip.nearest, _NO_MAP
        cv2.remap(ids, *maps, cv2.INTER_NEAREST, bent_ids[rows], cv2.BORDER_CONSTANT)
    return bent_image, bent_ids


@lru_cache(maxsize=4)
def _pixels(shape: Shape, reference: Shape | None = None) -> Field:
    """The position (x, y) of every pixel, (H, W, 2); shared, do not write into it.

    With a ``reference``, where its centre lies in a picture of that shape, in pixels of that.
    """
    height, width = reference or shape
    x, y = np.meshgrid(_along(shape[1], width), _along(shape[0], height))
    return np.stack([x, y], axis=-1).astype(np.float32)


def _along(count: int, reference: int) -> NDArray[np.float64]:
    """The centres of ``count`` pixels along a side that is ``reference`` pixels long."""
    return (np.arange(count, dtype=np.float64) + 0.5) * (reference / count) - 0.5
