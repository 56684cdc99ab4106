"""A small picture bends as the large one of the same does, by the same key."""

import hashlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.runtime import keys
from pipeline.warps import chains, fields
from pipeline.warps import warp as warps

PX = 512
WHOLE = (PX, PX)
SMALL = [64, 96, 100, 200]
BENDS = {
    "elastic": [{"Elastic": {"sd_px": 8.0, "sigma_px": 32.0}}],
    "distorted": [{"Distorted": {"ratio": 0.04, "sigma_px": 40.0}}],
    "barrel": [{"Barrel": {"radius": 0.4, "amount": 0.4, "centre": [0.5, 0.4]}}],
    "turn": [{"Rotate": {"degrees": 20}}],
    "affine": [{"RandomAffine": {"degrees": [-20, 20], "scale_x": [0.8, 1.25], "shift_y": 0.1}}],
}
BENDS["all"] = [step for steps in BENDS.values() for step in steps]
# what changes these moves pixels of every online training: say so in the changelog
BENT = {
    64: "c33846075fcf49897b58b62cdfebef93f95deda6127f4f1749ac7ae10799bd06",
    96: "e75aecc0fedefb8134d69f21eca1f1369a135230a28432eab6e41e0e653caf16",
}
any_bend = pytest.mark.parametrize("steps", BENDS.values(), ids=BENDS)


def rng(*parts):
    return np.random.default_rng(keys.key(*parts))


def drawn(seed=0):
    """One warp of each kind, drawn for the large picture."""
    return {
        "elastic": fields.elastic(rng(seed, "e"), WHOLE, 12.0, 48.0),
        "fine elastic": fields.elastic(rng(seed, "f"), WHOLE, 3.0, 16.0),
        "distorted": fields.distorted(rng(seed, "d"), WHOLE, 0.03, 40.0),
        "barrel": fields.barrel(WHOLE, (0.4, 0.5), 0.4, 0.3),
        "turn": fields.rotate(WHOLE, 20.0),
        "affine": fields.affine(WHOLE, -12.0, (0.8, 1.2), (0.1, -0.2), (0.05, -0.1)),
    }


def between(field, px):
    """A field (512, 512, 2) at the centres of (px, px) pixels, in these: linear, in float64."""
    at = (np.arange(px) + 0.5) * PX / px - 0.5
    low = np.floor(at).astype(int)
    share = at - low
    field = field.astype(np.float64)
    rows = field[low] * (1 - share)[:, None, None] + field[low + 1] * share[:, None, None]
    columns = rows[:, low] * (1 - share)[:, None] + rows[:, low + 1] * share[:, None]
    return columns * px / PX


def head(px=PX):
    """A smooth picture with two classes, at any size: (image, ids)."""
    at = (np.arange(px) + 0.5) / px - 0.5
    y, x = np.meshgrid(at, at, indexing="ij")
    rho = np.hypot(x / 0.33, y / 0.4)
    image = np.clip(220 * (1 - rho**2) + 25 * np.sin(18 * x) * np.cos(14 * y), 0, 255)
    return np.rint(image).astype(np.uint8), ((rho < 1).astype(np.uint8) + (rho < 0.5))


def bent(steps, px, *seed_parts):
    return chains.apply(chains.chain(steps, "here"), seed_parts, *head(px), WHOLE)


def shrunk(image, ids, px):
    index = ((np.arange(px) + 0.5) * PX / px).astype(int)
    return cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA), ids[np.ix_(index, index)]


# --- the field -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", drawn())
def test_the_field_at_64_px_is_that_at_512_there(kind):
    warp = drawn()[kind]
    small = warps.composed([warp], (64, 64), WHOLE)
    assert small.dtype == np.float32
    assert np.abs(small).max() > 0.1
    np.testing.assert_allclose(small, between(warp.field(WHOLE), 64), atol=2e-5)


@pytest.mark.parametrize("px", SMALL)
@pytest.mark.parametrize("kind", drawn())
def test_the_field_at_any_size_is_that_at_512_there(kind, px):
    warp = drawn()[kind]
    small = warps.composed([warp], (px, px), WHOLE)
    # knots are looked up at 1/32 of their distance, as where warps are composed at 512
    steps = 0.0
    if isinstance(warp, warps.KnotGrid):
        steps = sum(np.abs(np.diff(warp.knots, axis=axis)).max() for axis in (0, 1))
    wanted = between(warp.field(WHOLE), px)
    np.testing.assert_allclose(small, wanted, atol=steps / 64 * px / PX + 2e-5)


@pytest.mark.parametrize("px", SMALL)
def test_composed_warps_are_looked_through_at_once_at_any_size(px):
    several = list(drawn().values())
    small = warps.composed(several, (px, px), WHOLE)
    wanted = between(warps.composed(several, WHOLE), px)
    apart = np.abs(small - wanted) * PX / px
    assert apart.mean() < 0.06
    assert np.percentile(apart, 99) < 0.5


