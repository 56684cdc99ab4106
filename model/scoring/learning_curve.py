"""What more patients would give: a curve through the scores of trainings on fewer.

Scores approach a ceiling as a power of the number of patients: ``top - gap * n ** -exponent``
(Hestness et al., Deep learning scaling is predictable, empirically, 2017, arXiv 1712.00409;
Figueroa et al., Predicting sample size required for classification performance, BMC Med. Inform.
Decis. Mak. 12, 2012). Three numbers from three or four sizes leave much open, and the interval says
how much: in every resample of the test patients the trainings scatter as those of one size did, and
an exponent is drawn as likely as it explains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EXPONENTS = np.linspace(0.1, 1.5, 29)
LEAST_SIZES = 3
_RESAMPLES = 2000
_LEAST_SCATTER = 0.002  # of two trainings that differ by their seed alone


@dataclass(frozen=True)
class Training:
    """A training on so many ``patients``: the mean foreground Dice of every test patient."""

    patients: int
    seed: int
    dice: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over the test patients."""
        return float(np.mean(self.dice))


@dataclass(frozen=True)
class Expected:
    """What one training on so many ``patients`` is expected to score, with its 95 % interval."""

    patients: int
    dice: float
    low: float
    high: float


def scatter(trainings: Sequence[Training]) -> float:
    """The standard deviation between trainings on equally many patients; a least one of few.

    >>> round(scatter([Training(8, 1, (0.70,)), Training(8, 2, (0.74,))]), 4)
    0.0283
    """
    sizes = {one.patients for one in trainings}
    groups = [[one.mean for one in trainings if one.patients == size] for size in sizes]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return _LEAST_SCATTER
    squares = sum(float(np.var(group)) * len(group) for group in groups)
    return max(float(np.sqrt(squares / freedom)), _LEAST_SCATTER)


def expected(trainings: Sequence[Training], at: Sequence[int], seed: int) -> list[Expected]:
    """The curve at these numbers of patients, from trainings that scored the same test patients.

    Raises ValueError for trainings on fewer than :data:`LEAST_SIZES` numbers of patients.
    """
    sizes = np.array([one.patients for one in trainings], np.float64)
    if len(set(sizes)) < LEAST_SIZES:
        raise ValueError(f"trainings on {len(set(sizes))} numbers of patients")
    rng = np.random.default_rng(seed)
    dice = np.array([one.dice for one in trainings])
    tested, spread = dice.shape[1], scatter(trainings)
    drawn = rng.multinomial(tested, np.full(tested, 1 / tested), _RESAMPLES) / tested
    means = dice @ drawn.T + rng.normal(0, spread, (len(dice), _RESAMPLES))
    asked = np.array(at, np.float64)
    curves, squares = _fitted(sizes, means, asked)
    likely = np.exp(-(squares - squares.min(axis=0)) / (2 * spread**2))
    shares = np.cumsum(likely, axis=0) / likely.sum(axis=0)
    chosen = (shares < rng.random(_RESAMPLES)).sum(axis=0)
    values = curves[chosen, :, np.arange(_RESAMPLES)] + rng.normal(0, spread, (_RESAMPLES, len(at)))
    low, middle, high = np.percentile(values.clip(0, 1), [2.5, 50, 97.5], axis=0)
    return [
        Expected(count, float(each[0]), float(each[1]), float(each[2]))
        for count, each in zip(at, zip(middle, low, high, strict=True), strict=True)
    ]


def _fitted(sizes: Floats, means: Floats, asked: Floats) -> tuple[Floats, Floats]:
    """For each exponent and resample: the curve where it is ``asked``, and the squares left over.

    ``means``: (trainings, resamples). No curve falls with more patients, or passes 1.
    """
    curves, squares = [], []
    for exponent in EXPONENTS:
        power, at = sizes**-exponent, asked**-exponent
        centred = power - power.mean()
        gap = np.maximum(-(centred @ means) / (centred @ centred), 0.0)
        top = means.mean(axis=0) + gap * power.mean()
        beyond = top > 1
        gap[beyond] = (power @ (1 - means[:, beyond])) / (power @ power)
        top = np.minimum(top, 1.0)
        curves.append(top - at[:, None] * gap)
        squares.append(((means - (top - power[:, None] * gap)) ** 2).sum(axis=0))
    return np.stack(curves), np.stack(squares)
