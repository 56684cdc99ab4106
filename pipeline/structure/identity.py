"""Whether a class's name means the same in all patients, by where it lies beside the others."""

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


def recognised(shapes: Sequence[tuple[str, Shape]], label: int) -> bool:
    """Whether a class lies at a place of its own in the patients who show others, too.

    Where it lies is its centre in x, y and z, and how widely it is spread about the centre of all
    classes (by its logarithm), each less the mean of the classes in the drawing. The largest of
    the four means, in units of its standard error, is one that at most :data:`MOST_LIKELY` of
    :data:`DRAWS` exchanges of all classes' names, patient by patient, reach (a permutation test:
    Westfall & Young, 1993). A class that never stands beside another is recognised.
    """
    beside = [(patient, shape) for patient, shape in shapes if _others(shape, label)]
    if not beside:
        return True
    rng = np.random.default_rng(_SEED)
    patients = sorted({patient for patient, _ in beside})
    sums, squares = np.zeros((2, DRAWS + 1, 4))
    draws = {patient: rng.random((DRAWS, len(beside[0][1].voxels))) for patient in patients}
    for patient, shape in beside:
        there = np.flatnonzero(shape.voxels[1:]) + 1
        spots = _spots(shape, there)
        own = int(np.flatnonzero(there == label)[0])
        drawn = spots[np.append(own, draws[patient][:, there].argsort(axis=1)[:, own])]
        sums += drawn
        squares += drawn**2
    far = (np.abs(sums) / np.sqrt(np.maximum(squares, _SMALLEST))).max(axis=1)
    as_far = np.count_nonzero(far >= far[0] - _SMALLEST)  # itself among them
    return bool(as_far <= MOST_LIKELY * (DRAWS + 1))


def _others(shape: Shape, label: int) -> bool:
    return bool(shape.voxels[label] and np.count_nonzero(shape.voxels[1:]) > 1)


def _spots(shape: Shape, there: NDArray[np.intp]) -> Floats:
    """Where each of these classes lies (n, 4), less the mean of all of them."""
    spread = np.log(np.maximum(shape.spreads[there], _SMALLEST))
    spots = np.concatenate([shape.centres[there], spread[:, None]], axis=1)
    centred: Floats = spots - spots.mean(axis=0)
    return centred