def test_the_own_shape_as_reference_changes_nothing():
    several = list(drawn().values())
    field = warps.composed(several, WHOLE)
    np.testing.assert_array_equal(warps.composed(several, WHOLE, WHOLE), field)
    image, ids = head()
    chain = chains.chain(BENDS["all"], "here")
    for one, other in zip(
        chains.apply(chain, (1,), image, ids), bent(BENDS["all"], PX, 1), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_one_key_draws_one_field_for_every_size(monkeypatch):
    made, draw = [], fields.elastic
    monkeypatch.setattr(fields, "elastic", lambda *given: made.append(draw(*given)) or made[-1])
    violent = [{"Elastic": {"sd_px": 6.0, "sigma_px": 16.0}}]  # some fold, and are drawn again
    for px in (PX, 64):
        for number in range(8):
            bent(violent, px, number)
    large, small = made[: len(made) // 2], made[len(made) // 2 :]
    assert len(large) > 8
    for one, other in zip(large, small, strict=True):
        np.testing.assert_array_equal(one.knots, other.knots)


# --- the pictures ----------------------------------------------------------------------------


@any_bend
@pytest.mark.parametrize("px", [64, 96])
def test_drawn_small_is_like_drawn_large_and_shrunk(steps, px):
    for seed in range(3):
        image, ids = bent(steps, px, seed)
        wanted_image, wanted_ids = shrunk(*bent(steps, PX, seed), px)
        apart = np.abs(image.astype(int) - wanted_image)
        unbent = np.abs(head(px)[0].astype(int) - wanted_image)
        assert apart.mean() < min(1.5, 0.2 * unbent.mean())
        for label in (1, 2):
            both = np.count_nonzero((ids == label) & (wanted_ids == label))
            dice = (
                2 * both / (np.count_nonzero(ids == label) + np.count_nonzero(wanted_ids == label))
            )
            assert dice > 0.96


@pytest.mark.parametrize("px", SMALL)
def test_a_small_picture_bends_to_the_same_bytes_everywhere(px):
    image, ids = bent(BENDS["all"], px, 7)
    if px in BENT:
        assert hashlib.sha256(image.tobytes() + ids.tobytes()).hexdigest() == BENT[px]
    again = bent(BENDS["all"], px, 7)
    np.testing.assert_array_equal(again[0], image)
    np.testing.assert_array_equal(again[1], ids)
    assert (bent(BENDS["all"], px, 8)[0] != image).mean() > 0.2


@any_bend
@settings(max_examples=10, deadline=None)
@given(px=st.integers(8, 90), seed=st.integers(0, 999))
def test_a_small_mask_bends_as_its_image(steps, px, seed):
    ids = np.random.default_rng(seed).integers(0, 2, (px, px)).astype(np.uint8)
    chain = chains.chain(steps, "here")
    image, label = chains.apply(chain, (seed,), ids * np.uint8(255), ids, WHOLE)
    assert (label[image == 255] == 1).all()
    assert (label[image == 0] == 0).all()


@pytest.mark.parametrize("px", [*SMALL, 63, 700])
def test_flips_and_right_angles_are_exact_at_every_size(px):
    image = np.random.default_rng(0).integers(0, 256, (px, px)).astype(np.uint8)
    for step, wanted in (
        ({"Flip": {"axis": "horizontal"}}, image[:, ::-1]),
        ({"Flip": {"axis": "vertical"}}, image[::-1]),
        ({"Rotate": {"degrees": 90}}, np.rot90(image)),
        ({"RandomAffine": {"degrees": [180, 180]}}, np.rot90(image, 2)),
    ):
        for result in chains.apply(chains.chain([step], "here"), (), image, image, WHOLE):
            np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("px", [64, 128])
@pytest.mark.parametrize(
    "step", [{"Soften": {"sigma_px": [12, 16]}}, {"Coarsen": {"cell_px": [16, 32]}}], ids=str
)
def test_lengths_of_tonal_steps_are_those_of_the_large_picture(step, px):
    sharp = np.kron(np.random.default_rng(1).integers(0, 2, (32, 32)), np.ones((16, 16))) * 255
    image = sharp.astype(np.uint8)
    chain = chains.chain([step], "here")
    large, _ = chains.apply(chain, (3,), image, image)
    wanted, _ = shrunk(large, large, px)
    small, _ = shrunk(image, image, px)
    toned, _ = chains.apply(chain, (3,), small, small, WHOLE)
    assert (
        np.abs(toned.astype(int) - wanted).mean() < 0.3 * np.abs(small.astype(int) - wanted).mean()
    )
