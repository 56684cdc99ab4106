"""A chain of transforms does the same to a pair whatever ran before it, or refuses in one line."""

import random

import numpy as np
import pytest

from pipeline import transforms, warps

ELASTIC = {"Elastic": {"sd_px": 3.0, "sigma_px": 8.0}}
BARREL = {"Barrel": {"radius": 0.4, "amount": 0.5, "centre": [0.5, 0.4]}}
FLIP = {"HorizontalFlip": None}
CHAINS = {
    "ours": [ELASTIC],
    "ours twice": [ELASTIC, BARREL, ELASTIC],
    "theirs": [{"Affine": {"rotate": [-20, 20], "scale": [0.8, 1.2]}}],
    "image alone": [{"RandomBrightnessContrast": None}, {"GaussNoise": None}],
    "sometimes": [{"Elastic": {"sd_px": 3.0, "sigma_px": 8.0, "p": 0.5}}, {"GaussNoise": None}],
    "ours and theirs": [BARREL, {"GridDistortion": None}, ELASTIC],
}
any_chain = pytest.mark.parametrize("steps", CHAINS.values(), ids=CHAINS)


def pair(seed=0, shape=(64, 80)):
    """A noisy image, and a mask of two classes in blocks."""
    image = np.random.default_rng(seed).integers(1, 256, shape).astype(np.uint8)
    mask = np.zeros(shape, np.uint8)
    mask[10:40, 20:60], mask[20:30, 30:50] = 1, 2
    return image, mask


def bent(steps, *seed_parts, seed=0):
    return transforms.apply(transforms.chain(steps, "here"), seed_parts, *pair(seed))


def content(pictures):
    return tuple(picture.tobytes() for picture in pictures)


def recorded(monkeypatch):
    """The fields that are drawn from now on, in order."""
    fields, draw = [], warps.elastic
    monkeypatch.setattr(warps, "elastic", lambda *given: fields.append(draw(*given)) or fields[-1])
    return fields


# --- determinism -----------------------------------------------------------------------------


@any_chain
def test_the_same_seed_parts_give_the_same_bytes_whatever_ran_before(steps):
    chain = transforms.chain(steps, "here")
    fresh = transforms.apply(chain, (7, "pair", "variant"), *pair())
    for other in range(3):
        transforms.apply(chain, (7, f"other {other}", "variant"), *pair(other))
    random.seed(5)
    np.random.seed(5)
    again = transforms.apply(chain, (7, "pair", "variant"), *pair())
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
    fields = recorded(monkeypatch)
    bent([ELASTIC, ELASTIC], 7, "pair", "variant")
    assert len(fields) == 2
    assert (fields[0] != fields[1]).mean() > 0.9


def test_a_step_does_not_change_what_a_later_one_draws(monkeypatch):
    fields = recorded(monkeypatch)
    bent([{"GaussNoise": None}, ELASTIC], 7, "pair", "variant")
    bent([BARREL, ELASTIC], 7, "pair", "variant")
    np.testing.assert_array_equal(fields[0], fields[1])


# --- image and mask --------------------------------------------------------------------------


def test_one_field_per_pair_bends_image_and_mask(monkeypatch):
    fields = recorded(monkeypatch)
    image, mask = pair()
    bent_image, bent_mask = bent([ELASTIC], 7, "pair", "variant")
    (field,) = fields
    np.testing.assert_array_equal(bent_image, warps.bend_image(image, field))
    np.testing.assert_array_equal(bent_mask, warps.bend_label(mask, field))
    assert (bent_mask != mask).any()


def test_barrel_bends_as_the_warp_of_its_arguments():
    image, mask = pair()
    bent_image, bent_mask = bent([BARREL], 7, "pair", "variant")
    field = warps.barrel(image.shape, (0.5, 0.4), 0.4, 0.5)
    np.testing.assert_array_equal(bent_image, warps.bend_image(image, field))
    np.testing.assert_array_equal(bent_mask, warps.bend_label(mask, field))
    assert (bent_mask != mask).any()


@pytest.mark.parametrize(("name", "axis"), [("HorizontalFlip", 1), ("VerticalFlip", 0)])
def test_albumentations_transforms_are_known_by_name(name, axis):
    image, mask = pair()
    bent_image, bent_mask = bent([{name: None}], 7, "pair", "variant")
    np.testing.assert_array_equal(bent_image, np.flip(image, axis))
    np.testing.assert_array_equal(bent_mask, np.flip(mask, axis))


