"""What post-processing changes, and when it is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from model.scoring.postprocess import LEAST_PATIENTS, RULES, Choice, Rule, Search, apply, holes
from model.scoring.scores import confusion, overlaps
from tests.support.every import every

SHAPE = (6, 12, 12)
VOXEL_ML = 0.002
on_both = pytest.mark.parametrize("planar", [False, True])


def _empty() -> NDArray[np.uint8]:
    return np.zeros(SHAPE, np.uint8)


def _ball() -> NDArray[np.uint8]:
    """A block of class 1 with a hole of one voxel."""
    ids = _empty()
    ids[1:5, 2:9, 2:9] = 1
    ids[3, 5, 5] = 0
    return ids


def test_the_first_rule_changes_nothing() -> None:
    assert RULES[0] == Rule()
    assert len(set(RULES)) == len(RULES)


@on_both
def test_a_hole_is_filled_with_its_class(planar: bool) -> None:
    corrected = apply(_ball(), {1: Rule(fill_holes=True)}, VOXEL_ML, planar)
    assert corrected[3, 5, 5] == 1
    assert np.count_nonzero(corrected) == np.count_nonzero(_ball()) + 1


@on_both
def test_a_hole_that_holds_another_class_keeps_it(planar: bool) -> None:
    ids = _ball()
    ids[3, 5, 5] = 2
    np.testing.assert_array_equal(apply(ids, {1: Rule(fill_holes=True)}, VOXEL_ML, planar), ids)


def test_a_tunnel_is_a_hole_of_each_slice_but_not_of_the_volume() -> None:
    ids = _empty()
    ids[:, 2:9, 2:9] = 1
    ids[:, 5, 5] = 0
    assert not holes(ids == 1, False).any()
    assert holes(ids == 1, True).sum() == len(ids)


@given(seed=st.integers(0, 9999))
@settings(max_examples=25, deadline=None)
def test_holes_agree_with_scipys(seed: int) -> None:
    mask = np.random.default_rng(seed).random(SHAPE) < 0.7
    np.testing.assert_array_equal(mask | holes(mask, False), ndimage.binary_fill_holes(mask))
    each = [ndimage.binary_fill_holes(one) for one in mask]
    np.testing.assert_array_equal(mask | holes(mask, True), each)


def test_components_below_the_volume_become_background() -> None:
    ids = _ball()
    ids[0, 0, :5] = 1  # 5 voxels, 0.01 ml: not below
    ids[5, 11, :4] = 1
    ids[5, 0, 11] = 2
    corrected = apply(ids, {1: Rule(smallest_ml=0.01)}, VOXEL_ML, False)
    assert corrected[0, 0, :5].all()
    assert not corrected[5, 11].any()
    assert corrected[5, 0, 11] == 2


def test_the_given_ids_stay_as_they_were() -> None:
    ids = _ball()
    apply(ids, {1: Rule(True, 3.0)}, VOXEL_ML, False)
    np.testing.assert_array_equal(ids, _ball())


@every("rule", RULES)
@on_both
def test_nothing_is_done_to_nothing(rule: Rule, planar: bool) -> None:
    assert not apply(_empty(), {1: rule, 2: rule}, VOXEL_ML, planar).any()


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


def _search(patients: int, freckled: int) -> dict[int, Choice]:
    """Valid cases of which the first ``freckled`` have a freckle, and all are right otherwise."""
    search = Search(2)
    for number in range(patients):
        guess = _ball()
        if number < freckled:
            guess[0, 0, 0] = 1
        search.add(f"p{number}", _ball(), guess, VOXEL_ML, False)
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
        guess = _empty()
        guess[0, 0, 0] = 1
        search.add(f"p{number}", _empty(), guess, VOXEL_ML, False)
    choice = search.choose(1)[1]
    assert (choice.gain, choice.kept) == (1, True)


def test_no_valid_cases_choose_nothing() -> None:
    assert Search(3).choose(1) == {}
