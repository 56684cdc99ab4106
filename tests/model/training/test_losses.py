"""The losses against plain NumPy, on random masks and on the ones that break denominators."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from numpy.typing import NDArray

from model.params import LOSSES, load
from model.training.losses import Loss, inverse_frequency, loss_of
from tests.conftest import PROJECT
from tests.support import cohort
from tests.support.every import every

pytestmark = pytest.mark.slow

CLASSES = 3
SHAPE = (2, 8, 6)
WANTED = load(cohort.DATASET, PROJECT / "params.yaml").train


def _ids(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, CLASSES, SHAPE).astype(np.uint8)


def _certain(ids: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (ids[..., None] == np.arange(CLASSES)).astype(np.float32)


def _random(seed: int) -> NDArray[np.float32]:
    weights = np.random.default_rng(seed).random((*SHAPE, CLASSES)) ** 3
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


NOTHING = np.zeros(SHAPE, np.uint8)
BLOCKS = np.zeros(SHAPE, np.uint8)
BLOCKS[0, 1:3, 4:], BLOCKS[1, 5:, :1] = 1, 2
CASES = {
    "blocks": (BLOCKS, _random(9)),
    "random": (_ids(1), _random(2)),
    "one class missing": (np.minimum(_ids(3), 1), _random(4)),
    "no foreground": (NOTHING, _random(5)),
    "no foreground, none predicted": (NOTHING, _certain(NOTHING)),
    "all foreground missed": (np.ones(SHAPE, np.uint8), _certain(NOTHING)),
    "all wrong": (_ids(6), _certain((_ids(6) + 1) % CLASSES)),
    "perfect": (_ids(7), _certain(_ids(7))),
}


PIXELS = (900, 75, 25)


def _loss(name: str) -> Loss:
    return loss_of(replace(WANTED, loss=name), PIXELS)


def _expected(loss: str, ids: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> float:
    """Each loss once more in plain NumPy, pixel by pixel, by its formula."""
    flat, table = ids.ravel(), probabilities.reshape(-1, CLASSES).astype(np.float64)
    sure = table[np.arange(len(flat)), flat]
    entropy = -np.log(np.maximum(sure, 1e-30))
    overlap = {0.5: 0.0, WANTED.tversky_alpha: 0.0}
    for alpha in overlap:
        indices = []
        for label in range(1, CLASSES):
            truth, guess = flat == label, table[:, label]
            invented, missed = guess[~truth].sum(), (1 - guess[truth]).sum()
            both = guess[truth].sum() + 0.5
            indices.append(both / (both + alpha * invented + (1 - alpha) * missed))
        overlap[alpha] = 1 - float(np.mean(indices))
    return float(
        {
            "categorical_crossentropy": entropy.mean(),
            "weighted_ce": (np.array([1000 / (3 * n) for n in PIXELS])[flat] * entropy).mean(),
            "focal": ((1 - sure) ** WANTED.focal_gamma * entropy).mean(),
            "dice": overlap[0.5],
            "dice_ce": entropy.mean() + overlap[0.5],
            "tversky": overlap[WANTED.tversky_alpha],
        }[loss]
    )


@every("case", CASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_that_of_plain_numpy(loss: str, case: str) -> None:
    ids, probabilities = CASES[case]
    got = float(_loss(loss)(ids, ops.convert_to_tensor(probabilities)))
    assert got == pytest.approx(_expected(loss, ids, probabilities), rel=1e-5, abs=1e-5)


@every("case", ["perfect", "no foreground, none predicted"])
@pytest.mark.parametrize("loss", LOSSES)
def test_perfect_prediction_costs_nothing(loss: str, case: str) -> None:
    ids, probabilities = CASES[case]
    assert float(_loss(loss)(ids, ops.convert_to_tensor(probabilities))) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_worse_prediction_costs_more(loss: str) -> None:
    ids = _ids(8)
    right, wrong = _certain(ids), _certain((ids + 1) % CLASSES)
    mixtures = (right * (1 - share) + wrong * share for share in (0.1, 0.3, 0.6, 0.9))
    costs = [float(_loss(loss)(ids, ops.convert_to_tensor(mixture))) for mixture in mixtures]
    assert costs == sorted(set(costs))


@every("case", CASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_finite(loss: str, case: str) -> None:
    assert np.isfinite(_gradient(loss, *CASES[case])).all()


def test_gradient_of_the_entropy_is_its_formula() -> None:
    ids, probabilities = CASES["random"]
    wanted = -_certain(ids) / probabilities / ids.size
    got = _gradient("categorical_crossentropy", ids, probabilities)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("gap", [1.0, 20.0, 60.0])
def test_a_sure_mistake_is_pulled_as_hard_as_any(gap: float) -> None:
    """By the logits the slope is p - y, however sure the network is: it can always come back."""
    ids = np.ones((1, 2, 2), np.uint8)
    logits = np.zeros((1, 2, 2, CLASSES), np.float32)
    logits[..., 0] = gap
    probabilities = np.exp(logits - gap) / np.exp(logits - gap).sum(axis=-1, keepdims=True)
    model = Unbound(logits, ops.softmax)
    model.compile(keras.optimizers.SGD(1.0), loss=_loss("categorical_crossentropy"))
    model.train_on_batch(np.zeros(1, np.float32), ids)
    slope = logits - ops.convert_to_numpy(model.probabilities.value)
    np.testing.assert_allclose(slope, (probabilities - _certain(ids)) / ids.size, atol=1e-6)


@pytest.mark.parametrize("case", ["all foreground missed", "all wrong"])
def test_dice_still_pulls_where_the_entropy_is_clipped(case: str) -> None:
    ids, probabilities = CASES[case]
    missed = (ids > 0)[..., None] & (_certain(ids) > 0)
    assert (_gradient("dice_ce", ids, probabilities)[missed] < 0).all()


def test_classes_weigh_by_inverse_frequency() -> None:
    weights = inverse_frequency(PIXELS)
    assert weights == pytest.approx([1000 / 2700, 1000 / 225, 1000 / 75])
    assert np.average(weights, weights=PIXELS) == pytest.approx(1)
    assert inverse_frequency([10, 0, 30]) == pytest.approx([2, 0, 2 / 3])


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_goes_by_its_name(loss: str) -> None:
    assert _loss(loss).name == loss


@pytest.mark.parametrize("loss", LOSSES)
def test_params_accept_the_loss(loss: str, workplace: Path) -> None:
    assert cohort.write_params(**{"train.loss": loss}).train.loss == loss


def _gradient(
    loss: str, ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> NDArray[np.float32]:
    """By the probabilities: what one step of plain descent takes from a model of them alone."""
    model = Unbound(probabilities)
    model.compile(keras.optimizers.SGD(1.0), loss=_loss(loss), jit_compile=False)
    model.train_on_batch(np.zeros(len(ids), np.float32), ids)
    left: NDArray[np.float32] = ops.convert_to_numpy(model.probabilities.value)
    return probabilities - left


class Unbound(keras.Model):  # type: ignore[misc]  # untyped library
    """Predicts its only weight, or what ``by`` makes of it."""

    def __init__(self, probabilities: NDArray[np.float32], by: Any = ops.copy) -> None:
        super().__init__()
        self.by = by
        self.probabilities = self.add_weight(shape=probabilities.shape, initializer="zeros")
        self.probabilities.assign(probabilities)

    def call(self, anything: Any) -> Any:
        return self.by(self.probabilities + 0 * ops.sum(anything))