def test_steps_are_applied_in_order():
    image, _ = pair()
    turn = {"Rotate": {"limit": [90, 90]}}
    square = image[:, :64].copy()
    given = (7, "pair", "variant"), square, square.copy()
    flip_first, _ = transforms.apply(transforms.chain([FLIP, turn], "here"), *given)
    turn_first, _ = transforms.apply(transforms.chain([turn, FLIP], "here"), *given)
    np.testing.assert_array_equal(flip_first, np.rot90(turn_first, 2))
    assert (flip_first != turn_first).any()


@any_chain
def test_a_mask_out_holds_no_class_that_was_not_in(steps):
    found = [set(np.unique(bent(steps, 7, n, "variant")[1]).tolist()) for n in range(5)]
    assert set.union(*found) == {0, 1, 2}


@any_chain
def test_the_pair_given_is_left_as_it_was(steps):
    image, mask = pair()
    transforms.apply(transforms.chain(steps, "here"), (7, "variant"), image, mask)
    assert content((image, mask)) == content(pair())


def test_a_shared_barrel_field_is_left_as_it_was():
    field = warps.barrel((64, 80), (0.5, 0.4), 0.4, 0.5)
    before = field.copy()
    bent([BARREL, ELASTIC, BARREL], 7, "pair", "variant")
    np.testing.assert_array_equal(field, before)


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
    problem = str(refused(lambda: transforms.chain([{name: None}], "augment.variants.a")))
    assert problem.startswith("augment.variants.a: ")
    assert repr(name) in problem
    assert f"Did you mean {near!r}?" in problem


@pytest.mark.parametrize("name", ["Nothing at all", "np", "__name__", "Compose", "OneOf"])
def test_refuses_what_is_no_transform(refused, name):
    assert repr(name) in str(refused(lambda: transforms.chain([{name: None}], "here")))


@pytest.mark.parametrize("name", ["Compose", "OneOf", "Sequential"])
def test_suggests_no_name_that_it_has_just_refused(refused, name):
    problem = refused(lambda: transforms.chain([{name: None}], "here"))
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
    ("Elastic", {"sd_px": 1.0, "sigma_px": 8.0, "p": 2}, "less than or equal to 1"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "center": [0.5, 0.5]}, "center"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "centre": 0.5}, "0.5"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "centre": [0.5]}, "centre"),
    ("Barrel", {"radius": 0.3, "amount": 0.3, "centre": ["a", "b"]}, "'a'"),
    ("Barrel", {"radius": 0.0, "amount": 0.3, "centre": [0.5, 0.5]}, "radius"),
    ("Barrel", {"radius": 0.3, "amount": -1.0, "centre": [0.5, 0.5]}, "amount"),
    ("Rotate", {"limt": 5}, "limt"),
    ("Rotate", {"limit": "far"}, "far"),
    ("HorizontalFlip", {"p": "often"}, "often"),
    ("HorizontalFlip", {"q": 1}, "'q'"),
]


@pytest.mark.parametrize(("name", "arguments", "told"), ARGUMENTS)
def test_refuses_arguments_that_do_not_fit(refused, name, arguments, told):
    problem = str(refused(lambda: transforms.chain([{name: arguments}], "augment.variants.a")))
    assert problem.startswith(f"augment.variants.a: expected arguments of {name}")
    assert told in problem


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
    assert "variant shrunk" in problem
    assert "(64, 80)" in problem


def test_refuses_a_transform_that_blends_class_ids(refused):
    chain = transforms.chain([{"Rotate": {"limit": [30, 30], "mask_interpolation": 1}}], "here")
    image, mask = pair()
    mask[mask > 0] = 200
    problem = str(refused(lambda: transforms.apply(chain, (7, "blended"), image, mask)))
    assert "variant blended" in problem
    assert "nearest" in problem


@pytest.mark.parametrize("name", ["ToFloat", "Normalize"])
def test_refuses_a_transform_whose_pictures_are_not_8_bit(refused, name):
    assert "variant dim" in str(refused(lambda: bent([{name: None}], 7, "pair", "dim")))
