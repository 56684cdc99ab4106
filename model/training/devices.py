"""Several devices, processes and machines: each trains on its part of every batch.

TensorFlow mirrors the network on all GPUs of a machine; JAX does so, and in several processes, on
one machine or many. These are described by Keras' own variables, the same for every process but the
last one: KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of process 0),
KERAS_DISTRIBUTION_NUM_PROCESSES and KERAS_DISTRIBUTION_PROCESS_ID.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from datasets_spec.contract import Problem

_COUNT, _ID = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"


class _Shared(keras.distribution.DataParallel):  # type: ignore[misc]  # untyped library
    """Batches of which every device has a part; where ``whole``, each has all of every batch."""

    whole = False

    def get_data_layout(self, data_shape: Sequence[int]) -> Any:
        """Where the parts of a batch lie: Keras asks once for all batches of a pass."""
        first = None if self.whole else self.batch_dim_name
        axes = [first, *[None] * (len(data_shape) - 1)]
        return keras.distribution.TensorLayout(axes, self.device_mesh)


@dataclass(frozen=True)
class Share:
    """This process among all, and the number of devices of all of them together.

    ``strategy``: TensorFlow's, of several GPUs. ``distribution``: Keras', of several devices with
    JAX.
    """

    process: int = 0
    processes: int = 1
    devices: int = 1
    strategy: Any = None
    distribution: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.process == 0

    def scope(self) -> AbstractContextManager[Any]:
        """Where a network is made, so that every device has it."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def part(self, places: range) -> range:
        """This process's part of a batch: one after the other, so that the parts of all processes
        are the batch in the order that one alone would have, and dropout falls on the same."""
        size = len(places) // self.processes
        return places[self.process * size : (self.process + 1) * size]

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within the block, every device is shown whole batches, which all processes read."""
        if self.distribution:
            self.distribution.whole = True
        try:
            yield
        finally:
            if self.distribution:
                self.distribution.whole = False

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block, this process makes networks of its own and waits for no other."""
        if self.distribution:
            keras.distribution.set_distribution(None)
        try:
            yield
        finally:
            if self.distribution:
                keras.distribution.set_distribution(self.distribution)

    def of_leader(self, text: str) -> str:
        """What the leading process has for ``text``; all processes ask at the same point."""
        if self.processes == 1:
            return text
        from jax.experimental import multihost_utils

        content = np.frombuffer(text.encode(), np.uint8)
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(content))))
        mine = content if self.leads else np.zeros(length, np.uint8)
        return bytes(multihost_utils.broadcast_one_to_all(mine).astype(np.uint8)).decode()

    def require_same(self, facts: Mapping[str, Any]) -> None:
        """Raise :class:`Problem` in each process that would train from something else.

        All processes ask at the same point.
        """
        theirs = json.loads(self.of_leader(json.dumps(facts)))
        own = json.loads(json.dumps(facts))
        names = sorted(own.keys() | theirs.keys())
        if other := [name for name in names if own.get(name) != theirs.get(name)]:
            raise Problem(
                f"expected what process 0 trains from, got a different {', '.join(other)} in"
                f" process {self.process}",
                remedy="Give all machines the same folder, code, parameters and packages.",
            )

    def leave(self) -> None:
        """End the work in common, once for all processes, which wait here for each other.

        What follows is one process's own, and may take as long as it will.
        """
        if self.distribution:
            keras.distribution.set_distribution(None)
        if self.processes > 1:
            import jax

            jax.distributed.shutdown()


def by_hand() -> bool:
    """Whether Keras' variables make this process one of several."""
    return _COUNT in os.environ


def join(batch_pairs: int) -> Share:
    """Join the cluster, if there is one, and let Keras spread batches over all devices.

    Raises :class:`Problem` if the backend cannot, or a batch cannot be shared out evenly.
    """
    backend, clustered = keras.backend.backend(), by_hand()
    if clustered and backend != "jax":
        raise Problem(
            f"expected the backend jax for several processes, got {backend}",
            where=_COUNT,
            remedy="Set KERAS_BACKEND=jax.",
        )
    if backend == "tensorflow":
        gpus = _gpus()
        if len(gpus) < 2:
            return Share()
        _shared_evenly(batch_pairs, len(gpus))
        import tensorflow

        strategy = tensorflow.distribute.MirroredStrategy(gpus)
        return Share(devices=len(gpus), strategy=strategy)
    if backend != "jax":
        return Share()
    if clustered:
        keras.distribution.initialize()
    devices = keras.distribution.list_devices()
    place = int(os.environ.get(_ID, "0")), int(os.environ.get(_COUNT, "1"))
    if len(devices) < 2:
        return Share(*place)
    _shared_evenly(batch_pairs, len(devices))
    distribution = _Shared(devices=devices, auto_shard_dataset=False)
    keras.distribution.set_distribution(distribution)
    return Share(*place, devices=len(devices), distribution=distribution)


def _gpus() -> Sequence[str]:
    """TensorFlow's names of this machine's GPUs."""
    import tensorflow

    return [one.name for one in tensorflow.config.list_logical_devices("GPU")]


def _shared_evenly(batch_pairs: int, devices: int) -> None:
    if batch_pairs % devices:
        raise Problem(
            f"expected a multiple of the {devices} devices, got {batch_pairs}",
            where="train.batch_pairs",
            remedy="Change it, take fewer processes, or hide devices (CUDA_VISIBLE_DEVICES).",
        )
