"""Which part of its picture each place of an epoch shows a network that sees parts.

In training a place shows one part, drawn for the epoch: any part as likely as any other or, where
the place is there for a class, one with a pixel of that class in it. Parts to judge by are edge to
edge.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from model.network_input import starts
from model.params import Network

CHANCES = 3
"""Numbers in 0..1 that decide a part: which pixel of the class, which row, which column."""

Corner = tuple[int, int]


def edge_to_edge(network: Network) -> list[Corner]:
    """The upper left corners of the parts that cover a picture, row by row."""
    along = starts(network.whole_px, network.image_px)
    return [(row, column) for row in along for column in along]


def drawn(ids: NDArray[np.uint8], px: int, label: int, chances: NDArray[np.float64]) -> Corner:
    """The upper left corner of a part (px, px) of class ids (P, P), by :data:`CHANCES` numbers.

    For a ``label`` other than 0 a pixel of it is drawn, and then one of the parts that have it; if
    there is no such pixel, any part.
    """
    room = len(ids) - px
    least, most = (0, 0), (room, room)
    pixels = np.flatnonzero(ids == label) if label else np.empty(0, np.intp)
    if pixels.size:
        row, column = divmod(int(pixels[math.floor(chances[0] * pixels.size)]), len(ids))
        least = (max(row - px + 1, 0), max(column - px + 1, 0))
        most = (min(row, room), min(column, room))
    row, column = (
        low + math.floor(chance * (high - low + 1))
        for low, high, chance in zip(least, most, chances[1:], strict=True)
    )
    return row, column
