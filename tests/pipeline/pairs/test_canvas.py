"""The chain between a native slice and its square picture is exact, in both directions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.pairs.canvas import Canvas

QUICK = settings(max_examples=40, deadline=None)
sides = st.floats(0.2, 6)
seeds = st.integers(0, 99)


def noise(shape, seed=0, top=256):
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint8)


def extent(picture):
    """Rows and columns that the non-zero part of a picture spans."""
    rows, cols = np.nonzero(picture)
    return int(np.ptp(rows)) + 1, int(np.ptp(cols)) + 1


@pytest.mark.parametrize("px", [16, 100, 512])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.488281, 0.488281), (0.488281, 0.488300)])
def test_a_native_square_comes_through_byte_for_byte(px, spacing):
    native = noise((px, px))
    canvas = Canvas.fit(native.shape, spacing, px)
    np.testing.assert_array_equal(canvas.image(native), native)
    assert np.rint(canvas.image(native)).astype(np.uint8).tobytes() == native.tobytes()
    assert canvas.labels(native).tobytes() == native.tobytes()
    assert canvas.native(native).tobytes() == native.tobytes()


@QUICK
@given(shape=st.tuples(st.integers(1, 200), st.integers(1, 200)), spacing=st.tuples(sides, sides))
def test_pictures_are_square_and_the_way_back_is_native(shape, spacing):
    canvas = Canvas.fit(shape, spacing, 64)
    native = noise(shape, top=4)
    assert canvas.image(native).shape == (64, 64)
    assert canvas.image(native).dtype == np.float32
    assert canvas.labels(native).shape == (64, 64)
    assert canvas.native(canvas.labels(native)).shape == shape


@QUICK
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    spacing=st.tuples(sides, sides),
    px=st.sampled_from([64, 100, 512]),
    seed=seeds,
)
def test_labels_survive_where_the_canvas_says_that_they_do(shape, spacing, px, seed):
    canvas = Canvas.fit(shape, spacing, px)
    native = noise(shape, seed, 5)
    seen = np.unique(canvas.native(np.arange(px * px).reshape(px, px))).size
    if canvas.exact:
        np.testing.assert_array_equal(canvas.native(canvas.labels(native)), native)
        assert seen == native.size  # every native pixel has a picture pixel of its own
    else:
        assert min(canvas.row_scale, canvas.col_scale) < 1


@pytest.mark.parametrize(
    ("shape", "spacing", "exact"),
    [
        ((64, 64), (1.0, 1.0), True),
        ((30, 64), (0.7, 0.7), True),
        ((65, 64), (1.0, 1.0), False),
        ((20, 64), (5.0, 1.0), False),
    ],
)
def test_a_canvas_is_exact_where_no_native_pixel_is_smaller_than_its_own(shape, spacing, exact):
    assert Canvas.fit(shape, spacing, 64).exact is exact


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0), (1.0, 2.5), (0.5, 4.0)])
@pytest.mark.parametrize("kind", ["image", "labels"])
def test_a_ball_stays_round_whatever_the_pixels(spacing, kind):
    row_mm, col_mm = spacing
    height, width = round(160 / row_mm), round(200 / col_mm)
    y = (np.arange(height) + 0.5) * row_mm - 80
    x = (np.arange(width) + 0.5) * col_mm - 100
    ball = (np.hypot(y[:, None], x) < 60).astype(np.uint8)
    canvas = Canvas.fit(ball.shape, spacing, 512)
    picture = getattr(canvas, kind)(ball) > 0.5
    rows, cols = extent(picture)
    across = 120 * 512 / 200
    pixel = 512 / 200 * max(spacing)  # one native pixel, in picture pixels
    assert rows == pytest.approx(across, abs=2 * pixel + 2)
    assert cols == pytest.approx(across, abs=2 * pixel + 2)


@QUICK
@given(shape=st.tuples(st.integers(1, 150), st.integers(1, 150)), spacing=st.tuples(sides, sides))
def test_padding_is_zero_and_what_is_native_is_centred(shape, spacing):
    canvas = Canvas.fit(shape, spacing, 64)
    ones = np.ones(shape, np.uint8)
    labels, image = canvas.labels(ones), canvas.image(ones)
    np.testing.assert_array_equal(image > 0.5, labels == 1)
    np.testing.assert_array_equal(image[labels == 0], 0)
    np.testing.assert_allclose(image[labels == 1], 1, rtol=1e-5)
    for axis in (0, 1):
        inside = np.flatnonzero(labels.any(axis=1 - axis))
        if inside.size:
            before, after = inside[0], 63 - inside[-1]
            assert abs(before - after) <= 1


@QUICK
@given(side=st.integers(65, 300), seed=seeds)
def test_shrinking_keeps_the_mean(side, seed):
    native = noise((side, side), seed)
    picture = Canvas.fit(native.shape, (1.0, 1.0), 64).image(native)
    assert picture.mean(dtype=np.float64) == pytest.approx(native.mean(), abs=1e-3)


def test_shrinking_by_two_averages_two_by_two():
    native = noise((128, 128))
    means = native.reshape(64, 2, 64, 2).mean(axis=(1, 3))
    picture = Canvas.fit(native.shape, (1.0, 1.0), 64).image(native)
    np.testing.assert_allclose(picture, means, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((40, 64), (1.0, 1.0)), ((30, 50), (1.0, 1.7)), ((9, 13), (3.0, 0.9))]
)
def test_enlarging_a_ramp_gives_the_same_ramp(shape, spacing):
    canvas = Canvas.fit(shape, spacing, 256)
    row, col = np.indices(shape)
    picture = canvas.image(3.0 * row + 2.0 * col + 5.0)
    y = (np.arange(256) + 0.5 - canvas.row_offset) / canvas.row_scale - 0.5
    x = (np.arange(256) + 0.5 - canvas.col_offset) / canvas.col_scale - 0.5
    rows, cols = (y >= 0) & (y <= shape[0] - 1), (x >= 0) & (x <= shape[1] - 1)
    expected = 3.0 * y[rows, None] + 2.0 * x[cols] + 5.0
    assert expected.size > 1000
    np.testing.assert_allclose(picture[np.ix_(rows, cols)], expected, rtol=1e-5)


@QUICK
@given(
    shape=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    spacing=st.tuples(sides, sides),
    seed=seeds,
)
def test_images_make_no_value_beyond_those_given(shape, spacing, seed):
    picture = Canvas.fit(shape, spacing, 64).image(noise(shape, seed, 200) + 20)
    assert picture.min() >= 0
    assert picture.max() <= 219.01


@QUICK
@given(shape=st.tuples(st.integers(1, 32), st.integers(1, 32)), seed=seeds)
def test_image_and_label_of_one_picture_stay_aligned(shape, seed):
    native = noise(shape, seed, 2)
    canvas = Canvas.fit(shape, (1.0, 1.0), 2 * max(shape))
    np.testing.assert_array_equal(canvas.image(native) > 0.5, canvas.labels(native) == 1)


@QUICK
@given(
    shape=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    spacing=st.tuples(sides, sides),
    seed=seeds,
)
def test_labels_of_any_size_bring_no_new_class(shape, spacing, seed):
    native = np.random.default_rng(seed).choice(np.array([0, 3, 200], np.uint8), shape)
    canvas = Canvas.fit(shape, spacing, 64)
    picture = canvas.labels(native)
    assert set(np.unique(picture)) <= {0, *np.unique(native)}
    assert set(np.unique(canvas.native(picture))) <= set(np.unique(picture))


@QUICK
@given(
    shape=st.tuples(st.integers(1, 600), st.integers(1, 600)),
    spacing=st.tuples(sides, sides),
    px=st.integers(16, 1024),
)
def test_a_canvas_comes_back_from_its_numbers(shape, spacing, px):
    canvas = Canvas.fit(shape, spacing, px)
    assert all(type(value) is float for value in canvas.values())
    assert Canvas.of(canvas.values()) == canvas


def test_native_slices_are_left_as_they_were():
    native = noise((64, 64))
    before = native.copy()
    canvas = Canvas.fit(native.shape, (1.0, 1.0), 64)
    canvas.image(native)[:] = 0
    canvas.labels(native)[:] = 0
    np.testing.assert_array_equal(native, before)


@pytest.mark.parametrize("mm", [1.0, 0.488281, 1.0000001])
@pytest.mark.parametrize("shape", [(64, 64), (41, 50), (9, 64)])
def test_a_field_of_the_pictures_own_pixels_shows_them_untouched(shape, mm):
    native = noise(shape)
    canvas = Canvas.fit(shape, (mm, mm), 64, field_mm=64 * mm)
    assert (canvas.row_scale, canvas.col_scale) == (1, 1)
    picture = canvas.image(native)
    rows, columns = slice(canvas.row_offset, None), slice(canvas.col_offset, None)
    np.testing.assert_array_equal(picture[rows, columns][: shape[0], : shape[1]], native)
    assert picture.sum() == native.sum()
    np.testing.assert_array_equal(canvas.native(picture), native)


@QUICK
@given(
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    spacing=st.tuples(sides, sides),
    field=st.floats(0, 400),
)
def test_a_field_widens_what_is_shown_and_cuts_nothing_off(shape, spacing, field):
    canvas = Canvas.fit(shape, spacing, 96, field)
    longer = max(shape[0] * spacing[0], shape[1] * spacing[1])
    shown_mm = 96 / canvas.row_scale * spacing[0]
    assert shown_mm == pytest.approx(max(field, longer), rel=1e-3)
    ones = canvas.labels(np.ones(shape, np.uint8))
    if ones.any():
        assert extent(ones)[0] == pytest.approx(shape[0] * canvas.row_scale, abs=1)
    else:  # less than a pixel may lie between the centres of pixels
        assert min(shape[0] * canvas.row_scale, shape[1] * canvas.col_scale) < 1
    if field <= longer * (1 - 1e-3):
        assert canvas == Canvas.fit(shape, spacing, 96)
