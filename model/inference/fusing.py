"""The probabilities of several networks as one: their mean, or with weights class by class.

With weights w of network m and class c, which add up to 1 over the networks, a voxel's probability
of c is sum_m w[m, c] p_m[c], divided by the sum of that over all classes. Equal weights are the
mean, which needs no division.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.inference.sampling import Probabilities

Weights = NDArray[np.float32]
"""Of networks and classes (members, classes), each column adding up to 1."""


def normalised(weights: NDArray[np.float64]) -> Weights:
    """Columns that add up to 1; one of nothing but 0 becomes that of equal weights.

    >>> normalised(np.array([[1.0, 0.0], [3.0, 0.0]])).tolist()
    [[0.25, 0.5], [0.75, 0.5]]
    """
    totals = weights.sum(axis=0)
    equal = np.full_like(weights, 1 / len(weights))
    return np.where(totals > 0, weights / np.where(totals > 0, totals, 1), equal).astype(np.float32)


def of_some(weights: Weights | None, chosen: Sequence[int]) -> Weights | None:
    """The weights that are left to some of the networks; None are equal ones."""
    return None if weights is None else normalised(weights[list(chosen)].astype(np.float64))


def weighted(answer: Probabilities, row: NDArray[np.float32] | None) -> Probabilities:
    """What (classes, ...) of one network adds to the sum; the array itself is changed."""
    if row is None:
        return answer
    np.multiply(answer, row.reshape(-1, *[1] * (answer.ndim - 1)), out=answer)
    return answer


def mean(total: Probabilities, members: int, weights: Weights | None) -> Probabilities:
    """The sum of all :func:`weighted` answers (classes, ...) as probabilities, in its place.

    Where no network with a weight gives any class a probability, all are 0.
    """
    if weights is None:
        if members > 1:
            np.divide(total, np.float32(members), out=total)
        return total
    whole = np.maximum(total.sum(axis=0), np.finfo(np.float32).tiny)
    np.divide(total, whole, out=total)
    return total


def fused(
    answers: Sequence[Probabilities] | NDArray[np.float32],
    planes: Sequence[str],
    weights: Weights | None,
) -> Probabilities:
    """The answers (classes, ...) of networks that see ``planes`` -> (classes, ...).

    The sums run plane by plane, as they do where the networks are asked in turn
    (:func:`model.inference.scans.slabs`): so the result is the same, to the last bit.
    """
    if len(answers) == 1 and weights is None:
        return answers[0]
    total: Probabilities | None = None
    for plane in dict.fromkeys(planes):
        of_plane: Probabilities | None = None
        for number, answer in enumerate(answers):
            if planes[number] == plane:
                part = weighted(answer.copy(), None if weights is None else weights[number])
                of_plane = part if of_plane is None else np.add(of_plane, part, out=of_plane)
        assert of_plane is not None
        total = of_plane if total is None else np.add(total, of_plane, out=total)
    assert total is not None
    return mean(total, len(answers), weights)
