"""Stored voxels -> scaled values, piece by piece, in no larger a type than the values need.

A scan of 512 x 512 x 600 voxels takes 1.3 GB as float64, and three times that while it is scaled
at once. Whole numbers are kept as such, which is exact. All other values are float64, as nibabel
gives them, but for scans of more than :data:`MOST_DOUBLES` voxels, which are rounded to float32:
pictures are made in that type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from pipeline.volumes import stream

MOST_DOUBLES = 1 << 26
"""As many voxels are float64 at most: 512 MB."""
_PIECE = 1 << 20  # voxels that are scaled at once
_TABLED = 2  # bytes of a stored integer whose every value fits into a table
_WHOLE = (np.int16, np.int32)


def kept_as_stored(dtype: np.dtype[Any], slope: float, inter: float, voxels: int) -> bool:
    """Whether so many voxels are their own values, in a type that is kept."""
    return (slope, inter) == (1, 0) and not _too_large(dtype, voxels)


def read(
    content: BinaryIO, dtype: np.dtype[Any], shape: Sequence[int], slope: float, inter: float
) -> NDArray[Any]:
    """The next voxels of ``content``, stored as ``dtype``, as an array (i, j, k) of their values.

    Memory is touched only as far as bytes arrive. Raises EOFError if the content ends before.
    """
    voxels = math.prod(shape)
    if kept_as_stored(dtype, slope, inter, voxels):
        flat: NDArray[Any] = stream.take(content, voxels * dtype.itemsize).view(dtype)
    elif dtype.kind in "iu" and dtype.itemsize <= _TABLED:
        stored = stream.take(content, voxels * dtype.itemsize).view(dtype)
        flat = _by_table(stored, slope, inter)
    else:
        flat = _by_pieces(content, dtype, voxels, slope, inter)
    return flat.reshape(shape, order="F")


def _by_table(stored: NDArray[Any], slope: float, inter: float) -> NDArray[Any]:
    """The values of stored integers, each looked up; in the place of ``stored`` where they fit."""
    low, high = int(stored.min()), int(stored.max())
    every = np.arange(low, high + 1).astype(stored.dtype)
    table = apply_read_scaling(every, np.float64(slope), np.float64(inter))
    table = table.astype(_type_for(table, stored.size))
    fits = table.dtype.itemsize == stored.dtype.itemsize
    values = stored.view(table.dtype) if fits else np.empty(stored.size, table.dtype)
    for start in range(0, stored.size, _PIECE):
        piece = slice(start, start + _PIECE)
        values[piece] = table[stored[piece].astype(np.int64) - low]
    return values


def _by_pieces(
    content: BinaryIO, dtype: np.dtype[Any], voxels: int, slope: float, inter: float
) -> NDArray[Any]:
    """The values of what has too many to be tabled, as they arrive."""
    values: NDArray[Any] | None = None
    for start in range(0, voxels, _PIECE):
        count = min(_PIECE, voxels - start)
        stored = stream.take(content, count * dtype.itemsize).view(dtype)
        piece = apply_read_scaling(stored, np.float64(slope), np.float64(inter))
        if values is None:
            large = _too_large(piece.dtype, voxels)
            values = np.empty(voxels, np.float32 if large else piece.dtype)
        values[start : start + count] = piece
    assert values is not None
    return values


def _type_for(values: NDArray[Any], voxels: int) -> np.dtype[Any]:
    """The type that so many voxels of these values are kept in."""
    if np.isfinite(values).all() and (values == np.rint(values)).all():
        for whole in _WHOLE:
            if np.iinfo(whole).min <= values.min() and values.max() <= np.iinfo(whole).max:
                return np.dtype(whole)
    return np.dtype(np.float32) if _too_large(values.dtype, voxels) else values.dtype


def _too_large(dtype: np.dtype[Any], voxels: int) -> bool:
    return dtype.kind == "f" and dtype.itemsize > 4 and voxels > MOST_DOUBLES
