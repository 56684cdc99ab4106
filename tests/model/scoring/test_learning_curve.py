"""A curve through trainings on fewer patients: what it foretells, and how sure it is."""

from __future__ import annotations

import numpy as np
import pytest

from model.scoring.learning_curve import Training, expected, scatter
from tests.support.every import every

TESTED = 40


def _trainings(
    sizes: tuple[int, ...], top: float, gap: float, exponent: float, noise: float, seed: int
) -> list[Training]:
    """Two of each size, of patients who are easy or hard for all of them alike."""
    rng = np.random.default_rng(seed)
    patients = rng.normal(0, 0.03, TESTED)
    found = []
    for size in sizes:
        for number in range(2):
            mean = top - gap * size**-exponent + rng.normal(0, noise)
            found.append(Training(size, number, tuple((mean + patients).clip(0, 1).tolist())))
    return found


@every(
    ("top", "gap", "exponent"),
    [(0.90, 0.5, 0.5), (0.85, 0.3, 0.3), (0.92, 1.5, 1.0), (0.80, 0.0, 1.0)],
)
def test_a_curve_without_noise_is_continued(top: float, gap: float, exponent: float) -> None:
    found = _trainings((8, 16, 32, 64), top, gap, exponent, 0.0, 1)
    [one] = expected(found, [128], seed=1)
    truth = float(np.mean(found[-1].dice)) + gap * (64**-exponent - 128**-exponent)
    assert one.dice == pytest.approx(truth, abs=0.006)
    assert one.low < truth < one.high


def test_the_interval_holds_what_comes() -> None:
    """Of 60 curves with trainings that scatter by .01, at least 52 in the interval of 95 %."""
    held = 0
    for seed in range(60):
        rng = np.random.default_rng(1000 + seed)
        exponent = float(rng.uniform(0.3, 0.9))
        found = _trainings((8, 16, 32, 64), 0.9, 0.6, exponent, 0.01, seed)
        [one] = expected(found, [128], seed=seed)
        known = float(np.mean(np.random.default_rng(seed).normal(0, 0.03, TESTED)))
        truth = 0.9 - 0.6 * 128**-exponent + known + rng.normal(0, 0.01)
        held += one.low <= truth <= one.high
    assert held >= 52


def test_further_away_is_less_sure_and_never_worse() -> None:
    found = _trainings((8, 16, 32, 64), 0.9, 0.6, 0.5, 0.005, 3)
    answers = expected(found, [64, 128, 512, 4096], seed=1)
    widths = [one.high - one.low for one in answers]
    assert widths[0] < widths[2] < widths[3]
    assert [one.dice for one in answers] == sorted(one.dice for one in answers)
    assert all(one.high <= 1 for one in answers)


def test_the_same_seed_gives_the_same() -> None:
    found = _trainings((8, 16, 32), 0.9, 0.6, 0.5, 0.005, 3)
    assert expected(found, [100], seed=1) == expected(found, [100], seed=1)


def test_two_sizes_are_no_curve() -> None:
    with pytest.raises(ValueError, match="2 numbers"):
        expected(_trainings((8, 16), 0.9, 0.6, 0.5, 0.0, 1), [32], seed=1)


def test_one_training_of_each_size_has_the_least_scatter() -> None:
    assert scatter([Training(8, 1, (0.5,)), Training(16, 1, (0.9,))]) == pytest.approx(0.002)
