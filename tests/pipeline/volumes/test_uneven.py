"""A series without one spacing is read with each slice at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.params.limits import Limits
from pipeline.volumes import profile, search, volume
from pipeline.volumes.dicom import assemble
from pipeline.volumes.findings import DOUBT
from pipeline.volumes.uneven import Uneven
from pipeline.volumes.volume import Grid, Volume
from tests.pipeline.volumes.dicom.test_assemble import Change, pixels, write_series

ROOT = Path("in")
TWO = (0.0, 5.0, 10.0, 20.0, 30.0)


def at(depths: Sequence[float], aside: Sequence[float] = (0.0,) * 9, down: bool = False) -> Change:
    def change(header: pydicom.Dataset, number: int) -> None:
        header.ImagePositionPatient = [-20.0, -30.0 + aside[number], 7.0 + depths[number]]
        if down:
            header.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]

    return change


def read() -> Volume:
    [scan] = search.search([ROOT]).scans
    return search.read(scan)


def uneven(depths: Sequence[float]) -> Uneven:
    places = np.zeros((len(depths), 3))
    places[:, 2] = depths
    return Uneven(places, np.array([0.0, 0.0, 1.0]))


def unread() -> str:
    inventory = search.search([ROOT])
    assert not inventory.scans
    [one] = inventory.unread
    assert one.missed
    return str(one)


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("tilt", [0.0, 0.3])
def test_slices_and_their_places_are_in_the_order_of_the_grid(
    workplace: Path, tilt: float, down: bool
) -> None:
    write_series(ROOT, change=at(TWO, [tilt * depth for depth in TWO], down))
    scan = read()
    own = scan.grid.from_ras(scan.array)
    order = slice(None, None, -1 if down else 1)
    assert np.array_equal(own.transpose(2, 1, 0), (pixels(5) * 2.0 - 100)[order])
    assert scan.uneven is not None
    depths = np.array(TWO)
    wanted = np.stack([depths * 0 + 20, 30 - tilt * depths, 7 + depths], 1)[order]
    np.testing.assert_allclose(scan.uneven.places, wanted)
    np.testing.assert_allclose(scan.uneven.steps, np.diff(depths)[order])
    assert [one.code for one in scan.findings] == ["uneven-spacing"]
    assert "steps of 5 mm (2), 10 mm (2)" in str(scan.findings[0])
    assert scan.voxel_ml == pytest.approx(0.5 * 0.4 * np.array([5, 5, 7.5, 10, 10]) / 1000)


def test_steps_that_drift_are_steps_of_their_own(workplace: Path) -> None:
    write_series(ROOT, change=at((0, 4.94, 9.88, 14.94, 20)))
    assert "steps of 4.9 mm (2), 5.1 mm (2)" in str(read().findings[0])


@pytest.mark.parametrize(
    ("depths", "thicker", "steps"),
    [
        ((0, 5, 10, 15, 20, 30), (5,), "5 mm (4), 10 mm (1)"),
        ((0, 5, 10, 20, 25, 30), (3,), "5 mm (4), 10 mm (1)"),
        ((0, 3, 6, 9, 15, 21, 27), (4, 5, 6), "3 mm (3), 6 mm (3)"),
    ],
)
def test_few_wide_steps_are_those_of_thicker_slices_if_headers_say_so(
    workplace: Path, depths: Sequence[float], thicker: Sequence[int], steps: str
) -> None:
    thin = depths[1]

    def change(header: pydicom.Dataset, number: int) -> None:
        at(depths)(header, number)
        header.SliceThickness = 2 * thin if number in thicker else thin

    write_series(ROOT, len(depths), change)
    assert f"steps of {steps}" in str(read().findings[0])


@pytest.mark.parametrize(
    ("depths", "gap"),
    [
        ((0, 2, 4, 6, 10, 12, 15.5, 20.5, 25.5, 30.5), "1 between 13.0 and 17.0 mm"),
        ((0, 2, 4, 6, 8.5, 13, 18, 23, 38, 43, 48), "2 between 30.0 and 45.0 mm"),
        ((0, 5, 10, 20, 25.3, 30), "1 between 17.0 and 27.0 mm"),
    ],
)
def test_a_slice_that_is_missing_in_a_part_of_even_spacing_is_named(
    workplace: Path, depths: Sequence[float], gap: str
) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        at(depths, (0.0,) * len(depths))(header, number)
        header.SliceThickness = 2.0 if depths[number] < 13 else 5.0

    write_series(ROOT, len(depths), change)
    assert f"missing along the normal {gap}" in unread()


@pytest.mark.parametrize("thickness", [5.0, 10.0])
def test_slices_of_one_thickness_hide_no_missing_one(workplace: Path, thickness: float) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        at((0, 5, 10, 20, 25, 30))(header, number)
        header.SliceThickness = thickness

    write_series(ROOT, 6, change)
    assert "missing along the normal 1 between 17.0 and 27.0 mm" in unread()


@pytest.mark.parametrize(
    ("depths", "sentence"),
    [
        ((0, 5, 10, 22, 27), "1 of the steps wider than the usual 5 mm, the widest 12 mm at 17.0"),
        ((0, 1, 5, 12, 18), "2 of the steps wider than the usual 5 mm, the widest 7 mm at 12.0"),
    ],
)
def test_a_gap_is_in_doubt_and_has_its_numbers(
    workplace: Path, depths: Sequence[float], sentence: str
) -> None:
    write_series(ROOT, change=at(depths))
    known = {one.code: one for one in read().findings}
    assert list(known) == ["uneven-spacing", "uneven-gap"]
    assert known["uneven-gap"].severity == DOUBT
    assert sentence in str(known["uneven-gap"])


def test_whoever_reads_a_folder_gets_what_a_search_finds(workplace: Path) -> None:
    write_series(ROOT, change=at(TWO))
    one, other = assemble.read_series(ROOT), read()
    assert one.uneven is not None
    assert other.uneven is not None
    assert np.array_equal(one.uneven.places, other.uneven.places)
    assert np.array_equal(one.array, other.array)


def test_a_tilted_even_series_has_one_spacing(workplace: Path) -> None:
    write_series(ROOT, tilt=1.5)
    scan = read()
    assert scan.uneven is None
    assert [one.code for one in scan.findings] == ["gantry-tilt"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (at([0, 5, 10, 20, 25]), "missing along the normal 1 between 17.0 and 27.0 mm"),
        (at(TWO, (0, 0, 0, 8, 8)), "got slices up to 2.67 mm off it"),
        (at([0, 5, 10, 15, 20], (0, 0, 4, 0, 0)), "got slices up to 4 mm off it"),
    ],
)
def test_what_is_wrong_otherwise_stays_refused(workplace: Path, change: Change, words: str) -> None:
    write_series(ROOT, change=change)
    assert words in unread()


@pytest.mark.parametrize(
    ("depths", "thicknesses"),
    [
        ((0, 5, 10, 20, 30), (5, 5, 7.5, 10, 10)),
        ((0, 2, 7, 12, 17), (2, 3.5, 5, 5, 5)),  # the first two overlap
        ((0, 5, 10, 15, 300), (5, 5, 5, 5, 5)),  # nothing is known of what lies between
        ((0, 1, 5, 12, 18), (1, 2.5, 4.5, 5, 5)),  # no step occurs twice: their median
    ],
)
def test_a_slice_stands_for_half_the_way_to_its_neighbours(
    depths: Sequence[float], thicknesses: Sequence[float]
) -> None:
    assert uneven(depths).thicknesses.tolist() == pytest.approx(thicknesses)


@pytest.mark.parametrize(("thin", "count"), [(2.5, 34), (3.0, 26)])
def test_a_ball_across_two_spacings_has_its_true_volume(thin: float, count: int) -> None:
    """By the mean of the steps it would be a tenth off, or more."""
    rng = np.random.default_rng(1)
    depths = np.append(thin * np.arange(count), thin * count + 2.5 + 5.0 * np.arange(14))
    stack = uneven(depths)
    found, by_mean = [], []
    for radius in rng.uniform(9, 20, 200):
        centre = rng.uniform(25, depths[-1] - 25)
        areas = np.pi * np.clip(radius**2 - (depths - centre) ** 2, 0, None)
        whole = 4 / 3 * np.pi * radius**3
        found.append((areas * stack.thicknesses).sum() / whole - 1)
        by_mean.append(areas.sum() * stack.steps.mean() / whole - 1)
    assert np.abs(found).max() < 0.07
    assert np.abs(found).mean() < 0.01
    assert np.abs(by_mean).mean() > 0.1


steps_mm = st.lists(st.sampled_from([0.6, 1.0, 2.5, 3.0, 5.0, 12.0, 40.0]), min_size=2, max_size=9)


@given(steps=steps_mm)
@settings(max_examples=60, deadline=None)
def test_thicknesses_are_those_of_points_by_their_nearest_slice(steps: list[float]) -> None:
    """A line across the slices, point by point: each belongs to the nearest slice, if to any."""
    depths = np.cumsum([0.0, *steps])
    stack = uneven(depths)
    fine = 0.01
    points = np.arange(-30, depths[-1] + 30, fine) + fine / 2
    nearest = np.abs(points[:, None] - depths).argmin(axis=1)
    reach = np.minimum([steps[0], *steps, steps[-1]], stack.usual) / 2
    away = points - depths[nearest]
    within = np.where(away < 0, -away < reach[nearest], away < reach[nearest + 1])
    counted = np.bincount(nearest[within], minlength=len(depths)) * fine
    np.testing.assert_allclose(stack.thicknesses, counted, atol=2.5 * fine)


@given(steps=steps_mm, seed=st.integers(0, 999), plane=st.sampled_from(["axial", "sagittal"]))
@settings(max_examples=30, deadline=None)
def test_volumes_in_ml_are_sums_over_voxels_of_their_own_slice(
    steps: list[float], seed: int, plane: str
) -> None:
    """Slices may be stored in either order, along any axis, and lie aside of each other."""
    rng = np.random.default_rng(seed)
    depths = np.cumsum([0.0, *steps])
    along = {"axial": [0, 0, 1], "sagittal": [1, 0, 0]}[plane]
    sides = {"axial": [[-0.5, 0, 0], [0, -0.8, 0]], "sagittal": [[0, 0.5, 0], [0, 0, -0.8]]}[plane]
    sign = rng.choice([-1, 1])
    places = np.outer(sign * depths, np.add(along, np.multiply(0.1, sides[1])))
    affine = np.eye(4)
    affine[:3, :2] = np.transpose(sides)
    affine[:3, 2] = (places[-1] - places[0]) / len(steps)
    grid = Grid((4, 3, len(depths)), affine)
    stack = Uneven(places, sign * np.array(along, float))
    own = rng.random(grid.shape) < 0.5
    scan = Volume(grid.to_ras(own), grid, uneven=stack)
    wanted = sum(
        0.5 * 0.8 * stack.thicknesses[k] / 1000
        for i, j, k in np.ndindex(*grid.shape)
        if own[i, j, k]
    )
    assert scan.ml(scan.array) == pytest.approx(wanted)
    stacked = volume.slices(scan.array, plane)
    assert (stacked.sum(axis=(1, 2)) * scan.voxel_ml).sum() == pytest.approx(wanted)
    by_place = dict(scan.places)
    for place, thickness in zip(places.tolist(), stack.thicknesses, strict=True):
        assert by_place[tuple(place)] == thickness


def test_its_profile_states_the_usual_step_and_the_true_length(workplace: Path) -> None:
    write_series(ROOT, change=at(TWO))
    scan = read()
    placed = profile.of(scan, (-100, 100)).geometry
    even = profile.of(replace(scan, uneven=None), (-100, 100)).geometry
    assert placed is not None
    assert even is not None
    assert (placed.plane, placed.thickness, placed.spacing) == ("axial", 10, (0.4, 0.5, 10))
    assert placed.extent == even.extent
    assert placed.extent[2] == pytest.approx(37.5)


def test_limits_hold_for_it(workplace: Path) -> None:
    write_series(ROOT, change=at(TWO))
    assert not search.search([ROOT], limits=Limits(pixels=100)).scans
