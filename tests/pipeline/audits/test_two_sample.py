"""Two groups are told apart where something differs, and hardly ever where nothing does."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.audits.two_sample import LEAST, SIGNIFICANT, adjusted, told_apart
from tests.support.every import every

PATIENTS, SPLITS = 60, 20
NAMES = ("pixel (mm)", "noise", "skewed", "two values", "unknown in part")


def _numbers(seed: int) -> NDArray[np.float64]:
    """What patients of one world are like: no two features alike."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(PATIENTS, len(NAMES)))
    table[:, 2] = np.exp(2 * table[:, 2])
    table[:, 3] = table[:, 3] > 1
    table[rng.random(PATIENTS) < 0.2, 4] = np.nan
    return table


def test_random_splits_of_one_world_are_hardly_ever_told_apart() -> None:
    """At most 1 of 20, as a level of .05 promises; of 40 within its binomial range."""
    numbers = _numbers(1)
    rng = np.random.default_rng(2)
    flagged = []
    for seed in range(40):
        first = rng.permutation(PATIENTS) < 20
        flagged.append(told_apart(numbers, NAMES, first, seed).p < SIGNIFICANT)
    assert sum(flagged[:SPLITS]) <= 1
    assert sum(flagged) <= 6  # of Binomial(40, .05), 99.6 % lie no higher


@pytest.mark.parametrize("feature", [0, 1, 2])
def test_a_planted_change_is_found_and_named(feature: int) -> None:
    numbers = _numbers(3)
    first = np.arange(PATIENTS) < 20
    spread = np.std(np.log(numbers[:, 2])) if feature == 2 else 1.0
    if feature == 2:
        numbers[first, 2] *= np.exp(1.5 * spread)
    else:
        numbers[first, feature] += 1.5
    found = told_apart(numbers, NAMES, first, 4)
    assert found.p < 0.01
    assert found.features[0].name == NAMES[feature]
    assert found.features[0].first > found.features[0].second


def test_a_change_that_no_feature_shows_by_itself_is_found() -> None:
    """Two features that always agree, and disagree in the first group."""
    rng = np.random.default_rng(5)
    first = np.arange(PATIENTS) < 30
    common = rng.normal(size=PATIENTS)
    numbers = np.stack([common, common + np.where(first, 0.5, 0) + rng.normal(0, 0.2, PATIENTS)], 1)
    found = told_apart(numbers, ("a", "b"), first, 6)
    assert found.p < 0.01
    assert not found.features


def test_what_is_not_known_of_one_group_tells_it_apart() -> None:
    numbers = _numbers(7)
    first = np.arange(PATIENTS) < 20
    numbers[first, 1] = np.nan
    found = told_apart(numbers, NAMES, first, 8)
    assert found.p < 0.01


def test_units_and_outliers_do_not_matter() -> None:
    numbers = _numbers(9)
    first = np.arange(PATIENTS) < 20
    other = numbers.copy()
    other[:, 0] = 1000 * other[:, 0] ** 3  # grows with it
    one, two = (told_apart(each, NAMES, first, 10) for each in (numbers, other))
    assert (one.auc, one.p) == (two.auc, two.p)


@every("value", [0.0, 3.0])
def test_equal_patients_are_not_told_apart(value: float) -> None:
    numbers = np.full((PATIENTS, 2), value)
    found = told_apart(numbers, ("a", "b"), np.arange(PATIENTS) < 20, 1)
    assert (found.auc, found.p, found.features) == (0.5, 1.0, ())


@every("first", [LEAST - 1, PATIENTS - LEAST + 1])
def test_too_few_patients_are_refused(first: int) -> None:
    with pytest.raises(ValueError, match="groups of"):
        told_apart(_numbers(1), NAMES, np.arange(PATIENTS) < first, 1)


def test_holm_is_no_smaller_than_the_largest_before() -> None:
    assert adjusted([0.001, 0.5, 0.02, 0.03]) == [0.004, 0.5, 0.06, 0.06]
    assert adjusted([]) == []
