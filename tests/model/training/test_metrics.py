"""The reference projects' metrics and the training's against their formulas."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from numpy.typing import NDArray

from datasets_spec.contract import Label, LabelMap
from model.scoring.reference import cross_entropy, dice_coef_multiclass
from model.scoring.scores import confusion, overlaps
from model.training.metrics import Scores

pytestmark = pytest.mark.slow

CLASSES = 4
NAMES = ("background", "core", "rim", "edge")
LABEL_MAP = LabelMap(tuple(Label(n, name, (n, n, n), name) for n, name in enumerate(NAMES)))


def _ids(seed: int, shape: tuple[int, ...], classes: int = CLASSES) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def _one_hot(ids: NDArray[np.uint8], classes: int = CLASSES) -> NDArray[np.float32]:
    return (ids[..., None] == np.arange(classes)).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
def test_the_reference_metric_is_its_formula(seed: int) -> None:
    ids = _ids(seed, (3, 5, 4))
    weights = np.random.default_rng(seed).random((3, 5, 4, CLASSES)).astype(np.float32)
    probabilities = weights / weights.sum(axis=-1, keepdims=True)
    truth = _one_hot(ids).astype(np.float64)
    wanted = [
        (2 * (y * p).sum() + 1) / (y.sum() + p.sum() + 1)
        for y, p in zip(truth, probabilities.astype(np.float64), strict=True)
    ]
    np.testing.assert_allclose(dice_coef_multiclass(ids, probabilities), wanted, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_cross_entropy_is_that_of_keras(seed: int) -> None:
    ids = _ids(seed, (3, 5, 4))
    weights = np.random.default_rng(seed).random((3, 5, 4, CLASSES)).astype(np.float32)
    weights[0, 0, 0] = [0, 0, 0, 1]  # certain, rightly or wrongly
    probabilities = weights / weights.sum(axis=-1, keepdims=True)
    loss = keras.losses.categorical_crossentropy(_one_hot(ids), probabilities)
    wanted = ops.convert_to_numpy(loss).mean(axis=(1, 2))
    np.testing.assert_allclose(cross_entropy(ids, probabilities), wanted, rtol=1e-4)


@pytest.mark.parametrize("foreground", [0, 1, 40, 100])
def test_the_reference_metric_praises_an_all_background_mask(foreground: int) -> None:
    ids = np.zeros((1, 10, 10), np.uint8)
    ids.reshape(-1)[:foreground] = 1
    nothing = _one_hot(np.zeros_like(ids), 2)
    wanted = (2 * (100 - foreground) + 1) / (100 + 100 + 1)
    assert dice_coef_multiclass(ids, nothing) == pytest.approx([wanted])


def test_the_reference_metric_of_a_perfect_mask_is_one() -> None:
    ids = _ids(5, (2, 6, 6))
    assert dice_coef_multiclass(ids, _one_hot(ids)).tolist() == [1.0, 1.0]


def test_scores_over_batches_are_those_of_the_whole() -> None:
    truth, guess = _ids(1, (9, 6, 5)), _ids(2, (9, 6, 5))
    guess[3:] = truth[3:]
    parts = [(truth[a:b], _one_hot(guess[a:b])) for a, b in ((0, 2), (2, 7), (7, 9))]
    got, whole = _scores(*parts), overlaps(confusion(truth, guess, CLASSES))[1:]
    for label, overlap in zip(LABEL_MAP.foreground, whole, strict=True):
        assert got[f"dice_{label.name}"] == pytest.approx(overlap.dice, rel=1e-6)
        assert got[f"iou_{label.name}"] == pytest.approx(overlap.iou, rel=1e-6)
    assert got["foreground_dice"] == pytest.approx(np.mean([o.dice for o in whole]), rel=1e-6)
    assert got["foreground_iou"] == pytest.approx(np.mean([o.iou for o in whole]), rel=1e-6)
    reference = dice_coef_multiclass(truth, _one_hot(guess)).mean()
    assert got["dice_coef_multiclass"] == pytest.approx(reference, rel=1e-6)


def test_scores_judge_the_likeliest_class() -> None:
    ids = np.array([[[0, 1, 2, 3]]], np.uint8)
    assert _scores((ids, 0.1 + 0.5 * _one_hot(ids)))["foreground_dice"] == pytest.approx(1)


def test_mean_leaves_out_what_never_occurred() -> None:
    truth = np.array([[[0, 0, 1, 1]]], np.uint8)
    guess = np.array([[[0, 1, 1, 1]]], np.uint8)
    got = _scores((truth, _one_hot(guess)))
    assert got["foreground_dice"] == pytest.approx(4 / 5)
    assert got["foreground_iou"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("invented", [0, 3])
@pytest.mark.parametrize("score", ["foreground_dice", "foreground_iou"])
def test_scores_without_foreground_are_zero(score: str, invented: int) -> None:
    truth = np.zeros((1, 2, 2), np.uint8)
    assert _scores((truth, _one_hot(truth + np.uint8(invented))))[score] == 0


def test_scores_forget_when_reset() -> None:
    ids = _ids(3, (2, 4, 4))
    metric = Scores(LABEL_MAP)
    metric.update_state(ids, ops.convert_to_tensor(_one_hot((ids + 1) % CLASSES)))
    assert float(metric.result()["foreground_dice"]) == 0
    metric.reset_state()
    metric.update_state(ids, ops.convert_to_tensor(_one_hot(ids)))
    assert float(metric.result()["foreground_dice"]) == pytest.approx(1)


def _scores(*batches: tuple[NDArray[np.uint8], NDArray[np.float32]]) -> dict[str, float]:
    metric = Scores(LABEL_MAP)
    for truth, guess in batches:
        metric.update_state(truth, ops.convert_to_tensor(guess))
    return {name: float(value) for name, value in metric.result().items()}
