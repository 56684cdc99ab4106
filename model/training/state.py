"""How far a training is: what decides its best epoch, its learning rate and its end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from model.params import Train

_MIN_GAIN = 1e-4  # what the plateau takes for one, as Keras' ReduceLROnPlateau does


@dataclass
class State:
    """Counts of epochs, what the callbacks of a plain ``fit`` would remember, and the history.

    ``made_from`` is all that the outcome follows from. ``gain`` values are the monitor's, turned
    so that more is better. ``pictures`` are the names of the pictures of mini_test that were
    drawn after every epoch.
    """

    made_from: dict[str, Any]
    precision: str
    learning_rate: float
    epochs: int = 0
    best_gain: float = -math.inf
    best_epoch: int = 0
    since_best: int = 0
    plateau_gain: float = -math.inf
    since_plateau: int = 0
    stopped: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    def count(self, logs: dict[str, float], wanted: Train) -> bool:
        """Take in one more epoch; returns whether it is the best.

        Best, early stopping and plateau are those of Keras' ModelCheckpoint, EarlyStopping and
        ReduceLROnPlateau. A monitor that is not a number is no gain; the first epoch is the best.
        """
        gain = logs[wanted.monitor] * (-1 if wanted.monitor == "val_loss" else 1)
        gain = -math.inf if math.isnan(gain) else gain
        self.history.append({"epoch": self.epochs, **logs, "learning_rate": self.learning_rate})
        self.epochs += 1
        self.since_best += 1
        if best := gain > self.best_gain or not self.best_epoch:
            self.best_gain, self.best_epoch, self.since_best = gain, self.epochs, 0
        self.stopped = self.since_best >= wanted.early_stopping_patience
        self.since_plateau += 1
        if gain > self.plateau_gain + _MIN_GAIN:
            self.plateau_gain, self.since_plateau = gain, 0
        elif self.since_plateau >= wanted.reducer_patience and wanted.schedule == "plateau":
            self.learning_rate *= wanted.reducer_factor
            self.since_plateau = 0
        if wanted.schedule == "cosine":  # Loshchilov & Hutter, ICLR 2017, without restarts
            done = self.epochs / wanted.epochs
            self.learning_rate = wanted.learning_rate * (1 + math.cos(math.pi * done)) / 2
        return best

    def finished(self, wanted: Train) -> bool:
        """Whether there is nothing left to train."""
        return self.stopped or self.epochs >= wanted.epochs
