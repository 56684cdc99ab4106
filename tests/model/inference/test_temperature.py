"""Calibrated probabilities: how sure they are changes, the order of classes in a voxel does not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.inference.expected import Expected
from model.inference.facts import Facts
from model.inference.sampling import class_ids
from model.inference.temperature import NONE, Temperatures, calibrated
from pipeline.volumes.volume import Grid, Volume
from tests.support import members
from tests.support.every import every


def _random(classes: int, seed: int = 0) -> NDArray[np.float32]:
    """Probabilities (classes, 40, 30), of sure voxels and of unsure ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, rng.choice([0.5, 4, 20], (1, 40, 30)), (classes, 40, 30))
    shares = np.exp(logits - logits.max(axis=0))
    return (shares / shares.sum(axis=0)).astype(np.float32)


@every("classes", [2, 3, 6])
@every("seed", range(3))
def test_class_ids_stay_and_probabilities_remain_such(classes: int, seed: int) -> None:
    p = _random(classes, seed)
    temperatures = np.random.default_rng(seed).uniform(0.3, 6, classes)
    found = calibrated(p, temperatures.tolist())
    np.testing.assert_array_equal(class_ids(found), class_ids(p))
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    assert found.min() >= 0
    assert found.dtype == np.float32


def test_temperatures_of_one_change_no_bit() -> None:
    p = _random(3)
    assert calibrated(p, [1.0, 1.0, 1.0]) is p
    assert NONE(p) is p


@every("temperature", [0.5, 2.0])
def test_one_temperature_for_all_is_that_of_guo(temperature: float) -> None:
    """softmax(log p / T), as in Guo et al., ICML 2017."""
    p = np.clip(_random(3), 1e-6, None)
    p /= p.sum(axis=0)
    wanted = p ** (1 / temperature)
    wanted /= wanted.sum(axis=0)
    np.testing.assert_allclose(calibrated(p, [temperature] * 3), wanted, atol=1e-5)


def test_sure_voxels_take_the_temperature_of_their_class() -> None:
    p = np.array([[0.98, 0.01], [0.02, 0.99]], np.float32)
    first, second = calibrated(p, [1.0, 3.0]).T
    assert first[0] == pytest.approx(0.98, abs=0.002)
    assert second[1] == pytest.approx(
        0.99 ** (1 / 3) / (0.99 ** (1 / 3) + 0.01 ** (1 / 3)), abs=0.01
    )


def test_classes_may_come_in_any_order() -> None:
    p, order = _random(4), [2, 0, 3, 1]
    temperatures = np.array([0.7, 1.5, 3.0, 2.0])
    one = calibrated(p, temperatures.tolist())[order]
    np.testing.assert_allclose(one, calibrated(p[order], temperatures[order].tolist()), atol=1e-6)


def test_scans_are_predicted_by_calibrated_members() -> None:
    grey = np.random.default_rng(1).uniform(0, 255, (12, 12, 5)).astype(np.float32)
    image = Volume(grey, Grid((12, 12, 5), np.eye(4)))
    plain = members.member()
    sure = replace(plain, temperatures=Temperatures((0.5, 0.5, 0.5)))
    found = []
    for one in (plain, sure):
        predictor, kept = members.predictor(one), []
        ids = predictor(image, lambda slab, kept=kept: kept.append(slab.probability))
        found.append((ids, np.concatenate(kept, axis=1)))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[1][1], calibrated(found[0][1], [0.5] * 3), atol=1e-6)
    assert (found[1][1].max(axis=0) >= found[0][1].max(axis=0)).all()


STATED: dict[str, Any] = {"of_class": [0.8, 2.0, 2.5], "kept": True, "gain": 0.01, "low": 0.005}


@every(
    "stated",
    [
        {**STATED, "of_class": [0.8, 2.0]},
        {**STATED, "of_class": [0.8, 2.0, 0.0]},
        {**STATED, "of_class": [0.8, 2.0, -1.0]},
        {**STATED, "of_class": [0.8, 2.0, 1e9]},
        {**STATED, "of_class": [0.8, 2.0, math.nan]},
        {**STATED, "of_class": [0.8, 2.0, "hot"]},
        {**STATED, "of_class": 2.0},
        {**STATED, "gain": "much"},
        {"kept": True},
        [1.0, 1.0, 1.0],
    ],
)
def test_nonsense_in_a_models_file_is_refused(stated: Any, workplace: Path) -> None:
    file = Path("model.keras")
    file.write_bytes(bytes(1 << 16))
    with pytest.raises(Problem, match="expected temperature in its provenance"):
        Facts.of({**_origin(), "chosen": {"temperature": stated}}, file)


def test_a_models_file_states_its_temperatures(workplace: Path) -> None:
    file = Path("model.keras")
    file.write_bytes(bytes(1 << 16))
    kept = Facts.of({**_origin(), "chosen": {"temperature": STATED}}, file).temperatures
    assert kept.of_class == (0.8, 2.0, 2.5)
    assert "temperatures 0.80, 2.00, 2.50" in kept.sentence
    for chosen in ({}, {"temperature": {}}, {"temperature": {**STATED, "kept": False}}):
        assert Facts.of({**_origin(), "chosen": chosen}, file).temperatures == NONE


def _origin() -> dict[str, Any]:
    """The provenance of a small network of three classes."""
    facts = members.facts()
    labels = [[one.id, one.name, list(one.colour)] for one in facts.label_map]
    network = {name: getattr(facts.network, name) for name in facts.network.__dataclass_fields__}
    return {
        "dataset": "made_up",
        "labels": labels,
        "meanings": [[one.meaning, one.tissue] for one in facts.label_map],
        "modality": "MR",
        "plane": "axial",
        "window": {"percentiles": [0.5, 99.5]},
        "convert": {"image_px": 64, "mr_percentiles": [0.5, 99.5]},
        "augment": {"variants": {}},
        "train": {"network": network},
    }


def test_expected_dice_is_that_of_truths_drawn_from_the_probabilities() -> None:
    p, rng = _random(3, 5), np.random.default_rng(7)
    ids, expected = class_ids(p), Expected.none(3)
    for half in (slice(0, 20), slice(20, 40)):
        expected.add(p[:, half], ids[half])
    drawn = []
    for _ in range(200):
        truth = (rng.random(ids.shape) > np.cumsum(p, axis=0)[:-1]).sum(axis=0)
        both = [((ids == one) & (truth == one)).sum() for one in (1, 2)]
        whole = [(ids == one).sum() + (truth == one).sum() for one in (1, 2)]
        drawn.append(2 * np.array(both) / whole)
    np.testing.assert_allclose(expected.dice, np.mean(drawn, axis=0), atol=0.01)


def test_nothing_drawn_has_no_expected_dice() -> None:
    p = np.array([0.9, 0.06, 0.04], np.float32)[:, None, None] * np.ones((3, 4, 4), np.float32)
    expected = Expected.none(3)
    expected.add(p, class_ids(p))
    assert all(map(math.isnan, expected.dice))
