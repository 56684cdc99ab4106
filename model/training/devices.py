"""Several devices and machines: each trains on its part of every batch.

TensorFlow mirrors the network on all GPUs of a machine; JAX does so, and on several machines.
A cluster is described by Keras' own variables, the same on every machine but the last one:
KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of process 0), KERAS_DISTRIBUTION_NUM_PROCESSES and
KERAS_DISTRIBUTION_PROCESS_ID.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras

from datasets_spec.contract import Problem

_COUNT, _ID = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"


@dataclass(frozen=True)
class Share:
    """This process among all, and the number of devices of all of them together.

    ``strategy``: TensorFlow's, of several GPUs.
    """

    process: int = 0
    processes: int = 1
    devices: int = 1
    strategy: Any = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.process == 0

    def scope(self) -> AbstractContextManager[Any]:
        """Where a network is made, so that every device has it."""
        return self.strategy.scope() if self.strategy else nullcontext()


def join(batch_pairs: int) -> Share:
    """Join the cluster, if there is one, and let Keras spread batches over all devices.

    Raises :class:`Problem` if the backend cannot, or a batch cannot be shared out evenly.
    """
    backend, clustered = keras.backend.backend(), _COUNT in os.environ
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
    share = Share(
        int(os.environ.get(_ID, "0")), int(os.environ.get(_COUNT, "1")), max(len(devices), 1)
    )
    if share.devices == 1:
        return share
    _shared_evenly(batch_pairs, share.devices)
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
    return share


def _gpus() -> Sequence[str]:
    """TensorFlow's names of this machine's GPUs."""
    import tensorflow

    return [one.name for one in tensorflow.config.list_logical_devices("GPU")]


def _shared_evenly(batch_pairs: int, devices: int) -> None:
    if batch_pairs % devices:
        raise Problem(
            f"expected a multiple of the {devices} devices, got {batch_pairs}",
            where="train.batch_pairs",
            remedy="Change it, or hide devices (CUDA_VISIBLE_DEVICES).",
        )
