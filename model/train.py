"""train: parameters -> batches -> model -> epochs -> the best model, its history, its pictures.

A run that was stopped goes on after its last finished epoch, and ends as it would have: order,
dropout and learning rate follow from the seed, the epoch and the scores so far.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import keras
import numpy as np
from keras import layers, optimizers

import datasets_spec
from datasets_spec.contract import LabelMap, Problem
from model import params, provenance
from model.flexunet import flexunet, trainable
from model.params import Train
from model.training import checkpoint, devices, precision, watch
from model.training.batches import Batches
from model.training.checkpoint import State
from model.training.losses import loss_of
from model.training.metrics import Scores
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs.variants import Variants
from pipeline.runtime import locks


def train(dataset: str, settings: params.Params) -> None:
    """Train on ``data/dataset/<dataset>`` and fill ``runs/<dataset>``.

    Raises :class:`Problem` if a split is empty, what was asked for is not installed, or the
    loss is no number any more, and at once if another run fills the folder.
    """
    share = devices.join(settings.train.batch_pairs)
    with locks.alone(paths.run(dataset)) if share.leads else nullcontext():
        _train(dataset, settings, share)


def _train(dataset: str, settings: params.Params, share: devices.Share) -> None:
    wanted, network = settings.train, settings.train.network
    facts = datasets_spec.load(dataset).dataset
    data, run, place = paths.dataset(dataset), paths.run(dataset), checkpoint.folder(dataset)
    loggers = watch.loggers(wanted, run) if share.leads else {}

    # batches
    pairs = manifest.read(data)
    of_train, of_valid = (_of_split(pairs, split, data) for split in ("train", "valid"))
    _require_foreground(of_train, of_valid, facts.label_map, wanted, data)
    if settings.augment.mode == "online":
        of_train = [pair for pair in of_train if not pair.parent]
    learn = Batches(
        data / "train",
        of_train,
        facts.label_map,
        network,
        wanted.batch_pairs,
        wanted.seed,
        wanted.steps_per_epoch,
        None if settings.augment.mode == "offline" else Variants(dataset, settings.augment).fresh,
        wanted.class_share,
        share,
        scratch=run,
    )
    valid = Batches(
        data / "valid",
        of_valid,
        facts.label_map,
        network,
        wanted.batch_pairs,
        share=share,
        scratch=run,
    )

    # where an earlier run of the same ingredients stood
    pictures = watch.EpochChange(data, place, facts.label_map, wanted)
    said = provenance.of(dataset, facts, settings)
    made_from = checkpoint.ingredients(said, wanted)
    state = checkpoint.earlier(place, made_from, wanted.epochs, pictures.names)
    goes_on = state is not None
    if state is None:
        form = precision.chosen(wanted, len(facts.label_map), share)
        state = State(made_from, form, wanted.learning_rate, pictures=pictures.names)
    said["precision"] = state.precision

    # model
    keras.utils.set_random_seed(wanted.seed)
    precision.use(state.precision)
    with share.scope():
        judged = flexunet(network, len(facts.label_map))
        model = trainable(judged, network)
        model.compile(
            optimizer=_optimizer(wanted),
            loss=loss_of(wanted, np.sum([pair.class_pixels for pair in of_train], axis=0).tolist()),
            metrics=[Scores(facts.label_map)],
            jit_compile=precision.jit(wanted.jit),
        )
        model.optimizer.build(model.trainable_variables)
        if goes_on:
            checkpoint.restore(place, model, judged)
    told = f"goes on after epoch {state.epochs}" if goes_on else "begins"
    if state.finished(wanted):
        told = f"{state.epochs} epochs are done already, nothing is left to train"
        if state.epochs > wanted.epochs:
            told += f"; the outputs are those of the first {wanted.epochs}"
    print(
        f"train {dataset}: {judged.count_params():,} parameters, {keras.backend.backend()},"
        f" {state.precision}; {told}"
    )
    _warn(wanted, len(learn))
    if share.leads and goes_on:
        _clear(run, place, goes_on=True, finished=state.finished(wanted))
        provenance.renew(place / "best.keras", said | {"epoch": state.best_epoch})
        _catch_up(run, loggers, state, wanted)

    # epochs
    # not before fit, which spends some numbers when it builds the graph
    reseed = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: _reseed(model, wanted.seed, epoch)
    )
    progress = watch.TimeLeft(f"train {dataset}", wanted.epochs, len(learn), state.epochs)
    kept = state.epochs
    try:
        while not state.finished(wanted):
            start, epoch = time.monotonic(), state.epochs
            learn.show(epoch)
            model.optimizer.learning_rate = state.learning_rate
            logs = _fit(model, learn, epoch, [reseed, progress])
            with _averaged(model):
                scores = model.evaluate(valid, verbose=0, return_dict=True)
                logs |= {f"val_{name}": value for name, value in scores.items()}
                best = state.count(logs, wanted)
                if share.leads:
                    if state.epochs == 1:  # not before: an earlier model can be hours of work
                        _clear(run, place, goes_on=False, finished=False)
                    if share.devices == 1:
                        pictures.draw(judged, state.epochs)
                    if best:
                        checkpoint.save_best(place, state, judged, said)
            if share.leads:
                checkpoint.save(place, state, model, judged, said)
                _publish(place, run, state, wanted)
                for log in loggers.values():
                    log(state.epochs, state.history[-1])
            kept = state.epochs
            progress.tell(state.epochs, logs, wanted.monitor, time.monotonic() - start)
    except KeyboardInterrupt:
        told = f"goes on after epoch {kept}" if kept else "begins anew"
        print(f"train {dataset}: stopped; the same command {told}")
        raise
    finally:
        progress.bar.close()
    if share.leads:
        _publish(place, run, state, wanted)  # also when nothing was left to train


def _require_foreground(
    of_train: list[manifest.Pair],
    of_valid: list[manifest.Pair],
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
            print(f"  no picture of {split} shows {name}: {what} in this training")


def _warn(wanted: Train, steps: int) -> None:
    """Say which parameters do not do what one may expect of them."""
    if wanted.accumulate_batches > steps:
        print(
            f"  accumulate_batches {wanted.accumulate_batches} is more than the {steps} steps of an"
            " epoch: some epochs change no weight"
        )
    if wanted.network.deep_supervision and wanted.network.num_layers == 2:
        print("  deep_supervision does nothing: with num_layers 2 there is no coarser level")


def _fit(
    model: keras.Model, learn: Batches, epoch: int, callbacks: list[keras.callbacks.Callback]
) -> watch.Row:
    """One epoch, counted from 0; returns its scores. Raises :class:`Problem` if it diverged."""
    history = model.fit(
        learn,
        initial_epoch=epoch,
        epochs=epoch + 1,
        shuffle=False,  # or Keras would turn the order of the batches once more, by global state
        verbose=0,
        callbacks=callbacks,
    ).history
    logs = {name: float(values[-1]) for name, values in history.items()}
    if not math.isfinite(logs["loss"]):
        raise Problem(
            f"expected a loss that is a number, got {logs['loss']} in epoch {epoch + 1}",
            where="train",
            remedy="Lower learning_rate, set clipnorm, or let precision be float32.",
        )
    return logs


def _reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Let this epoch's dropout depend on seed and epoch alone."""
    drops = [layer for layer in model.layers if isinstance(layer, layers.Dropout) and layer.rate]
    for number, layer in enumerate(drops):
        key = np.random.default_rng((seed, epoch, 2, number)).integers(0, 2**31)
        layer.seed_generator.state.assign([int(key), 0])


