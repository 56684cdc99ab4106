"""Losses between class ids (B, H, W) and class probabilities (B, H, W, C).

Ids stay whole numbers up to the loss itself; y is 1 for the true class of a pixel, p what was
predicted. Sums of the overlap losses run over the pixels of the whole batch.

Where not every class is known, the losses take a :class:`~model.training.partial.Partial` instead
of the ids. A pixel that may be of several classes then costs -log of the sum of their
probabilities, and overlaps leave it out of those classes; one that may be any costs nothing, means
are over all others, and its gradient is exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
from keras import ops

from model.params import Train
from model.training.partial import Codes, Partial

Loss = Callable[[Any, Any], Any]
_TINY = 1e-7
_LEAST = 1e-30
"""What a probability counts at least. At 1e-7, as Keras has it, the slope would end where a network
is surely wrong: one that a first step too far drove to background could not come back."""
_SMOOTH = 1.0  # one pixel: an empty class in an empty prediction costs nothing


def loss_of(
    wanted: Train, class_pixels: Sequence[int], codes: Codes | None = None
) -> keras.losses.Loss:
    """The loss that the parameters name; ``class_pixels``: pixels of each class in train.

    ``codes`` are those of the batches, where not every class is known.
    """
    losses: dict[str, Loss] = {
        "categorical_crossentropy": categorical_crossentropy,
        "weighted_ce": partial(weighted_ce, weights=inverse_frequency(class_pixels)),
        "focal": partial(focal, gamma=wanted.focal_gamma),
        "dice_ce": dice_ce,
        "dice": dice,
        "tversky": partial(tversky, alpha=wanted.tversky_alpha),
    }
    return _OfBatch(losses[wanted.loss], wanted.loss, codes)


class _OfBatch(keras.losses.Loss):  # type: ignore[misc]  # untyped library
    """One number for a whole batch, as Keras' own losses are: several replicas share it out."""

    def __init__(self, loss: Loss, name: str, codes: Codes | None) -> None:
        super().__init__(name=name)
        self._loss = loss
        self._table = codes.table if codes and codes.partial else None

    def call(self, y_true: Any, y_pred: Any) -> Any:
        truth = y_true if self._table is None else Partial.of(y_true, self._table)
        # a scalar would be each replica's own, and their sum too steep
        return ops.reshape(self._loss(truth, y_pred), (1,))


def categorical_crossentropy(ids: Any, probabilities: Any) -> Any:
    """Mean over all pixels of -log p(true class): the loss of the reference projects, from ids."""
    return _mean(ids, _entropy(ids, probabilities))


def weighted_ce(ids: Any, probabilities: Any, weights: Sequence[float]) -> Any:
    """Mean over all pixels of -w(true class) log p(true class).

    With w = 1 / (C f), f the class's share of all pixels, every class counts alike and the mean
    weight is 1 (the balanced weighting of King & Zeng, Political Analysis 9, 2001). What may be
    background has its weight.
    """
    table = ops.convert_to_tensor(weights, dtype="float32")
    of_class = ids.likely if isinstance(ids, Partial) else ops.cast(ids, "int32")
    return _mean(ids, ops.take(table, of_class) * _entropy(ids, probabilities))


def focal(ids: Any, probabilities: Any, gamma: float) -> Any:
    """Mean over all pixels of -(1 - p)^gamma log p, p of the true class (Lin et al., ICCV 2017)."""
    allowed = ids.allowed if isinstance(ids, Partial) else _one_hot(ids, probabilities)
    sure = ops.sum(allowed * probabilities, axis=-1)
    # not below a trifle: a power below 1 has no slope at 0
    unsure = ops.clip(1.0 - sure, _TINY, 1.0)
    return _mean(ids, unsure**gamma * _entropy(ids, probabilities))


def dice(ids: Any, probabilities: Any) -> Any:
    """1 - soft Dice, 2 sum(y p) / (sum(y) + sum(p)), mean over the foreground classes.

    Milletari et al., 3DV 2016, with plain instead of squared sums. It is Tversky's at 1/2.
    """
    return tversky(ids, probabilities, 0.5)


def dice_ce(ids: Any, probabilities: Any) -> Any:
    """Cross-entropy plus 1 - soft Dice, in equal parts (Isensee et al., Nat. Methods 2021)."""
    return categorical_crossentropy(ids, probabilities) + dice(ids, probabilities)


def tversky(ids: Any, probabilities: Any, alpha: float) -> Any:
    """1 - T, T = sum(y p) / (sum(y p) + a sum((1-y) p) + (1-a) sum(y (1-p))), a = alpha.

    Mean over the foreground classes (Salehi et al., MLMI 2017): an alpha below 1/2 fears missed
    pixels more than invented ones.
    """
    truth = _one_hot(ids, probabilities)[..., 1:]
    judged = probabilities * ids.judged if isinstance(ids, Partial) else probabilities
    guess = judged[..., 1:]
    axes = (0, 1, 2)
    both = ops.sum(truth * guess, axis=axes)
    invented = ops.sum(guess, axis=axes) - both
    missed = ops.sum(truth, axis=axes) - both
    half = _SMOOTH / 2  # so that alpha = 1/2 is (2 both + 1) / (truth + guess + 1)
    index = (both + half) / (both + alpha * invented + (1 - alpha) * missed + half)
    return 1 - ops.mean(index)


def inverse_frequency(class_pixels: Sequence[int]) -> list[float]:
    """1 / (C f) per class, f its share of all pixels; 0 for a class without any."""
    total, classes = sum(class_pixels), sum(count > 0 for count in class_pixels)
    return [total / (classes * count) if count else 0.0 for count in class_pixels]


def _mean(ids: Any, values: Any) -> Any:
    """The mean of what pixels cost (B, H, W), over those that may not be of any class at all."""
    if isinstance(ids, Partial):
        return ops.sum(ids.counts * values) / ops.maximum(ops.sum(ids.counts), 1.0)
    return ops.mean(values)


def _entropy(ids: Any, probabilities: Any) -> Any:
    """-log p(true class) of each pixel (B, H, W); of several possible classes, of their sum."""
    if isinstance(ids, Partial):
        marginal = ops.sum(ids.allowed * probabilities, axis=-1)
        return -ops.log(ops.clip(marginal, _LEAST, 1.0))
    logs = ops.log(ops.clip(probabilities, _LEAST, 1.0))
    return -ops.sum(_one_hot(ids, probabilities) * logs, axis=-1)


def _one_hot(ids: Any, probabilities: Any) -> Any:
    """(B, H, W, C), for the length of one step alone."""
    if isinstance(ids, Partial):
        return ids.drawn
    classes = probabilities.shape[-1]
    return ops.one_hot(ops.cast(ids, "int32"), classes, dtype=keras.backend.floatx())
