"""``films/<scan>.webp``: the slices of a scan with their outlines as an animated WebP."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_spec.contract import LabelMap
from model.delivery import frames
from pipeline.runtime import files

LONGER_PX = 512
"""The longer side of a film, of small scans too: an outline has a width of its own."""
FRAME_MS = 80
_QUALITY, _METHOD = 75, 2


def write(
    file: Path,
    slices: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    count: int,
    pixel_mm: tuple[float, float] | None,
    label_map: LabelMap,
) -> None:
    """Write the ``count`` slices, each grey and class ids (rows, columns) uint8, as a film.

    The file is there whole or not at all. One slice at a time is in memory, and the encoded
    film: the encoder keeps that until its end, about 25 kB a slice. Raises ValueError if
    ``slices`` ends before ``count``.
    """
    pictures = (
        frames.outlined(grey, ids, pixel_mm, label_map, LONGER_PX, LONGER_PX)
        for grey, ids in slices
    )
    first = next(pictures, None)
    if first is None:
        raise ValueError("a film of no slices")
    with files.replacing(file) as unfinished:
        first.save(
            unfinished,
            "webp",
            save_all=True,
            append_images=[_OneByOne(pictures, count - 1)] if count > 1 else [],
            duration=FRAME_MS,
            loop=0,
            quality=_QUALITY,
            method=_METHOD,
        )


class _OneByOne:
    """Pictures that Pillow takes for one of several frames, each made when it is asked for.

    Pillow would hold a list of them whole: half a gigabyte for 600 slices.
    """

    def __init__(self, pictures: Iterator[Image.Image], count: int) -> None:
        self.n_frames = count
        self._pictures, self._shown = pictures, Image.new("RGB", (1, 1))

    def seek(self, _: int) -> None:
        """Make the next frame; the encoder asks for them in order."""
        shown = next(self._pictures, None)
        if shown is None:
            raise ValueError("fewer slices than were announced")
        self._shown = shown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shown, name)
