"""Several devices and machines: every process trains on its part of each batch (JAX alone).

The cluster is told by Keras' own variables, the same on every machine but the last one:
KERAS_DISTRIBUTION_JOB_ADDRESSES (host:port of process 0), KERAS_DISTRIBUTION_NUM_PROCESSES and
KERAS_DISTRIBUTION_PROCESS_ID.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import keras

from datasets_spec.contract import Problem

_COUNT, _ID = "KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID"


@dataclass(frozen=True)
class Share:
    """This process among all, and the number of devices of all of them together."""

    process: int = 0
    processes: int = 1
    devices: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes."""
        return self.process == 0


def join(batch_pairs: int) -> Share:
    """Join the cluster, if one is told, and let Keras spread batches over all devices.

    Raises :class:`Problem` if the backend cannot, or a batch cannot be shared out evenly.
    """
    told = _COUNT in os.environ
    if keras.backend.backend() != "jax":
        if told:
            raise Problem(
                f"expected the backend jax for several processes, got {keras.backend.backend()}",
                where=_COUNT,
                remedy="Set KERAS_BACKEND=jax.",
            )
        return Share()
    if told:
        keras.distribution.initialize()
    devices = keras.distribution.list_devices()
    share = Share(
        int(os.environ.get(_ID, "0")), int(os.environ.get(_COUNT, "1")), max(len(devices), 1)
    )
    if share.devices == 1:
        return share
    if batch_pairs % share.devices:
        raise Problem(
            f"expected a multiple of the {share.devices} devices, got {batch_pairs}",
            where="train.batch_pairs",
            remedy="Change it, or hide devices (CUDA_VISIBLE_DEVICES).",
        )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
    return share
