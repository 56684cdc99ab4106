"""Labels drawn as pictures: grey values, palettes and colours -> raw label values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import Problem
from pipeline.labels.colours import distinct, pack
from pipeline.params.limits import Limits
from pipeline.volumes.slices import WHOLE_MODES, stacked
from pipeline.volumes.volume import Volume


@dataclass(frozen=True)
class Snapped:
    """Raw colours of a stack, and how many pixels were moved to the nearest class colour."""

    volume: Volume
    pixels: int


def values(files: Sequence[Path], limits: Limits = Limits()) -> Volume:
    """Raw label values of a stack: grey values, or the indices of a palette.

    Raises :class:`Problem` for a picture in colours, and as :func:`images` does.
    """
    return stacked(files, limits, _values)


def binary(raw: Volume, where: Path) -> Volume:
    """Raw label values of which all above 0 are one and the same, as 0 and 1.

    Raises :class:`Problem` if there are several values above 0, as anti-aliased or
    resampled masks have.
    """
    values, counts = np.unique(raw.array, return_counts=True)
    above = values > 0
    if above.sum() > 1:
        rare = int(np.where(above, counts, counts.max() + 1).argmin())
        raise Problem(
            f"expected one value above 0, got {int(above.sum())}, such as {values[rare]} in"
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

    return Snapped(stacked(files, limits, snapped), moved)


def _values(picture: Image.Image, file: Path) -> NDArray[Any]:
    if picture.mode in ("P", *WHOLE_MODES):
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
    packed: NDArray[np.intp], palette: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    apart = _unpack(packed)[:, None, :] - _unpack(palette)[None, :, :]
    distance = np.sqrt((apart.astype(np.float64) ** 2).sum(axis=-1))
    best = distance.argmin(axis=1)
    return palette[best], distance[np.arange(len(packed)), best]


def _unpack(packed: NDArray[Any]) -> NDArray[Any]:
    return np.stack([packed >> 16, (packed >> 8) & 255, packed & 255], axis=-1)


def packed_colours(label_map_colours: Mapping[int, tuple[int, int, int]]) -> dict[int, int]:
    """Class id -> colour, inverted: packed colour -> class id."""
    return {int(pack(np.array(c))): class_id for class_id, c in label_map_colours.items()}
