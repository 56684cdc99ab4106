"""How sure a network is beside how often it is right, and what its doubt is good for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score, roc_auc_score

from datasets_spec.contract import IGNORED
from model.inference.temperature import calibrated
from model.scoring.certainty import Certainty, look, near, rank_correlation, ranked
from model.scoring.scores import Calibration
from tests.support.every import every

SIDE = 60


def _disc(seed: int, unsure: float = 3.0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Truth (rows, columns) drawn from probabilities (2, rows, columns) of a soft-edged disc."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    depth = 15 - np.hypot(rows - rng.uniform(25, 35), columns - rng.uniform(25, 35))
    inside = 1 / (1 + np.exp(-depth / unsure))
    p = np.stack([1 - inside, inside]).astype(np.float32)
    return (rng.random(inside.shape) < inside).astype(np.uint8), p


def _sums(power: float = 1.0, cases: int = 40) -> tuple[Certainty, Calibration]:
    """Of discs whose probabilities are spoilt by a power, and the other measure of them."""
    found, present = Certainty.none(2), Calibration.none()
    for seed in range(cases):
        truth, p = _disc(seed)
        own = calibrated(p, [1 / power] * 2)
        found.add(truth, own, own)
        present += Calibration.of(truth[None], own.transpose(1, 2, 0)[None])
    return found, present


def test_perfect_probabilities_have_no_error_near_the_prediction_alone() -> None:
    """A choice of pixels that looks at the truth finds an error where there is none."""
    found, present = _sums()
    assert found.calibrated.near.ece < 0.01
    assert present.ece > 0.1


@every("power", [3.0, 0.3])
def test_probabilities_that_are_wrong_have_an_error(power: float) -> None:
    assert _sums(power)[0].calibrated.near.ece > 0.05


def test_perfect_probabilities_give_the_truth_most_likelihood() -> None:
    costs = [_sums(power)[0].calibrated.likelihood.cost for power in (0.5, 1.0, 2.0)]
    assert costs[1] == min(costs)


def test_near_is_the_prediction_and_two_steps_around_it() -> None:
    guess = np.zeros((9, 9), np.uint8)
    guess[4, 4] = 2
    rows, columns = np.mgrid[:9, :9]
    np.testing.assert_array_equal(near(guess), abs(rows - 4) + abs(columns - 4) <= 2)
    assert not near(np.zeros((9, 9), np.uint8)).any()


def test_what_nobody_annotated_does_not_count() -> None:
    truth, p = _disc(1)
    half = truth.copy()
    half[:, 30:] = IGNORED
    other = p.copy()
    other[:, :, 32:] = 0.5  # its region ends two pixels earlier
    sums = []
    for q in (p, other):
        found = Certainty.none(2)
        found.add(half, q, q)
        sums.append(found.calibrated)
    assert sums[0].likelihood.voxels == SIDE * 30
    assert sums[0].likelihood == sums[1].likelihood
    assert sums[0].near.pixels.sum() < near(p.argmax(axis=0).astype(np.uint8)).sum()
    assert sums[0].near.pixels.sum() == sums[0].wrong.sum() + sums[0].right.sum()


def test_a_class_that_nobody_annotated_counts_as_background() -> None:
    truth, p = _disc(1)
    split = np.stack([p[0] * 0.4, p[1], p[0] * 0.6])
    one, other = Certainty.none(3), Certainty.none(2)
    look([one], (2,))([truth], split, split)
    look([other], ())([truth], p, p)
    assert one.calibrated.likelihood.cost == pytest.approx(other.calibrated.likelihood.cost)
    np.testing.assert_array_equal(one.calibrated.near.pixels, other.calibrated.near.pixels)
    assert one.calibrated.expected.dice[0] == pytest.approx(other.calibrated.expected.dice[0])
    assert math.isnan(one.calibrated.expected.dice[1])


def test_each_rater_is_judged_by_what_he_drew() -> None:
    truth, p = _disc(1)
    two = [Certainty.none(2), Certainty.none(2)]
    look(two, ())([truth, np.zeros_like(truth)], p, p)
    assert two[0].calibrated.near.right.sum() > two[1].calibrated.near.right.sum()
    assert two[0].own.likelihood.voxels == 0  # nothing was calibrated


@every("seed", range(3))
def test_errors_are_ranked_as_scikit_learn_ranks_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wrong, right = rng.integers(0, 30, 12).astype(float), rng.integers(0, 90, 12).astype(float)
    labels = np.concatenate([np.ones(int(wrong.sum())), np.zeros(int(right.sum()))])
    doubt = np.concatenate(
        [np.repeat(np.arange(12), counts.astype(int)) for counts in (wrong, right)]
    )
    area, precision = ranked(wrong, right)
    assert area == pytest.approx(roc_auc_score(labels, doubt))
    assert precision == pytest.approx(average_precision_score(labels, doubt))


def test_without_errors_nothing_is_ranked() -> None:
    area, precision = ranked(np.zeros((2, 4)), np.ones((2, 4)))
    assert np.isnan(area).all()
    assert np.isnan(precision).all()


def test_rank_correlation_is_spearmans_of_repeated_cases() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 6, 20).astype(float), rng.normal(size=20)
    times = rng.integers(0, 4, (5, 20)).astype(float)
    found = rank_correlation(one, other, times)
    for got, count in zip(found, times.astype(int), strict=True):
        pair = [np.repeat(each, count) for each in (one, other)]
        assert got == pytest.approx(spearmanr(*pair).statistic)
    assert math.isnan(rank_correlation(np.ones(20), other, times)[0])
