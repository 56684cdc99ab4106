"""Stacks of PNG or JPEG slices -> volumes, and what drawn labels mean.

Pictures have no geometry: their pixels count as square, and the picture is taken as a
radiologist sees it (anterior up, patient's right on the left), slice by slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import Problem
from pipeline.colors import distinct, opened, pack
from pipeline.limits import require_voxels
from pipeline.params import Limits
from pipeline.volume import Grid, Volume, unslice

_WEIGHTS = (299, 587, 114)  # ITU-R BT.601 luma, in thousandths
_WHOLE_MODES = ("1", "L", "I", "I;16", "I;16B")  # grey, in integers


@dataclass(frozen=True)
class Snapped:
    """Raw colours of a stack, and how many pixels were moved to the nearest class colour."""

    volume: Volume
    pixels: int


def images(files: Sequence[Path], limits: Limits = Limits()) -> Volume:
    """Grey values of a stack, (X, Y, Z) in RAS+; coloured pictures by their luma.

    Raises :class:`Problem` for a picture that cannot be read or has another shape, and, before
    any is decoded, for pictures larger than ``limits`` allow, one or all together.
    """
    return _volume(files, limits, _grey)


def values(files: Sequence[Path], limits: Limits = Limits()) -> Volume:
    """Raw label values of a stack: grey values, or the indices of a palette.

    Raises :class:`Problem` for a picture in colours, and as :func:`images` does.
    """
    return _volume(files, limits, _values)


def binary(raw: Volume, where: Path) -> Volume:
    """Raw label values of which all above 0 are one and the same, as 0 and 1.

    Raises :class:`Problem` if there are several values above 0, as anti-aliased or
    resampled masks have.
    """
    found, counts = np.unique(raw.array, return_counts=True)
    above = found > 0
    if above.sum() > 1:
        rare = int(np.where(above, counts, counts.max() + 1).argmin())
        raise Problem(
            f"expected one value above 0, got {int(above.sum())}, such as {found[rare]} in"
            f" {counts[rare]} pixels",
            where=where,
            remedy="Was the mask resampled or saved as JPEG? Take the original.",
        )
    return replace(raw, array=(raw.array > 0).astype(np.uint8))


def colours(
    files: Sequence[Path],
    known: Iterable[int],
    snap_distance: float,
    limits: Limits = Limits(),
) -> Snapped:
    """Packed colours (red * 65536 + green * 256 + blue) of a stack, all of them ``known``.

    With ``snap_distance`` 0 a colour that is not known is a :class:`Problem`, with the
    count and an example; above 0 it becomes the nearest known one within that Euclidean
    distance in RGB, and the pixels so changed are counted.
    """
    palette = np.array(sorted(known), np.int64)
    moved = 0

    def snapped(picture: Image.Image, file: Path) -> NDArray[np.int32]:
        nonlocal moved
        packed = pack(np.asarray(picture.convert("RGB")))
        present = distinct(packed)
        nearest, distance = _nearest(present, palette)
        far = present[distance > snap_distance]
        if far.size:
            pixels = np.isin(packed, far)
            row, col = np.argwhere(pixels)[0]
            example = tuple(_unpack(packed[row, col][None])[0].tolist())
            raise Problem(
                f"expected {len(palette)} colours, got {int(pixels.sum())} pixels of"
                f" {far.size} other colours, such as {example} at row {row}, column {col}",
                where=file,
                remedy="Was the mask resampled or saved as JPEG? Take the original, or let the"
                " adapter state a snap_distance.",
            )
        becomes = np.zeros(int(present[-1]) + 1, np.int32)
        becomes[present] = nearest
        taken = becomes[packed]
        moved += int(np.count_nonzero(taken != packed))
        return taken

    return Snapped(_volume(files, limits, snapped), moved)


def _volume(
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
    grid = Grid((width, height, len(files)), np.diag([-1.0, -1.0, 1.0, 1.0]))
    return Volume(unslice(stack, "axial"), grid)


def _grey(picture: Image.Image, _file: Path) -> NDArray[Any]:
    if picture.mode in (*_WHOLE_MODES, "F"):
        return np.asarray(picture)
    rgb = np.asarray(picture.convert("RGB"))
    grey = np.full(rgb.shape[:2], 500, np.int32)
    for channel, weight in enumerate(_WEIGHTS):
        grey += rgb[..., channel] * np.int32(weight)
    grey //= 1000
    return grey


def _values(picture: Image.Image, file: Path) -> NDArray[Any]:
    if picture.mode in ("P", *_WHOLE_MODES):
        return np.asarray(picture)
    rgb = np.asarray(picture.convert("RGB"))
    coloured = (rgb != rgb[..., :1]).any(axis=-1)
    if coloured.any():
        row, col = np.argwhere(coloured)[0]
        raise Problem(
            f"expected grey label values, got {int(coloured.sum())} pixels in colour, such as"
            f" {tuple(rgb[row, col].tolist())}",
            where=file,
        )
    return rgb[..., 0]


def _nearest(
    found: NDArray[np.intp], palette: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    apart = _unpack(found)[:, None, :] - _unpack(palette)[None, :, :]
    distance = np.sqrt((apart.astype(np.float64) ** 2).sum(axis=-1))
    best = distance.argmin(axis=1)
    return palette[best], distance[np.arange(len(found)), best]


def _unpack(packed: NDArray[Any]) -> NDArray[Any]:
    return np.stack([packed >> 16, (packed >> 8) & 255, packed & 255], axis=-1)


def packed_colours(label_map_colours: Mapping[int, tuple[int, int, int]]) -> dict[int, int]:
    """Class id -> colour, turned round: packed colour -> class id."""
    return {int(pack(np.array(c))): class_id for class_id, c in label_map_colours.items()}
