"""A training on disk after each epoch: enough to resume as if it had never been stopped.

``runs/<dataset>/checkpoint`` is the trainer's own place; that of a member lies in the member's
folder. DVC does not know it (.dvcignore), so it outlives DVC's removal of a stage's outputs, which
are copied from it after every epoch:

    last.keras              the network after the last epoch; with it in one archive, so that they
                            cannot disagree, training/*.npy (the optimizer) and training.json
                            (:class:`~model.training.state.State`)
    best.keras              the network after the best epoch: what becomes model.keras
    epoch_change_infer/     the pictures of every epoch
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import keras
import numpy as np

from model import provenance
from model.params import Train
from model.training.state import State
from pipeline import paths
from pipeline.runtime import files, modelfile

_LOG = logging.getLogger(__name__)
_ARRAY, _STATE = "training/{:04d}.npy", "training.json"
# what may change without making another training of it; of the first two, see `earlier`
_FREE = (
    *("epochs", "epoch_change_pictures", "tensorboard", "dvclive"),
    *("postprocess", "mirrors", "calibrate"),
)
# what the dataset's digest or the code's stands for, and what moves no weight
_IMPLIED = ("convert", "split", "project", "plane", "meanings", "scans")
_OF_ROWS = ("empty_slices", "seed", "share_of", "strata")  # leaves of split that deal slices


def folder(run: Path) -> Path:
    """The trainer's own place in the folder of a run."""
    return run / "checkpoint"


def ingredients(origin: dict[str, Any], wanted: Train) -> dict[str, Any]:
    """What a training follows from, of its provenance; if one differs, so does the training."""
    free = [name for name in _FREE if name != "epochs" or wanted.schedule != "cosine"]
    train = {key: value for key, value in origin["train"].items() if key not in free}
    network = train.pop("network")
    mixed: dict[str, Any] = {f"train.{key}": value for key, value in train.items()}
    mixed |= {f"train.network.{key}": value for key, value in network.items()}
    apart = ("train", "packages", *_IMPLIED)
    mixed |= {key: value for key, value in origin.items() if key not in apart}
    if origin["augment"]["mode"] == "offline":  # then its variants are pairs, and so in the digest
        mixed["augment"] = {"mode": "offline"}
    if origin["train"].get("source") == "scans":  # whose slices a split's digest does not hold
        mixed |= {"plane": origin["plane"]}
        mixed |= {f"split.{name}": origin["split"][name] for name in _OF_ROWS}
    mixed |= origin["packages"]
    return dict(json.loads(json.dumps(mixed)))  # tuples are lists, as in what comes back


def save(
    place: Path, state: State, model: keras.Model, network: keras.Model, origin: dict[str, Any]
) -> None:
    """Write ``last.keras`` at once or not at all."""
    origin = origin | {"epoch": state.epochs}
    with provenance.writing(network, place / "last.keras", origin) as archive:
        provenance.add(archive, _STATE, json.dumps(asdict(state)))
        for number, variable in enumerate(model.optimizer.variables):
            with archive.open(_ARRAY.format(number), "w", force_zip64=True) as stream:
                np.save(stream, keras.ops.convert_to_numpy(variable))


def save_best(place: Path, state: State, network: keras.Model, origin: dict[str, Any]) -> None:
    """Write ``best.keras`` at once or not at all."""
    with provenance.writing(network, place / "best.keras", origin | {"epoch": state.epochs}):
        pass


def earlier(
    place: Path, made_from: dict[str, Any], epochs: int, pictures: Sequence[str]
) -> State | None:
    """The state of a training whose first ``epochs`` epochs are those of a new one, or None.

    It may have more epochs, of which only the first count then: the schedule does not look ahead
    (where it does, ``epochs`` is an ingredient). That needs the best of them, and the drawn
    ``pictures``. Where one of these is missing or an ingredient differs, a message says so, and the
    earlier training is left where it is until the new one has its first epoch.
    """
    if not (place / "last.keras").is_file():
        return None
    try:
        state = _read(place)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        _LOG.info("  the checkpoint in %s cannot be read (%s): starting over", place, error)
        return None
    if reason := _unfit(state, made_from, epochs, pictures):
        _LOG.info("  the checkpoint in %s %s: starting over", place, reason)
        return None
    state.pictures = list(pictures)  # later epochs draw these alone
    return state


def _read(place: Path) -> State:
    """The state in ``last.keras``; raises where it or ``best.keras`` is damaged."""
    for name in ("last.keras", "best.keras"):
        modelfile.require_whole(place / name)
    with zipfile.ZipFile(place / "last.keras") as archive:
        content = json.loads(archive.read(_STATE))
    return State(**{one.name: content[one.name] for one in fields(State)})


def _unfit(state: State, made_from: dict[str, Any], epochs: int, pictures: Sequence[str]) -> str:
    """Why a training of ``epochs`` epochs cannot resume from ``state``; "" where it can."""
    names = sorted(made_from | state.made_from)
    other = [key for key in names if made_from.get(key) != state.made_from.get(key)]
    if other:
        return f"was made with a different {', '.join(other)}"
    if state.best_epoch > epochs:
        return (
            f"has {state.epochs} epochs and keeps the best of them, {state.best_epoch}, not that"
            f" of the first {epochs} (train.epochs)"
        )
    if missing := sorted(set(pictures) - set(state.pictures)):
        return (
            f"has no pictures of {missing[0]} after every epoch (train.epoch_change_pictures,"
            " split.mini_test)"
        )
    return ""


def restore(place: Path, model: keras.Model, network: keras.Model) -> None:
    """Bring the weights and the optimizer to where :func:`save` left them."""
    network.load_weights(place / "last.keras")
    with zipfile.ZipFile(place / "last.keras") as archive:
        for number, variable in enumerate(model.optimizer.variables):
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


def _link(source: Path, target: Path) -> None:
    """Hard link, or copy where the file system has none; replaces ``target`` at once."""
    files.beside(target).unlink(missing_ok=True)  # of a run that was killed
    with files.replacing(target) as unfinished:
        try:
            os.link(source, unfinished)
        except OSError:
            shutil.copyfile(source, unfinished)
