"""Ways to shuffle class ids so that no rule is left, each with a random generator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Ids = NDArray[np.uint8]
Shuffle = Callable[[Ids, np.random.Generator], Ids]


def voxels(ids: Ids, rng: np.random.Generator) -> Ids:
    """The foreground's voxels change places."""
    changed = ids.copy()
    changed[ids > 0] = rng.permutation(ids[ids > 0])
    return changed


def names(ids: Ids, rng: np.random.Generator) -> Ids:
    """The classes of one patient change names."""
    table = np.append(0, rng.permutation(np.arange(1, ids.max() + 1))).astype(np.uint8)
    return table[ids]


def pieces(ids: Ids, rng: np.random.Generator) -> Ids:
    """Each piece gets any class."""
    changed = np.zeros_like(ids)
    for label in range(1, ids.max() + 1):
        numbers, count = ndimage.label(ids == label, np.ones((3, 3, 3)))
        table = np.append(0, rng.integers(1, ids.max() + 1, count))
        changed += table.astype(np.uint8)[numbers]
    return changed


def fields(ids: Ids, rng: np.random.Generator) -> Ids:
    """The foreground is divided along a smooth random field, each class as large as before."""
    inside = ids > 0
    wide = rng.uniform(1, 6)
    order = ndimage.gaussian_filter(rng.normal(size=ids.shape), wide)[inside].argsort()
    values = np.empty(len(order), np.uint8)
    values[order] = np.sort(ids[inside])
    changed = ids.copy()
    changed[inside] = values
    return changed


SHUFFLES: dict[str, Shuffle] = {
    "voxels": voxels,
    "names": names,
    "pieces": pieces,
    "fields": fields,
}
