"""Drawn fields have the strength and smoothness that they are asked for, and turn the right way."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.runtime import keys
from pipeline.warps import fields
from pipeline.warps import warp as warps
from tests.support.every import every

QUICK = settings(max_examples=40, deadline=None)
QUANTUM = 2.0**-8
CENTRES = [(0.5, 0.5), (0.3, 0.7)]
shapes = st.tuples(st.integers(2, 40), st.integers(2, 40))
seeds = st.integers(0, 999)


def rng(*parts):
    return np.random.default_rng(keys.key(*parts))


def drawn(*parts, shape=(64, 64), sd_px=4.0, sigma_px=8.0):
    return fields.elastic(rng(*parts), shape, sd_px, sigma_px).field(shape)


def hills(*parts, shape=(128, 128), ratio=0.03, sigma_px=20.0):
    return fields.distorted(rng(*parts), shape, ratio, sigma_px).field(shape)


def noise(shape, seed=0, top=256):
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint8)


def bent(picture, warp):
    return warps.bend(picture, picture, warps.strips(warp.field(picture.shape)))


# --- elastic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [drawn, hills])
@pytest.mark.parametrize("sigma_px", [2.0, 8.0, 20.0])
def test_one_key_draws_one_field_and_another_key_another(draw, sigma_px):
    field = draw("pair", 1, sigma_px=sigma_px)
    np.testing.assert_array_equal(draw("pair", 1, sigma_px=sigma_px), field)
    assert (draw("pair", 2, sigma_px=sigma_px) != field).mean() > 0.9


@every("draw", [drawn, hills])
@every("shape", [(64, 64), (50, 81), (1, 7), (512, 512)])
@every("sigma_px", [1.0, 5.0, 16.0, 70.0])
def test_a_field_has_the_pictures_shape(draw, shape, sigma_px):
    field = draw(1, shape=shape, sigma_px=sigma_px)
    assert field.shape == (*shape, 2)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()


@pytest.mark.parametrize(
    ("side", "sigma_px"),
    [(512, 4.0), (512, 8.0), (512, 10.0), (512, 16.0), (256, 4.0), (256, 7.9), (128, 2.0)],
)
@pytest.mark.parametrize("sd_px", [0.5, 4.0])
def test_elastic_displaces_by_sd_px_along_each_axis(side, sigma_px, sd_px):
    shape = (side, side)
    drawings = [drawn(n, shape=shape, sd_px=sd_px, sigma_px=sigma_px) for n in range(16)]
    many = np.array(drawings, np.float64)
    np.testing.assert_allclose(many.std(axis=(0, 1, 2)), sd_px, rtol=0.04)
    assert np.abs(many.mean()) < 0.1 * sd_px


@pytest.mark.parametrize("sigma_px", [4.0, 8.0])
def test_elastic_is_no_stronger_at_the_border_than_in_the_middle(sigma_px):
    many = np.array([drawn(n, shape=(128, 128), sigma_px=sigma_px) for n in range(100)])
    middle = many[:, 32:96, 32:96].std()
    borders = many[:, 0], many[:, -1], many[:, :, 0], many[:, :, -1]
    np.testing.assert_allclose([border.std() for border in borders], middle, rtol=0.15)


@pytest.mark.parametrize("sigma_px", [4.0, 8.0, 16.0])
def test_elastic_is_as_smooth_as_its_sigma(sigma_px):
    many = np.array([drawn(n, shape=(256, 256), sigma_px=sigma_px) for n in range(8)], np.float64)
    # a Gaussian-smoothed field has a derivative of sd / (sigma sqrt(2)) ...
    step = np.diff(many, axis=2).std()
    assert step == pytest.approx(4.0 / (sigma_px * math.sqrt(2)), rel=0.05)
    # ... and at a distance of 2 sigma a correlation of exp(-1)
    far = round(2 * sigma_px)
    alike = (many[:, :, far:] * many[:, :, :-far]).mean() / many.var()
    assert alike == pytest.approx(math.exp(-1), abs=0.06)


def test_elastic_is_distributed_like_a_gaussian():
    many = np.array([drawn(n, shape=(256, 256)) for n in range(16)], np.float64) / 4.0
    assert (many**4).mean() == pytest.approx(3, abs=0.25)


def test_the_two_axes_are_independent():
    many = np.array([drawn(n, shape=(256, 256)) for n in range(16)], np.float64)
    assert abs((many[..., 0] * many[..., 1]).mean() / many.var()) < 0.05


@pytest.mark.parametrize("sigma_px", [1.0, 4.0, 16.0, 64.0])
def test_no_strength_is_the_identity(sigma_px):
    assert not drawn(1, sd_px=0.0, sigma_px=sigma_px).any()
    assert not hills(1, ratio=0.0, sigma_px=sigma_px).any()


# --- distorted -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(512, 512), (128, 200), (200, 128)])
@pytest.mark.parametrize("ratio", [0.01, 0.04])
def test_distorted_displaces_by_ratio_of_the_longer_side_at_most(shape, ratio):
    field = hills(1, shape=shape, ratio=ratio, sigma_px=16.0)
    largest = np.hypot(field[..., 0], field[..., 1]).max()
    assert 0.9 * ratio * max(shape) < largest <= ratio * max(shape) + QUANTUM


@pytest.mark.parametrize("sigma_px", [8.0, 40.0])
def test_distorted_is_free_of_curl(sigma_px):
    grid = fields.distorted(rng(1), (512, 512), 0.03, sigma_px)
    x, y = grid.knots[..., 0].astype(np.float64), grid.knots[..., 1].astype(np.float64)
    x_along_y = x[2:, 1:-1] - x[:-2, 1:-1]
    y_along_x = y[1:-1, 2:] - y[1:-1, :-2]
    np.testing.assert_allclose(x_along_y, y_along_x, atol=2 * QUANTUM)
    assert np.abs(x_along_y).max() > 50 * QUANTUM


def test_elastic_is_not_free_of_curl():
    knots = fields.elastic(rng(1), (512, 512), 4.0, 16.0).knots
    x_along_y = knots[2:, 1:-1, 0] - knots[:-2, 1:-1, 0]
    y_along_x = knots[1:-1, 2:, 1] - knots[1:-1, :-2, 1]
    assert np.abs(x_along_y - y_along_x).max() > 1


# --- barrel ----------------------------------------------------------------------------------


def barrel_by_loops(shape, centre, radius, amount):
    """The formula, pixel by pixel."""
    height, width = shape
    reach = width * radius
    field = np.zeros((height, width, 2))
    for row in range(height):
        for col in range(width):
            dx, dy = col - width * centre[0], row - height * centre[1]
            rho = math.hypot(dx, dy)
            if 0 < rho < reach:
                share = math.sin(math.pi * rho / (2 * reach)) ** amount
                field[row, col] = dx * share - dx, dy * share - dy
    return field


@every("amount", [0.3, 1.0, -0.3, -0.8])
@every("radius", [0.2, 0.5, 1.5])
@every("centre", CENTRES)
@every("shape", [(24, 24), (20, 33)])
def test_barrel_is_the_formula(shape, centre, radius, amount):
    field = fields.barrel(shape, centre, radius, amount).field(shape)
    expected = barrel_by_loops(shape, centre, radius, amount)
    assert np.abs(expected).max() > QUANTUM
    np.testing.assert_allclose(field, expected, atol=QUANTUM / 2 + 1e-9)
    np.testing.assert_array_equal(field / QUANTUM, np.rint(field / QUANTUM))


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("amount", [0.3, -0.3])
def test_barrel_leaves_its_centre_and_all_beyond_its_radius(centre, amount):
    field = fields.barrel((100, 100), centre, 0.2, amount).field((100, 100))
    y, x = np.mgrid[:100, :100]
    rho = np.hypot(x - 100 * centre[0], y - 100 * centre[1])
    assert not field[rho >= 20].any()
    assert not field[rho == 0].any()
    assert field[(rho > 5) & (rho < 15)].any(axis=-1).all()


def test_barrel_of_no_amount_is_the_identity():
    assert not fields.barrel((64, 64), (0.5, 0.5), 0.5, 0.0).field((64, 64)).any()


@QUICK
@given(st.floats(-0.95, 3.9))
def test_barrel_never_folds(amount):
    rho = np.linspace(1e-3, 1, 2000)
    source = rho * np.sin(np.pi * rho / 2) ** amount
    assert (np.diff(source) > 0).all()


@pytest.mark.parametrize("centre", CENTRES)
def test_a_bulge_magnifies_its_centre_and_a_pinch_shrinks_it(centre):
    y, x = np.mgrid[:100, :100]
    disc = (np.hypot(x - 100 * centre[0], y - 100 * centre[1]) < 8).astype(np.uint8)
    _, bulge = bent(disc, fields.barrel((100, 100), centre, 0.25, 0.3))
    _, pinch = bent(disc, fields.barrel((100, 100), centre, 0.25, -0.3))
    assert bulge.sum() > 1.3 * disc.sum()
    assert pinch.sum() < 0.7 * disc.sum()


# --- turns, mirrors, leans -------------------------------------------------------------------


@QUICK
@given(shapes, seeds, st.sampled_from(["horizontal", "vertical"]))
def test_flips_are_exact(shape, seed, axis):
    picture = noise(shape, seed)
    expected = np.flip(picture, 1 if axis == "horizontal" else 0)
    for result in bent(picture, fields.flip(shape, axis)):
        np.testing.assert_array_equal(result, expected)


@QUICK
@given(st.integers(1, 40), seeds, st.integers(-4, 4))
def test_right_angles_are_exact_and_turn_counter_clockwise(side, seed, quarters):
    picture = noise((side, side), seed)
    for result in bent(picture, fields.rotate((side, side), 90 * quarters)):
        np.testing.assert_array_equal(result, np.rot90(picture, quarters))


def test_a_small_turn_is_counter_clockwise_as_seen():
    picture = np.zeros((101, 101), np.uint8)
    picture[50, 90] = 255  # to the right of the middle
    turned, _ = bent(picture, fields.rotate((101, 101), 30))
    row, col = np.unravel_index(turned.argmax(), turned.shape)
    np.testing.assert_allclose([row, col], [50 - 40 * math.sin(math.pi / 6), 84.6], atol=1)


@pytest.mark.parametrize("ratio", [0.5, 0.8])
def test_shrink_makes_lengths_smaller_about_the_middle(ratio):
    y, x = np.mgrid[:101, :101]
    square = ((np.abs(x - 50) <= 30) & (np.abs(y - 50) <= 20)).astype(np.uint8)
    _, small = bent(square, fields.shrink((101, 101), ratio))
    rows, cols = np.flatnonzero(small.any(1)), np.flatnonzero(small.any(0))
    np.testing.assert_allclose([len(rows), len(cols)], [41 * ratio, 61 * ratio], atol=1.5)
    np.testing.assert_allclose([rows.mean(), cols.mean()], 50, atol=0.5)


def test_shrink_by_one_and_shear_by_none_and_turn_by_none_are_the_identity():
    for warp in (
        fields.shrink((40, 50), 1.0),
        fields.shear((40, 50), 0.0, "vertical"),
        fields.rotate((40, 50), 0.0),
        fields.rotate((40, 50), 360.0),
    ):
        assert not warp.field((40, 50)).any()


def test_a_horizontal_shear_leans_the_upper_half_to_the_right():
    picture = np.zeros((101, 101), np.uint8)
    picture[:, 50] = 255
    leaning, _ = bent(picture, fields.shear((101, 101), 0.2, "horizontal"))
    assert leaning[10].argmax() == 58
    assert leaning[50].argmax() == 50
    assert leaning[90].argmax() == 42


def test_a_vertical_shear_moves_the_left_half_down():
    picture = np.zeros((101, 101), np.uint8)
    picture[50] = 255
    leaning, _ = bent(picture, fields.shear((101, 101), 0.2, "vertical"))
    assert leaning[:, 10].argmax() == 58
    assert leaning[:, 90].argmax() == 42


@QUICK
@given(
    shapes,
    seeds,
    st.sampled_from(["elastic", "distorted", "barrel", "flip", "rotate", "shrink", "shear"]),
    st.floats(0.1, 0.9),
)
def test_every_field_keeps_labels_where_the_image_of_them_is_pure(shape, seed, kind, strength):
    warp = {
        "elastic": lambda: fields.elastic(rng(seed), shape, 4 * strength, 8.0),
        "distorted": lambda: fields.distorted(rng(seed), shape, strength / 4, 6.0),
        "barrel": lambda: fields.barrel(shape, (strength, 0.5), 0.5, strength),
        "flip": lambda: fields.flip(shape, "vertical"),
        "rotate": lambda: fields.rotate(shape, 360 * strength),
        "shrink": lambda: fields.shrink(shape, strength),
        "shear": lambda: fields.shear(shape, strength, "horizontal"),
    }[kind]()
    ids = noise(shape, seed, 2)
    image, label = warps.bend(ids * np.uint8(255), ids, warps.strips(warp.field(shape)))
    assert (label[image == 255] == 1).all()
    assert (label[image == 0] == 0).all()
    assert set(np.unique(label)) <= {0, *np.unique(ids)}
