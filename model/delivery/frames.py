"""A slice with its outlines as one picture of true proportions, for films and overlays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import LabelMap
from pipeline.pages import draw

BILINEAR, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.NEAREST


def outlined(
    grey: NDArray[np.uint8],
    ids: NDArray[np.uint8],
    pixel_mm: tuple[float, float] | None,
    label_map: LabelMap,
    least_px: int,
    most_px: int,
) -> Image.Image:
    """Grey and class ids (rows, columns) uint8 -> an RGB picture with the classes' outlines.

    ``pixel_mm``: from row to row and from column to column; None where pixels are square. The
    longer side becomes that of all pixels at the finer of both, within ``least_px`` and
    ``most_px``. Outlines are drawn afterwards: they stay thin on scans of few pixels.
    """
    size = _size(grey.shape, pixel_mm or (1.0, 1.0), least_px, most_px)
    large = [
        np.asarray(Image.fromarray(one).resize(size, way), np.uint8)
        for one, way in ((grey, BILINEAR), (ids, NEAREST))
    ]
    return Image.fromarray(draw.outlined(large[0], large[1], label_map))


def _size(
    shape: tuple[int, ...], pixel_mm: tuple[float, float], least_px: int, most_px: int
) -> tuple[int, int]:
    """Width and height in square pixels."""
    rows, columns = (
        count * side / min(pixel_mm) for count, side in zip(shape, pixel_mm, strict=True)
    )
    longer = max(rows, columns)
    scale = min(max(longer, least_px), most_px) / longer
    return max(1, round(columns * scale)), max(1, round(rows * scale))
