"""The exact mapping between a native slice and the square picture that is made of it.

A slice is padded to a square in millimetres and scaled to ``px`` x ``px``. The
padding is a whole number of picture pixels, so a native slice of ``px`` x ``px``
square pixels stays unchanged. Pixel centres lie at ``index + 0.5``.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED

_SQUARE = 1e-4  # pixels whose sides differ by less than this fraction are square


@dataclass(frozen=True)
class Canvas:
    """Picture pixel = offset + scale * native pixel, for rows and for columns.

    ``height`` and ``width`` are native pixels; scales are picture pixels per
    native pixel; offsets are whole picture pixels.
    """

    px: int
    height: int
    width: int
    row_scale: float
    col_scale: float
    row_offset: int
    col_offset: int

    @classmethod
    def fit(
        cls,
        shape: tuple[int, int],
        spacing: tuple[float, float],
        px: int,
        field_mm: float = 0.0,
    ) -> Canvas:
        """The canvas for slices of ``shape`` (rows, columns) and ``spacing`` in mm.

        It shows a square of ``field_mm``, or of the slice's longer side where that is more: nothing
        is cut off. Square pixels that are as large as the picture's stay unchanged.

        >>> Canvas.fit((40, 30), (1.0, 1.0), 64, field_mm=64.0).row_scale
        1.0
        """
        height, width = shape
        row_mm, col_mm = spacing
        field = field_mm
        if abs(row_mm / col_mm - 1) < _SQUARE:
            field /= col_mm  # in pixels, as the sides are from here on
            row_mm = col_mm = 1.0
            if abs(field / px - 1) < _SQUARE:
                field = float(px)
        side = max(height * row_mm, width * col_mm, field)
        row_scale, col_scale = px * row_mm / side, px * col_mm / side
        return cls(
            px,
            height,
            width,
            row_scale,
            col_scale,
            (px - round(height * row_scale)) // 2,
            (px - round(width * col_scale)) // 2,
        )

    @classmethod
    def of(cls, values: tuple[float, ...]) -> Canvas:
        """The canvas whose :meth:`values` these are."""
        px, height, width, row_scale, col_scale, row_offset, col_offset = values
        return cls(
            int(px),
            int(height),
            int(width),
            row_scale,
            col_scale,
            int(row_offset),
            int(col_offset),
        )

    def values(self) -> tuple[float, ...]:
        """The fields as plain numbers, for the manifest."""
        return tuple(float(value) for value in astuple(self))

    @property
    def exact(self) -> bool:
        """Whether native -> picture -> native preserves labels: no native pixel is skipped."""
        return min(self.row_scale, self.col_scale) >= 1

    def image(self, native: NDArray[Any]) -> NDArray[np.float32]:
        """A native slice (height, width) -> (px, px) float32, zero outside.

        Linear interpolation; area averaging along an axis that is reduced.
        """
        picture = np.array(native, np.float32, order="C")  # a copy, even of what stays as it is
        picture = _resample(picture, 0, self.row_scale, self.row_offset, self.px)
        return _resample(picture, 1, self.col_scale, self.col_offset, self.px)

    def labels(self, native: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class ids (height, width) -> (px, px): the native pixel under each centre, or 0."""
        rows, rows_in = _under(self.px, self.row_scale, self.row_offset, self.height)
        cols, cols_in = _under(self.px, self.col_scale, self.col_offset, self.width)
        picture = np.zeros((self.px, self.px), np.uint8)
        inside = _span(rows_in), _span(cols_in)
        picture[inside] = native.take(rows[rows_in], axis=0).take(cols[cols_in], axis=1)
        return picture

    def mask(self, native: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As :meth:`labels`; of a slice that nobody annotated, its margins neither."""
        mask = self.labels(native)
        if native.min() == IGNORED:
            mask[:] = IGNORED
        return mask

    def native(self, picture: NDArray[Any]) -> NDArray[Any]:
        """A picture (px, px) -> (height, width): the pixel under each native centre."""
        rows = _centres(self.height, self.row_scale, self.row_offset, self.px)
        cols = _centres(self.width, self.col_scale, self.col_offset, self.px)
        return picture[np.ix_(rows, cols)]


def _under(px: int, scale: float, offset: int, native: int) -> tuple[NDArray[Any], NDArray[Any]]:
    index = np.floor((np.arange(px) + 0.5 - offset) / scale).astype(np.intp)
    return np.clip(index, 0, native - 1), (index >= 0) & (index < native)


def _span(inside: NDArray[np.bool_]) -> slice:
    """The slice in which ``inside`` is true; it is contiguous."""
    first = int(inside.argmax())
    return slice(first, first + int(np.count_nonzero(inside)))


def _centres(native: int, scale: float, offset: int, px: int) -> NDArray[np.intp]:
    index: NDArray[np.intp] = np.floor((np.arange(native) + 0.5) * scale + offset).astype(np.intp)
    return np.minimum(index, px - 1)


def _resample(
    array: NDArray[np.float32], axis: int, scale: float, offset: int, px: int
) -> NDArray[np.float32]:
    """One axis of ``array`` (rows, columns) onto ``px`` picture pixels, zero outside.

    Written in element-wise arithmetic, which gives the same bits on every
    processor; a matrix product would not.
    """
    if scale == 1 and offset == 0 and array.shape[axis] == px:
        return array
    where, indices, weights = _taps(array.shape[axis], scale, offset, px)
    if axis == 0:
        picture = np.zeros((px, array.shape[1]), np.float32)
        inside, weights = picture[where], weights[:, :, None]
    else:
        picture = np.zeros((array.shape[0], px), np.float32)
        inside, weights = picture[:, where], weights[:, None, :]
    for index, weight in zip(indices, weights, strict=True):
        inside += array.take(index, axis=axis) * weight
    return picture


@lru_cache(maxsize=64)
def _taps(
    n: int, scale: float, offset: int, px: int
) -> tuple[slice, NDArray[np.intp], NDArray[np.float32]]:
    """Which of ``n`` native pixels make each picture pixel, and with which weights.

    The picture pixels as a slice, and per tap the native index (taps, pixels) and its weight
    (taps, pixels): two neighbours if the axis is enlarged, all covered pixels if it is reduced.
    """
    _, under = _under(px, scale, offset, n)
    where = _span(under)
    pixel = np.arange(where.start, where.stop)
    if scale >= 1:
        position = np.clip((pixel + 0.5 - offset) / scale - 0.5, 0, n - 1)
        lower = np.floor(position).astype(np.intp)
        indices = np.stack([lower, np.minimum(lower + 1, n - 1)])
        weights = np.stack([1 - (position - lower), position - lower])
    else:
        start, stop = (np.clip((pixel + end - offset) / scale, 0, n) for end in (0, 1))
        taps = np.arange(int(np.ceil(1 / scale)) + 1)[:, None]
        indices = np.floor(start).astype(np.intp) + taps
        covered = np.minimum(stop, indices + 1) - np.maximum(start, indices)
        weights = np.maximum(covered, 0) / (stop - start)
        indices = np.minimum(indices, n - 1)
    return where, indices, weights.astype(np.float32)
