"""Which post-processing valid chooses, and when it is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from model.inference.rules import Rule, apply
from model.scoring.postprocess import LEAST_PATIENTS, RULES, Choice, Search
from model.scoring.scores import confusion, overlaps
from tests.support.blocks import SHAPE, VOXEL_ML, block, empty

on_both = pytest.mark.parametrize("planar", [False, True])


def test_the_first_rule_changes_nothing() -> None:
    assert RULES[0] == Rule()
    assert len(set(RULES)) == len(RULES)


@given(seed=st.integers(0, 9999), planar=st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_search_scores_each_rule_as_it_is_applied(seed: int, planar: bool) -> None:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, *SHAPE)), (0, 0.5, 1, 1))
    truth, guess = (smooth > 0.1).astype(np.uint8) * rng.integers(1, 3, SHAPE).astype(np.uint8)
    search = Search(3)
    search.add("p", truth, guess, VOXEL_ML, planar)
    for label in (1, 2):
        [dice] = search._dice[label]
        for rule, got in zip(RULES, dice, strict=True):
            corrected = apply(guess, {label: rule}, VOXEL_ML, planar)
            assert got == pytest.approx(overlaps(confusion(truth, corrected, 3))[label].dice)


@given(seed=st.integers(0, 9999), fill=st.booleans())
@settings(max_examples=20, deadline=None)
def test_rules_take_a_thick_slice_for_as_many_thin_ones(seed: int, fill: bool) -> None:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, *SHAPE)), (0, 0, 1.5, 1.5))
    truth, guess = (smooth > 0.08).astype(np.uint8)
    times = rng.integers(1, 4, len(truth))
    own, many = VOXEL_ML * times, [np.repeat(ids, times, axis=0) for ids in (truth, guess)]
    sizes = [VOXEL_ML * count for count in (3.5, 10.5, 30.5)]
    for rule in (Rule(fill, ml) for ml in sizes):
        corrected = np.repeat(apply(guess, {1: rule}, own, False), times, axis=0)
        assert np.array_equal(corrected, apply(many[1], {1: rule}, VOXEL_ML, False))
    search, other = Search(2), Search(2)
    search.add("p", truth, guess, own, False)
    other.add("p", *many, VOXEL_ML, False)
    np.testing.assert_allclose(search._dice[1], other._dice[1])


def _search(patients: int, freckled: int) -> dict[int, Choice]:
    """Valid cases of which the first ``freckled`` have a freckle, and all are right otherwise."""
    search = Search(2)
    for number in range(patients):
        guess = block()
        if number < freckled:
            guess[0, 0, 0] = 1
        search.add(f"p{number}", block(), guess, VOXEL_ML, False)
    return search.choose(1)


def test_a_rule_that_helps_every_patient_is_kept() -> None:
    choice = _search(LEAST_PATIENTS, LEAST_PATIENTS)[1]
    assert choice.kept
    assert choice.rule == Rule(smallest_ml=0.01)  # the mildest that does it


def test_a_rule_that_helps_one_patient_may_be_chance_and_is_not_kept() -> None:
    choice = _search(8, 1)[1]
    assert choice.gain > 0
    assert choice.low == 0
    assert not choice.kept


def test_too_few_patients_keep_nothing() -> None:
    choice = _search(LEAST_PATIENTS - 1, LEAST_PATIENTS - 1)[1]
    assert choice.low > 0
    assert not choice.kept


def test_a_rule_that_does_nothing_is_not_kept() -> None:
    choice = _search(9, 0)[1]
    assert (choice.rule, choice.gain, choice.kept) == (Rule(), 0, False)


def test_removing_what_was_invented_is_a_gain() -> None:
    search = Search(2)
    for number in range(LEAST_PATIENTS):
        guess = empty()
        guess[0, 0, 0] = 1
        search.add(f"p{number}", empty(), guess, VOXEL_ML, False)
    choice = search.choose(1)[1]
    assert (choice.gain, choice.kept) == (1, True)


def test_no_valid_cases_choose_nothing() -> None:
    assert Search(3).choose(1) == {}
