"""Overlap scores: per case in NumPy for evaluation, and over an epoch in Keras for training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

EMPTY_POLICY = (
    "a class that is neither in the truth nor in the prediction of a case has no score there"
    " (left out of means, counted apart); in only one of the two, it scores 0"
)


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one class in one case, and the scores that follow from them."""

    truth: int
    predicted: int
    both: int

    @property
    def dice(self) -> float:
        """2 |T and P| / (|T| + |P|); NaN if both are empty (Dice, Ecology 26, 1945)."""
        total = self.truth + self.predicted
        return 2 * self.both / total if total else math.nan

    @property
    def iou(self) -> float:
        """|T and P| / |T or P|; NaN if both are empty (Jaccard, 1912)."""
        union = self.truth + self.predicted - self.both
        return self.both / union if union else math.nan


def overlaps(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> list[Overlap]:
    """One :class:`Overlap` per class id, background included, of two label maps of one shape."""
    pairs = truth.ravel().astype(np.intp) * classes + predicted.ravel()
    table = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return [
        Overlap(int(table[c].sum()), int(table[:, c].sum()), int(table[c, c]))
        for c in range(classes)
    ]


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
