"""Regions are those of scipy and SimpleITK, and memory goes with the runs of a mask."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from model import regions as room
from model.regions import Regions, box, holes, regions, runs
from tests.support.every import every

Mask = NDArray[np.bool_]
masks = st.builds(
    lambda shape, share, seed: np.random.default_rng(seed).random(shape) < share,
    st.tuples(*[st.integers(1, 11)] * 3),
    st.sampled_from([0.0, 0.05, 0.2, 0.5, 0.8, 1.0]),
    st.integers(0, 9999),
)
often = settings(max_examples=60, deadline=None)
on_all = every(("corners", "planar"), [(c, p) for c in (False, True) for p in (False, True)])


@pytest.fixture(params=[False, True], ids=["whole", "in pieces"], autouse=True)
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on how much is looked at together, or on how sparse a mask is."""
    if request.param:
        monkeypatch.setattr(room, "_VOXELS", 30)
        monkeypatch.setattr(room, "_RUNS", 5)
        monkeypatch.setattr(room, "_SPARSE", 1)


def numbered(found: Regions) -> NDArray[np.int64]:
    """The number of each voxel's region, from 1."""
    numbers = np.zeros(found.runs.shape, np.int64)
    for number in range(found.count):
        drawn = np.zeros(numbers.shape, np.uint8)
        found.paint(drawn, np.arange(found.count) == number, 1)
        numbers[drawn > 0] = number + 1
    return numbers


def by_scipy(mask: Mask, corners: bool, planar: bool) -> NDArray[np.int64]:
    """The same by scipy, numbered by the first voxel."""
    near = np.ones((3, 3, 3), bool) if corners else ndimage.generate_binary_structure(3, 1)
    near[[0, 2]] &= not planar
    numbers, count = ndimage.label(mask, near)
    _, first = np.unique(numbers[mask], return_index=True)
    order = np.zeros(count + 1, np.int64)
    order[1:][np.argsort(first)] = np.arange(1, count + 1)
    return order[numbers]


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("planar", [False, True])
@given(mask=masks)
@often
def test_regions_are_scipys(mask: Mask, corners: bool, planar: bool) -> None:
    found, wanted = regions(mask, corners=corners, planar=planar), by_scipy(mask, corners, planar)
    np.testing.assert_array_equal(numbered(found), wanted)
    assert found.count == wanted.max(initial=0)
    np.testing.assert_array_equal(found.sizes, np.bincount(wanted[mask], minlength=1)[1:])
    every_one = range(1, found.count + 1)
    centres = np.reshape(ndimage.center_of_mass(mask, wanted, every_one), (-1, 3))
    np.testing.assert_allclose(found.centres, centres)
    spans = [(at[0].start, at[0].stop - 1) for at in ndimage.find_objects(wanted)]
    np.testing.assert_array_equal(found.spans, np.reshape(spans, (-1, 2)))


@given(mask=masks, seed=st.integers(0, 99))
@often
def test_voxels_in_another_mask_are_counted(mask: Mask, seed: int) -> None:
    other = np.random.default_rng(seed).random(mask.shape) < 0.4
    found = regions(mask, corners=True, planar=False)
    wanted = np.bincount(numbered(found)[mask & other], minlength=found.count + 1)[1:]
    np.testing.assert_array_equal(found.voxels_in(runs(other)), wanted)


@given(mask=masks, step=st.integers(1, 4), of_memory=st.permutations([0, 1, 2]))
@often
def test_a_mask_may_come_slab_by_slab_and_in_any_order_of_memory(
    mask: Mask, step: int, of_memory: list[int]
) -> None:
    turned = np.ascontiguousarray(mask.transpose(of_memory)).transpose(np.argsort(of_memory))
    slabs = (turned[start : start + step] for start in range(0, len(mask), step))
    whole, parts = runs(mask), runs(slabs)
    assert whole.shape == parts.shape == mask.shape
    np.testing.assert_array_equal(whole.starts, parts.starts)
    np.testing.assert_array_equal(whole.stops, parts.stops)


