"""The exact chain between a native slice and the square picture that is made of it.

A slice is padded to a square in millimetres and scaled to ``px`` x ``px``. The
padding is a whole number of picture pixels, so a native slice of ``px`` x ``px``
square pixels comes through untouched. Pixel centres lie at ``index + 0.5``.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SQUARE = 1e-4  # pixels whose sides differ by less than this share are square


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
    def fit(cls, shape: tuple[int, int], spacing: tuple[float, float], px: int) -> Canvas:
        """The canvas for slices of ``shape`` (rows, columns) and ``spacing`` in mm."""
        height, width = shape
        row_mm, col_mm = spacing
        if abs(row_mm / col_mm - 1) < _SQUARE:
            row_mm = col_mm = 1.0
        side = max(height * row_mm, width * col_mm)
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
        """As plain numbers, for the manifest."""
        return tuple(float(value) for value in astuple(self))

    @property
    def exact(self) -> bool:
        """Labels survive native -> picture -> native: no native pixel is skipped."""
        return min(self.row_scale, self.col_scale) >= 1

    def image(self, native: NDArray[Any]) -> NDArray[np.float32]:
        """A native slice (height, width) -> (px, px) float32, zero outside.

        Linear interpolation; area averaging along an axis that shrinks.
        """
        native = np.asarray(native, np.float32)
        rows = _resample(native, self.row_scale, self.row_offset, self.px)
        return np.ascontiguousarray(
            _resample(rows.T, self.col_scale, self.col_offset, self.px).T, np.float32
        )

    def labels(self, native: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class ids (height, width) -> (px, px): the native pixel under each centre, or 0."""
        rows, rows_in = _under(self.px, self.row_scale, self.row_offset, self.height)
        cols, cols_in = _under(self.px, self.col_scale, self.col_offset, self.width)
        picture = np.zeros((self.px, self.px), np.uint8)
        inside = _span(rows_in), _span(cols_in)
        picture[inside] = native.take(rows[rows_in], axis=0).take(cols[cols_in], axis=1)
        return picture

    def native(self, picture: NDArray[Any]) -> NDArray[Any]:
        """A picture (px, px) -> (height, width): the pixel under each native centre."""
        rows = _centres(self.height, self.row_scale, self.row_offset, self.px)
        cols = _centres(self.width, self.col_scale, self.col_offset, self.px)
        return picture[np.ix_(rows, cols)]


def _under(px: int, scale: float, offset: int, native: int) -> tuple[NDArray[Any], NDArray[Any]]:
    index = np.floor((np.arange(px) + 0.5 - offset) / scale).astype(np.intp)
    return np.clip(index, 0, native - 1), (index >= 0) & (index < native)


def _span(inside: NDArray[np.bool_]) -> slice:
    """Where ``inside`` is true, which is one stretch."""
    first = int(inside.argmax())
    return slice(first, first + int(np.count_nonzero(inside)))


def _centres(native: int, scale: float, offset: int, px: int) -> NDArray[np.intp]:
    index: NDArray[np.intp] = np.floor((np.arange(native) + 0.5) * scale + offset).astype(np.intp)
    return np.minimum(index, px - 1)


def _resample(array: NDArray[np.float32], scale: float, offset: int, px: int) -> NDArray[Any]:
    """Axis 0 of ``array`` (n, m) onto ``px`` picture pixels, zero outside.

    Written in element-wise arithmetic, which gives the same bits on every
    processor; a matrix product would not.
    """
    n = len(array)
    if scale == 1 and offset == 0 and n == px:
        return array
    _, inside = _under(px, scale, offset, n)
    picture = np.zeros((px, array.shape[1]), np.float32)
    where = np.flatnonzero(inside)
    if scale >= 1:
        position = np.clip((where + 0.5 - offset) / scale - 0.5, 0, n - 1)
        lower = np.floor(position).astype(np.intp)
        weight = (position - lower).astype(np.float32)[:, None]
        upper = np.minimum(lower + 1, n - 1)
        picture[where] = array[lower] * (1 - weight) + array[upper] * weight
    else:
        edges = np.clip(np.stack([where - offset, where + 1 - offset]) / scale, 0, n)
        total = np.zeros((n + 1, array.shape[1]), np.float64)
        np.cumsum(array, axis=0, dtype=np.float64, out=total[1:])
        below = np.minimum(np.floor(edges).astype(np.intp), n - 1)
        part = (edges - below)[..., None]
        start, stop = total[below] + part * (total[below + 1] - total[below])
        picture[where] = (stop - start) / (edges[1] - edges[0])[:, None]
    return picture
