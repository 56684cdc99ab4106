"""What is left of labels that are drawn with fewer pixels."""

from __future__ import annotations

import numpy as np
import pytest

from model.planning.ceilings import COARSER, ceiling, left


def disc(radius: float, px: int = 96) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.mgrid[:px, :px]
    inside = np.hypot(y - px / 2.1, x - px / 1.9) < radius
    return inside.astype(np.uint8)[None]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 0.8)])
def test_less_is_left_with_larger_pixels_and_of_smaller_things(
    spacing: tuple[float, float],
) -> None:
    large, small = (
        [left(disc(radius), spacing, coarser, 2)[0] for coarser in COARSER] for radius in (30, 5)
    )
    assert large[0] > 0.99
    assert large[-1] > 0.95
    assert small[-1] < 0.95
    assert all(one >= other - 0.01 for one, other in zip(large, small, strict=True))
    assert small == sorted(small, reverse=True) or max(np.diff(small)) < 0.01


def test_a_line_is_lost_and_a_class_that_is_not_there_says_nothing() -> None:
    ids = np.zeros((1, 64, 64), np.uint8)
    ids[0, 20, :] = 2
    assert left(ids, (1.0, 1.0), 1.0, 4) == [1.0]
    assert left(ids, (1.0, 1.0), 4.0, 4)[0] < 0.5


def test_between_what_is_known_is_what_lies_between() -> None:
    known = {1.0: 1.0, 2.0: 0.9}
    assert [ceiling(known, one) for one in (0.5, 1.0, 1.5, 3.0)] == [1, 1, pytest.approx(0.95), 0.9]
    assert ceiling({}, 4.0) == 1
