"""train: parameters -> batches -> model -> epochs -> the best model, its history, its pictures.

A run that was stopped resumes after its last finished epoch, and ends as it would have: order,
dropout and learning rate follow from the seed, the epoch and the scores so far.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

import datasets_spec
from datasets_spec.contract import Dataset, LabelMap, Problem
from model import params, provenance
from model.inference import familiarity
from model.inference.facts import Facts
from model.params import Train
from model.scoring import choose
from model.training import checkpoint, devices, fit, precision, slices, watch
from model.training.devices import Share
from model.training.fit import Fitting
from model.training.partial import Codes
from model.training.slices import Slices
from model.training.state import State
from pipeline import paths
from pipeline.pairs.manifest import Pair
from pipeline.pairs.variants import Variants
from pipeline.runtime import locks, modelfile

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Run:
    """What all steps of a training need: where it writes, who looks at it, what it is made from.

    ``name`` is the dataset's or the member's, ``folder`` is ``runs/<dataset>`` or, of a member,
    ``runs/<dataset>/members/<member>``, and ``place`` the checkpoint's folder in it.
    """

    name: str
    dataset: str
    wanted: Train
    share: Share
    folder: Path
    place: Path
    loggers: dict[Path, watch.Logger]
    pictures: watch.EpochChange
    origin: dict[str, Any]


def train(dataset: str, settings: params.Params, member: str = "") -> None:
    """Train on ``data/dataset/<dataset>`` and fill ``runs/<dataset>``, or the folder of a member.

    Raises :class:`Problem` if a split is empty, what was asked for is not installed, or the
    loss is no number any more, and at once if another run fills the folder.
    """
    share = devices.join(settings.train.batch_pairs)
    folder = paths.member(dataset, member) if member else paths.run(dataset)
    with locks.alone(folder) if share.leads else nullcontext():
        _train(dataset, settings, member, folder, share)


def _train(dataset: str, settings: params.Params, member: str, folder: Path, share: Share) -> None:
    facts, data = datasets_spec.load(dataset).dataset, paths.dataset(dataset)
    loggers = watch.loggers(settings.train, folder) if share.leads else {}
    seen = slices.of(dataset, facts, settings)
    _require_foreground(seen.train, seen.valid, facts.label_map, settings.train, data)
    of_train = _without_variants(seen.train, settings)
    run = _run(dataset, facts, settings, member, folder, share, loggers, seen)
    run.origin["scans"] = familiarity.known((pair.patient, pair.profile) for pair in of_train)
    judged = [pair for pair in seen.valid if not pair.unannotated]
    online = None
    if settings.augment.mode != "offline":
        online = Variants(dataset, settings.augment, image_px=settings.convert.image_px).fresh
    codes = Codes.of([*of_train, *judged], len(facts.label_map))
    learn, valid = fit.batches(
        data,
        of_train,
        judged,
        facts.label_map,
        run.wanted,
        online,
        share,
        run.folder,
        codes,
        seen.read,
    )
    state, resumes = _state(run, len(facts.label_map))
    pixels = np.sum([pair.class_pixels for pair in of_train], axis=0).tolist()
    fitting = fit.compiled(
        learn, valid, facts.label_map, pixels, run.wanted, state.precision, share, codes
    )
    if resumes:
        with share.scope():
            checkpoint.restore(run.place, fitting.model, fitting.network)
    _announce(run, state, fitting, resumes)
    if share.leads and resumes:
        _clear(run, resumes=True, finished=state.finished(run.wanted))
        provenance.renew(run.place / "best.keras", run.origin | {"epoch": state.best_epoch})
        _catch_up(run, state)
    _epochs(run, state, fitting)
    share.leave()
    if share.leads:
        _publish(run, state)  # also when nothing was left to train
        _choose(run, seen.cases, settings)
        score = state.history[state.best_epoch - 1][run.wanted.monitor]
        _LOG.info(
            "train %s: kept epoch %d (%s %.4f): %s",
            run.name,
            state.best_epoch,
            run.wanted.monitor,
            score,
            run.folder / paths.MODEL,
        )


def _run(
    dataset: str,
    facts: Dataset,
    settings: params.Params,
    member: str,
    folder: Path,
    share: Share,
    loggers: dict[Path, watch.Logger],
    seen: Slices,
) -> _Run:
    place = checkpoint.folder(folder)
    shown = (paths.dataset(dataset), place, facts.label_map, settings.train, seen.read)
    pictures = watch.EpochChange(*shown)
    origin = provenance.of(dataset, facts, settings)
    name = member or dataset
    return _Run(name, dataset, settings.train, share, folder, place, loggers, pictures, origin)


def _without_variants(of_train: list[Pair], settings: params.Params) -> list[Pair]:
    """The pairs to learn from: online, variants on disk are left out."""
    if settings.augment.mode != "online":
        return of_train
    return [pair for pair in of_train if not pair.parent]


def _state(run: _Run, classes: int) -> tuple[State, bool]:
    """Where an earlier run of the same ingredients stood, or a beginning; and which of them."""
    made_from = checkpoint.ingredients(run.origin, run.wanted)
    state = checkpoint.earlier(run.place, made_from, run.wanted.epochs, run.pictures.names)
    resumes = state is not None
    run.share.require_same(made_from | {"checkpoint": state.epochs if state else 0})
    if state is None:
        form = precision.chosen(run.wanted, classes, run.share)
        state = State(made_from, form, run.wanted.learning_rate, pictures=run.pictures.names)
    run.origin["precision"] = state.precision
    return state, resumes


def _announce(run: _Run, state: State, fitting: Fitting, resumes: bool) -> None:
    """Say what is trained, from where on, and which parameters do not do what one may expect."""
    wanted, steps = run.wanted, len(fitting.learn)
    start = f"resumes after epoch {state.epochs}" if resumes else "starts"
    if state.finished(wanted):
        start = f"{state.epochs} epochs are done already, nothing is left to train"
        if state.epochs > wanted.epochs:
            start += f"; the outputs are those of the first {wanted.epochs}"
    _LOG.info(
        "train %s: %s parameters, %s, %s; %s",
        run.name,
        f"{fitting.network.count_params():,}",
        run.origin["packages"]["backend"],
        state.precision,
        start,
    )
    if wanted.accumulate_batches > steps:
        _LOG.info(
            "  accumulate_batches %d is more than the %d steps of an epoch: some epochs change no"
            " weight",
            wanted.accumulate_batches,
            steps,
        )


def _epochs(run: _Run, state: State, fitting: Fitting) -> None:
    """Train until ``state`` is finished, and keep every epoch."""
    wanted, kept = run.wanted, state.epochs
    network = fit.copied(fitting.network, run.share)
    progress = watch.TimeLeft(f"train {run.name}", wanted.epochs, len(fitting.learn), state.epochs)
    try:
        while not state.finished(wanted):
            start = time.monotonic()
            logs = fit.learn_epoch(fitting, state, [progress])
            logs |= fit.judge_epoch(fitting)
            best = state.count(logs, wanted)
            if run.share.leads:
                _keep_judged(run, state, fitting, network, best)
                checkpoint.save(run.place, state, fitting.model, fitting.network, run.origin)
                _publish(run, state)
                for log in run.loggers.values():
                    log(state.epochs, state.history[-1])
            kept = state.epochs
            progress.show(state.epochs, logs, wanted.monitor, time.monotonic() - start)
    except KeyboardInterrupt:
        then = f"resumes after epoch {kept}" if kept else "starts over"
        _LOG.info("train %s: stopped; the same command %s", run.name, then)
        raise
    finally:
        progress.bar.close()


def _keep_judged(
    run: _Run, state: State, fitting: Fitting, network: Callable[[], keras.Model], best: bool
) -> None:
    """What is kept of the network as it was judged: its pictures and, of the best epoch, itself."""
    if state.epochs == 1:  # not before: an earlier model can be hours of work
        _clear(run, resumes=False, finished=False)
    if not run.share.strategy:
        with run.share.alone():
            run.pictures.draw(network(), state.epochs)
    if best:
        checkpoint.save_best(run.place, state, fitting.network, run.origin)


def _clear(run: _Run, resumes: bool, finished: bool) -> None:
    """Remove what is not of this training: outputs, and scores of an earlier model."""
    names = [paths.MODEL, paths.MODEL_ONNX, paths.HISTORY, paths.CURVES]
    names += [] if finished else paths.SCORED
    for name in names:
        (run.folder / name).unlink(missing_ok=True)
    folders = [run.folder / paths.EPOCH_CHANGE]
    folders += [] if finished else [run.folder / paths.PREDICTIONS, paths.ensemble(run.dataset)]
    folders += [] if resumes else [run.place, *(run.folder / name for name in watch.LOGGERS)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    (run.folder / paths.EPOCH_CHANGE).mkdir(parents=True)


def _catch_up(run: _Run, state: State) -> None:
    """Let the loggers' folders hold the epochs so far, whatever was logged before."""
    for folder in (run.folder / name for name in watch.LOGGERS):
        if folder not in run.loggers or state.epochs > run.wanted.epochs:
            shutil.rmtree(folder, ignore_errors=True)
    for folder, log in run.loggers.items():
        if not folder.exists():
            for epoch, row in enumerate(state.history[: run.wanted.epochs], 1):
                log(epoch, row)


