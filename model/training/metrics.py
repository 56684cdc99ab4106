"""Overlaps over an epoch in Keras, for training."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from datasets_spec.contract import LabelMap
from model.training.partial import Codes, Partial


class Scores(keras.metrics.Metric):  # type: ignore[misc]  # untyped library
    """Overlap of the likeliest classes with the truth, each over all pixels since the last reset.

    Gives foreground_dice and foreground_iou (means over the foreground classes that occurred),
    dice_<class> and iou_<class>, and dice_coef_multiclass as the reference projects define it.
    ``codes`` are those of the batches: a pixel that may be of several classes is left out of
    these, and one that may be any of everything.
    """

    def __init__(
        self, label_map: LabelMap, name: str = "scores", codes: Codes | None = None
    ) -> None:
        super().__init__(name=name)
        self._table = codes.table if codes and codes.partial else None
        self.names = [label.name for label in label_map]
        shape = (len(label_map),)
        self.both = self.add_weight(shape=shape, initializer="zeros", name="both")
        self.truth = self.add_weight(shape=shape, initializer="zeros", name="truth")
        self.guess = self.add_weight(shape=shape, initializer="zeros", name="guess")
        self.soft = self.add_weight(shape=(2,), initializer="zeros", name="soft")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch: ids (B, H, W), probabilities (B, H, W, C)."""
        classes, axes = len(self.names), (0, 1, 2)
        guess = ops.one_hot(ops.argmax(y_pred, axis=-1), classes, dtype="float32")
        if self._table is not None:
            self._update_partial(Partial.of(y_true, self._table), guess, y_pred)
            return
        truth = ops.one_hot(ops.cast(y_true, "int32"), classes, dtype="float32")
        self.both.assign_add(ops.sum(truth * guess, axis=axes))
        self.truth.assign_add(ops.sum(truth, axis=axes))
        self.guess.assign_add(ops.sum(guess, axis=axes))
        both = ops.sum(truth * y_pred, axis=(1, 2, 3))
        total = ops.sum(truth, axis=(1, 2, 3)) + ops.sum(y_pred, axis=(1, 2, 3))
        soft = (2 * both + 1) / (total + 1)
        self.soft.assign_add(ops.stack([ops.sum(soft), ops.sum(ops.ones_like(soft))]))

    def _update_partial(self, truth: Partial, guess: Any, y_pred: Any) -> None:
        """Count a batch of which not every class is known; ``guess``: the likeliest class."""
        axes, judged = (0, 1, 2), guess * truth.judged
        self.both.assign_add(ops.sum(truth.drawn * judged, axis=axes))
        self.truth.assign_add(ops.sum(truth.drawn, axis=axes))
        self.guess.assign_add(ops.sum(judged, axis=axes))
        hit = truth.counts * ops.sum(truth.allowed * y_pred, axis=-1)
        all_of_it = truth.counts * ops.sum(y_pred, axis=-1)
        pixels = ops.sum(truth.counts, axis=(1, 2))
        soft = (2 * ops.sum(hit, axis=(1, 2)) + 1) / (pixels + ops.sum(all_of_it, axis=(1, 2)) + 1)
        known = ops.cast(pixels > 0, "float32")
        self.soft.assign_add(ops.stack([ops.sum(soft * known), ops.sum(known)]))

    def result(self) -> dict[str, Any]:
        """All scores by name; a class that never occurred scores 0."""
        total = self.truth + self.guess
        dice = 2 * self.both / ops.maximum(total, 1.0)
        iou = self.both / ops.maximum(total - self.both, 1.0)
        occurred = ops.cast(total[1:] > 0, "float32")
        known = ops.maximum(ops.sum(occurred), 1.0)
        scores = {
            "foreground_dice": ops.sum(dice[1:] * occurred) / known,
            "foreground_iou": ops.sum(iou[1:] * occurred) / known,
            "dice_coef_multiclass": self.soft[0] / ops.maximum(self.soft[1], 1.0),
        }
        for label, name in enumerate(self.names[1:], 1):
            scores |= {f"dice_{name}": dice[label], f"iou_{name}": iou[label]}
        return scores
