"""train: parameters -> batches -> model -> fit -> the best model, its history and its pictures."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import keras
import matplotlib
import numpy as np

import datasets_spec
from datasets_spec.contract import LabelMap, Problem
from model.batches import Batches
from model.flexunet import flexunet
from model.losses import LOSSES
from model.metrics import ForegroundDice
from model.predict import class_ids, probabilities
from pipeline import colors, manifest, params, paths
from pipeline.variants import Variants

matplotlib.use("Agg")
from matplotlib import pyplot


def train(dataset: str, settings: params.Params) -> None:
    """Train on ``data/dataset/<dataset>`` and fill ``runs/<dataset>``.

    Raises :class:`Problem` if a split is empty. The best model so far, by the monitor,
    is on disk after every epoch.
    """
    wanted = settings.train
    label_map = datasets_spec.load(dataset).dataset.label_map
    folder, run = paths.dataset(dataset), paths.run(dataset)
    keras.utils.set_random_seed(wanted.seed)

    pairs = manifest.read(folder)
    of_train, of_valid = (_of_split(pairs, split, folder) for split in ("train", "valid"))
    if wanted.augment == "online":
        of_train = [pair for pair in of_train if not pair.parent]
    learn = Batches(
        folder / "train",
        of_train,
        label_map,
        wanted.network,
        wanted.batch_pairs,
        wanted.seed,
        wanted.steps_per_epoch,
        None if wanted.augment == "offline" else Variants(dataset, settings.augment).fresh,
    )
    valid = Batches(folder / "valid", of_valid, label_map, wanted.network, wanted.batch_pairs)
    model = flexunet(wanted.network, len(label_map))
    model.compile(
        optimizer=keras.optimizers.Adam(wanted.learning_rate, clipvalue=wanted.clipvalue or None),
        loss=LOSSES[wanted.loss],
        metrics=[ForegroundDice(len(label_map))],
        # XLA made a step a third slower than TensorFlow's own graph on processors
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    print(
        f"train {dataset}: {model.count_params():,} parameters, backend {keras.backend.backend()}"
    )
    run.mkdir(parents=True, exist_ok=True)
    # not before all else is well; scores of an earlier model would stand beside this one
    for name in (paths.MODEL, paths.HISTORY, paths.CURVES, *paths.SCORED):
        (run / name).unlink(missing_ok=True)
    shutil.rmtree(run / paths.PREDICTIONS, ignore_errors=True)
    mode = "min" if wanted.monitor == "val_loss" else "max"
    model.fit(
        learn,
        validation_data=valid,
        epochs=wanted.epochs,
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                run / paths.MODEL, monitor=wanted.monitor, mode=mode, save_best_only=True
            ),
            keras.callbacks.ReduceLROnPlateau(
                monitor=wanted.monitor,
                mode=mode,
                factor=wanted.reducer_factor,
                patience=wanted.reducer_patience,
            ),
            keras.callbacks.CSVLogger(run / paths.HISTORY),  # after what adds the learning rate
            keras.callbacks.EarlyStopping(
                monitor=wanted.monitor, mode=mode, patience=wanted.early_stopping_patience
            ),
            EpochChange(folder, run / paths.EPOCH_CHANGE, label_map, wanted),
        ],
    )
    draw_curves(run)


class EpochChange(keras.callbacks.Callback):  # type: ignore[misc]  # untyped library
    """After every epoch, the masks that the network now gives mini_test's pictures.

    They are for looking at; no decision of the training uses them.
    """

    def __init__(self, folder: Path, target: Path, label_map: LabelMap, wanted: params.Train):
        super().__init__()
        files = sorted((folder / paths.MINI_TEST / paths.IMAGES).glob("*.png"))
        self._files = files[: wanted.epoch_change_pictures]
        self._target, self._label_map, self._network = target, label_map, wanted.network
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write ``epoch_<number>/<picture>.png``, counted from 1."""
        if not self._files:
            return
        pictures = [colors.read_image(file) for file in self._files]
        predicted = probabilities(self.model, pictures, self._network)
        for file, picture, probability in zip(self._files, pictures, predicted, strict=True):
            ids = class_ids(probability, len(picture))
            target = self._target / f"epoch_{epoch + 1:03d}" / file.name
            colors.write_mask(target, ids, self._label_map)


def draw_curves(run: Path) -> None:
    """``history.csv`` -> ``curves.png``: the loss and the foreground Dice over the epochs."""
    with (run / paths.HISTORY).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    epochs = np.arange(1, len(rows) + 1)
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, name in zip(axes, ("loss", "foreground_dice"), strict=True):
        for prefix, style in (("", "-"), ("val_", "--")):
            values = [float(row[prefix + name]) for row in rows]
            axis.plot(epochs, values, style, label="valid" if prefix else "train")
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        axis.grid(alpha=0.3)
        axis.legend()
    axes[1].set_ylim(0, 1)
    figure.savefig(run / paths.CURVES, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _of_split(pairs: list[manifest.Pair], split: str, folder: Path) -> list[manifest.Pair]:
    members = [pair for pair in pairs if pair.split == split]
    if not members:
        raise Problem(
            f"expected pairs of the split {split!r}, found none",
            where=folder,
            remedy="Check split.empty_slices and that the patients have labels.",
        )
    return members
