"""A volume of 8 bits that convert keeps on its source's own grid: labels, or the scan itself.

It is NIfTI, but for slices without one spacing: no affine puts these at their places, so they are
an array (columns, rows, slices) of NumPy's in an .npz, which claims no geometry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.params.limits import Limits
from pipeline.runtime import files
from pipeline.volumes import nifti
from pipeline.volumes.arrays import Image8
from pipeline.volumes.volume import Volume


def write(file: Path, name: str, values: Image8, image: Volume, source: Path | None) -> str:
    """Write ``values`` (X, Y, Z) in RAS+ on the grid of ``image``; returns the file's sha256.

    ``source`` is the file of ``image`` where it is NIfTI or MGZ, whose header is then kept;
    ``name`` is that of the array in an .npz.
    """
    own: Any = image.grid.from_ras(values)
    with files.replacing(file, durable=False) as unfinished:
        if image.uneven is None:
            nifti.save_like(unfinished, own, image.grid, source)
        else:
            with unfinished.open("wb") as stream:
                np.savez_compressed(stream, **{name: own})
    return files.sha256(file)


def read(file: Path, name: str, limits: Limits) -> Image8:
    """The values of a file that :func:`write` wrote, in the axis order of the source's grid."""
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            return np.asarray(arrays[name], np.uint8)
    stored = nifti.read(file, limits)
    # the header holds the affine in single precision: the manifest's is the source's own
    return stored.grid.from_ras(stored.array).astype(np.uint8, copy=False)
