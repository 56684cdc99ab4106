"""Losses between class ids (B, H, W) and class probabilities (B, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

_TINY = 1e-7


def categorical_crossentropy(ids: Any, probabilities: Any) -> Any:
    """Mean over all pixels of -log p(true class): the ancestors' loss, from ids."""
    truth = _one_hot(ids, probabilities)
    logs = ops.log(ops.clip(probabilities, _TINY, 1.0))
    return -ops.mean(ops.sum(truth * logs, axis=-1))


def dice_ce(ids: Any, probabilities: Any) -> Any:
    """Cross-entropy plus 1 - soft Dice, in equal parts (Isensee et al., Nat. Methods 2021).

    Soft Dice of class c is 2 sum(y p) / (sum(y) + sum(p)) with sums over the pixels of
    the whole batch; its mean is over the foreground classes.
    """
    truth = _one_hot(ids, probabilities)[..., 1:]
    guess = probabilities[..., 1:]
    both = ops.sum(truth * guess, axis=(0, 1, 2))
    total = ops.sum(truth, axis=(0, 1, 2)) + ops.sum(guess, axis=(0, 1, 2))
    dice = ops.mean((2 * both + 1) / (total + 1))
    return categorical_crossentropy(ids, probabilities) + 1 - dice


LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "categorical_crossentropy": categorical_crossentropy,
    "dice_ce": dice_ce,
}


def _one_hot(ids: Any, probabilities: Any) -> Any:
    classes = probabilities.shape[-1]
    return ops.one_hot(ops.cast(ids, "int32"), classes, dtype=keras.backend.floatx())
