"""How the arithmetic is done: the number format a short probe finds fastest, and XLA or not."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import ops

from model.flexunet import flexunet
from model.number_format import use
from model.params import Train
from model.training.devices import Share
from model.training.losses import categorical_crossentropy

_LOG = logging.getLogger(__name__)
_GAIN = 1.15  # a format of less precision must be faster by this factor
_STEPS, _ENOUGH_S = 3, 3.0


def chosen(wanted: Train, classes: int, share: Share) -> str:
    """float32, bfloat16 or float16: as asked, or for "auto" what :func:`probe` finds fastest."""
    if wanted.precision != "auto":
        return wanted.precision
    if share.strategy:
        _LOG.info(
            "precision float32: of mirrored devices none is timed; set train.precision for less"
        )
        return "float32"
    best = ""
    if share.leads:  # the others wait, and take what it finds
        part = replace(wanted, batch_pairs=wanted.batch_pairs // share.devices)
        with share.alone():
            seconds = probe(part, classes)
        best = fastest(seconds)
        times = ", ".join(f"{name} {1000 * spent:.0f} ms" for name, spent in seconds.items())
        _LOG.info("precision %s: a step takes %s", best, times)
    return share.of_leader(best)


def fastest(seconds: dict[str, float]) -> str:
    """The first format, unless a later one is faster by more than what timing leaves in doubt."""
    names = list(seconds)
    best = names[0]
    for name in names[1:]:
        if seconds[name] * _GAIN < seconds[best]:
            best = name
    return best


def probe(wanted: Train, classes: int) -> dict[str, float]:
    """Seconds per training step and format, of the very network: its fastest of a few.

    float16 is tried on a GPU alone: on processors it was slower by a factor of eight.
    """
    network = wanted.network
    rng = np.random.default_rng(0)
    shape = (wanted.batch_pairs, network.image_px, network.image_px)
    pictures = rng.integers(0, 256, (*shape, network.inputs), np.uint8)
    ids = rng.integers(0, classes, shape, np.uint8)
    seconds = {}
    before = keras.config.dtype_policy()
    with _without_warnings():
        for name in ("float32", "bfloat16", *(["float16"] if on_gpu() else [])):
            use(name)
            model = flexunet(network, classes)
            model.compile("sgd", categorical_crossentropy, jit_compile=jit(wanted.jit))
            model.train_on_batch(pictures, ids)  # makes the graph
            spent: list[float] = []
            while not spent or (len(spent) < _STEPS and sum(spent) < _ENOUGH_S):
                start = time.perf_counter()
                model.train_on_batch(pictures, ids)  # gives numbers, so it waits for the device
                spent.append(time.perf_counter() - start)
            seconds[name] = min(spent)
    keras.config.set_dtype_policy(before)
    return seconds


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without TensorFlow's that a graph is made for every network: each is another one."""
    tensorflow = logging.getLogger("tensorflow")
    level = tensorflow.level
    tensorflow.setLevel(logging.ERROR)
    try:
        yield
    finally:
        tensorflow.setLevel(level)


def jit(wanted: str) -> bool:
    """Whether to compile by XLA: as asked, or for "auto" where it was not measured to be slower.

    JAX always is. TensorFlow on processors took a third longer with it; torch does not have it.
    """
    if wanted != "auto":
        return wanted == "always"
    backend = keras.backend.backend()
    return backend == "jax" or (backend == "tensorflow" and on_gpu())


def on_gpu() -> bool:
    """Whether tensors live on a GPU."""
    device: Any = ops.convert_to_tensor(np.zeros(1, np.float32)).device
    return any(word in str(device).lower() for word in ("gpu", "cuda"))
