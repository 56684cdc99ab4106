"""Pictures for people: outlines of classes on an image, and sheets of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, IGNORED_COLOUR, LabelMap
from pipeline.labels import colours
from pipeline.volumes.arrays import Image8, Rgb8

_TITLE_PX = 22
_HATCH_PX = 8


def outlined(image: Image8, ids: Image8, label_map: LabelMap) -> Rgb8:
    """A grey image (H, W) as RGB (H, W, 3), every class outlined in its colour, 3 pixels wide.

    Grey classes are given a colour that is seen. What nobody annotated is hatched.
    """
    rgb = np.repeat(image[..., None], 3, axis=-1)
    rgb[_hatch(ids)] = IGNORED_COLOUR
    drawn = np.where(ids == IGNORED, np.uint8(0), ids)
    edge = (_least(drawn, 2) != drawn) | (_greatest(drawn, 1) != drawn)
    edge &= drawn > 0
    rgb[edge] = colours.colourise(drawn[edge], colours.visible(label_map))
    return rgb


def hatched(image: Image8, ids: Image8) -> Image8:
    """A grey image (H, W) with what nobody annotated of class ids (H, W) hatched."""
    return np.where(_hatch(ids), np.uint8(IGNORED_COLOUR[0]), image)


def _hatch(ids: Image8) -> NDArray[np.bool_]:
    """Thin lines through the pixels that nobody annotated, (H, W)."""
    diagonal = np.add.outer(np.arange(ids.shape[0]), np.arange(ids.shape[1]))
    return np.asarray((ids == IGNORED) & (diagonal % _HATCH_PX == 0))


def _greatest(ids: Image8, reach: int) -> Image8:
    """The greatest value (H, W) of all that are up to ``reach`` pixels away, diagonals included."""
    rows, greatest = ids.copy(), ids.copy()
    for step in range(1, reach + 1):
        np.maximum(rows[step:], ids[:-step], out=rows[step:])
        np.maximum(rows[:-step], ids[step:], out=rows[:-step])
    greatest[:] = rows
    for step in range(1, reach + 1):
        np.maximum(greatest[:, step:], rows[:, :-step], out=greatest[:, step:])
        np.maximum(greatest[:, :-step], rows[:, step:], out=greatest[:, :-step])
    return greatest


def _least(ids: Image8, reach: int) -> Image8:
    return ~_greatest(~ids, reach)


def sheet(rows: Mapping[str, Sequence[Rgb8]], tile_px: int, gap_px: int = 4) -> Rgb8:
    """Rows of RGB pictures -> one RGB picture: each row below its title, tiles of one size."""
    import cv2  # for its lettering

    columns = max(len(row) for row in rows.values())
    step = tile_px + gap_px
    paper = np.full((len(rows) * (step + _TITLE_PX), columns * step - gap_px, 3), 255, np.uint8)
    for number, (title, row) in enumerate(rows.items()):
        top = number * (step + _TITLE_PX)
        baseline = (2, top + _TITLE_PX - 6)
        cv2.putText(
            paper, title, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
        )
        for column, picture in enumerate(row):
            tile = cv2.resize(picture, (tile_px, tile_px), interpolation=cv2.INTER_AREA)
            y, x = top + _TITLE_PX, column * step
            paper[y : y + tile_px, x : x + tile_px] = tile
    return paper