@given(mask=masks)
@often
def test_holes_are_scipys(mask: Mask) -> None:
    np.testing.assert_array_equal(mask | holes(mask, False), ndimage.binary_fill_holes(mask))
    assert not (mask & holes(mask, False)).any()
    each = [ndimage.binary_fill_holes(one) for one in mask]
    np.testing.assert_array_equal(mask | holes(mask, True), each)


@given(mask=masks, label=st.integers(1, 3))
@often
def test_a_box_is_scipys(mask: Mask, label: int) -> None:
    ids = mask.astype(np.uint8) * np.uint8(label)
    [wanted] = ndimage.find_objects(ids, label)[label - 1 :]
    assert box(ids, label) == (wanted or (slice(0),) * 3)
    assert box(ids, label + 1) == (slice(0),) * 3


@on_all
def test_snakes_and_spirals_are_one_region(corners: bool, planar: bool) -> None:
    """Which only a chain of joins, as long as they are, holds together."""
    side = 41
    snake = np.zeros((1, side, side), bool)
    snake[0, ::2] = True
    snake[0, 1::4, -1] = snake[0, 3::4, 0] = True
    spiral = np.zeros((1, side, side), bool)
    row, column, down, right, left = 0, 0, 0, 1, side - 1
    spiral[0, 0, 0] = True
    for turn in range(side - 1):
        for _ in range(left):
            row, column = row + down, column + right
            spiral[0, row, column] = True
        down, right = right, -down
        left -= 2 * (turn % 2) if turn else 0
    for mask in (snake, spiral, spiral.transpose(0, 2, 1)):
        wanted = by_scipy(mask, corners, planar).max()
        assert regions(mask, corners=corners, planar=planar).count == wanted >= 1


def test_components_agree_with_simpleitk() -> None:
    noise = np.random.default_rng(1).normal(size=(7, 21, 19))
    mask = np.asarray(ndimage.gaussian_filter(noise, 0.9) > 0.25, bool)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    wanted: Any = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
    numbers = numbered(regions(mask, corners=True, planar=False))
    assert numbers.max() == wanted.max() > 1
    joint = {(int(a), int(b)) for a, b in zip(numbers.ravel(), wanted.ravel(), strict=True)}
    assert len(joint) == wanted.max() + 1


def test_voxels_that_touch_at_a_corner_are_one_in_3d_and_two_when_planar() -> None:
    mask = np.zeros((5, 6, 6), bool)
    mask[2, 2, 2] = mask[3, 3, 3] = True
    counts = [regions(mask, corners=True, planar=planar).count for planar in (False, True)]
    assert counts == [1, 2]
    assert regions(mask, corners=False, planar=False).count == 2


def test_what_ends_a_row_does_not_touch_what_begins_the_next() -> None:
    mask = np.zeros((2, 5, 4), bool)
    mask[0, 2, 3] = mask[0, 3, 0] = mask[0, 4, 3] = mask[1, 0, 0] = True
    assert regions(mask, corners=True, planar=False).count == 4


@pytest.mark.parametrize("shape", [(0, 4, 4), (0, 0, 0), (3, 4, 5)])
def test_nothing_has_no_regions(shape: tuple[int, int, int]) -> None:
    mask = np.zeros(shape, bool)
    found = regions(mask, corners=True, planar=False)
    assert (found.count, found.centres.shape, found.spans.shape) == (0, (0, 3), (0, 2))
    assert holes(mask, False).shape == shape


@pytest.mark.parametrize("pieces", [False], indirect=True)
def test_memory_goes_with_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_VOXELS", 1 << 16)
    mask = np.zeros((200, 128, 128), bool)
    mask[10:190, 30:90, 30:90] = True
    tracemalloc.start()
    found = regions((mask[at : at + 4] for at in range(0, 200, 4)), corners=True, planar=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.count == 1
    assert peak < mask.size / 2