def _publish(run: _Run, state: State) -> None:
    """The outputs, beside the checkpoint: of its first epochs, where it has more than wanted."""
    checkpoint.publish(run.place, run.folder, state, run.wanted.epochs)
    history = state.history[: run.wanted.epochs]
    watch.write_history(run.folder / paths.HISTORY, history)
    watch.draw_curves(run.folder / paths.CURVES, history)


def _choose(run: _Run, of_valid: Sequence[Pair], settings: params.Params) -> None:
    """Let valid choose how the model is used, and write that into its file."""
    file = run.folder / paths.MODEL
    chosen = choose.write(file, of_valid, run.dataset, run.wanted, settings.limits)
    facts = Facts.of(modelfile.read(file), file)
    if facts.mirrors.axes:
        _LOG.info("  %s: %s", facts.mirrors.sentence, "kept" if facts.mirrors.kept else "left out")
    if facts.network.picture_px:
        _LOG.info("  %s: %s", facts.tiles.sentence, "kept" if facts.tiles.kept else "left out")
    if facts.temperatures.of_class:
        _LOG.info("  %s", facts.temperatures.sentence)
    names = [label.name for label in facts.label_map]
    for one in choose.obeyed(chosen):
        kept = "kept" if one.kept else "left out"
        _LOG.info("  label rule %s, %s", kept, one.in_words(names))
    for label, choice in choose.choices(chosen).items():
        if choice.kept:
            name = facts.label_map.labels[label].name
            _LOG.info("  %s: post-processing kept, %+.4f Dice on valid", name, choice.gain)


