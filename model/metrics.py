"""The ancestors' metrics in NumPy, and the foreground Dice over an epoch in Keras for training."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray


def dice_coef_multiclass(
    ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The ancestors' metric of each picture (B,), from ids (B, H, W) and p (B, H, W, C).

    (2 sum(y p) + 1) / (sum(y) + sum(p) + 1) with sums over H, W and *all classes,
    background included*: soft pixel accuracy, printed for comparison only.
    """
    hit = np.take_along_axis(probabilities, ids[..., None].astype(np.intp), axis=-1)
    both = hit.sum(axis=(1, 2, 3), dtype=np.float64)
    total = ids[0].size + probabilities.sum(axis=(1, 2, 3), dtype=np.float64)
    scores: NDArray[np.float64] = (2 * both + 1) / (total + 1)
    return scores


def cross_entropy(
    ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The ancestors' loss of each picture (B,), from ids (B, H, W) and p (B, H, W, C).

    Mean over the pixels of -ln p of the true class, p kept above Keras' epsilon of 1e-7.
    """
    hit = np.take_along_axis(probabilities, ids[..., None].astype(np.intp), axis=-1)
    known = np.clip(hit.astype(np.float64), 1e-7, 1 - 1e-7)
    losses: NDArray[np.float64] = -np.log(known).mean(axis=(1, 2, 3))
    return losses


class ForegroundDice(keras.metrics.Metric):  # type: ignore[misc]  # untyped library
    """Mean Dice of the foreground classes, each over all pixels since the last reset."""

    def __init__(self, classes: int, name: str = "foreground_dice") -> None:
        super().__init__(name=name)
        self.classes = classes
        self.both = self.add_weight(shape=(classes,), initializer="zeros", name="both")
        self.total = self.add_weight(shape=(classes,), initializer="zeros", name="total")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count hard predictions of one batch: ids (B, H, W), probabilities (B, H, W, C)."""
        truth = ops.one_hot(ops.cast(y_true, "int32"), self.classes, dtype="float32")
        guess = ops.one_hot(ops.argmax(y_pred, axis=-1), self.classes, dtype="float32")
        axes = (0, 1, 2)
        self.both.assign_add(ops.sum(truth * guess, axis=axes))
        self.total.assign_add(ops.sum(truth, axis=axes) + ops.sum(guess, axis=axes))

    def result(self) -> Any:
        """The mean over the classes that occurred."""
        occurred = ops.cast(self.total[1:] > 0, "float32")
        dice = 2 * self.both[1:] / ops.maximum(self.total[1:], 1.0)
        return ops.sum(dice * occurred) / ops.maximum(ops.sum(occurred), 1.0)
