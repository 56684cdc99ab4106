"""Intervals over patients, against scipy's bootstrap and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from model.scoring.bootstrap import Resamples, interval, mean_over


def _patients(count: int) -> list[str]:
    return [f"p{number:03d}" for number in range(count)]


@pytest.mark.parametrize("seed", range(3))
def test_interval_agrees_with_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).beta(8, 2, 40)
    got = interval(Resamples.drawn(_patients(40), seed).means(_patients(40), values))
    wanted = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    assert got == pytest.approx((wanted.low, wanted.high), abs=0.004)


def test_cases_of_a_patient_are_drawn_together() -> None:
    """Copies of a case tell nothing new: the interval stays as wide."""
    values = np.random.default_rng(0).normal(size=20)
    patients = _patients(20)
    resamples = Resamples.drawn(patients, 1)
    once = interval(resamples.means(patients, values))
    often = interval(resamples.means(patients * 9, np.tile(values, 9)))
    assert often == pytest.approx(once)
    naive = interval(Resamples.drawn(_patients(180), 1).means(_patients(180), np.tile(values, 9)))
    assert once is not None
    assert naive is not None
    assert naive[1] - naive[0] < 0.5 * (once[1] - once[0])


def test_draws_depend_on_the_key_and_not_on_the_order() -> None:
    patients = _patients(12)
    first = Resamples.drawn(patients, 7, "aisd")
    np.testing.assert_array_equal(first.times, Resamples.drawn(patients[::-1], 7, "aisd").times)
    assert (first.times != Resamples.drawn(patients, 8, "aisd").times).any()
    assert (first.times.sum(axis=1) == 12).all()


def test_cases_without_a_score_are_left_out_of_means() -> None:
    values = np.array([[0.5, np.nan], [0.7, np.nan], [np.nan, np.nan]])
    drawn = Resamples.drawn(_patients(3), 0).means(_patients(3), values)
    known = drawn[:, 0][np.isfinite(drawn[:, 0])]
    assert set(np.round(known, 6)) <= {0.5, 0.7, 0.6, 0.566667, 0.633333}
    assert interval(drawn[:, 1]) is None


def test_interval_of_one_patient_is_a_point() -> None:
    assert interval(Resamples.drawn(["a"], 0).means(["a", "a"], np.array([0.2, 0.4]))) == (
        pytest.approx(0.3),
        pytest.approx(0.3),
    )


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    patients = _patients(30)
    resamples = Resamples.drawn(patients, 0)
    bounds = [interval(resamples.means(patients, rng.normal(size=30))) for _ in range(200)]
    covered = np.mean([low <= 0 <= high for low, high in filter(None, bounds)])
    assert 0.88 < covered < 0.98


def test_mean_over_leaves_nan_out() -> None:
    table = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(mean_over(table), [2, np.nan])
