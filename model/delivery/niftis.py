"""Class ids and maps of a scan as NIfTI in its own grid, with the geometry of its header.

A map is written while it is computed, some slices at a time: its voxels wait in a file beside the
target, in the source's own axis order, until the last of them is there and all are compressed.
"""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.runtime import files
from pipeline.volumes import nifti
from pipeline.volumes.volume import Grid

_STEPS = 65535  # of 16 bits: the value 1 is stored as this
_NOISE = 1e-3  # by so much a probability may leave its range in float32
_LEVEL = 4  # of gzip
_CHUNK = 1 << 22  # bytes that are compressed at once


def write_ids(file: Path, ids: NDArray[np.uint8], grid: Grid, source: Path | None) -> None:
    """Write class ids (X, Y, Z) in RAS+ order as NIfTI in ``grid``, completely or not at all.

    ``source``: the file whose header is kept, see :func:`pipeline.volumes.nifti.image_like`.
    """
    with files.replacing(file) as unfinished:
        nifti.save_like(unfinished, grid.from_ras(ids), grid, source)


class MapWriter:
    """Writes a map of values 0 to ``highest`` as ``.nii.gz``, a slab of slices at a time.

    Values are stored in 16 bits, as multiples of ``highest`` / 65535. ``axis`` (0, 1 or 2: x, y or
    z of RAS+) is that along which slabs come, in any order. As a context manager, it writes the
    file where the block ends, and nothing if it raises.
    """

    def __init__(
        self, file: Path, grid: Grid, source: Path | None, axis: int, highest: float = 1.0
    ) -> None:
        self._file, self._grid, self._axis, self._highest = file, grid, axis, highest
        empty = np.broadcast_to(np.zeros((), np.uint16), grid.shape)
        self._header = nifti.image_like(empty, grid, source).header
        self._header.set_slope_inter(highest / _STEPS, 0)
        self._dtype: np.dtype[np.uint16] = self._header.get_data_dtype()
        self._waiting = files.beside(file.with_name(f"{file.name}.voxels"))
        self._missing = np.ones(grid.to_ras(empty).shape[axis], bool)
        file.parent.mkdir(parents=True, exist_ok=True)
        _reserve(self._waiting, empty.nbytes)

    def put(self, start: int, values: NDArray[np.float32]) -> None:
        """Keep values (X, Y, Z) in RAS+ order, which begin at index ``start`` of the axis."""
        low, high = float(values.min()), float(values.max())
        if not -_NOISE <= low <= high <= self._highest + _NOISE:
            raise ValueError(f"values of a map are 0 to {self._highest:g}, not {low:g} to {high:g}")
        stored = values * np.float32(_STEPS / self._highest)
        np.clip(np.rint(stored, out=stored), 0, _STEPS, out=stored)
        slab = slice(start, start + values.shape[self._axis])
        # mapped for the moment only, because what is mapped counts as memory
        mapped = np.memmap(self._waiting, self._dtype, "r+", 0, self._grid.shape, "F")
        self._grid.to_ras(mapped)[(slice(None),) * self._axis + (slab,)] = stored
        self._missing[slab] = False

    def close(self) -> None:
        """Compress what was put into the file. Raises ValueError if slices are missing."""
        if self._missing.any():
            raise ValueError(f"{int(self._missing.sum())} slices of {self._file.name} are missing")
        with (
            files.replacing(self._file) as unfinished,
            unfinished.open("wb") as target,
            # neither a name nor a time in its header: the same map has the same bytes
            gzip.GzipFile("", "wb", _LEVEL, target, mtime=0) as packed,
            self._waiting.open("rb") as waiting,
        ):
            self._header.write_to(packed)
            packed.write(bytes(int(self._header["vox_offset"]) - packed.tell()))
            while chunk := waiting.read(_CHUNK):
                packed.write(chunk)
        self.discard()

    def discard(self) -> None:
        """Remove what waits beside the target."""
        self._waiting.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.close()
        finally:
            self.discard()


def _reserve(file: Path, count: int) -> None:
    """Make ``file`` of ``count`` bytes, or fail: a full disk would end a program that maps it."""
    with file.open("wb") as stream:
        stream.truncate(count)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, count)
