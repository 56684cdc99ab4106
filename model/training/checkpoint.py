"""Where a training stands after an epoch: enough to go on as if it had never been stopped.

``runs/<dataset>/checkpoint`` is the trainer's own place. DVC does not know it (.dvcignore), so it
outlives DVC's removal of a stage's outputs, which are copied from it after every epoch:

    last.keras              the network after the last epoch; with it in one archive, so that they
                            cannot disagree, training/*.npy (the coarser heads, the optimizer)
                            and training.json (this module's :class:`State`)
    best.keras              the network after the best epoch: what becomes model.keras
    epoch_change_infer/     the pictures of every epoch
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from model import provenance
from model.params import Train
from pipeline import paths
from pipeline.runtime import files, modelfile

_ARRAY, _STATE = "training/{:04d}.npy", "training.json"
_MIN_GAIN = 1e-4  # what the plateau takes for one, as Keras' ReduceLROnPlateau does
# what may change without making another training of it; of the first two, see `earlier`
_FREE = ("epochs", "epoch_change_pictures", "tensorboard", "dvclive")
# what the dataset's digest or the code's stands for
_TOLD = ("convert", "split", "project")


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


def folder(dataset: str) -> Path:
    """The trainer's own place."""
    return paths.run(dataset) / "checkpoint"


def ingredients(said: dict[str, Any], wanted: Train) -> dict[str, Any]:
    """What a training follows from; another of these is another training."""
    free = [name for name in _FREE if name != "epochs" or wanted.schedule != "cosine"]
    train = {key: value for key, value in said["train"].items() if key not in free}
    network = train.pop("network")
    mixed: dict[str, Any] = {f"train.{key}": value for key, value in train.items()}
    mixed |= {f"train.network.{key}": value for key, value in network.items()}
    mixed |= {key: value for key, value in said.items() if key not in ("train", "packages", *_TOLD)}
    if said["augment"]["mode"] == "offline":  # then its variants are pairs, and so in the digest
        mixed["augment"] = {"mode": "offline"}
    mixed |= said["packages"]
    return dict(json.loads(json.dumps(mixed)))  # tuples are lists, as in what comes back


def save(
    place: Path, state: State, model: keras.Model, network: keras.Model, said: dict[str, Any]
) -> None:
    """Write ``last.keras`` at once or not at all."""
    said = said | {"epoch": state.epochs}
    with provenance.writing(network, place / "last.keras", said) as archive:
        provenance.add(archive, _STATE, json.dumps(asdict(state)))
        for number, variable in enumerate(_beside(model, network)):
            with archive.open(_ARRAY.format(number), "w", force_zip64=True) as stream:
                np.save(stream, keras.ops.convert_to_numpy(variable))


def save_best(place: Path, state: State, network: keras.Model, said: dict[str, Any]) -> None:
    """Write ``best.keras`` at once or not at all."""
    with provenance.writing(network, place / "best.keras", said | {"epoch": state.epochs}):
        pass


def earlier(
    place: Path, made_from: dict[str, Any], epochs: int, pictures: Sequence[str]
) -> State | None:
    """The state of a training whose first ``epochs`` epochs are those of a new one, or None.

    It may have more epochs, of which only the first count then: the schedule does not look ahead
    (where it does, ``epochs`` is an ingredient). That needs the best of them, and the drawn
    ``pictures``; where one of these or an ingredient is another, the reason is printed, and the
    earlier training is left where it is until the new one has its first epoch.
    """
    last = place / "last.keras"
    if not last.is_file():
        return None
    try:
        for file in (last, place / "best.keras"):
            modelfile.require_whole(file)
        with zipfile.ZipFile(last) as archive:
            content = json.loads(archive.read(_STATE))
        state = State(**{one.name: content[one.name] for one in fields(State)})
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        print(f"  the checkpoint in {place} cannot be read ({error}): beginning anew")
        return None
    names = sorted(made_from | state.made_from)
    other = [key for key in names if made_from.get(key) != state.made_from.get(key)]
    if other:
        print(f"  the checkpoint in {place} is of other {', '.join(other)}: beginning anew")
        return None
    if state.best_epoch > epochs:
        print(
            f"  the checkpoint in {place} has {state.epochs} epochs and keeps the best of them,"
            f" {state.best_epoch}, not that of the first {epochs} (train.epochs): beginning anew"
        )
        return None
    missing = sorted(set(pictures) - set(state.pictures))
    if missing:
        print(
            f"  the checkpoint in {place} has no pictures of {missing[0]} after every epoch"
            " (train.epoch_change_pictures, split.mini_test): beginning anew"
        )
        return None
    state.pictures = list(pictures)  # later epochs draw these alone
    return state


def restore(place: Path, model: keras.Model, network: keras.Model) -> None:
    """Bring the weights and the optimizer to where :func:`save` left them."""
    network.load_weights(place / "last.keras")
    with zipfile.ZipFile(place / "last.keras") as archive:
        for number, variable in enumerate(_beside(model, network)):
            with archive.open(_ARRAY.format(number)) as stream:
                variable.assign(np.load(stream))


def publish(place: Path, run: Path, state: State, epochs: int) -> None:
    """Let the outputs be those of the checkpoint's first ``epochs``, whatever lies there."""
    _link(place / "best.keras", run / paths.MODEL)
    for number in range(1, min(epochs, state.epochs) + 1):
        for name in state.pictures:
            file = paths.epoch_change(place, number) / name
            target = paths.epoch_change(run, number) / name
            if file.exists() and not target.exists():  # several devices draw none
                _link(file, target)


def _beside(model: keras.Model, network: keras.Model) -> list[Any]:
    """The variables that the network's own file does not hold: coarser heads and optimizer."""
    own = {id(variable) for variable in network.weights}
    heads = [variable for variable in model.weights if id(variable) not in own]
    return [*heads, *model.optimizer.variables]


def _link(source: Path, target: Path) -> None:
    """Hard link, or copy where the file system has none; replaces ``target`` at once."""
    files.beside(target).unlink(missing_ok=True)  # of a run that was killed
    with files.replacing(target) as unfinished:
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
