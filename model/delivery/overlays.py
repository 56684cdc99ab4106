"""``overlays/<scan>/0001.png``, ...: every slice with its outlines burned in."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from model.delivery import frames
from pipeline.runtime import files

LEAST_PX, MOST_PX = 512, 2048
"""Within these, the longer side is that of the scan's own pixels."""


def write(
    folder: Path,
    slices: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    pixel_mm: tuple[float, float] | None,
    label_map: LabelMap,
) -> None:
    """Write slices, each grey and class ids (rows, columns) uint8, as PNG into ``folder``.

    Files count from 1, as in the viewer. The folder is there whole or not at all; one slice at a
    time is in memory.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing_folder(folder) as unfinished:
        for number, (grey, ids) in enumerate(slices, 1):
            picture = frames.outlined(grey, ids, pixel_mm, label_map, LEAST_PX, MOST_PX)
            picture.save(unfinished / f"{number:04d}.png", compress_level=1)
