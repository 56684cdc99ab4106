"""What one looks at while it trains: time left, curves, epochs' pictures, TensorBoard, DVCLive."""

from __future__ import annotations

import csv
import functools
import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import matplotlib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets_spec.contract import LabelMap, Problem
from model.inference import keras_file, tiles
from model.inference.mirrors import Run
from model.inference.sampling import Sampler, class_ids
from model.network_input import model_input
from model.params import Train
from model.training.fit import Row
from model.training.slices import KeptSlices
from pipeline import paths
from pipeline.pairs import manifest, png
from pipeline.pairs.canvas import Canvas
from pipeline.runtime import files as runtime_files
from pipeline.volumes import volume

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import MaxNLocator

_LOG = logging.getLogger(__name__)
Logger = Callable[[int, Row], None]


class TimeLeft(keras.callbacks.Callback):  # type: ignore[misc]  # untyped library
    """One bar over all steps of all epochs, on a terminal; early stopping can only shorten it."""

    def __init__(self, title: str, epochs: int, steps: int, done: int) -> None:
        super().__init__()
        self.bar = tqdm(
            desc=title,
            total=epochs * steps,
            initial=done * steps,
            unit="step",
            disable=None,
            leave=False,
        )

    def on_train_batch_end(self, batch: int, logs: Row | None = None) -> None:
        """A step is done."""
        self.bar.update()

    def show(self, epoch: int, logs: Row, monitor: str, seconds: float) -> None:
        """One line of an epoch, counted from 1."""
        shown = dict.fromkeys(["loss", "val_loss", "val_foreground_dice", monitor])
        scores = ", ".join(f"{name} {logs[name]:.4f}" for name in shown)
        with self.bar.external_write_mode():
            _LOG.info("  epoch %d: %s, %.1f s", epoch, scores, seconds)


class EpochChange:
    """The masks that the network gives mini_test's pictures, epoch by epoch.

    They are for looking at; no decision of the training uses them. A network that learns from
    ``scans`` is asked about slices of these.
    """

    def __init__(
        self,
        folder: Path,
        target: Path,
        label_map: LabelMap,
        wanted: Train,
        scans: KeptSlices | None = None,
    ):
        files = sorted((folder / paths.MINI_TEST / paths.IMAGES).glob("*.png"))
        self._files = files[: wanted.epoch_change_pictures]
        self._target, self._label_map, self._network = target, label_map, wanted.network
        self._folder, self._scans = folder, scans

    @property
    def names(self) -> list[str]:
        """The pictures' file names."""
        return [file.name for file in self._files]

    def draw(self, model: keras.Model, epoch: int) -> None:
        """Write ``epoch_<number>/<picture>.png`` below the target's, counted from 1."""
        if not self._files:
            return
        run = keras_file.runner(model)
        drawn = self._of_scans(run, self._scans) if self._scans else self._of_pictures(run)
        for file, ids in zip(self._files, drawn, strict=True):
            target = paths.epoch_change(self._target, epoch) / file.name
            png.write_mask(target, ids, self._label_map)

    def _of_pictures(self, run: Run) -> Iterator[NDArray[np.uint8]]:
        pictures = [png.read_image(file, self._network.channels) for file in self._files]
        seen = model_input(pictures, self._network)
        predicted = tiles.asked(run, seen, self._network.image_px)
        for picture, probability in zip(pictures, predicted, strict=True):
            own = Canvas.fit((len(picture), len(picture)), (1.0, 1.0), len(picture))
            yield class_ids(Sampler.of(own, len(probability))(probability))

    def _of_scans(self, run: Run, scans: KeptSlices) -> Iterator[NDArray[np.uint8]]:
        """A picture of another plane shows all slices of its case: each is a row of it."""
        rows = {pair.id: pair for pair in manifest.read(self._folder)}
        for file in self._files:
            pair = rows[file.stem]
            views = scans.views(pair)
            own = scans.plane == pair.plane
            asked = [pair.slice_index] if own else list(range(len(views)))
            stack = np.zeros(views.stack.shape, np.uint8)
            sampler = Sampler.of(views.canvas, self._network.whole_px)
            step = tiles.at_once(self._network.whole_px)
            for some in (asked[start : start + step] for start in range(0, len(asked), step)):
                seen = model_input([views.picture(index) for index in some], self._network)
                predicted = tiles.asked(run, seen, self._network.image_px)
                for index, probability in zip(some, predicted, strict=True):
                    stack[index] = class_ids(sampler(probability))
            whole = volume.slices(volume.unslice(stack, scans.plane), pair.plane)
            yield Canvas.of(pair.canvas).labels(whole[pair.slice_index])


def loggers(wanted: Train, run: Path) -> dict[Path, Logger]:
    """What takes in the scores of an epoch (counted from 1) besides ``history.csv``, by folder.

    A folder is made when the first epoch is taken in. Raises :class:`Problem` where one is asked
    for that is not installed.
    """
    found: dict[Path, Logger] = {}
    for package, make in LOGGERS.items():
        if not getattr(wanted, package):
            continue
        if importlib.util.find_spec(package) is None:
            raise Problem(
                f"expected the package {package}, found none",
                where=f"train.{package}",
                remedy=f"Run: pip install {package}; or set the parameter to false.",
            )
        found[run / package] = _Late(make, run / package)
    return found


class _Late:
    """A logger that is made when it is first called."""

    def __init__(self, make: Callable[[Path], Logger], folder: Path) -> None:
        self._made = functools.cache(lambda: make(folder))

    def __call__(self, epoch: int, row: Row) -> None:
        self._made()(epoch, row)


def _tensorboard(folder: Path) -> Logger:
    board = keras.callbacks.TensorBoard(folder, write_graph=False)
    stand_in = keras.Sequential([keras.Input((1,))])
    stand_in.compile("sgd")  # the board asks its optimizer for the learning rate
    board.set_model(stand_in)

    def log(epoch: int, row: Row) -> None:
        stand_in.optimizer.learning_rate = row["learning_rate"]
        board.on_epoch_end(epoch, row)

    return log


def _dvclive(folder: Path) -> Logger:
    import dvclive

    live = dvclive.Live(str(folder), resume=True, save_dvc_exp=False, dvcyaml=None, report=None)

    def log(epoch: int, row: Row) -> None:
        live.step = epoch
        for name, value in row.items():
            live.log_metric(name, value)
        live.make_summary()

    return log


LOGGERS = {"tensorboard": _tensorboard, "dvclive": _dvclive}
"""By the name of their parameter, package and folder."""


def write_history(file: Path, history: Sequence[Row]) -> None:
    """One row per epoch, counted from 0."""
    with (
        runtime_files.replacing(file) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def draw_curves(file: Path, history: Sequence[Row]) -> None:
    """The loss and the foreground Dice over the epochs, as a picture."""
    epochs = range(1, len(history) + 1)
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, name in zip(axes, ("loss", "foreground_dice"), strict=True):
        for prefix, style in (("", "-"), ("val_", "--")):
            values = [row[prefix + name] for row in history]
            label, marker = "valid" if prefix else "train", "" if history[1:] else "o"
            axis.plot(epochs, values, style, label=label, marker=marker)
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(alpha=0.3)
        axis.legend()
    axes[1].set_ylim(0, 1)
    with runtime_files.replacing(file) as unfinished:
        figure.savefig(unfinished, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
