"""What nobody annotated costs nothing and is not judged: losses, gradients, metrics, batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, Label, LabelMap
from model.flexunet import flexunet
from model.params import LOSSES, load
from model.training.batches import Batches
from model.training.losses import Loss, inverse_frequency, loss_of
from model.training.metrics import Scores
from model.training.partial import Codes
from pipeline.pairs import png
from pipeline.pairs.manifest import Pair
from tests.conftest import PROJECT, Refused
from tests.support import cohort
from tests.support.every import every

pytestmark = pytest.mark.slow

CLASSES = 4
SHAPE = (3, 8, 6)
WANTED = load(cohort.DATASET, PROJECT / "params.yaml").train
PIXELS = (900, 60, 25, 15)
CODES = Codes(CLASSES, ((1,), (2, 3), (1, 2, 3)), True)
MAY_BE = {254: (0, 1), 253: (0, 2, 3), 252: (0, 1, 2, 3), IGNORED: (0, 1, 2, 3)}
NAMES = ("background", "core", "rim", "edge")
LABEL_MAP = LabelMap(tuple(Label(n, name, (n, n, n), name) for n, name in enumerate(NAMES)))
Ids = NDArray[np.uint8]
Floats = NDArray[np.float32]


def _random(seed: int) -> Floats:
    weights = np.random.default_rng(seed).random((*SHAPE, CLASSES)) ** 3
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def _ids(seed: int, *values: int) -> Ids:
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), SHAPE)


SURE = _ids(1, 0, 1, 2, 3)
MIXED = _ids(2, 0, 0, 1, 2, 3, 254, 253, 252, IGNORED, IGNORED)
WHOLE = MIXED.copy()
WHOLE[1] = IGNORED
NOTHING = np.full(SHAPE, IGNORED, np.uint8)
CASES = {"mixed": MIXED, "one picture ignored": WHOLE, "sets alone": _ids(3, 254, 253)}


def _loss(name: str, codes: Codes | None = CODES) -> Loss:
    return loss_of(replace(WANTED, loss=name), PIXELS, codes)


def _value(name: str, ids: Ids, probabilities: Floats, codes: Codes | None = CODES) -> float:
    return float(_loss(name, codes)(ids, ops.convert_to_tensor(probabilities)))


def _may_be(ids: Ids) -> NDArray[np.bool_]:
    allowed = np.zeros((*ids.shape, CLASSES), bool)
    for place in np.ndindex(ids.shape):
        allowed[(*place, list(MAY_BE.get(int(ids[place]), (int(ids[place]),))))] = True
    return allowed


def _expected(loss: str, ids: Ids, probabilities: Floats) -> float:
    """Each loss once more in NumPy, pixel by pixel."""
    allowed, p = _may_be(ids), probabilities.astype(np.float64)
    counts, sure = ~allowed.all(axis=-1), allowed.sum(axis=-1) == 1
    likelihood = (p * allowed).sum(axis=-1)
    entropy = -np.log(np.maximum(likelihood, 1e-30))
    first = allowed.argmax(axis=-1)
    if loss in ("dice", "tversky", "dice_ce"):
        alpha = WANTED.tversky_alpha if loss == "tversky" else 0.5
        indices = []
        for label in range(1, CLASSES):
            known = sure | ~allowed[..., label]
            truth, guess = allowed[..., label][known], p[..., label][known]
            both = guess[truth].sum() + 0.5
            wrong = alpha * guess[~truth].sum() + (1 - alpha) * (1 - guess[truth]).sum()
            indices.append(both / (both + wrong))
        overlap = 1 - float(np.mean(indices))
        return overlap + (float(entropy[counts].mean()) if loss == "dice_ce" else 0)
    weight = {
        "categorical_crossentropy": np.ones(SHAPE),
        "weighted_ce": np.array(inverse_frequency(PIXELS))[first],
        "focal": np.maximum(1 - likelihood, 1e-7) ** WANTED.focal_gamma,
    }[loss]
    return float((weight * entropy)[counts].mean())


@every("case", CASES)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_leaves_out_what_is_not_known(loss: str, case: str) -> None:
    probabilities = _random(4)
    got = _value(loss, CASES[case], probabilities)
    assert got == pytest.approx(_expected(loss, CASES[case], probabilities), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_of_what_is_all_known_is_the_same_number(loss: str) -> None:
    plain, probabilities = Codes(CLASSES), _random(5)
    today = _value(loss, SURE, probabilities, None)
    assert _value(loss, SURE, probabilities, plain) == today
    assert _value(loss, SURE, probabilities) == pytest.approx(today, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_nothing_that_is_known_costs_nothing(loss: str) -> None:
    assert _value(loss, NOTHING, _random(6)) == 0


@every("case", [*CASES, "nothing"])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_is_exactly_0_where_nobody_annotated(loss: str, case: str) -> None:
    ids = CASES.get(case, NOTHING)
    ignored = _may_be(ids).all(axis=-1)
    for weights, of in ((_random(7), lambda x: x), (np.log(_random(7)), ops.softmax)):
        slope = _gradient(_loss(loss), ids, weights, of)
        assert np.isfinite(slope).all()
        assert (slope[ignored] == 0).all()
        assert ignored.all() or np.abs(slope[~ignored]).max() > 1e-4


@pytest.mark.parametrize("loss", LOSSES)
def test_a_prediction_of_what_a_pixel_may_be_is_not_pulled_apart(loss: str) -> None:
    """Whether it is background or the class that nobody annotated: the cost is the same."""
    ids = np.full(SHAPE, 254, np.uint8)
    ids[:, 4:] = 2
    background, unlabelled = (np.zeros((*SHAPE, CLASSES), np.float32) for _ in range(2))
    background[..., 0] = unlabelled[..., 1] = 0.9
    for one in (background, unlabelled):
        one[..., 2:] = 0.05
    unlabelled[:, 4:] = background[:, 4:]
    assert _value(loss, ids, background) == pytest.approx(_value(loss, ids, unlabelled), rel=1e-6)
    other = background[..., [2, 1, 0, 3]]
    assert _value(loss, ids[:, :4], other[:, :4]) > _value(loss, ids[:, :4], background[:, :4])


def test_a_network_learns_nothing_from_what_nobody_annotated() -> None:
    network = replace(
        WANTED.network, image_px=16, base_filters=2, num_layers=3, dropout_rate=0.0,
        normalization="none",
    )  # fmt: skip
    keras.utils.set_random_seed(1)
    model = flexunet(network, CLASSES)
    model.compile("sgd", _loss("dice_ce"), metrics=[Scores(LABEL_MAP, codes=CODES)])
    before = [one.numpy().copy() for one in model.trainable_variables]
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    scores = model.train_on_batch(
        pictures, np.full((2, 16, 16), IGNORED, np.uint8), return_dict=True
    )
    assert scores["loss"] == 0
    for one, start in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(one.numpy(), start)
    model.train_on_batch(pictures, np.full((2, 16, 16), 254, np.uint8))
    assert any(
        (a.numpy() != b).any() for a, b in zip(model.trainable_variables, before, strict=True)
    )


def test_scores_leave_out_what_is_not_known() -> None:
    guess = _random(8)
    got = _scores(Scores(LABEL_MAP, codes=CODES), MIXED, guess)
    allowed, likeliest = _may_be(MIXED), guess.argmax(axis=-1)
    sure = allowed.sum(axis=-1) == 1
    for label, name in enumerate(NAMES[1:], 1):
        known = sure | ~allowed[..., label]
        truth, found = allowed[..., label][known], (likeliest == label)[known]
        wanted = 2 * (truth & found).sum() / (truth.sum() + found.sum())
        assert got[f"dice_{name}"] == pytest.approx(wanted, rel=1e-6)
    counts = ~allowed.all(axis=-1)
    hits = ((guess * allowed).sum(axis=-1) * counts).sum(axis=(1, 2))
    pixels = counts.sum(axis=(1, 2))
    wanted = float(np.mean((2 * hits + 1) / (2 * pixels + 1)))
    assert got["dice_coef_multiclass"] == pytest.approx(wanted, rel=1e-5)
    plain = _scores(Scores(LABEL_MAP), SURE, guess)
    assert _scores(Scores(LABEL_MAP, codes=Codes(CLASSES)), SURE, guess) == plain
    assert _scores(Scores(LABEL_MAP, codes=CODES), SURE, guess) == pytest.approx(plain, rel=1e-6)


def test_a_picture_that_nobody_annotated_is_in_no_mean() -> None:
    guess = _random(9)
    whole = _scores(Scores(LABEL_MAP, codes=CODES), WHOLE, guess)
    without = np.delete(WHOLE, 1, axis=0), np.delete(guess, 1, axis=0)
    assert whole == pytest.approx(_scores(Scores(LABEL_MAP, codes=CODES), *without), rel=1e-6)


def test_batches_hold_the_codes_of_what_was_not_annotated(workplace: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:4], mask[4:6] = 3, IGNORED
    unlabelled: list[tuple[int, ...]] = [(), (2,), (1, 2), (2,)]
    pairs = []
    for number, classes in enumerate(unlabelled):
        pair = cohort.pair(f"p{number}_0", unlabelled=classes, class_pixels=(1, 0, 0, 1))
        png.write_image(workplace / pair.image, np.full((16, 16), number, np.uint8))
        png.write_mask(workplace / pair.mask, mask, LABEL_MAP)
        pairs.append(pair)
    codes = Codes.of(pairs, CLASSES)
    assert codes.sets == ((1, 2), (2,))
    assert codes.partial
    network = replace(WANTED.network, image_px=8, num_layers=2)
    for scratch in (None, workplace):
        batches = Batches(workplace, pairs, LABEL_MAP, network, 4, scratch=scratch, codes=codes)
        for _ in range(2):
            _, ids = batches[0]
            for one, classes in zip(ids, unlabelled, strict=True):
                background = {(): 0, (1, 2): 254, (2,): 253}[classes]
                assert (one == np.repeat([3, 3, IGNORED, *[background] * 5], 8).reshape(8, 8)).all()


def test_more_sets_than_ids_are_refused(refused: Refused) -> None:
    pairs: list[Pair] = [
        cohort.pair(f"p{number}_0", unlabelled=(number,)) for number in range(1, 8)
    ]
    assert len(Codes.of(pairs, 248).sets) == 7
    assert "expected at most 6 different sets" in str(refused(lambda: Codes.of(pairs, 249)))


def _scores(metric: Scores, ids: Ids, probabilities: Floats) -> dict[str, float]:
    metric.update_state(ids, ops.convert_to_tensor(probabilities))
    return {name: float(value) for name, value in metric.result().items()}


def _gradient(loss: Loss, ids: Ids, weights: Floats, probabilities: Callable[[Any], Any]) -> Floats:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes gradients by TensorFlow's tape")
    import tensorflow

    tensor = tensorflow.convert_to_tensor(weights)
    with tensorflow.GradientTape() as tape:
        tape.watch(tensor)
        cost = loss(ids, probabilities(tensor))
    slope: Floats = tape.gradient(cost, tensor).numpy()
    return slope
