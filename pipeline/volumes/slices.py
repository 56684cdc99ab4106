"""Stacks of PNG or JPEG slices -> volumes, and what drawn labels mean.

Pictures have no geometry: their pixels count as square, and the picture is taken as a
radiologist sees it (anterior up, patient's right on the left), slice by slice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits
from pipeline.volumes.limits import require_voxels
from pipeline.volumes.picture_files import opened
from pipeline.volumes.volume import Grid, Volume, unslice

_WEIGHTS = (299, 587, 114)  # ITU-R BT.601 luma, in thousandths
WHOLE_MODES = ("1", "L", "I", "I;16", "I;16B")  # grey, in integers


def images(files: Sequence[Path], limits: Limits = Limits()) -> Volume:
    """Grey values of a stack, (X, Y, Z) in RAS+; coloured pictures by their luma.

    Raises :class:`Problem` for a picture that cannot be read or has another shape, and, before
    any is decoded, for pictures larger than ``limits`` allow, one or all together.
    """
    return stacked(files, limits, _grey)


def stacked(
    files: Sequence[Path], limits: Limits, of: Callable[[Image.Image, Path], NDArray[Any]]
) -> Volume:
    """What ``of`` makes of each picture, as a volume; all headers are judged first."""
    shapes, kinds = [], []
    for file in files:
        with opened(file, limits) as picture:
            shapes.append((picture.height, picture.width))
            kinds.append(np.float32 if of is _grey and picture.mode == "F" else np.int32)
        if shapes[-1] != shapes[0]:
            raise Problem(
                f"expected the shape of {files[0].name}, {shapes[0]}, got {shapes[-1]}",
                where=file,
                remedy="The slices of one case have one shape.",
            )
    height, width = shapes[0]
    require_voxels((width, height, len(files)), limits, files[0].parent)
    stack = np.empty((len(files), height, width), np.result_type(*kinds))
    for index, file in enumerate(files):
        with opened(file, limits) as picture:
            stack[index] = of(picture, file)
    return volume_of(stack)


def volume_of(stack: NDArray[Any]) -> Volume:
    """Pictures (N, rows, columns) as a volume; their pixels count as square, with sides of 1."""
    count, height, width = stack.shape
    grid = Grid((width, height, count), np.diag([-1.0, -1.0, 1.0, 1.0]))
    return Volume(unslice(stack, "axial"), grid)


def _grey(picture: Image.Image, _file: Path) -> NDArray[Any]:
    if picture.mode in (*WHOLE_MODES, "F"):
        return np.asarray(picture)
    rgb = np.asarray(picture.convert("RGB"))
    grey = np.full(rgb.shape[:2], 500, np.int32)
    for channel, weight in enumerate(_WEIGHTS):
        grey += rgb[..., channel] * np.int32(weight)
    grey //= 1000
    return grey
