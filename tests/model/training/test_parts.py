"""Which part of a picture a network that sees parts is shown."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.params import Network
from model.training import parts

chance = st.floats(0, 1, exclude_max=True)
chances = st.tuples(chance, chance, chance).map(np.array)


def network(px: int, whole: int) -> Network:
    return Network(px, 1, 2, 3, 2, 1, 0.0, "relu", "none", picture_px=whole)


@pytest.mark.parametrize(("px", "whole", "count"), [(8, 32, 16), (8, 20, 9), (8, 9, 4), (8, 0, 1)])
def test_parts_to_judge_by_cover_the_picture(px: int, whole: int, count: int) -> None:
    corners = parts.edge_to_edge(network(px, whole))
    seen = np.zeros((whole or px,) * 2, int)
    for row, column in corners:
        seen[row : row + px, column : column + px] += 1
    assert len(corners) == count
    assert seen.sum() == count * px * px  # none reaches beyond the border
    assert seen.min() == 1
    assert whole % px or seen.max() == 1


@given(chances, st.integers(0, 40), st.integers(1, 12))
def test_any_part_lies_within_the_picture(draw: np.ndarray, more: int, px: int) -> None:
    row, column = parts.drawn(np.zeros((px + more, px + more), np.uint8), px, 0, draw)
    assert 0 <= row <= more
    assert 0 <= column <= more


@given(chances, st.data())
def test_a_part_for_a_class_shows_the_class(draw: np.ndarray, data: st.DataObject) -> None:
    px, whole = data.draw(st.sampled_from([(4, 9), (8, 16), (3, 30)]))
    ids = np.zeros((whole, whole), np.uint8)
    for _ in range(data.draw(st.integers(1, 3))):
        ids[data.draw(st.integers(0, whole - 1)), data.draw(st.integers(0, whole - 1))] = 2
    row, column = parts.drawn(ids, px, 2, draw)
    assert 0 <= row <= whole - px
    assert 0 <= column <= whole - px
    assert (ids[row : row + px, column : column + px] == 2).any()


@given(chances)
def test_for_a_class_that_was_lost_on_the_way_any_part_is_drawn(draw: np.ndarray) -> None:
    ids = np.zeros((20, 20), np.uint8)
    assert parts.drawn(ids, 8, 1, draw) == parts.drawn(ids, 8, 0, draw)


def test_every_part_is_drawn_as_often() -> None:
    rng, ids = np.random.default_rng(0), np.zeros((10, 10), np.uint8)
    drawn = [parts.drawn(ids, 8, 0, rng.random(parts.CHANCES)) for _ in range(9000)]
    counts = np.array([drawn.count((row, column)) for row in range(3) for column in range(3)])
    assert counts.sum() == 9000
    assert np.abs(counts - 1000).max() < 150


def test_every_pixel_of_a_class_and_every_part_around_it_has_its_turn() -> None:
    rng, ids = np.random.default_rng(0), np.zeros((12, 12), np.uint8)
    ids[6, 6] = ids[0, 11] = 1
    drawn = {parts.drawn(ids, 4, 1, rng.random(parts.CHANCES)) for _ in range(500)}
    around = {(row, column) for row in range(3, 7) for column in range(3, 7)}
    assert drawn == around | {(0, 8)}
