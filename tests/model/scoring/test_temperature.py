"""Which temperatures valid chooses: none where nothing is wrong, those that repair where it is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED
from model.inference.temperature import calibrated
from model.scoring import temperature, voxels
from model.scoring.certainty import Certainty
from model.scoring.voxels import Sample
from tests.support.every import every

SHAPE = (30, 30)
SLICES = 6


def _case(seed: int, classes: int = 3) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Truth (slices, rows, columns) drawn from probabilities (classes, slices, rows, columns)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, (classes, SLICES, *SHAPE))
    logits[0] += 2
    shares = np.exp(logits)
    p = shares / shares.sum(axis=0)
    truth = (rng.random(p.shape[1:]) > np.cumsum(p, axis=0)[:-1]).sum(axis=0)
    return truth.astype(np.uint8), p.astype(np.float32)


def _spoilt(p: NDArray[np.float32], power: float) -> NDArray[np.float32]:
    """Surer than right (above 1) or less so."""
    found = p**power
    return found / found.sum(axis=0)


def _sample(cases: int, power: float = 1.0, unlabelled: tuple[int, ...] = ()) -> Sample:
    sample = Sample()
    for number in range(cases):
        truth, p = _case(number)
        p = _spoilt(p, power)
        sample.begin(f"p{number}")
        for index in range(SLICES):
            sample.add(truth[index], [p[:, index]], SLICES, unlabelled)
    return sample


def test_perfect_probabilities_stay() -> None:
    found = temperature.choose(_sample(8), "seed")
    np.testing.assert_allclose(found["of_class"], 1, atol=0.1)
    assert found["gain"] < 0.001


@every("power", [0.5, 2.0, 3.0])
def test_what_is_spoilt_is_repaired(power: float) -> None:
    found = temperature.choose(_sample(8, power), "seed")
    np.testing.assert_allclose(found["of_class"], power, rtol=0.12)
    assert found["kept"]
    assert found["low"] > 0
    sums = Certainty.none(3)
    truth, p = _case(99)
    for index in range(SLICES):
        own = _spoilt(p, power)[:, index]
        sums.add(truth[index], own, calibrated(own, found["of_class"]))
    assert sums.calibrated.near.ece < 0.03 < sums.own.near.ece
    assert sums.calibrated.likelihood.cost < sums.own.likelihood.cost


def test_the_same_voxels_give_the_same_temperatures() -> None:
    assert temperature.choose(_sample(6, 2.0), "seed") == temperature.choose(
        _sample(6, 2.0), "seed"
    )


def test_a_few_patients_decide_nothing() -> None:
    found = temperature.choose(_sample(4, 3.0), "seed")
    assert found["gain"] > 0
    assert not found["kept"]
    assert temperature.choose(_sample(4, 3.0), "seed", always=True)["kept"]
    alone = temperature.choose(_sample(1, 3.0), "seed")
    assert not alone["kept"]
    assert temperature.choose(_sample(0), "seed") == {}


def test_what_gains_in_own_patients_alone_is_not_kept() -> None:
    """Each patient is off in a way of its own."""
    sample = Sample()
    for number, power in enumerate([0.4, 2.5] * 4):
        truth, p = _case(number)
        sample.begin(f"p{number}")
        for index in range(SLICES):
            sample.add(truth[index], [_spoilt(p, power)[:, index]], SLICES)
    assert not temperature.choose(sample, "seed")["kept"]


def test_what_nobody_annotated_does_not_count() -> None:
    sample, partly = _sample(6, 2.0), Sample()
    for number in range(6):
        truth, p = _case(number)
        own = _spoilt(p, 2.0)
        partly.begin(f"p{number}")
        for index in range(SLICES):
            wide = np.full((30, 60), IGNORED, np.uint8)
            wide[:, :30] = truth[index]
            strange = np.full((3, 30, 60), 1 / 3, np.float32)
            strange[:, :, :30] = own[:, index]
            partly.add(wide, [strange], SLICES)
        assert len(sample.patients) == 6
    assert temperature.choose(partly, "seed") == temperature.choose(sample, "seed")


def test_a_class_that_nobody_annotated_counts_as_background() -> None:
    sample, merged = Sample(), Sample()
    for number in range(6):
        truth, p = _case(number)
        truth[truth == 2] = 0
        sample.begin(f"p{number}")
        merged.begin(f"p{number}")
        for index in range(SLICES):
            own = p[:, index]
            sample.add(truth[index], [own], SLICES, (2,))
            both = np.stack([own[0] + own[2], own[1], np.zeros_like(own[2])])
            merged.add(truth[index], [both], SLICES)
    assert temperature.choose(sample, "seed") == temperature.choose(merged, "seed")


def test_many_voxels_are_thinned_and_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = temperature.choose(_sample(6, 2.0), "seed")["of_class"]
    monkeypatch.setattr(voxels, "MOST", 1200)
    sample = _sample(6, 2.0)
    for parts in sample._parts:
        assert sum(len(one.truth) for one in parts) <= 2400
        assert sum(one.weight.sum() for one in parts) == pytest.approx(SLICES * 900)
    np.testing.assert_allclose(temperature.choose(sample, "seed")["of_class"], whole, rtol=0.2)


def test_a_class_that_valid_does_not_show_keeps_its_probabilities() -> None:
    sample = Sample()
    for number in range(6):
        truth, p = _case(number, 2)
        own = np.concatenate([_spoilt(p, 2.0), np.zeros((1, SLICES, *SHAPE), np.float32)])
        sample.begin(f"p{number}")
        for index in range(SLICES):
            sample.add(truth[index], [own[:, index]], SLICES)
    found = temperature.choose(sample, "seed")
    assert found["of_class"][2] == pytest.approx(1)
    np.testing.assert_allclose(found["of_class"][:2], 2, rtol=0.12)
