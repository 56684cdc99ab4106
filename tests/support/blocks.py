"""Small stacks of class ids to correct: an empty one, and a block with a hole."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SHAPE = (6, 12, 12)
VOXEL_ML = 0.002


def empty() -> NDArray[np.uint8]:
    return np.zeros(SHAPE, np.uint8)


def block() -> NDArray[np.uint8]:
    """A block of class 1 with a hole of one voxel."""
    ids = empty()
    ids[1:5, 2:9, 2:9] = 1
    ids[3, 5, 5] = 0
    return ids
