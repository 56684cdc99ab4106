"""The errors that the benchmark of the label audit plants: as many as stated, each a change."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks import planted
from tests.benchmarks.planted import KINDS, Slice, plant


def _volume(seed: int) -> planted.Labels:
    """Two touching structures, in slices 2 to 17; class 2 is in the later ones alone."""
    shift = seed % 3
    volume = np.zeros((20, 24, 20), np.uint8)
    volume[4 + shift : 12, 5:15, 2:18] = 1
    volume[4 + shift : 12, 15:20, 10:18] = 2
    return volume


VOLUMES = {f"case_{number}": _volume(number) for number in range(20)}


def test_the_stated_share_is_damaged_by_all_kinds_in_turn() -> None:
    plants = list(plant(VOLUMES, 0.05, seed=1))
    labelled = 20 * 16
    assert len(plants) == round(0.05 * labelled)
    kinds = [kind for _, _, kind, _ in plants]
    assert [kinds.count(kind) for kind in KINDS] == [4] * 4
    assert len({(name, index) for name, index, _, _ in plants}) == len(plants)


def test_every_plant_changes_its_slice_as_it_says() -> None:
    for name, index, kind, damaged in plant(VOLUMES, 0.5, seed=2):
        was = VOLUMES[name][..., index]
        assert not np.array_equal(damaged, was)
        if kind == "slice dropped":
            assert not damaged.any()
        if kind == "classes swapped":
            assert np.array_equal(damaged > 0, was > 0)
        if kind == "structure missing":
            assert len(np.unique(damaged)) == len(np.unique(was)) - 1
        if kind.startswith("shifted"):
            assert np.count_nonzero(damaged) == np.count_nonzero(was)


def test_the_same_seed_plants_the_same() -> None:
    one, other = ([each[:3] for each in plant(VOLUMES, 0.1, seed=3)] for _ in range(2))
    assert one == other


def test_what_is_found_is_a_share_of_what_is_damaged() -> None:
    order: list[Slice] = [("a", index) for index in range(100)]
    damaged = {("a", index): kind for index, kind in zip((0, 5, 9, 50), KINDS, strict=True)}
    found = planted.found_within(order, damaged, 0.1)
    assert found == pytest.approx(dict(zip(KINDS, (1, 1, 1, 0), strict=True)) | {"all": 0.75})
