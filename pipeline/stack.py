"""Stacks of PNG or JPEG slices -> volumes, and what drawn labels mean.

Pictures have no geometry: their pixels count as square, and the picture is taken as a
radiologist sees it (anterior up, patient's right on the left), slice by slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import Problem
from pipeline.colors import pack
from pipeline.volume import Grid, Volume, unslice

_WEIGHTS = np.array([299, 587, 114])  # ITU-R BT.601 luma, in thousandths


@dataclass(frozen=True)
class Snapped:
    """Raw colours of a stack, and how many pixels were moved to the nearest class colour."""

    volume: Volume
    pixels: int


def images(files: Sequence[Path]) -> Volume:
    """Grey values of a stack, (X, Y, Z) in RAS+; coloured pictures by their luma.

    Raises :class:`Problem` for a picture that cannot be read or has another shape.
    """
    return _volume(files, [_grey(_open(file)) for file in files])


def values(files: Sequence[Path]) -> Volume:
    """Raw label values of a stack: grey values, or the indices of a palette.

    Raises :class:`Problem` for a picture in colours.
    """
    return _volume(files, [_values(_open(file), file) for file in files])


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


def colours(files: Sequence[Path], known: Iterable[int], snap_distance: float) -> Snapped:
    """Packed colours (red * 65536 + green * 256 + blue) of a stack, all of them ``known``.

    With ``snap_distance`` 0 a colour that is not known is a :class:`Problem`, with the
    count and an example; above 0 it becomes the nearest known one within that Euclidean
    distance in RGB, and the pixels so changed are counted.
    """
    palette = np.array(sorted(known), np.int64)
    pictures, moved = [], 0
    for file in files:
        packed = pack(np.asarray(_open(file).convert("RGB"))).astype(np.int64)
        found, inverse = np.unique(packed, return_inverse=True)
        nearest, distance = _nearest(found, palette)
        stray = (distance > 0)[inverse].reshape(packed.shape)
        far = (distance > snap_distance)[inverse].reshape(packed.shape)
        if far.any():
            row, col = np.argwhere(far)[0]
            example = tuple(_unpack(packed[row, col][None])[0].tolist())
            raise Problem(
                f"expected {len(palette)} colours, got {int(far.sum())} pixels of"
                f" {int((distance > snap_distance).sum())} other colours, such as {example} at"
                f" row {row}, column {col}",
                where=file,
                remedy="Was the mask resampled or saved as JPEG? Take the original, or let the"
                " adapter state a snap_distance.",
            )
        moved += int(stray.sum())
        pictures.append(nearest[inverse].reshape(packed.shape))
    return Snapped(_volume(files, pictures), moved)


def _volume(files: Sequence[Path], pictures: Sequence[NDArray[Any]]) -> Volume:
    for file, picture in zip(files, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise Problem(
                f"expected the shape of {files[0].name}, {pictures[0].shape}, got {picture.shape}",
                where=file,
                remedy="The slices of one case have one shape.",
            )
    height, width = pictures[0].shape
    grid = Grid((width, height, len(pictures)), np.diag([-1.0, -1.0, 1.0, 1.0]))
    return Volume(unslice(np.stack(pictures), "axial"), grid)


def _open(file: Path) -> Image.Image:
    try:
        with Image.open(file) as opened:
            opened.load()
            return opened.copy()
    except FileNotFoundError:
        raise Problem("expected a picture, found none", where=file) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Problem(
            f"expected a readable picture, got {error}",
            where=file,
            remedy="It may be damaged; download or unpack it again.",
        ) from None


def _grey(picture: Image.Image) -> NDArray[Any]:
    if picture.mode in ("1", "L", "I", "I;16", "I;16B", "F"):
        return np.asarray(picture).astype(np.int32 if picture.mode != "F" else np.float32)
    rgb = np.asarray(picture.convert("RGB")).astype(np.int32)
    return np.asarray((rgb @ _WEIGHTS + 500) // 1000, np.int32)


def _values(picture: Image.Image, file: Path) -> NDArray[Any]:
    if picture.mode == "P":
        return np.asarray(picture).astype(np.int32)
    if picture.mode in ("1", "L", "I", "I;16", "I;16B"):
        return np.asarray(picture).astype(np.int32)
    rgb = np.asarray(picture.convert("RGB"))
    coloured = (rgb != rgb[..., :1]).any(axis=-1)
    if coloured.any():
        row, col = np.argwhere(coloured)[0]
        raise Problem(
            f"expected grey label values, got {int(coloured.sum())} pixels in colour, such as"
            f" {tuple(rgb[row, col].tolist())}",
            where=file,
        )
    return rgb[..., 0].astype(np.int32)


def _nearest(
    found: NDArray[np.int64], palette: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    apart = _unpack(found)[:, None, :] - _unpack(palette)[None, :, :]
    distance = np.sqrt((apart.astype(np.float64) ** 2).sum(axis=-1))
    best = distance.argmin(axis=1)
    return palette[best], distance[np.arange(len(found)), best]


def _unpack(packed: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack([packed >> 16, (packed >> 8) & 255, packed & 255], axis=-1)


def packed_colours(label_map_colours: Mapping[int, tuple[int, int, int]]) -> dict[int, int]:
    """Class id -> colour, turned round: packed colour -> class id."""
    return {int(pack(np.array(c))): class_id for class_id, c in label_map_colours.items()}
