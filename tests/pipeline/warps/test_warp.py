"""Warps bend image and label alike, several as one, and to the same bytes everywhere."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from pipeline.runtime import keys as runtime_keys
from pipeline.warps import fields
from pipeline.warps import warp as warps

QUICK = settings(max_examples=40, deadline=None)
QUANTUM = 2.0**-8
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40))
seeds = st.integers(0, 999)
# what changes these moves pixels of every augmented pair: say so in the changelog
KEY = 203189253929033118
BENT = {
    "elastic": "7b90b7194aaafa508fa5e2ea821ba395a29f6b432693671a5cafaf5088b686e8",
    "distorted": "5253a42cf81551c8bb8bc6f04c45876ddf236c4590023ca7283757ae19eab904",
    "barrel": "d2846c5bd02dc5d24d60af6cf0499a89aa11a12c8ead057ea2cdf7e693d4aba6",
    "rotate": "5fa0aea757dc56fd930c64206daa317c8683c3497b923fe4d075d00c1db5cf47",
    "composed": "04cf5e7fc7d7b4023e341980aefb7b47fa38e0402b88ce10e35d64f8891513e2",
}


def rng(*parts):
    return np.random.default_rng(runtime_keys.key(*parts))


def elastic(*parts, shape=(64, 64), sd_px=2.0, sigma_px=8.0):
    return fields.elastic(rng(*parts), shape, sd_px, sigma_px)


def noise(shape, seed=0, top=256):
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint8)


def smooth(shape, seed=0):
    """A picture that changes slowly, so that interpolating it twice costs little."""
    rough = np.random.default_rng(seed).standard_normal(shape)
    hills = gaussian_filter(rough, 6)
    return np.clip(128 + 50 * hills / hills.std(), 0, 255).astype(np.uint8)


def constant(shape, x, y):
    return np.broadcast_to(np.array([x, y], np.float32), (*shape, 2)).copy()


def bend(picture, field):
    """The same picture as image and as label through a field (H, W, 2)."""
    ids = picture if picture.ndim == 2 else picture[..., 0].copy()
    return warps.bend(picture, ids, warps.strips(field))


def bend_image(picture, field):
    return bend(picture, field)[0]


def bend_label(ids, field):
    return bend(ids, field)[1]


# --- keys ------------------------------------------------------------------------------------


def test_a_key_stands_for_its_parts():
    keys = {
        runtime_keys.key(),
        runtime_keys.key(1),
        runtime_keys.key("a", "b"),
        runtime_keys.key("b", "a"),
        runtime_keys.key("ab"),
        runtime_keys.key("a", "b", 0),
        runtime_keys.key(1, "1b"),
        runtime_keys.key(11, "b"),
    }
    assert len(keys) == 8
    assert runtime_keys.key("a", 1) == runtime_keys.key("a", 1)


@QUICK
@given(st.lists(st.one_of(st.integers(), st.text()), max_size=4))
def test_a_key_is_a_63_bit_number(parts):
    assert 0 <= runtime_keys.key(*parts) < 2**63


def test_a_key_is_the_same_on_every_machine():
    assert runtime_keys.key(20261121, "virtual_mni152", "sub-01_0042", "deformed") == KEY


def several(shape, seed=0):
    """One warp of each kind, and all of them as a list."""
    one = {
        "elastic": elastic(seed, shape=shape),
        "distorted": fields.distorted(rng(seed, "d"), shape, 0.03, 20.0),
        "barrel": fields.barrel(shape, (0.4, 0.5), 0.4, 0.3),
        "rotate": fields.rotate(shape, 20.0),
    }
    return {**{name: [warp] for name, warp in one.items()}, "composed": list(one.values())}


@pytest.mark.parametrize("kind", BENT)
def test_a_bent_picture_is_the_same_on_every_machine(kind):
    field = warps.composed(several((96, 120))[kind], (96, 120))
    image, ids = bend(noise((96, 120)), field)
    content = np.ascontiguousarray(field).tobytes() + image.tobytes() + ids.tobytes()
    assert hashlib.sha256(content).hexdigest() == BENT[kind]


# --- bending ---------------------------------------------------------------------------------


@QUICK
@given(shapes, seeds)
def test_a_field_of_zeros_changes_nothing(shape, seed):
    picture, field = noise(shape, seed), np.zeros((*shape, 2), np.float32)
    np.testing.assert_array_equal(bend_image(picture, field), picture)
    np.testing.assert_array_equal(bend_label(picture, field), picture)


@QUICK
@given(shapes, st.integers(-45, 45), st.integers(-45, 45), seeds)
def test_a_constant_field_looks_that_far_for_its_source(shape, x, y, seed):
    picture, field = noise(shape, seed), constant(shape, x, y)
    height, width = shape
    expected = np.zeros_like(picture)
    for row in range(max(0, -y), min(height, height - y)):
        for col in range(max(0, -x), min(width, width - x)):
            expected[row, col] = picture[row + y, col + x]
    np.testing.assert_array_equal(bend_label(picture, field), expected)
    np.testing.assert_array_equal(bend_image(picture, field), expected)


@QUICK
@given(shapes, seeds, st.integers(0, 50))
def test_image_and_label_bend_alike_where_interpolation_is_exact(shape, seed, reach):
    picture = noise(shape, seed)
    field = np.random.default_rng(seed).integers(-reach, reach + 1, (*shape, 2)).astype(np.float32)
    bent = bend_label(picture, field)
    np.testing.assert_array_equal(bend_image(picture, field), bent)


@QUICK
@given(shapes, seeds, st.floats(0, 20))
def test_a_label_lies_where_the_bent_image_of_it_is_pure(shape, seed, reach):
    ids = noise(shape, seed, 2)
    rng = np.random.default_rng(seed)
    field = rng.uniform(-reach, reach, (*shape, 2)).astype(np.float32)
    image, label = bend_image(ids * np.uint8(255), field), bend_label(ids, field)
    assert (label[image == 255] == 1).all()
    assert (label[image == 0] == 0).all()


@pytest.mark.parametrize("share", [-0.45, -0.25, 0.25, 0.45])
@pytest.mark.parametrize("whole", [-3, 0, 3])
def test_a_label_takes_the_nearest_pixel(share, whole):
    ids = noise((20, 30), top=5)
    near = bend_label(ids, constant(ids.shape, whole + share, whole + share))
    np.testing.assert_array_equal(near, bend_label(ids, constant(ids.shape, whole, whole)))


@pytest.mark.parametrize("warp", ["elastic", "distorted", "bulge", "pinch", "turn", "lean"])
def test_labels_lie_on_average_where_their_bent_pictures_lie(warp):
    # labels that move by half a pixel against images would show as a distance of the centres
    y, x = np.mgrid[:128, :128]
    apart, shape = [], (128, 128)
    for seed in range(40):
        centre = np.random.default_rng(seed).uniform(50, 78, 2)
        disc = (np.hypot(x - centre[0], y - centre[1]) < 25).astype(np.uint8)
        field = {
            "elastic": lambda seed=seed: elastic(seed, shape=shape, sigma_px=16.0),
            "distorted": lambda seed=seed: fields.distorted(rng(seed), shape, 0.04, 20.0),
            "bulge": lambda: fields.barrel(shape, (0.5, 0.5), 0.4, 0.3),
            "pinch": lambda: fields.barrel(shape, (0.5, 0.5), 0.4, -0.3),
            "turn": lambda seed=seed: fields.rotate(shape, 3.0 * seed),
            "lean": lambda: fields.shear(shape, 0.2, "horizontal"),
        }[warp]().field(shape)
        image, label = bend_image(disc * np.uint8(255), field) / 255, bend_label(disc, field)
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
    assert set(np.unique(bend_label(ids, field))) <= {0, *np.unique(ids)}


def test_what_lies_outside_the_picture_is_zero():
    picture, field = np.full((8, 8), 200, np.uint8), constant((8, 8), 100, 0)
    assert not bend_image(picture, field).any()
    assert not bend_label(picture, field).any()


def test_channels_bend_alike():
    picture = noise((32, 32, 3))
    field = elastic(3, shape=(32, 32)).field((32, 32))
    apart = [bend_image(picture[..., c].copy(), field) for c in range(3)]
    np.testing.assert_array_equal(bend_image(picture, field), np.stack(apart, axis=-1))


def test_a_half_pixel_field_averages_neighbours():
    picture = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (6, 1))
    bent = bend_image(picture, constant(picture.shape, 0.5, 0))
    np.testing.assert_array_equal(bent[:, :-1], picture[:, :-1] + 5)


@pytest.mark.parametrize("shape", [(31, 512), (32, 512), (33, 512), (100, 7), (5, 20_000)])
def test_strips_are_the_whole_field(shape):
    field = elastic(1, shape=shape).field(shape)
    strips = list(warps.strips(field))
    rows = max(1, 32 * 512 // shape[1])
    assert [strip.first for strip in strips] == list(range(0, shape[0], rows))
    assert sum(len(strip.pixel) for strip in strips) == shape[0]
    picture = noise(shape)
    y, x = (np.indices(shape) + np.moveaxis(field, -1, 0)[::-1]).astype(float)
    row, col = np.rint(y).astype(int), np.rint(x).astype(int)
    inside = (row >= 0) & (row < shape[0]) & (col >= 0) & (col < shape[1])
    expected = np.where(inside, picture[row.clip(0, shape[0] - 1), col.clip(0, shape[1] - 1)], 0)
    assert (bend_label(picture, field) != expected).mean() < 0.001  # but ties


# --- composition -----------------------------------------------------------------------------


def test_one_warp_composed_is_itself():
    for [warp] in [warps_ for warps_ in several((60, 80)).values() if len(warps_) == 1]:
        np.testing.assert_array_equal(warps.composed([warp], (60, 80)), warp.field((60, 80)))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from(["elastic", "distorted", "barrel", "rotate"]), min_size=2, max_size=3),
    st.tuples(st.integers(90, 140), st.integers(90, 140)),
    seeds,
)
def test_composed_is_sequential_up_to_interpolation(names, shape, seed):
    chosen = [several(shape, (seed, n))[name][0] for n, name in enumerate(names)]
    image = smooth(shape, seed)
    ids = (image > 128).astype(np.uint8)
    at_once = warps.bend(image, ids, warps.strips(warps.composed(chosen, shape)))
    after = image, ids
    for warp in chosen:
        after = warps.bend(*after, warps.strips(warp.field(shape)))
    middle = tuple(slice(side // 4, -side // 4) for side in shape)  # beyond it borders come in
    apart = np.abs(at_once[0].astype(int) - after[0])[middle]
    assert np.percentile(apart, 95) <= 6
    assert (at_once[1] != after[1])[middle].mean() < 0.05


def test_composition_is_in_order():
    shape, image = (64, 64), smooth((64, 64))
    turn, lean = fields.rotate(shape, 90), fields.shear(shape, 0.5, "horizontal")
    field = warps.composed([turn, lean], shape)
    leaning = bend_image(np.rot90(image).copy(), lean.field(shape))
    np.testing.assert_array_equal(bend_image(image, field), leaning)


def test_composition_loses_nothing_at_a_border_that_was_only_passed():
    shape, image = (64, 64), noise((64, 64))
    there_and_back = [fields.rotate(shape, 90 * turns) for turns in (1, 2, 1)]
    np.testing.assert_array_equal(bend_image(image, warps.composed(there_and_back, shape)), image)
    away = warps.KnotGrid(constant((64, 64), 40, 0), 1)
    back = warps.KnotGrid(constant((64, 64), -40, 0), 1)
    np.testing.assert_array_equal(bend_image(image, warps.composed([away, back], shape)), image)


@pytest.mark.parametrize(("sigma_px", "cell"), [(2.0, 1), (8.0, 4), (16.0, 8), (40.0, 16)])
def test_between_pixels_a_field_is_that_of_its_knots(sigma_px, cell):
    shape = (96, 80)
    grid = elastic(1, shape=shape, sigma_px=sigma_px)
    assert grid.cell == cell
    x, y = np.meshgrid(np.arange(80), np.arange(96))
    points = np.stack([x, y], axis=-1).astype(np.float32)
    # positions are taken to 1/32 of a cell, so at most 1/64 of what lies between two knots
    error = np.abs(np.diff(grid.knots, axis=0)).max() + np.abs(np.diff(grid.knots, axis=1)).max()
    np.testing.assert_allclose(grid.at(points), grid.field(shape), atol=error / 64 + 1e-6)


# --- exactness -------------------------------------------------------------------------------


@QUICK
@given(seeds, st.sampled_from([1.0, 4.0, 16.0, 32.0, 100.0]), st.sampled_from([0.5, 40.0, 4000.0]))
def test_every_value_of_a_random_field_is_exact_in_float32(seed, sigma_px, sd_px):
    grid = elastic(seed, shape=(40, 50), sd_px=sd_px, sigma_px=sigma_px)
    exponent = np.frexp(np.abs(grid.knots).max())[1]
    quantum = max(QUANTUM, 2.0 ** (int(exponent) - 14))
    knots = grid.knots.astype(np.float64) / quantum
    np.testing.assert_array_equal(knots, np.rint(knots))
    assert np.abs(knots).max() <= 2**14
    # weights of linear enlargement are multiples of 1 / (2 cell) along each axis
    fine = grid.field((40, 50)).astype(np.float64) / quantum * (2 * grid.cell) ** 2
    np.testing.assert_array_equal(fine, np.rint(fine))


# --- folds -----------------------------------------------------------------------------------


def least_jacobian(knots, cell):
    """Of the map p + field, over the corners of all cells, one by one."""
    along_x, along_y = np.diff(knots, axis=1) / cell, np.diff(knots, axis=0) / cell
    rows, cols = knots.shape[0] - 1, knots.shape[1] - 1
    return min(
        (1 + along_x[row + down, col, 0]) * (1 + along_y[row, col + right, 1])
        - along_x[row + down, col, 1] * along_y[row, col + right, 0]
        for row in range(rows)
        for col in range(cols)
        for down in (0, 1)
        for right in (0, 1)
    )


@QUICK
@given(seeds, st.floats(0.5, 4.0))
def test_a_field_folds_where_its_jacobian_is_not_positive(seed, sd_px):
    grid = elastic(seed, shape=(40, 56), sd_px=sd_px)
    assert grid.folds == (least_jacobian(grid.knots.astype(np.float64), grid.cell) <= 0)


def test_gentle_fields_never_fold_and_violent_ones_always():
    assert not any(elastic(n, sd_px=1.0).folds for n in range(50))
    assert all(elastic(n, sd_px=20.0).folds for n in range(50))


def test_mirrors_and_turns_do_not_fold():
    assert not fields.flip((100, 100), "horizontal").folds
    assert not fields.rotate((100, 100), 123.0).folds