def _require_foreground(
    of_train: Sequence[Pair],
    of_valid: Sequence[Pair],
    label_map: LabelMap,
    wanted: Train,
    folder: Path,
) -> None:
    """Say what cannot be learnt from these pictures, or not be judged by those.

    Raises :class:`Problem` if train shows no foreground at all: the best network would mark
    nothing. Or if valid shows none and the monitor is a score of it: every epoch would be as good
    as the first.
    """
    names = [label.name for label in label_map]
    lacking = {
        split: [name for name, pixels in zip(names[1:], counts[1:], strict=True) if not pixels]
        for split, pairs in (("train", of_train), ("valid", of_valid))
        for counts in [np.sum([pair.class_pixels for pair in pairs], axis=0)]
    }
    for split, what in (
        ("train", "nothing could be learnt"),
        ("valid", f"{wanted.monitor} could choose no epoch"),
    ):
        if lacking[split] == names[1:] and (split == "train" or wanted.monitor != "val_loss"):
            instead = "" if split == "train" else ", or let monitor be val_loss"
            raise Problem(
                f"expected foreground in {split}, got {len(names) - 1} classes without a pixel:"
                f" {what}",
                where=folder,
                remedy=f"Are labels empty or split.shares too small? See {paths.CARD}{instead}.",
            )
    for split, what in (("train", "it is not learnt"), ("valid", "it is not judged")):
        for name in lacking[split]:
            _LOG.info("  no picture of %s shows %s: %s in this training", split, name, what)
