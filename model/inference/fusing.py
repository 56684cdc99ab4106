"""The probabilities of several networks as one: their geometric mean.

With weights w of the networks, which add up to 1, a voxel's probability of class c is
prod_m p_m[c]^w[m], divided by the sum of that over all classes (a logarithmic opinion pool; Genest
& Zidek, Statist. Sci. 1986). Unlike in the arithmetic mean, a network that is sure counts for more
than one that is not (docs/decisions/prediction.md has what it gained). What is below
:data:`LEAST` counts as that, so that no network alone can rule a class out for good.

The sum before the division is the networks' affinity: 1 where they agree, and the less the farther
they are apart; of two of equal weight it is the Bhattacharyya coefficient.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.inference.sampling import Probabilities

Weights = NDArray[np.float32]
"""Of the networks (members,), adding up to 1."""
LEAST = 1e-7
"""The least probability that counts: about what float32 resolves beside 1."""


def normalised(weights: Sequence[float] | NDArray[np.float64]) -> Weights:
    """Weights that add up to 1; of nothing but 0 become equal ones.

    >>> normalised([1.0, 3.0]).tolist(), normalised([0.0, 0.0]).tolist()
    ([0.25, 0.75], [0.5, 0.5])
    """
    known = np.asarray(weights, np.float64)
    total = known.sum()
    return (known / total if total > 0 else np.full_like(known, 1 / len(known))).astype(np.float32)


def of_some(weights: Weights | None, chosen: Sequence[int]) -> Weights | None:
    """The weights that are left to some of the networks; None are equal ones."""
    return None if weights is None else normalised(weights[list(chosen)].astype(np.float64))


def of_each(weights: Weights | None, members: int) -> Weights:
    """The weight of every network; None are equal ones."""
    return normalised(np.ones(members)) if weights is None else weights


def part(answer: Probabilities, weight: np.float32) -> Probabilities:
    """What the answer (classes, ...) of one network adds to the sum; the array itself is changed.

    A network alone has the weight 1, and its answer stays as it is.
    """
    if weight == 1:
        return answer
    np.maximum(answer, np.float32(LEAST), out=answer)
    np.log(answer, out=answer)
    return np.multiply(answer, weight, out=answer)


def pooled(total: Probabilities) -> NDArray[np.float32]:
    """Make the sum of all parts (classes, ...) probabilities, in its place; returns the affinity
    (...). Not for a network alone, whose part they are."""
    np.exp(total, out=total)
    affinity: NDArray[np.float32] = total.sum(axis=0)
    np.divide(total, affinity, out=total)
    return affinity


def fused(
    answers: Sequence[Probabilities] | NDArray[np.float32],
    planes: Sequence[str],
    weights: Weights | None,
) -> Probabilities:
    """The answers (classes, ...) of networks that see ``planes`` -> (classes, ...).

    The sums run plane by plane, as they do where the networks are asked in turn
    (:func:`model.inference.scans.slabs`): so the result is the same, to the last bit.
    """
    if len(answers) == 1:
        return answers[0]
    each, total = of_each(weights, len(answers)), None
    for plane in dict.fromkeys(planes):
        of_plane: Probabilities | None = None
        for number, answer in enumerate(answers):
            if planes[number] == plane:
                own = part(answer.copy(), each[number])
                of_plane = own if of_plane is None else np.add(of_plane, own, out=of_plane)
        assert of_plane is not None
        total = of_plane if total is None else np.add(total, of_plane, out=total)
    assert total is not None
    pooled(total)
    return total
