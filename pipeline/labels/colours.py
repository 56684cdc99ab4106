"""Colours and class ids: packed colours, the ids of exact colours, and the way back."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, IGNORED_COLOUR, LabelMap, Problem

_COLOURS = 1 << 24
_GREYISH = 40  # a colour whose channels are less apart than this is not seen on tissue
_SEEN = (
    (213, 94, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (204, 121, 167),
    (230, 159, 0),
)
"""Colours that the colour-blind tell apart (Okabe and Ito, 2008), for what has none."""


def ids_of_colours(rgb: NDArray[np.uint8], label_map: LabelMap, where: object) -> NDArray[np.uint8]:
    """Colours (H, W, 3) uint8 -> class ids (H, W) uint8, exactly; IGNORED of its own colour.

    Raises :class:`Problem` for a colour of no class, with the count and an example.
    """
    packed = pack(rgb)
    wanted = {int(pack(np.array(label.colour))): label.id for label in label_map}
    wanted[int(pack(np.array(IGNORED_COLOUR)))] = IGNORED
    colours = distinct(packed)
    known = np.isin(colours, list(wanted))
    if not known.all():
        stray = ~np.isin(packed, list(wanted))
        row, col = np.argwhere(stray)[0]
        raise Problem(
            f"expected the {len(label_map)} colours of the label map, got {int(stray.sum())} pixels"
            f" of {int((~known).sum())} other colours, such as {tuple(rgb[row, col].tolist())} at"
            f" row {row}, column {col}",
            where=where,
        )
    lookup = np.zeros(_COLOURS, np.uint8)
    lookup[colours] = [wanted[int(colour)] for colour in colours]
    ids: NDArray[np.uint8] = lookup[packed]
    return ids


def distinct(packed: NDArray[Any]) -> NDArray[np.intp]:
    """The packed colours that occur, in order: a table takes less memory than sorting pixels."""
    seen = np.zeros(_COLOURS, bool)
    seen[packed] = True
    return np.flatnonzero(seen)


def colourise(ids: NDArray[np.uint8], label_map: LabelMap) -> NDArray[np.uint8]:
    """Class ids (H, W) uint8, IGNORED among them -> RGB (H, W, 3) uint8."""
    palette = np.zeros((IGNORED + 1, 3), np.uint8)
    palette[: len(label_map)] = [label.colour for label in label_map]
    palette[IGNORED] = IGNORED_COLOUR
    return palette[ids]


@cache
def visible(label_map: LabelMap) -> LabelMap:
    """The classes in colours that are seen on grey tissue, for what is drawn over a scan.

    A grey class gets one of :data:`_SEEN`, as unlike the colours of the others as there is; all
    others keep theirs. Masks and palettes have the colours of the label map itself.
    """
    taken = [one.colour for one in label_map if not (one.id and _greyish(one.colour))]
    labels = []
    for one in label_map:
        left = [colour for colour in _SEEN if colour not in taken]
        if one.id and _greyish(one.colour) and left:
            best = max(left, key=lambda colour: min(_apart(colour, other) for other in taken))
            taken.append(best)
            labels.append(replace(one, colour=best))
        else:
            labels.append(one)
    return replace(label_map, labels=tuple(labels))


def _greyish(colour: tuple[int, int, int]) -> bool:
    return max(colour) - min(colour) < _GREYISH


def _apart(one: tuple[int, int, int], other: tuple[int, int, int]) -> int:
    """The squared distance of two colours."""
    return sum((a - b) ** 2 for a, b in zip(one, other, strict=True))


def pack(rgb: NDArray[Any]) -> NDArray[np.uint32]:
    """Colours (..., 3) uint8 -> red * 65536 + green * 256 + blue."""
    packed: NDArray[np.uint32] = np.asarray(rgb[..., 0], np.uint32)
    for channel in (1, 2):  # one after the other: a large picture's copies are large
        packed = packed << np.uint32(8) | np.asarray(rgb[..., channel], np.uint32)
    return packed
