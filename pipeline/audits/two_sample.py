"""Are two groups of patients drawn from one world? A classifier two-sample test.

A classifier that cannot tell two samples apart, on patients that it was not fitted to, has found
no difference between them; one that can has found one, however many numbers it took (Lopez-Paz and
Oquab, Revisiting classifier two-sample tests, ICLR 2017, arXiv 1610.06545). Ours is a ridge
regression of the group on the ranks of the numbers (as normal scores, so that units and outliers
do not matter), fitted in ten parts; its area under the ROC curve is compared with those that it has
when the groups are dealt anew among the same patients, so the p value holds for any sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

LEAST = 5
"""Patients of a group: of fewer, a permutation of them says next to nothing."""
PERMUTATIONS = 1999
SIGNIFICANT = 0.05
_PARTS = 10
_SHOWN = 5  # features
_NEARLY = 1e-9  # two equal areas, computed by sums in another order
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Feature:
    """A number in which the groups differ: the medians of both, and the area under the ROC curve
    of the first above the second, with p (Mann and Whitney's, after Holm over all features)."""

    name: str
    first: float
    second: float
    auc: float
    p: float


@dataclass(frozen=True)
class Verdict:
    """What tells two groups of so many patients apart: ``auc`` near .5 is nothing.

    ``features``: the strongest, strongest first; those with a p below :data:`SIGNIFICANT`.
    """

    first: int
    second: int
    auc: float
    p: float
    features: tuple[Feature, ...]


def told_apart(
    numbers: Floats, names: Sequence[str], first: NDArray[np.bool_], seed: int
) -> Verdict:
    """Whether the patients ``first`` (n,) differ from all others in ``numbers`` (n, features).

    Numbers that are not known are NaN; features that are equal for all do not count. Raises
    ValueError for groups of fewer than :data:`LEAST`.

    >>> rng = np.random.default_rng(1)
    >>> numbers, first = rng.normal(size=(60, 3)), np.arange(60) < 20
    >>> told_apart(numbers, "abc", first, seed=1).p > 0.05
    True
    >>> numbers[first, 1] += 2
    >>> found = told_apart(numbers, "abc", first, seed=1)
    >>> found.p, [one.name for one in found.features]
    (0.0005, ['b'])
    """
    sizes = int(first.sum()), int((~first).sum())
    if min(sizes) < LEAST:
        raise ValueError(f"groups of {sizes[0]} and {sizes[1]} patients")
    scores = _normal_scores(numbers)
    rng = np.random.default_rng(seed)
    groups = np.stack([first, *(rng.permutation(first) for _ in range(PERMUTATIONS))], axis=1)
    areas = _areas(_held_out(scores, groups.astype(np.float64), seed), groups)
    beaten = np.count_nonzero(areas[1:] >= areas[0] - _NEARLY)
    return Verdict(
        *sizes,
        float(areas[0]),
        float((1 + beaten) / (1 + PERMUTATIONS)),
        tuple(_strongest(numbers, names, first)),
    )


def adjusted(p: Sequence[float]) -> list[float]:
    """The p values of several tests of one question (Holm, 1979): each holds for all together.

    >>> adjusted([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    grown = np.maximum.accumulate([p[one] * (len(p) - rank) for rank, one in enumerate(order)])
    found = np.empty(len(p))
    found[order] = np.minimum(grown, 1.0)
    return [float(one) for one in found]


def _normal_scores(numbers: Floats) -> Floats:
    """Every feature's ranks as quantiles of a normal distribution; what is not known is 0.

    Whether it is known is a feature of its own where that differs.
    """
    known = np.isfinite(numbers)
    scores = np.zeros_like(numbers)
    for column in range(numbers.shape[1]):
        here = known[:, column]
        if here.any():
            ranks = stats.rankdata(numbers[here, column])
            scores[here, column] = stats.norm.ppf((ranks - 0.5) / here.sum())
    every = np.concatenate([scores, known.astype(np.float64)], axis=1)
    spread = every.std(axis=0)
    varying = spread > _NEARLY
    centred: Floats = (every[:, varying] - every[:, varying].mean(axis=0)) / spread[varying]
    return centred


def _held_out(scores: Floats, groups: Floats, seed: int) -> Floats:
    """What a ridge regression on other patients makes of each, for every column of ``groups``.

    Without an intercept: it would be the mean of the others, lower for each that it leaves out of
    the first group, and so tell the groups apart by itself, the wrong way round.
    """
    found = np.zeros_like(groups)
    groups = groups - groups.mean(axis=0)
    if not scores.shape[1]:
        return found
    parts = KFold(min(_PARTS, len(scores)), shuffle=True, random_state=seed)
    for learnt, asked in parts.split(scores):
        ridge = Ridge(alpha=float(scores.shape[1]), fit_intercept=False)
        ridge.fit(scores[learnt], groups[learnt])
        found[asked] = ridge.predict(scores[asked])
    return found


def _areas(answers: Floats, groups: NDArray[np.bool_]) -> Floats:
    """The area under the ROC curve of every column: ties count half."""
    ranks = stats.rankdata(np.round(answers, 9), axis=0)
    first = groups.sum(axis=0)
    above = (ranks * groups).sum(axis=0) - first * (first + 1) / 2
    areas: Floats = above / (first * (len(groups) - first))
    return areas


def _strongest(numbers: Floats, names: Sequence[str], first: NDArray[np.bool_]) -> list[Feature]:
    """The features that differ by themselves, strongest first."""
    found = []
    for name, column in zip(names, numbers.T, strict=True):
        one, other = (column[here & np.isfinite(column)] for here in (first, ~first))
        if not len(one) or not len(other) or np.ptp(np.concatenate([one, other])) == 0:
            continue
        test = stats.mannwhitneyu(one, other)
        area = float(test.statistic) / (len(one) * len(other))
        medians = float(np.median(one)), float(np.median(other))
        found.append(Feature(name, *medians, area, float(test.pvalue)))
    together = adjusted([one.p for one in found])
    each = [
        Feature(one.name, one.first, one.second, one.auc, p)
        for one, p in zip(found, together, strict=True)
        if p < SIGNIFICANT
    ]
    return sorted(each, key=lambda one: (-abs(one.auc - 0.5), one.name))[:_SHOWN]
