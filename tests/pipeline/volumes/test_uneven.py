"""A series without one spacing is read by who asks for it, each slice at its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from pipeline.params.limits import Limits
from pipeline.volumes import profile, search
from pipeline.volumes.dicom import assemble
from pipeline.volumes.uneven import Uneven
from pipeline.volumes.volume import Volume
from tests.conftest import Refused
from tests.pipeline.volumes.dicom.test_assemble import Change, pixels, write_series

ROOT = Path("in")
TWO = (0.0, 5.0, 10.0, 20.0, 30.0)


def at(depths: Sequence[float], aside: Sequence[float] = (0.0,) * 9, down: bool = False) -> Change:
    def change(header: pydicom.Dataset, number: int) -> None:
        header.ImagePositionPatient = [-20.0, -30.0 + aside[number], 7.0 + depths[number]]
        if down:
            header.ImageOrientationPatient = [1, 0, 0, 0, -1, 0]

    return change


def read(uneven: bool = True) -> Volume:
    [scan] = search.search([ROOT], uneven=uneven).scans
    return search.read(scan)


def uneven(depths: Sequence[float]) -> Uneven:
    places = np.zeros((len(depths), 3))
    places[:, 2] = depths
    return Uneven(places, np.array([0.0, 0.0, 1.0]))


def unread(accepted: bool) -> str:
    inventory = search.search([ROOT], uneven=accepted)
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
    assert [one.code for one in scan.findings] == ["uneven-steps"]
    assert "steps of 5 mm (2), 10 mm (2)" in str(scan.findings[0])
    assert scan.voxel_ml == pytest.approx(0.5 * 0.4 * np.mean([5, 5, 7.5, 10, 10]) / 1000)


def test_steps_that_drift_are_steps_of_their_own(workplace: Path) -> None:
    write_series(ROOT, change=at((0, 4.94, 9.88, 14.94, 20)))
    assert "got slices up to 0.06 mm off it" in unread(False)
    assert "steps of 4.9 mm (2), 5.1 mm (2)" in str(read().findings[0])


def test_few_wide_steps_are_those_of_thicker_slices_if_headers_say_so(workplace: Path) -> None:
    depths = (0, 5, 10, 15, 20, 30)

    def change(header: pydicom.Dataset, number: int) -> None:
        at(depths)(header, number)
        header.SliceThickness = 10.0 if number == 5 else 5.0

    write_series(ROOT, 6, change)
    assert "missing along the normal 1 between 27.0 and 37.0 mm" in unread(False)
    assert "steps of 5 mm (4), 10 mm (1)" in str(read().findings[0])


@pytest.mark.parametrize("thickness", [5.0, 10.0])
def test_slices_of_one_thickness_hide_no_missing_one(workplace: Path, thickness: float) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        at((0, 5, 10, 20, 25, 30))(header, number)
        header.SliceThickness = thickness

    write_series(ROOT, 6, change)
    assert "missing along the normal 1 between 17.0 and 27.0 mm" in unread(True)


def test_nobody_else_gets_it(workplace: Path, refused: Refused) -> None:
    write_series(ROOT, change=at(TWO))
    words = "expected even spacing, got steps from 5 to 10 mm, 2 of 4 differ, the first at 17.0 mm"
    assert words in unread(False)
    problem = refused(lambda: assemble.read_series(ROOT))
    assert words in problem.what
    assert problem.remedy == "Take a series of one spacing, or resample it to NIfTI yourself."


def test_an_even_series_is_as_it_was(workplace: Path) -> None:
    write_series(ROOT, tilt=1.5)
    first, second = read(uneven=True), read(uneven=False)
    assert first.uneven is second.uneven is None
    assert first.findings == second.findings
    assert np.array_equal(first.grid.affine, second.grid.affine)
    assert np.array_equal(first.array, second.array)


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
    assert words in unread(True)


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
    assert not search.search([ROOT], uneven=True, limits=Limits(pixels=100)).scans
