"""A profile states in numbers what a scan looks like."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pipeline.volumes import profile
from pipeline.volumes.profile import Geometry, Profile
from pipeline.volumes.volume import Grid, Volume
from tests.pipeline.volumes.test_hounsfield import HEAD
from tests.support.every import every

WINDOW = (0.0, 80.0)
TURN = np.deg2rad(12)


def scan(array: np.ndarray, sides: tuple[float, float, float] = (3, 3, 10), **more: Any) -> Volume:
    """A volume in RAS+ on a grid of these sides in mm."""
    return Volume(array, Grid(array.shape, np.diag([*sides, 1.0])), **more)


def geometry(volume: Volume) -> Geometry:
    found = profile.of(volume, WINDOW).geometry
    assert found is not None
    return found


def test_a_head_in_slices() -> None:
    one = profile.of(scan(HEAD, modality="CT"), WINDOW)
    assert (one.shape, one.modality, one.hu, one.hu_shift) == ((64, 60, 12), "CT", "right", 0)
    assert one.percentiles[0] == pytest.approx(-1011, abs=4)
    assert one.below == pytest.approx((HEAD <= 0).mean(), abs=1e-5)
    assert one.above == pytest.approx((HEAD >= 80).mean(), abs=1e-5)
    assert sum(one.greys) == pytest.approx(1, abs=1e-4)
    assert one.greys[0] >= one.below
    assert one.body == pytest.approx((HEAD > -500).mean(), abs=0.01)
    assert one.values > 1000
    assert one.geometry is not None
    assert (one.geometry.plane, one.geometry.thickness) == ("axial", 10)
    assert one.geometry.extent == (192, 180, 120)
    across = (HEAD > -500).any(axis=(1, 2)).sum() * 3
    assert 0.85 * across < one.geometry.body[0] < across


@every("axes", ["RAS", "LPS", "SAL", "PIR", "ASL"])
def test_a_profile_does_not_depend_on_the_order_of_the_sources_axes(axes: str) -> None:
    image = nib.Nifti1Image(HEAD, np.diag([3, 3, 10, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    )
    other = image.as_reoriented(turn)
    grid = Grid(other.shape, other.affine)
    one = profile.of(Volume(grid.to_ras(np.asarray(other.dataobj)), grid), WINDOW)
    assert one.geometry is not None
    assert one.geometry.axes == axes
    same = dataclasses.replace(one.geometry, axes="RAS")
    assert dataclasses.replace(one, geometry=same) == profile.of(scan(HEAD), WINDOW)


@every(
    ("sides", "plane"),
    [((1, 1, 1), ""), ((1, 1, 1.1), ""), ((5, 1, 1), "sagittal"), ((1, 4, 1), "coronal")],
)
def test_slices_lie_across_the_coarsest_axis(sides: tuple[float, float, float], plane: str) -> None:
    assert geometry(scan(HEAD, sides)).plane == plane


def test_a_turned_grid_is_oblique_and_a_tilted_gantry_sheared() -> None:
    turned, tilted = np.diag([3, 3, 10, 1.0]), np.diag([3, 3, 10, 1.0])
    turned[:2, :2] = 3 * np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
    tilted[1, 2] = 10 * np.tan(TURN)
    one = geometry(Volume(HEAD, Grid(HEAD.shape, turned)))
    assert (one.oblique, one.shear, one.thickness) == (12.0, 0.0, 10.0)
    other = geometry(Volume(HEAD, Grid(HEAD.shape, tilted)))
    assert (other.oblique, other.shear, other.thickness) == (12.0, 12.0, 10.0)


def test_pictures_have_no_geometry() -> None:
    assert profile.of(scan(HEAD), WINDOW, pictures=True).geometry is None


@every("value", [0, 7, -1000.5])
def test_one_value_is_no_body(value: float) -> None:
    one = profile.of(scan(np.full((5, 6, 7), value)), (value, value))
    assert (one.values, one.body) == (1, 0)
    assert one.geometry is not None
    assert one.geometry.body == (0, 0, 0)


def test_a_large_scan_is_sampled() -> None:
    large = np.repeat(np.repeat(np.repeat(HEAD, 4, 0), 4, 1), 4, 2)
    large = np.concatenate([large, large, large, large])
    tracemalloc.start()
    one = profile.of(scan(large), WINDOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert large.size > 8e6
    assert peak < 60e6  # a copy in float64 has 94 MB
    small = profile.of(scan(HEAD), WINDOW)
    assert one.body == pytest.approx(small.body, abs=0.02)
    assert np.allclose(one.greys, small.greys, atol=0.02)


def test_a_profile_comes_back_from_its_text() -> None:
    for pictures in (True, False):
        one = profile.of(scan(HEAD, modality="CT"), WINDOW, pictures=pictures)
        assert profile.from_json(one.to_json()) == one


WHOLE = json.loads(profile.of(scan(HEAD), WINDOW).to_json())


@every(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "[" * 10_000,
        json.dumps(WHOLE | {"more": 1}),
        json.dumps(WHOLE | {"greys": [1.0]}),
        json.dumps(WHOLE | {"body": {}}),
        json.dumps(WHOLE | {"geometry": {"plane": "axial"}}),
    ],
)
def test_another_text_is_no_profile(text: str) -> None:
    with pytest.raises(ValueError, match="no profile of a scan"):
        profile.from_json(text)


def test_every_number_of_a_profile_has_few_digits() -> None:
    def numbers(content: Any) -> list[float]:
        if isinstance(content, dict):
            return [one for value in content.values() for one in numbers(value)]
        if isinstance(content, list):
            return [one for value in content for one in numbers(value)]
        return [content] if isinstance(content, float) else []

    found = numbers(WHOLE)
    assert len(found) > len(dataclasses.fields(Profile))
    assert all(float(f"{one:.6g}") == one for one in found)
