"""Variants of a pair are drawn from keys that name it, and online an epoch chooses among them."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

from model import params
from pipeline.pairs.manifest import Pair
from pipeline.pairs.variants import ORIGINAL, Variants
from pipeline.params.augment import Augment
from tests.conftest import PROJECT, Refused
from tests.support import cohort

STEPS = [{"Elastic": {"sd_px": 1.0, "sigma_px": 8.0}}]
SETTINGS = Augment(7, False, {"a": STEPS, "b": STEPS, "c": [{"Flip": {"axis": "vertical"}}]})
IMAGE = np.random.default_rng(0).integers(1, 256, (48, 40)).astype(np.uint8)
MASK = (IMAGE > 128).astype(np.uint8)


def _pair(pair_id: str = "sub-01_0001", **values: object) -> Pair:
    return dataclasses.replace(cohort.pair(pair_id), **{"class_pixels": (9, 9, 9), **values})


def _made(name: str, key: tuple[object, ...]) -> bytes:
    image, mask = Variants("any", SETTINGS).make(name, key, IMAGE, MASK)
    return image.tobytes() + mask.tobytes()


def test_names_are_those_of_the_parameters() -> None:
    assert Variants("any", SETTINGS).names == ("a", "b", "c")


def test_every_pair_variant_and_epoch_has_a_key_of_its_own() -> None:
    variants = Variants("any", SETTINGS)
    keys = [
        variants.key(pair, name, epoch)
        for pair in ("p", "q")
        for name in ("a", "b")
        for epoch in (None, 0, 1)
    ]
    keys += [Variants("other", SETTINGS).key("p", "a")]
    assert len({_made("a", key) for key in keys}) == len(keys)
    assert _made("a", keys[0]) == _made("a", keys[0])


def test_epochs_show_every_variant_and_the_original_alike_often() -> None:
    variants = Variants("any", SETTINGS)
    counts = Counter(variants.choice(f"p{n}", epoch) for n in range(40) for epoch in range(40))
    assert set(counts) == {ORIGINAL, "a", "b", "c"}
    assert min(counts.values()) > 0.85 * 400
    assert max(counts.values()) < 1.15 * 400


def test_fresh_is_the_chosen_variant_from_the_epochs_key() -> None:
    variants = Variants("any", SETTINGS)
    for epoch in range(12):
        name = variants.choice("sub-01_0001", epoch)
        image, mask = variants.fresh(_pair(), epoch, IMAGE, MASK)
        wanted = IMAGE.tobytes() + MASK.tobytes()
        if name != ORIGINAL:
            wanted = _made(name, variants.key("sub-01_0001", name, epoch))
        assert image.tobytes() + mask.tobytes() == wanted


@pytest.mark.parametrize("empty_slices", [False, True])
def test_empty_slices_vary_only_if_so_set(empty_slices: bool) -> None:
    variants = Variants("any", dataclasses.replace(SETTINGS, empty_slices=empty_slices))
    empty = _pair(class_pixels=(9, 0, 0))
    assert variants.wanted(empty) == empty_slices
    shown = {variants.fresh(empty, epoch, IMAGE, MASK)[0].tobytes() for epoch in range(12)}
    assert (len(shown) > 1) == empty_slices


def test_a_variant_of_a_variant_is_never_made() -> None:
    variants, grown = Variants("any", SETTINGS), _pair(parent="sub-01_0000")
    assert not variants.wanted(grown)
    assert all(variants.fresh(grown, epoch, IMAGE, MASK)[0] is IMAGE for epoch in range(12))


def test_an_absent_channel_stays_so_whatever_is_drawn() -> None:
    steps = [{"RandomAffine": {"degrees": [-20, 20]}}, {"Noise": {"sd": 9}}]
    steps += [{"Contrast": {"brightness": 40}}, {"Soften": {"sigma_px": 1}}]
    variants = Variants("any", Augment(7, True, {"a": steps}), 3)
    image = np.dstack([IMAGE, np.zeros_like(IMAGE), IMAGE])
    bent, _ = variants.make("a", ("key",), image, MASK)
    assert bent.any(axis=(0, 1)).tolist() == [True, False, True]


def test_a_variant_may_be_drawn_at_the_size_of_a_network() -> None:
    steps = [{"Elastic": {"sd_px": 10.0, "sigma_px": 40.0}}, {"RandomAffine": {"degrees": 30}}]
    settings = Augment(7, True, {"a": steps})
    y, x = np.mgrid[:512, :512]
    mask = (np.hypot(x - 280, y - 240) < 160).astype(np.uint8)
    image = (mask * (x // 2)).astype(np.uint8)
    large, ids = Variants("any", settings).make("a", ("key",), image, mask)
    variants = Variants("any", settings, image_px=512)
    small, small_ids = variants.make("a", ("key",), image[4::8, 4::8], mask[4::8, 4::8])
    assert np.abs(small.astype(int) - large[4::8, 4::8]).mean() < 4
    assert (small_ids != ids[4::8, 4::8]).mean() < 0.01
    same, same_ids = variants.make("a", ("key",), image, mask)
    np.testing.assert_array_equal(same, large)
    np.testing.assert_array_equal(same_ids, ids)


def test_a_wrong_step_is_refused_by_its_variant(refused: Refused) -> None:
    wrong = Augment(7, False, {"good": STEPS, "bad": [{"Elastik": None}]})
    assert "augment.variants.bad" in str(refused(lambda: Variants("any", wrong)))


@pytest.mark.parametrize("preset", sorted(params.presets(PROJECT / "params.yaml")))
def test_every_preset_makes_all_its_variants(preset: str) -> None:
    settings = params.presets(PROJECT / "params.yaml")[preset].augment
    variants = Variants(preset, settings)
    y, x = np.mgrid[:128, :128]
    mask = (np.hypot(x - 70, y - 60) < 40).astype(np.uint8)
    image = (mask * 200).astype(np.uint8)
    assert len(variants.names) >= 3
    for name in variants.names:
        bent, ids = variants.make(name, variants.key("p", name), image, mask)
        assert bent.shape == ids.shape == (128, 128)
        assert set(np.unique(ids)) == {0, 1}


def test_teknofests_set_is_thirteen_with_the_original() -> None:
    preset = params.presets(PROJECT / "params.yaml")["teknofest_2021_stroke"]
    names = Variants("teknofest_2021_stroke", preset.augment).names
    kinds = Counter(name.split("_")[0] for name in names)
    assert kinds == {"hflipped": 1, "deformed": 3, "distorted": 3, "barrdistorted": 5}