def _optimizer(wanted: Train) -> optimizers.Optimizer:
    common = {
        "learning_rate": wanted.learning_rate,
        "clipvalue": wanted.clipvalue or None,
        "clipnorm": wanted.clipnorm or None,
        "use_ema": wanted.ema_momentum > 0,
        "ema_momentum": wanted.ema_momentum,
        "gradient_accumulation_steps": (
            wanted.accumulate_batches if wanted.accumulate_batches > 1 else None
        ),
    }
    if wanted.optimizer == "adam":
        optimizer = optimizers.Adam(**common)
    else:  # Loshchilov & Hutter, ICLR 2019
        optimizer = optimizers.AdamW(weight_decay=wanted.weight_decay, **common)
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # fit would end every epoch with the averages in the place of the weights: see _averaged
    optimizer.finalize_variable_values = lambda _: None
    return optimizer


@contextmanager
def _averaged(model: keras.Model) -> Iterator[None]:
    """The moving averages of the weights, if there are any, in their place for a while."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    weights = [np.array(keras.ops.convert_to_numpy(one)) for one in model.trainable_variables]
    optimizers.Optimizer.finalize_variable_values(optimizer, model.trainable_variables)
    for variable in model.trainable_variables:  # JAX shares the buffer, and gives it away
        variable.assign(np.array(keras.ops.convert_to_numpy(variable)))
    yield
    for variable, value in zip(model.trainable_variables, weights, strict=True):
        variable.assign(value)


def _clear(run: Path, place: Path, goes_on: bool, finished: bool) -> None:
    """Remove what is not of this training: outputs, and scores of an earlier model."""
    names = [paths.MODEL, paths.HISTORY, paths.CURVES]
    names += [] if finished else paths.SCORED
    for name in names:
        (run / name).unlink(missing_ok=True)
    folders = [run / paths.EPOCH_CHANGE]
    folders += [] if finished else [run / paths.PREDICTIONS]
    folders += [] if goes_on else [place, *(run / name for name in watch.LOGGERS)]
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    (run / paths.EPOCH_CHANGE).mkdir(parents=True)


def _catch_up(run: Path, loggers: dict[Path, watch.Logger], state: State, wanted: Train) -> None:
    """Let the loggers' folders hold the epochs so far, whatever was logged before."""
    for folder in (run / name for name in watch.LOGGERS):
        if folder not in loggers or state.epochs > wanted.epochs:
            shutil.rmtree(folder, ignore_errors=True)
    for folder, log in loggers.items():
        if not folder.exists():
            for epoch, row in enumerate(state.history[: wanted.epochs], 1):
                log(epoch, row)


def _publish(place: Path, run: Path, state: State, wanted: Train) -> None:
    """The outputs, beside the checkpoint: of its first epochs, where it has more than wanted."""
    checkpoint.publish(place, run, state, wanted.epochs)
    history = state.history[: wanted.epochs]
    watch.write_history(run / paths.HISTORY, history)
    watch.draw_curves(run / paths.CURVES, history)


def _of_split(pairs: list[manifest.Pair], split: str, folder: Path) -> list[manifest.Pair]:
    members = [pair for pair in pairs if pair.split == split]
    if not members:
        raise Problem(
            f"expected pairs of the split {split!r}, found none",
            where=folder,
            remedy="Check split.empty_slices and that the patients have labels.",
        )
    return members
