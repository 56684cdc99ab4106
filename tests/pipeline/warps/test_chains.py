"""A chain of transforms does the same to a pair whatever ran before it, or refuses in one line."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.warps import chains, fields
from pipeline.warps import warp as warps
from tests.support.every import every

ELASTIC = {"Elastic": {"sd_px": 1.5, "sigma_px": 8.0}}
DISTORTED = {"Distorted": {"ratio": 0.05, "sigma_px": 16.0}}
BARREL = {"Barrel": {"radius": 0.4, "amount": 0.5, "centre": [0.5, 0.4]}}
FLIP = {"HorizontalFlip": None}
BRIGHTEN = {"Brighten": {"factor": 1.3}}
OURS = {
    "Elastic": ELASTIC,
    "Distorted": DISTORTED,
    "Barrel": BARREL,
    "Pincushion": {"Pincushion": {"radius": 0.4, "amount": 0.5, "centre": [0.5, 0.4]}},
    "Flip": {"Flip": {"axis": "horizontal"}},
    "Rotate": {"Rotate": {"degrees": 20}},
    "Shrink": {"Shrink": {"ratio": 0.8}},
    "Shear": {"Shear": {"ratio": 0.2, "axis": "vertical"}},
    "Brighten": BRIGHTEN,
    "Sharpen": {"Sharpen": {"amount": 1.0}},
    "RandomAffine": {"RandomAffine": {"degrees": [-30, 30], "scale_x": [0.7, 1.4], "shear_y": 0.2}},
    "Gamma": {"Gamma": {"gamma": [1.5, 2.0]}},
    "Contrast": {"Contrast": {"factor": [0.5, 0.8], "brightness": [-20, 20]}},
    "Noise": {"Noise": {"sd": [5, 10]}},
    "Soften": {"Soften": {"sigma_px": [0.5, 1.5]}},
    "Coarsen": {"Coarsen": {"cell_px": [2, 3]}},
}
TONAL = ("Brighten", "Sharpen", "Gamma", "Contrast", "Noise", "Soften", "Coarsen")
CHAINS = {
    "ours": [ELASTIC],
    "all of ours": [*OURS.values()],
    "ours twice": [ELASTIC, BARREL, ELASTIC],
    "theirs": [{"Affine": {"rotate": [-20, 20], "scale": [0.8, 1.2]}}],
    "image alone": [{"RandomBrightnessContrast": None}, {"GaussNoise": None}],
    "sometimes": [{"Elastic": {"sd_px": 1.5, "sigma_px": 8.0, "p": 0.5}}, {"GaussNoise": None}],
    "ours and theirs": [BARREL, {"GridDistortion": None}, ELASTIC],
    "drawn by ours": [OURS[name] for name in ("RandomAffine", "Gamma", "Noise", "Coarsen")],
}
any_chain = pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)


def pair(seed=0, shape=(64, 80)):
    """A noisy image, and a mask of two classes in blocks."""
    image = np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)
    mask = np.zeros(shape, np.uint8)
    mask[10:40, 20:60], mask[20:30, 30:50] = 1, 2
    return image, mask


def bent(steps, *seed_parts, seed=0):
    return chains.apply(chains.chain(steps, "here"), seed_parts, *pair(seed))


def content(pictures):
    return tuple(picture.tobytes() for picture in pictures)


def recorded(monkeypatch):
    """The elastic fields that are drawn from now on, in order."""
    drawn, draw = [], fields.elastic
    monkeypatch.setattr(fields, "elastic", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    return drawn


def through(warp_list, image, mask):
    return warps.bend(image, mask, warps.strips(warps.composed(warp_list, image.shape)))


# --- determinism -----------------------------------------------------------------------------


@any_chain
def test_the_same_seed_parts_give_the_same_bytes_whatever_ran_before(steps):
    chain = chains.chain(steps, "here")
    fresh = chains.apply(chain, (7, "pair", "variant"), *pair())
    for other in range(3):
        chains.apply(chain, (7, f"other {other}", "variant"), *pair(other))
    random.seed(5)
    np.random.seed(5)
    again = chains.apply(chain, (7, "pair", "variant"), *pair())
    assert content(fresh) == content(again) == content(bent(steps, 7, "pair", "variant"))


@any_chain
def test_global_random_numbers_are_left_alone(steps):
    random.seed(5)
    np.random.seed(5)
    expected = random.random(), np.random.random()  # noqa: S311  # not for secrets
    random.seed(5)
    np.random.seed(5)
    bent(steps, 7, "pair", "variant")
    assert (random.random(), np.random.random()) == expected  # noqa: S311


@any_chain
def test_other_seed_parts_give_another_picture(steps):
    pictures = {content(bent(steps, 7, f"pair {n}", "variant"))[0] for n in range(6)}
    assert len(pictures) > 3
    assert content(bent(steps, 7, "pair 0", "variant")) != content(bent(steps, 8, "pair 0", "one"))


def test_two_elastic_steps_of_one_chain_draw_different_fields(monkeypatch):
    drawn = recorded(monkeypatch)
    bent([ELASTIC, ELASTIC], 7, "pair", "variant")
    assert len(drawn) == 2
    assert (drawn[0].knots != drawn[1].knots).mean() > 0.9


def test_a_step_does_not_change_what_a_later_one_draws(monkeypatch):
    drawn = recorded(monkeypatch)
    bent([{"GaussNoise": None}, ELASTIC], 7, "pair", "variant")
    bent([BARREL, ELASTIC], 7, "pair", "variant")
    np.testing.assert_array_equal(drawn[0].knots, drawn[1].knots)


@any_chain
def test_threads_that_share_a_chain_do_not_disturb_each_other(steps):
    chain = chains.chain(steps, "here")

    def made(number):
        return content(chains.apply(chain, (7, number), *pair(number)))

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(made, range(24)))
    assert together == [made(number) for number in range(24)]


# --- image and mask --------------------------------------------------------------------------


def test_one_field_per_pair_bends_image_and_mask(monkeypatch):
    drawn = recorded(monkeypatch)
    image, mask = pair()
    result = bent([ELASTIC], 7, "pair", "variant")
    (grid,) = drawn
    assert content(result) == content(through([grid], image, mask))
    assert (result[1] != mask).any()


def test_barrel_bends_as_the_warp_of_its_arguments():
    image, mask = pair()
    result = bent([BARREL], 7, "pair", "variant")
    warp = fields.barrel(image.shape, (0.5, 0.4), 0.4, 0.5)
    assert content(result) == content(through([warp], image, mask))
    assert (result[1] != mask).any()


def test_pincushion_is_a_barrel_of_negative_amount():
    negative = {"Barrel": {"radius": 0.4, "amount": -0.5, "centre": [0.5, 0.4]}}
    assert content(bent([OURS["Pincushion"]], 7)) == content(bent([negative], 7))


@pytest.mark.parametrize("name", [name for name in OURS if name not in TONAL])
@settings(max_examples=10, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    seed=st.integers(0, 999),
    again=st.sampled_from(["", *OURS]),
)
def test_every_spatial_step_bends_image_and_label_alike(name, shape, seed, again):
    ids = np.random.default_rng(seed).integers(0, 2, shape).astype(np.uint8)
    steps = [OURS[name], *([OURS[again]] if again and again not in TONAL else [])]
    chain = chains.chain(steps, "here")
    image, label = chains.apply(chain, (seed,), ids * np.uint8(255), ids)
    assert (label[image == 255] == 1).all()
    assert (label[image == 0] == 0).all()
    assert set(np.unique(label)) <= {0, *np.unique(ids)}


@pytest.mark.parametrize("name", TONAL)
def test_tonal_steps_leave_the_mask(name):
    image, mask = pair()
    toned, same = bent([OURS[name]], 7)
    np.testing.assert_array_equal(same, mask)
    assert (toned != image).any()


def test_brighten_multiplies_and_saturates():
    image = np.array([[0, 10, 100, 250]], np.uint8)
    chain = chains.chain([{"Brighten": {"factor": 1.25}}], "here")
    toned, _ = chains.apply(chain, (), image, image)
    assert toned.tolist() == [[0, 12, 125, 255]]


def test_sharpen_adds_the_difference_from_the_neighbours():
    image = np.full((5, 5), 100, np.uint8)
    image[2, 2], image[:, 4] = 110, 100
    chain = chains.chain([{"Sharpen": {"amount": 0.5}}], "here")
    sharp, _ = chains.apply(chain, (), image, image)
    assert sharp[2, 2] == 110 + 0.5 * 40
    assert sharp[1, 2] == sharp[2, 1] == 100 - 0.5 * 10
    assert sharp[0, 0] == sharp[4, 4] == 100


@pytest.mark.parametrize(
    "steps",
    [
        [{"Elastic": {"sd_px": 0, "sigma_px": 8}}],
        [{"Distorted": {"ratio": 0, "sigma_px": 8}}],
        [{"Barrel": {"radius": 0.3, "amount": 0, "centre": [0.5, 0.5]}}],
        [{"Rotate": {"degrees": 0}}],
        [{"Shrink": {"ratio": 1}}],
        [{"Shear": {"ratio": 0}}],
        [{"Brighten": {"factor": 1}}],
        [{"Sharpen": {"amount": 0}}],
        [{"RandomAffine": None}],
        [{"RandomAffine": {"shift_x": [0, 0], "scale": 1}}],
        [{"Gamma": {"gamma": 1}}],
        [{"Contrast": None}],
        [{"Noise": {"sd": 0}}],
        [{"Soften": {"sigma_px": 0}}],
        [{"Coarsen": {"cell_px": 1}}],
        [{"Flip": {"axis": "vertical"}}, {"Flip": {"axis": "vertical"}}],
        [{"Rotate": {"degrees": 30}}, {"Rotate": {"degrees": -30}}],
    ],
    ids=str,
)
def test_no_strength_changes_nothing(steps):
    image, mask = pair()
    bent_image, bent_mask = bent(steps, 7)
    np.testing.assert_array_equal(bent_mask, mask)
    # a turn and its opposite meet at 1/32 px
    assert (bent_image != image).mean() < (
        0.01 if "Rotate" in steps[0] and len(steps) > 1 else 1e-9
    )


# --- composition -----------------------------------------------------------------------------


def test_neighbours_of_ours_are_resampled_once(monkeypatch):
    often, bend = [], warps.bend
    monkeypatch.setattr(warps, "bend", lambda *given: often.append(1) or bend(*given))
    for steps, resampled in (
        ([ELASTIC, BARREL, OURS["Rotate"]], 1),
        ([ELASTIC, BRIGHTEN, BARREL], 2),
        ([ELASTIC, BARREL, FLIP, ELASTIC, BARREL], 2),
        ([BRIGHTEN], 0),
    ):
        often.clear()
        bent(steps, 7)
        assert len(often) == resampled


def test_a_run_of_ours_is_the_composition_of_its_warps(monkeypatch):
    drawn = recorded(monkeypatch)
    image, mask = pair()
    result = bent([ELASTIC, BARREL, OURS["Rotate"]], 7)
    (grid,) = drawn
    barrel = fields.barrel(image.shape, (0.5, 0.4), 0.4, 0.5)
    turned = fields.rotate(image.shape, 20)
    assert content(result) == content(through([grid, barrel, turned], image, mask))


def test_a_step_that_does_not_happen_is_left_out_of_the_composition():
    never = {"Elastic": {**ELASTIC["Elastic"], "p": 0}}
    assert content(bent([never, BARREL], 7)) == content(bent([BARREL], 7))
    assert content(bent([never], 7)) == content(pair())


# --- folds -----------------------------------------------------------------------------------


def test_a_field_that_folds_is_drawn_anew_from_the_next_key(monkeypatch):
    drawn = recorded(monkeypatch)
    sometimes = {"Elastic": {"sd_px": 4.0, "sigma_px": 8.0}}
    again = 0
    for number in range(60):
        drawn.clear()
        bent([sometimes], 7, number)
        assert [grid.folds for grid in drawn] == [True] * (len(drawn) - 1) + [False]
        again += len(drawn) > 1
        assert len({grid.knots.tobytes() for grid in drawn}) == len(drawn)
    assert 0 < again < 60


def test_a_strength_that_always_folds_is_refused_by_name(refused):
    chain = chains.chain([{"Elastic": {"sd_px": 27.0, "sigma_px": 8.0}}], "augment.variants.a")
    problem = str(refused(lambda: chains.apply(chain, (7,), *pair())))
    assert problem.startswith("augment.variants.a: ")
    assert "sd_px=27.0, sigma_px=8.0" in problem
    assert "20" in problem
    assert "Lower" in problem


# --- theirs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Rotate", "Sharpen"])
def test_their_transform_of_our_name_is_reached_by_its_prefix(refused, name):
    assert content(bent([{f"albumentations.{name}": None}], 7)) != content(pair())
    problem = str(refused(lambda: chains.chain([{name: {"limit": 5, "alpha": 1}}], "here")))
    assert f"albumentations' own is albumentations.{name}." in problem


@pytest.mark.parametrize(("name", "axis"), [("HorizontalFlip", 1), ("VerticalFlip", 0)])
def test_albumentations_transforms_are_known_by_name(name, axis):
    image, mask = pair()
    bent_image, bent_mask = bent([{name: None}], 7, "pair", "variant")
    np.testing.assert_array_equal(bent_image, np.flip(image, axis))
    np.testing.assert_array_equal(bent_mask, np.flip(mask, axis))


def test_steps_are_applied_in_order():
    image, _ = pair()
    turn = {"albumentations.Rotate": {"limit": [90, 90]}}
    square = image[:, :64].copy()
    given = (7, "pair", "variant"), square, square.copy()
    flip_first, _ = chains.apply(chains.chain([FLIP, turn], "here"), *given)
    turn_first, _ = chains.apply(chains.chain([turn, FLIP], "here"), *given)
    np.testing.assert_array_equal(flip_first, np.rot90(turn_first, 2))
    assert (flip_first != turn_first).any()


@any_chain
def test_a_mask_out_holds_no_class_that_was_not_in(steps):
    found = [set(np.unique(bent(steps, 7, n, "variant")[1]).tolist()) for n in range(5)]
    assert set.union(*found) == {0, 1, 2}


@any_chain
def test_the_pair_given_is_left_as_it_was(steps):
    image, mask = pair()
    chains.apply(chains.chain(steps, "here"), (7, "variant"), image, mask)
    assert content((image, mask)) == content(pair())


def test_a_shared_barrel_field_is_left_as_it_was():
    grid = fields.barrel((64, 80), (0.5, 0.4), 0.4, 0.5)
    before = grid.knots.copy()
    bent([BARREL, ELASTIC, BARREL], 7, "pair", "variant")
    np.testing.assert_array_equal(grid.knots, before)


def test_a_chain_of_no_steps_changes_nothing():
    assert content(bent([], 7, "pair", "variant")) == content(pair())


# --- how often -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "often"),
    [(None, {True}), ({}, {True}), ({"p": 0}, {False}), ({"p": 0.5}, {True, False})],
)
def test_a_step_is_applied_always_unless_it_states_p(arguments, often):
    image, _ = pair()
    applied = {
        bool((bent([{"HorizontalFlip": arguments}], 7, n, "variant")[0] != image).any())
        for n in range(12)
    }
    assert applied == often


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_our_own_steps_heed_p(p):
    image, _ = pair()
    arguments = {**ELASTIC["Elastic"], "p": p}
    unchanged = (bent([{"Elastic": arguments}], 7, "pair", "variant")[0] == image).all()
    assert unchanged == (p == 0)


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [("Elastik", "Elastic"), ("Barel", "Barrel"), ("HorizontlFlip", "HorizontalFlip")],
)
def test_refuses_an_unknown_name_with_the_nearest_one(refused, name, near):
    problem = str(refused(lambda: chains.chain([{name: None}], "augment.variants.a")))
    assert problem.startswith("augment.variants.a: ")
    assert repr(name) in problem
    assert f"Did you mean {near!r}?" in problem


@pytest.mark.parametrize("name", ["Nothing at all", "np", "__name__", "Compose", "OneOf"])
def test_refuses_what_is_no_transform(refused, name):
    assert repr(name) in str(refused(lambda: chains.chain([{name: None}], "here")))


@pytest.mark.parametrize("name", ["Compose", "OneOf", "Sequential"])
def test_suggests_no_name_that_it_has_just_refused(refused, name):
    problem = refused(lambda: chains.chain([{name: None}], "here"))
    assert f"Did you mean {name!r}?" not in str(problem)


@pytest.mark.parametrize("name", ["BasicTransform", "DualTransform", "ImageOnlyTransform"])
def test_refuses_a_base_class_of_transforms(refused, name):
    assert name in str(refused(lambda: bent([{name: None}], 7, "pair", "variant")))


ARGUMENTS = [
    ("Elastic", {"sd_px": 3.0, "sigma": 8.0}, "sigma"),
    ("Elastic", {"sd_px": 3.0, "sigma_px": 8.0, "alpha": 1}, "alpha"),
    ("Elastic", {"sd_px": 3.0}, "sigma_px"),
    ("Elastic", None, "sigma_px"),
    ("Elastic", {"sd_px": "much", "sigma_px": 8.0}, "much"),
    ("Elastic", {"sd_px": -1.0, "sigma_px": 8.0}, "-1.0"),
    ("Elastic", {"sd_px": 1.0, "sigma_px": 0.5}, "0.5"),
    ("Elastic", {"sd_px": float("nan"), "sigma_px": 8.0}, "nan"),
    ("Elastic", {"sd_px": 1.0, "sigma_px": 8.0, "p": 2}, "0 <= p <= 1"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "center": [0.5, 0.5]}, "center"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "centre": 0.5}, "0.5"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "centre": [0.5]}, "centre"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "centre": ["a", "b"]}, "'a'"),
    ("Barrel", {"radius": 0.0, "amount": 0.3, "centre": [0.5, 0.5]}, "radius"),
    ("Barrel", {"radius": 0.3, "amount": -1.0, "centre": [0.5, 0.5]}, "amount"),
    ("Distorted", {"ratio": -0.1, "sigma_px": 8.0}, "-0.1"),
    ("Distorted", {"ratio": 0.1, "sigma_px": 0.1}, "sigma_px"),
    ("Pincushion", {"radius": 0.3, "amount": -0.3, "centre": [0.5, 0.5]}, "0 <= amount < 1"),
    ("Flip", {"axis": "diagonal"}, "diagonal"),
    ("Flip", None, "axis"),
    ("Rotate", {"degrees": "far"}, "far"),
    ("Rotate", {"degrees": 400}, "400"),
    ("Shrink", {"ratio": 1.5}, "1.5"),
    ("Shrink", {"ratio": 0}, "ratio"),
    ("Shear", {"ratio": 0.1, "axis": "x"}, "'x'"),
    ("Brighten", {"factor": -1}, "-1"),
    ("Sharpen", {"amount": float("nan")}, "nan"),
    ("RandomAffine", {"degrees": [-10, 400]}, "-360 <= degrees <= 360"),
    ("RandomAffine", {"degrees": [10, -10]}, "the least first"),
    ("RandomAffine", {"degrees": [1, 2, 3]}, "a number or [least, most] as degrees"),
    ("RandomAffine", {"degrees": {"x": 1}}, "'x'"),
    ("RandomAffine", {"degrees": [[1, 2], [3, 4]]}, "a number or [least, most] as degrees"),
    ("RandomAffine", {"degrees": [0, float("nan")]}, "nan"),
    ("RandomAffine", {"scale": [0, 1]}, "0.1 <= scale <= 10"),
    ("RandomAffine", {"scale_y": [1, 11]}, "0.1 <= scale_y <= 10"),
    ("RandomAffine", {"shear_x": 1}, "-0.9 <= shear_x <= 0.9"),
    ("RandomAffine", {"shift_y": [-2, 0]}, "-1 <= shift_y <= 1"),
    ("RandomAffine", {"rotate": [-10, 10]}, "degrees, scale, scale_x"),
    ("Gamma", None, "gamma"),
    ("Gamma", {"gamma": [0, 1]}, "0.1 <= gamma <= 10"),
    ("Contrast", {"factor": -1}, "0 <= factor <= 10"),
    ("Contrast", {"brightness": [0, 300]}, "-255 <= brightness <= 255"),
    ("Noise", {"sd": [-1, 4]}, "0 <= sd <= 255"),
    ("Noise", {"sd": "loud"}, "loud"),
    ("Soften", {"sigma_px": 40}, "0 <= sigma_px <= 32"),
    ("Coarsen", {"cell_px": [0.5, 2]}, "1 <= cell_px <= 128"),
    ("SafeRotate", {"limt": 5}, "limt"),
    ("SafeRotate", {"limit": "far"}, "far"),
    ("HorizontalFlip", {"p": "often"}, "often"),
    ("HorizontalFlip", {"q": 1}, "'q'"),
]


@every(("name", "arguments", "message"), ARGUMENTS)
def test_refuses_arguments_that_do_not_fit(refused, name, arguments, message):
    problem = str(refused(lambda: chains.chain([{name: arguments}], "augment.variants.a")))
    assert problem.startswith(f"augment.variants.a: expected arguments of {name}")
    assert message in problem


@pytest.mark.parametrize(
    "step",
    [
        {"RandomCrop": {"height": 8, "width": 8}},
        {"Resize": {"height": 32, "width": 40}},
        {"Transpose": None},
        {"ToRGB": None},
    ],
    ids=lambda step: next(iter(step)),
)
def test_refuses_a_transform_that_changes_the_shape(refused, step):
    problem = str(refused(lambda: bent([step], 7, "pair", "shrunk")))
    assert problem.startswith("here: ")
    assert "(64, 80)" in problem


def test_refuses_a_transform_that_blends_class_ids(refused):
    turn = {"SafeRotate": {"limit": [30, 30], "mask_interpolation": 1}}
    chain = chains.chain([turn], "augment.variants.blended")
    image, mask = pair()
    mask[mask > 0] = 200
    problem = str(refused(lambda: chains.apply(chain, (7, "blended"), image, mask)))
    assert problem.startswith("augment.variants.blended: ")
    assert "nearest" in problem


@pytest.mark.parametrize("name", ["ToFloat", "Normalize"])
def test_refuses_a_transform_whose_pictures_are_not_8_bit(refused, name):
    assert "8-bit" in str(refused(lambda: bent([{name: None}], 7, "pair", "dim")))
