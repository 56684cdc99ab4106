"""Fields are drawn once from a key and bend image and label alike."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import warps

QUICK = settings(max_examples=40, deadline=None)
QUANTUM = 2.0**-8
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 999)
# what changes these moves pixels of every augmented pair: say so in the changelog
KEY = 203189253929033118
BENT = "7e4c7a3293f4c4fac9ed080188c78d491da1256eb26eb54c8688b6d5e9a08a90"
CENTRES = [(0.5, 0.5), (0.3, 0.7)]


def drawn(*parts, shape=(64, 64), sd_px=4.0, sigma_px=8.0):
    return warps.elastic(np.random.default_rng(warps.key(*parts)), shape, sd_px, sigma_px)


def noise(shape, seed=0, top=256):
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint8)


def constant(shape, x, y):
    return np.broadcast_to(np.array([x, y], np.float32), (*shape, 2)).copy()


# --- keys ------------------------------------------------------------------------------------


def test_a_key_stands_for_its_parts():
    keys = {
        warps.key(),
        warps.key(1),
        warps.key("a", "b"),
        warps.key("b", "a"),
        warps.key("ab"),
        warps.key("a", "b", 0),
        warps.key(1, "1b"),
        warps.key(11, "b"),
    }
    assert len(keys) == 8
    assert warps.key("a", 1) == warps.key("a", 1)


@QUICK
@given(st.lists(st.one_of(st.integers(), st.text()), max_size=4))
def test_a_key_is_a_63_bit_number(parts):
    assert 0 <= warps.key(*parts) < 2**63


def test_a_key_is_the_same_on_every_machine():
    assert warps.key(20261121, "virtual_mni152", "sub-01_0042", "deformed") == KEY


def test_a_bent_picture_is_the_same_on_every_machine():
    picture, field = noise((96, 96)), drawn(1, shape=(96, 96))
    bent = warps.bend_image(picture, field).tobytes() + warps.bend_label(picture, field).tobytes()
    assert hashlib.sha256(field.tobytes() + bent).hexdigest() == BENT


# --- elastic ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_px", [2.0, 8.0, 20.0])
def test_one_key_draws_one_field_and_another_key_another(sigma_px):
    field = drawn("pair", 1, sigma_px=sigma_px)
    np.testing.assert_array_equal(drawn("pair", 1, sigma_px=sigma_px), field)
    assert (drawn("pair", 2, sigma_px=sigma_px) != field).mean() > 0.9


@pytest.mark.parametrize("shape", [(64, 64), (50, 81), (1, 7), (512, 512)])
@pytest.mark.parametrize("sigma_px", [1.0, 5.0, 16.0, 70.0])
def test_a_field_has_the_pictures_shape(shape, sigma_px):
    field = drawn(1, shape=shape, sigma_px=sigma_px)
    assert field.shape == (*shape, 2)
    assert field.dtype == np.float32
    assert np.isfinite(field).all()


@pytest.mark.parametrize(
    ("side", "sigma_px"),
    [(512, 4.0), (512, 8.0), (512, 16.0), (256, 4.0), (256, 8.0), (128, 2.0)],
)
@pytest.mark.parametrize("sd_px", [0.5, 4.0])
def test_elastic_displaces_by_sd_px_along_each_axis(side, sigma_px, sd_px):
    fields = [drawn(n, shape=(side, side), sd_px=sd_px, sigma_px=sigma_px) for n in range(16)]
    sd = np.std(fields, axis=(0, 1, 2))
    np.testing.assert_allclose(sd, sd_px, rtol=0.1)
    assert np.abs(np.mean(fields)) < 0.1 * sd_px


@pytest.mark.parametrize("sigma_px", [4.0, 8.0])
def test_elastic_is_no_stronger_at_the_border_than_in_the_middle(sigma_px):
    fields = np.array([drawn(n, shape=(128, 128), sigma_px=sigma_px) for n in range(100)])
    middle = fields[:, 32:96, 32:96].std()
    borders = fields[:, 0], fields[:, -1], fields[:, :, 0], fields[:, :, -1]
    np.testing.assert_allclose([border.std() for border in borders], middle, rtol=0.15)


@pytest.mark.parametrize("sigma_px", [4.0, 16.0])
def test_elastic_is_smooth_over_its_sigma(sigma_px):
    field = drawn(1, shape=(256, 256), sigma_px=sigma_px)
    step = np.diff(field, axis=1).std()
    # a Gaussian-smoothed field has a derivative of sd / (sigma sqrt(2))
    assert step == pytest.approx(4.0 / (sigma_px * math.sqrt(2)), rel=0.2)


@pytest.mark.parametrize("sigma_px", [1.0, 4.0, 16.0, 64.0])
def test_elastic_of_no_strength_is_the_identity(sigma_px):
    assert not drawn(1, sd_px=0.0, sigma_px=sigma_px).any()


@pytest.mark.parametrize(
    ("sigma_px", "cell"), [(1.0, 1), (3.9, 1), (4.0, 2), (8.0, 4), (16.0, 8), (32.0, 16)]
)
@pytest.mark.parametrize("seed", range(3))
def test_elastic_is_exact_in_its_quantum(sigma_px, cell, seed):
    field = drawn(seed, shape=(96, 130), sigma_px=sigma_px).astype(np.float64)
    # linear enlargement by ``cell`` weighs knots with multiples of 1 / (2 cell) along each axis
    steps = field / (QUANTUM / (2 * cell) ** 2 if cell > 1 else QUANTUM)
    np.testing.assert_array_equal(steps, np.rint(steps))
    assert steps.any()


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


@pytest.mark.parametrize("amount", [0.3, 1.0, -0.3, -0.8])
@pytest.mark.parametrize("radius", [0.2, 0.5, 1.5])
@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("shape", [(24, 24), (20, 33)])
def test_barrel_is_the_formula(shape, centre, radius, amount):
    field = warps.barrel(shape, centre, radius, amount)
    expected = barrel_by_loops(shape, centre, radius, amount)
    assert np.abs(expected).max() > QUANTUM
    np.testing.assert_allclose(field, expected, atol=QUANTUM / 2 + 1e-9)
    np.testing.assert_array_equal(field / QUANTUM, np.rint(field / QUANTUM))


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("amount", [0.3, -0.3])
def test_barrel_leaves_its_centre_and_all_beyond_its_radius(centre, amount):
    field = warps.barrel((100, 100), centre, 0.2, amount)
    y, x = np.mgrid[:100, :100]
    rho = np.hypot(x - 100 * centre[0], y - 100 * centre[1])
    assert not field[rho >= 20].any()
    assert not field[rho == 0].any()
    assert field[(rho > 5) & (rho < 15)].any(axis=-1).all()


def test_barrel_of_no_amount_is_the_identity():
    assert not warps.barrel((64, 64), (0.5, 0.5), 0.5, 0.0).any()


@pytest.mark.parametrize("centre", CENTRES)
def test_a_bulge_magnifies_its_centre_and_a_pinch_shrinks_it(centre):
    y, x = np.mgrid[:100, :100]
    disc = (np.hypot(x - 100 * centre[0], y - 100 * centre[1]) < 8).astype(np.uint8)
    bulge = warps.bend_label(disc, warps.barrel((100, 100), centre, 0.25, 0.3))
    pinch = warps.bend_label(disc, warps.barrel((100, 100), centre, 0.25, -0.3))
    assert bulge.sum() > 1.3 * disc.sum()
    assert pinch.sum() < 0.7 * disc.sum()


# --- bending ---------------------------------------------------------------------------------


@QUICK
@given(shapes, seeds)
def test_a_field_of_zeros_changes_nothing(shape, seed):
    picture, field = noise(shape, seed), np.zeros((*shape, 2), np.float32)
    np.testing.assert_array_equal(warps.bend_image(picture, field), picture)
    np.testing.assert_array_equal(warps.bend_label(picture, field), picture)


@QUICK
@given(shapes, st.integers(-45, 45), st.integers(-45, 45), seeds)
def test_a_constant_field_looks_that_far_for_its_source(shape, x, y, seed):
    picture, field = noise(shape, seed), constant(shape, x, y)
    height, width = shape
    expected = np.zeros_like(picture)
    for row in range(max(0, -y), min(height, height - y)):
        for col in range(max(0, -x), min(width, width - x)):
            expected[row, col] = picture[row + y, col + x]
    np.testing.assert_array_equal(warps.bend_label(picture, field), expected)
    np.testing.assert_array_equal(warps.bend_image(picture, field), expected)


@QUICK
@given(shapes, seeds, st.integers(0, 50))
def test_image_and_label_bend_alike_where_interpolation_is_exact(shape, seed, reach):
    picture = noise(shape, seed)
    field = np.random.default_rng(seed).integers(-reach, reach + 1, (*shape, 2)).astype(np.float32)
    bent = warps.bend_label(picture, field)
    np.testing.assert_array_equal(warps.bend_image(picture, field), bent)


@QUICK
@given(shapes, seeds, st.floats(0, 20))
def test_a_label_lies_where_the_bent_image_of_it_is_pure(shape, seed, reach):
    ids = noise(shape, seed, 2)
    rng = np.random.default_rng(seed)
    field = rng.uniform(-reach, reach, (*shape, 2)).astype(np.float32)
    image, label = warps.bend_image(ids * np.uint8(255), field), warps.bend_label(ids, field)
    assert (label[image == 255] == 1).all()
    assert (label[image == 0] == 0).all()


@pytest.mark.parametrize("share", [-0.45, -0.25, 0.25, 0.45])
@pytest.mark.parametrize("whole", [-3, 0, 3])
def test_a_label_takes_the_nearest_pixel(share, whole):
    ids = noise((20, 30), top=5)
    near = warps.bend_label(ids, constant(ids.shape, whole + share, whole + share))
    np.testing.assert_array_equal(near, warps.bend_label(ids, constant(ids.shape, whole, whole)))


@pytest.mark.parametrize("warp", ["elastic", "bulge", "pinch"])
def test_labels_lie_on_average_where_their_bent_pictures_lie(warp):
    # labels that move by half a pixel against images would show as a distance of the centres
    y, x = np.mgrid[:128, :128]
    apart = []
    for seed in range(40):
        centre = np.random.default_rng(seed).uniform(50, 78, 2)
        disc = (np.hypot(x - centre[0], y - centre[1]) < 25).astype(np.uint8)
        field = {
            "elastic": drawn(seed, shape=(128, 128), sigma_px=16.0),
            "bulge": warps.barrel((128, 128), (0.5, 0.5), 0.4, 0.3),
            "pinch": warps.barrel((128, 128), (0.5, 0.5), 0.4, -0.3),
        }[warp]
        image = warps.bend_image(disc * np.uint8(255), field) / 255
        label = warps.bend_label(disc, field)
        apart.append(
            [np.average(at, weights=image) - np.average(at, weights=label) for at in (x, y)]
        )
    np.testing.assert_allclose(np.mean(apart, axis=0), 0, atol=0.05)


@QUICK
@given(shapes, seeds, st.floats(0, 100))
def test_class_ids_out_are_a_subset_of_those_in(shape, seed, reach):
    rng = np.random.default_rng(seed)
    ids = rng.choice(np.array([1, 4, 200, 255], np.uint8), shape)
    field = rng.normal(0, reach, (*shape, 2)).astype(np.float32)
    assert set(np.unique(warps.bend_label(ids, field))) <= {0, *np.unique(ids)}


def test_what_lies_outside_the_picture_is_zero():
    picture, field = np.full((8, 8), 200, np.uint8), constant((8, 8), 100, 0)
    assert not warps.bend_image(picture, field).any()
    assert not warps.bend_label(picture, field).any()


def test_channels_bend_alike():
    picture, field = noise((32, 32, 3)), drawn(3, shape=(32, 32))
    apart = [warps.bend_image(picture[..., c].copy(), field) for c in range(3)]
    np.testing.assert_array_equal(warps.bend_image(picture, field), np.stack(apart, axis=-1))


def test_a_half_pixel_field_averages_neighbours():
    picture = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (6, 1))
    bent = warps.bend_image(picture, constant(picture.shape, 0.5, 0))
    np.testing.assert_array_equal(bent[:, :-1], picture[:, :-1] + 5)
