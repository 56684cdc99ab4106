"""Whether classes' names mean the same in all patients, by where classes lie beside each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.structure.cuts import Floats
from pipeline.structure.shapes import Shape

DRAWS = 999
MOST_LIKELY = 0.003
_SEED = 20261121
_SMALLEST = 1e-9


def recognised(shapes: Sequence[tuple[str, Shape]], classes: int) -> frozenset[int]:
    """The classes that lie at a place of their own; ``shapes``: of drawings, with the patient.

    Where a class lies is its centre in x, y and z, and how widely it is spread about the centre of
    all classes (by its logarithm), each less the mean of the classes in the drawing. The largest of
    the four means over drawings, in units of its standard error, is one that at most
    :data:`MOST_LIKELY` of :data:`DRAWS` exchanges of all classes' names, patient by patient, reach
    (a permutation test of the largest of several statistics: Westfall & Young, 1993). A class that
    never stands beside another is recognised.
    """
    rng = np.random.default_rng(_SEED)
    draws = {
        patient: rng.random((DRAWS, classes)) for patient in sorted({one for one, _ in shapes})
    }
    sums, squares = np.zeros((2, DRAWS + 1, classes, 4))
    beside = np.zeros(classes, bool)
    for patient, shape in shapes:
        there = np.flatnonzero(shape.voxels[1:]) + 1
        if len(there) < 2:
            continue
        as_named = np.arange(len(there))
        order = np.vstack([as_named, draws[patient][:, there].argsort(axis=1)])
        spots = _spots(shape, there)[order]
        sums[:, there] += spots
        squares[:, there] += spots**2
        beside[there] = True
    far = (np.abs(sums) / np.sqrt(np.maximum(squares, _SMALLEST))).max(axis=2)
    as_far = np.count_nonzero(far >= far[0] - _SMALLEST, axis=0)  # itself among them
    sure = (as_far <= MOST_LIKELY * (DRAWS + 1)) | ~beside
    return frozenset(np.flatnonzero(sure).tolist())


def _spots(shape: Shape, there: NDArray[np.intp]) -> Floats:
    """Where each of these classes lies (n, 4), less the mean of all of them."""
    spread = np.log(np.maximum(shape.spreads[there], _SMALLEST))
    spots = np.concatenate([shape.centres[there], spread[:, None]], axis=1)
    centred: Floats = spots - spots.mean(axis=0)
    return centred
