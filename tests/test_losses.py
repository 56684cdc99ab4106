"""The losses against plain NumPy, on random masks and on the ones that break denominators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from numpy.typing import NDArray

from model.losses import LOSSES
from tests import cohort

CLASSES = 3
SHAPE = (2, 8, 6)


def _ids(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, CLASSES, SHAPE).astype(np.uint8)


def _certain(ids: NDArray[np.uint8]) -> NDArray[np.float32]:
    return (ids[..., None] == np.arange(CLASSES)).astype(np.float32)


def _random(seed: int) -> NDArray[np.float32]:
    weights = np.random.default_rng(seed).random((*SHAPE, CLASSES)) ** 3
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


NOTHING = np.zeros(SHAPE, np.uint8)
CASES = {
    "random": (_ids(1), _random(2)),
    "one class missing": (np.minimum(_ids(3), 1), _random(4)),
    "no foreground": (NOTHING, _random(5)),
    "no foreground, none predicted": (NOTHING, _certain(NOTHING)),
    "all foreground missed": (np.ones(SHAPE, np.uint8), _certain(NOTHING)),
    "all wrong": (_ids(6), _certain((_ids(6) + 1) % CLASSES)),
    "perfect": (_ids(7), _certain(_ids(7))),
}


def _expected(loss: str, ids: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> float:
    flat, table = ids.ravel(), probabilities.reshape(-1, CLASSES).astype(np.float64)
    entropy = sum(-np.log(max(row[i], 1e-7)) for i, row in zip(flat, table, strict=True)) / len(
        flat
    )
    if loss == "categorical_crossentropy":
        return entropy
    dices = []
    for label in range(1, CLASSES):
        both = table[flat == label, label].sum()
        dices.append((2 * both + 1) / ((flat == label).sum() + table[:, label].sum() + 1))
    return entropy + 1 - float(np.mean(dices))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_is_that_of_plain_numpy(loss: str, case: str) -> None:
    ids, probabilities = CASES[case]
    got = float(LOSSES[loss](ids, ops.convert_to_tensor(probabilities)))
    assert got == pytest.approx(_expected(loss, ids, probabilities), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("case", ["perfect", "no foreground, none predicted"])
@pytest.mark.parametrize("loss", LOSSES)
def test_perfect_prediction_costs_nothing(loss: str, case: str) -> None:
    ids, probabilities = CASES[case]
    assert float(LOSSES[loss](ids, ops.convert_to_tensor(probabilities))) == pytest.approx(0)


@pytest.mark.parametrize("loss", LOSSES)
def test_worse_prediction_costs_more(loss: str) -> None:
    ids = _ids(8)
    right, wrong = _certain(ids), _certain((ids + 1) % CLASSES)
    mixtures = (right * (1 - share) + wrong * share for share in (0.1, 0.3, 0.6, 0.9))
    costs = [float(LOSSES[loss](ids, ops.convert_to_tensor(mixture))) for mixture in mixtures]
    assert costs == sorted(set(costs))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_finite(loss: str, case: str) -> None:
    assert np.isfinite(_gradient(loss, *CASES[case])).all()


def test_gradient_of_the_entropy_is_its_formula() -> None:
    ids, probabilities = CASES["random"]
    wanted = -_certain(ids) / probabilities / ids.size
    got = _gradient("categorical_crossentropy", ids, probabilities)
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("case", ["all foreground missed", "all wrong"])
def test_dice_still_pulls_where_the_entropy_is_clipped(case: str) -> None:
    ids, probabilities = CASES[case]
    missed = (ids > 0)[..., None] & (_certain(ids) > 0)
    assert (_gradient("dice_ce", ids, probabilities)[missed] < 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_params_accept_the_loss(loss: str, workplace: Path) -> None:
    assert cohort.write_params(**{"train.loss": loss}).train.loss == loss


def _gradient(
    loss: str, ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> NDArray[np.float32]:
    """By the probabilities: what one step of plain descent takes from a model of them alone."""
    model = Unbound(probabilities)
    model.compile(keras.optimizers.SGD(1.0), loss=LOSSES[loss], jit_compile=False)
    model.train_on_batch(np.zeros(len(ids), np.float32), ids)
    left: NDArray[np.float32] = ops.convert_to_numpy(model.probabilities.value)
    return probabilities - left


class Unbound(keras.Model):  # type: ignore[misc]  # untyped library
    """Predicts its only weight."""

    def __init__(self, probabilities: NDArray[np.float32]) -> None:
        super().__init__()
        self.probabilities = self.add_weight(shape=probabilities.shape, initializer="zeros")
        self.probabilities.assign(probabilities)

    def call(self, anything: Any) -> Any:
        return self.probabilities + 0 * ops.sum(anything)
