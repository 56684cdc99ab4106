"""What the rules of a model change in its predictions."""

from __future__ import annotations

import numpy as np
import pytest

from model.inference.rules import Rule, apply
from model.regions import holes
from tests.support.blocks import VOXEL_ML, block, empty
from tests.support.every import every

RULES = [Rule(fill, ml) for fill in (False, True) for ml in (0.0, 0.01, 3.0)]
on_both = pytest.mark.parametrize("planar", [False, True])


@on_both
def test_a_rule_that_does_nothing_changes_nothing(planar: bool) -> None:
    np.testing.assert_array_equal(apply(block(), {1: Rule()}, VOXEL_ML, planar), block())


@on_both
def test_a_hole_is_filled_with_its_class(planar: bool) -> None:
    corrected = apply(block(), {1: Rule(fill_holes=True)}, VOXEL_ML, planar)
    assert corrected[3, 5, 5] == 1
    assert np.count_nonzero(corrected) == np.count_nonzero(block()) + 1


@on_both
def test_a_hole_that_holds_another_class_keeps_it(planar: bool) -> None:
    ids = block()
    ids[3, 5, 5] = 2
    np.testing.assert_array_equal(apply(ids, {1: Rule(fill_holes=True)}, VOXEL_ML, planar), ids)


def test_a_tunnel_is_a_hole_of_each_slice_but_not_of_the_volume() -> None:
    ids = empty()
    ids[:, 2:9, 2:9] = 1
    ids[:, 5, 5] = 0
    assert not holes(ids == 1, False).any()
    assert holes(ids == 1, True).sum() == len(ids)


def test_components_below_the_volume_become_background() -> None:
    ids = block()
    ids[0, 0, :5] = 1  # 5 voxels, 0.01 ml: not below
    ids[5, 11, :4] = 1
    ids[5, 0, 11] = 2
    corrected = apply(ids, {1: Rule(smallest_ml=0.01)}, VOXEL_ML, False)
    assert corrected[0, 0, :5].all()
    assert not corrected[5, 11].any()
    assert corrected[5, 0, 11] == 2


def test_the_given_ids_stay_as_they_were() -> None:
    ids = block()
    apply(ids, {1: Rule(True, 3.0)}, VOXEL_ML, False)
    np.testing.assert_array_equal(ids, block())


@every("rule", RULES)
@on_both
def test_nothing_is_done_to_nothing(rule: Rule, planar: bool) -> None:
    assert not apply(empty(), {1: rule, 2: rule}, VOXEL_ML, planar).any()
