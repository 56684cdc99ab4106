"""The machine that is to train: its processors, its memory, and how fast it takes a step."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from model.params import Network, Train
from model.planning import work
from pipeline.runtime import executor

Timing = Callable[[Train, int], dict[str, float]]
"""Seconds of a training step by the number format, of a network with so many classes."""


@dataclass(frozen=True)
class Machine:
    """``memory_gb``: of the GPU where there is one, in 2^30 bytes. ``timed`` takes steps, and
    ``fastest`` names the number format to take."""

    cores: int
    memory_gb: float
    gpu: bool
    timed: Timing
    fastest: Callable[[dict[str, float]], str]

    def __str__(self) -> str:
        where = "a GPU" if self.gpu else f"{self.cores} processor cores"
        return f"{where} with {self.memory_gb:.0f} GB"


@dataclass(frozen=True)
class Speed:
    """How long a training step takes: seconds per GFLOP and per million of values of the pictures,
    both forwards; a network of few filters is bound by the second."""

    per_gflop: float
    per_million: float

    def step(self, network: Network, batch: int, classes: int) -> float:
        """Seconds of a step."""
        computed = self.per_gflop * work.gflop(network, classes)
        return batch * (computed + self.per_million * work.values(network, classes))

    def times(self, factor: float) -> Speed:
        """A machine that takes so many times as long."""
        return Speed(self.per_gflop * factor, self.per_million * factor)

    @classmethod
    def of(cls, machine: Machine, usual: Train, classes: int) -> Speed:
        """The speed of a machine, from a network with many filters and one with many pixels."""
        rows = []
        for filters, px, deep in ((8, 128, 5), (32, 64, 4)):
            network = replace(
                usual.network, base_filters=filters, image_px=px, num_layers=deep, picture_px=0
            )
            wanted = replace(usual, network=network, batch_pairs=8)
            seconds = min(machine.timed(wanted, classes).values()) / 8
            rows.append((work.gflop(network, classes), work.values(network, classes), seconds))
        return cls.through(*rows)

    @classmethod
    def through(cls, one: Sequence[float], other: Sequence[float]) -> Speed:
        """The speed that two networks show: GFLOP, millions of values and seconds of a picture.

        Where one of the two would count backwards, the other explains both as well as it can.
        """
        (a, b, s), (c, d, t) = one, other
        least = a * d - b * c
        flop, value = (s * d - b * t) / least, (a * t - s * c) / least
        if flop < 0:
            return cls(0.0, (s + t) / (b + d))
        if value < 0:
            return cls((s + t) / (a + c), 0.0)
        return cls(flop, value)


def here() -> Machine:
    """This machine. Steps are timed where they are asked for, each network once."""
    from model.training import precision

    gpu = precision.on_gpu()
    memory = _gpu_gb() if gpu else _memory_gb()
    return Machine(
        executor.default_workers(), memory, gpu, cache(precision.probe), precision.fastest
    )


def _memory_gb() -> float:
    """The memory of the machine; 8 where the system does not state it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return 8.0


def _gpu_gb() -> float:
    """The memory of the smallest GPU; 8 where its driver's program does not state it."""
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603
        return min(float(line) for line in listed.stdout.split()) / 1024
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 8.0
