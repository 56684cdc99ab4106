"""Batches, network, loss and epochs: all that decides the weights of a training, and nothing else.

The code that this module imports is an ingredient of a checkpoint (:mod:`model.provenance`): where
it changes, training starts over. What runs a training (the verb, checkpoints, pictures to look at)
is not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops, optimizers

from datasets_spec.contract import LabelMap, Problem
from model import number_format
from model.flexunet import flexunet
from model.params import Train
from model.training import precision
from model.training.batches import Batches, Fresh, Read
from model.training.devices import Share
from model.training.losses import loss_of
from model.training.metrics import Scores
from model.training.partial import Codes
from model.training.state import State
from pipeline.pairs.manifest import Pair

_RAREST = 0.01
Row = dict[str, float]
"""The scores of an epoch by name."""


@dataclass(frozen=True)
class Fitting:
    """A network under training: ``network`` is what is saved, and ``model`` what is fitted.

    They share layers and weights; a file of the compiled one would hold its optimizer too.
    """

    network: keras.Model
    model: keras.Model
    learn: Batches
    valid: Batches
    wanted: Train


def batches(
    folder: Path,
    of_train: Sequence[Pair],
    of_valid: Sequence[Pair],
    label_map: LabelMap,
    wanted: Train,
    online: Fresh | None,
    share: Share,
    scratch: Path,
    codes: Codes,
    read: Read | None = None,
) -> tuple[Batches, Batches]:
    """What is learnt from and what is judged by, of the dataset in ``folder``.

    With ``read``, rows that are read by it; each is read once, here.
    """
    learn = Batches(
        folder,
        of_train,
        label_map,
        wanted.network,
        wanted.batch_pairs,
        wanted.seed,
        wanted.steps_per_epoch,
        online,
        wanted.foreground_oversampling,
        share,
        scratch=scratch,
        codes=codes,
        channel_dropout=wanted.channel_dropout,
        read=read,
    )
    valid = Batches(
        folder,
        of_valid,
        label_map,
        wanted.network,
        wanted.batch_pairs,
        share=share,
        scratch=scratch,
        codes=codes,
        read=read,
    )
    for name, one in {"train": learn, "valid": valid}.items():
        if read:
            one.fill(f"read {name}")
    return learn, valid


def compiled(
    learn: Batches,
    valid: Batches,
    label_map: LabelMap,
    class_pixels: Sequence[int],
    wanted: Train,
    form: str,
    share: Share,
    codes: Codes,
) -> Fitting:
    """A network at its beginning, in the number format ``form``, ready to be fitted.

    ``class_pixels``: pixels of each class in train. ``codes``: those of the batches.
    """
    keras.utils.set_random_seed(wanted.seed)
    number_format.use(form)
    with share.scope():
        network = flexunet(wanted.network, len(label_map))
        _begin_with(network, class_pixels)
        model = keras.Model(network.input, network.output, name="trainable")
        model.compile(
            optimizer=optimizer(wanted),
            loss=loss_of(wanted, class_pixels, codes),
            metrics=[Scores(label_map, codes=codes)],
            jit_compile=precision.jit(wanted.jit),
        )
        model.optimizer.build(model.trainable_variables)
    if keras.backend.backend() != "tensorflow":
        # Else fit builds loss and metrics by a batch of the epoch, and then puts what it has read
        # ahead first: another order, which timing decides, in the first epoch of each process
        model.test_on_batch(*learn[0])
    return Fitting(network, model, learn, valid, wanted)


def _begin_with(network: keras.Model, class_pixels: Sequence[int]) -> None:
    """Let the head's first answer be how frequent the classes are, none below 1 in 100.

    Else the first steps go to the background, which is most of every picture, and so far that few
    of the activations survive (the prior of Lin et al., ICCV 2017, whose 1 in 100 this is).
    """
    shares = np.maximum(np.asarray(class_pixels) / sum(class_pixels), _RAREST)
    network.get_layer("head").bias.assign(np.log(shares / shares.sum()))


def optimizer(wanted: Train) -> optimizers.Optimizer:
    """The optimizer that the parameters name."""
    common = {
        "learning_rate": wanted.learning_rate,
        "clipvalue": wanted.clipvalue or None,
        "clipnorm": wanted.clipnorm or None,
        "gradient_accumulation_steps": (
            wanted.accumulate_batches if wanted.accumulate_batches > 1 else None
        ),
    }
    if wanted.optimizer == "adam":
        return optimizers.Adam(**common)
    # Loshchilov & Hutter, ICLR 2019
    made = optimizers.AdamW(weight_decay=wanted.weight_decay, **common)
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def learn_epoch(
    fitting: Fitting, state: State, callbacks: Sequence[keras.callbacks.Callback]
) -> Row:
    """Fit the epoch that follows ``state``; returns its scores on train."""
    model, epoch = fitting.model, state.epochs
    # not before fit, which spends some numbers when it builds the graph
    reseed = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda number, _: _reseed(model, fitting.wanted.seed, number)
    )
    fitting.learn.show(epoch)
    model.optimizer.learning_rate = state.learning_rate
    return fit_epoch(model, fitting.learn, epoch, [reseed, *callbacks])


def fit_epoch(
    model: keras.Model, learn: Batches, epoch: int, callbacks: list[keras.callbacks.Callback]
) -> Row:
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


def judge_epoch(fitting: Fitting) -> Row:
    """The scores on valid of the weights as they are, by names that begin with ``val_``."""
    model, sums = fitting.model, []
    for some, shown in fitting.valid.passes():
        with shown:
            scores = model.evaluate(some, verbose=0, return_dict=True)
        sums.append([np.array(ops.convert_to_numpy(one)) for one in model.metrics_variables])
    if sums[1:]:  # Keras' mean and our overlaps are made of sums, which each pass begins anew
        for variable, values in zip(model.metrics_variables, zip(*sums, strict=True), strict=True):
            variable.assign(sum(values))
        found = model.get_metrics_result()
        scores = {name: float((found | found["scores"])[name]) for name in scores}
    return {f"val_{name}": value for name, value in scores.items()}


def copied(network: keras.Model, share: Share) -> Callable[[], keras.Model]:
    """What gives the network as it is, for this process to ask: no other has to take part."""
    if not share.distribution:
        return lambda: network
    with share.alone():
        copy = keras.models.clone_model(network)

    def current() -> keras.Model:
        copy.set_weights(network.get_weights())
        return copy

    return current


def _reseed(model: keras.Model, seed: int, epoch: int) -> None:
    """Let this epoch's dropout depend on seed and epoch alone."""
    drops = [layer for layer in model.layers if isinstance(layer, layers.Dropout) and layer.rate]
    for number, layer in enumerate(drops):
        key = np.random.default_rng((seed, epoch, 2, number)).integers(0, 2**31)
        layer.seed_generator.state.assign([int(key), 0])
