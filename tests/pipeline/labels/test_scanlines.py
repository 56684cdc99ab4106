"""What contours enclose: pixels whose centres are inside, as a second rasteriser has it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Outline

from datasets_spec.contract import Problem
from pipeline.labels import scanlines
from tests.support.every import every
from tests.support.outlines import traced

SHAPE = (60, 50)


def star(rng: np.random.Generator, points: int, middle=(30.0, 25.0), most=28.0) -> np.ndarray:
    """A polygon around a place, which may reach beyond :data:`SHAPE`."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    reach = rng.uniform(3, most, points)
    return middle + reach[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def by_matplotlib(polygon: np.ndarray, shape=SHAPE) -> np.ndarray:
    centres = np.stack(np.indices(shape), axis=-1).reshape(-1, 2)
    closed = np.vstack([polygon, polygon[:1]])
    return Outline(closed).contains_points(centres).reshape(shape)


@every("points", [3, 5, 12, 60])
@every("seed", range(5))
def test_a_polygon_is_filled_as_matplotlib_fills_it(points: int, seed: int) -> None:
    polygon = star(np.random.default_rng([seed, points]), points)
    mask, _ = scanlines.inside([polygon], SHAPE)
    assert mask.any()
    np.testing.assert_array_equal(mask, by_matplotlib(polygon))


@every("seed", range(8))
def test_several_polygons_are_filled_as_opencv_fills_them(seed: int) -> None:
    """OpenCV fills by even-odd too, with the outline itself drawn in: a pixel of both differs."""
    rng = np.random.default_rng(seed)
    polygons = [star(rng, 9), star(rng, 7, most=14.0), star(rng, 5, (20.0, 20.0), 9.0)]
    mask, _ = scanlines.inside(polygons, SHAPE)
    fixed = [np.rint(polygon[:, ::-1] * 256).astype(np.int32) for polygon in polygons]
    second = cv2.fillPoly(np.zeros(SHAPE, np.uint8), fixed, 1, shift=8)
    edges = cv2.polylines(np.zeros(SHAPE, np.uint8), fixed, True, 1, thickness=2, shift=8)
    assert (edges == 0).mean() > 0.5
    np.testing.assert_array_equal(mask[edges == 0], second[edges == 0])


@every("seed", range(5))
def test_polygons_together_are_what_an_odd_number_of_them_encloses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    polygons = [star(rng, 9) for _ in range(4)]
    each = [scanlines.inside([polygon], SHAPE)[0] for polygon in polygons]
    together, _ = scanlines.inside(polygons, SHAPE)
    np.testing.assert_array_equal(together, np.sum(each, axis=0) % 2 == 1)


def test_a_hole_is_a_hole_as_inner_contour_and_behind_a_keyhole() -> None:
    outer = np.array([(2.5, 2.5), (2.5, 20.5), (20.5, 20.5), (20.5, 2.5)])
    inner = np.array([(8.5, 8.5), (8.5, 14.5), (14.5, 14.5), (14.5, 8.5)])
    ring, _ = scanlines.inside([outer, inner], SHAPE)
    keyhole = np.vstack([outer, outer[:1], inner[::-1], inner[-1:]])
    assert int(ring.sum()) == 18 * 18 - 6 * 6
    np.testing.assert_array_equal(ring, scanlines.inside([keyhole], SHAPE)[0])


def test_regions_that_touch_share_no_pixel_and_leave_none_out() -> None:
    cut = np.array([(5.0, 3.0), (40.0, 30.0)])
    one = np.array([*cut, (40.0, 3.0)])
    other = np.array([*cut[::-1], (5.0, 30.0)])
    whole = np.array([(5.0, 3.0), (5.0, 30.0), (40.0, 30.0), (40.0, 3.0)])
    masks = [scanlines.inside([polygon], SHAPE)[0].astype(int) for polygon in (one, other, whole)]
    np.testing.assert_array_equal(masks[0] + masks[1], masks[2])
    assert int(masks[2].sum()) == 35 * 27


@every("seed", range(4))
def test_the_outline_of_a_mask_encloses_the_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = cv2.blur(rng.random(SHAPE), (5, 5)) > 0.52
    mask[20:30, 20:30] = False
    again, beyond = scanlines.inside(traced(mask), SHAPE)
    np.testing.assert_array_equal(again, mask)
    assert beyond == 0


def test_what_lies_beyond_the_picture_is_counted() -> None:
    square = np.array([(-10.5, 5.5), (-10.5, 15.5), (9.5, 15.5), (9.5, 5.5)])
    mask, beyond = scanlines.inside([square, square + np.array([0, 44])], SHAPE)
    assert int(mask.sum()) == 10 * 10
    assert beyond == 10 * 10 + 20 * 10


def test_contours_far_away_are_refused_before_memory_is_taken(monkeypatch) -> None:
    monkeypatch.setattr(scanlines, "MOST_CROSSINGS", 1000)
    polygon = np.array([(0.0, 0.0), (501, 10.0), (0.0, 20.0)])
    with pytest.raises(Problem, match="within reach of the image, got 1,002 crossings"):
        scanlines.require_within_reach([polygon], "rt.dcm")
    scanlines.require_within_reach([polygon / 2], "rt.dcm")


def test_nothing_encloses_nothing() -> None:
    assert not scanlines.inside([], SHAPE)[0].any()
    line = np.array([(3.0, 3.0), (9.0, 9.0), (3.0, 3.0)])
    assert not scanlines.inside([line], SHAPE)[0].any()
