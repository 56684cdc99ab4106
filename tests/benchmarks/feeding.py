"""How many augmented pairs a second reach a small network: python -m tests.benchmarks.feeding.

Writes feeding.md beside this. Pairs of 512 px are fed to a network of 64 px by ``Batches``, each
bent anew by an affine map and an elastic field and toned by gamma, contrast and noise: at the
network's size by this project's steps and by albumentations' same, and at 512 px, as before. All
ways run in one process, round after round, so that a busy machine slows all alike; the best round
of each counts. Not a part of the tests.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np

from model.network_input import labels_at, picture_at
from model.params import Network
from model.training.batches import Batches, Fresh
from pipeline.pairs import pictures, put
from pipeline.pairs.manifest import Pair
from pipeline.pairs.variants import Variants
from pipeline.params.augment import Augment
from pipeline.warps import chains
from tests.benchmarks.augmentation import LABELS, head
from tests.benchmarks.peers import Picture
from tests.support.cohort import pair

TABLE = Path(__file__).with_suffix(".md")
PX, SMALL = 512, 64
PAIRS, BATCH = 128, 16
ROUNDS = 49
RARELY = 8  # rounds to one of the slow way
CHANNELS, THREADS = (1, 5), (1, 2)
STEPS: list[dict[str, Any]] = [
    {
        "RandomAffine": {
            "degrees": [-20, 20],
            "scale_x": [0.8, 1.25],
            "scale_y": [0.8, 1.25],
            "shift_x": [-0.08, 0.08],
            "shift_y": [-0.08, 0.08],
        }
    },
    {"Elastic": {"sd_px": 12.0, "sigma_px": 48.0}},
    {"Gamma": {"gamma": [0.6, 1.6]}},
    {"Contrast": {"factor": [0.75, 1.25], "brightness": [-38, 38]}},
    {"Noise": {"sd": [2, 10]}},
]
NOTHING, OURS, THEIRS, BEFORE = "nothing", "ours", "albumentations", "ours, at 512 px, as before"
WAYS = {
    NOTHING: "the pairs from the cache, as they are",
    OURS: "this project's steps, at 64 px",
    THEIRS: "albumentations' same, in one `Compose`, at 64 px",
    BEFORE: "this project's steps at 512 px, each pair decoded, bent and then shrunk",
}


@dataclass
class Speed:
    """The best rounds of a way: seconds of the clock and of processors for each pair."""

    clock: float = float("inf")
    processors: float = float("inf")

    def take(self, clock: float, processors: float) -> None:
        self.clock, self.processors = min(self.clock, clock), min(self.processors, processors)


class Before(Batches):
    """Decoded each time, and bent before it is shrunk."""

    bend: Fresh

    def _whole(self, position: int) -> tuple[Picture, Picture]:
        row = self._pairs[position]
        image = pictures.image(self._folder, row)
        ids = pictures.mask(self._folder, row, self._label_map)
        bent, bent_ids = self.bend(row, self._epoch, image, ids)
        return picture_at(bent, SMALL), labels_at(bent_ids, SMALL)


def main() -> None:
    cv2.setNumThreads(1)
    TABLE.write_text("\n".join([*_heading(), *fed(), *steps()]) + "\n", "utf-8")
    print(TABLE.read_text("utf-8"))


def fed() -> Iterator[str]:
    yield "## Fed to a network of 64 px\n"
    yield "| channels | threads | way | pairs/s | processor time a pair, ms | times ours |"
    yield "|---|---|---|---|---|---|"
    for channels in CHANNELS:
        with tempfile.TemporaryDirectory() as place:
            sources = ways(Path(place), channels)
            for threads in THREADS:
                speeds = measured(sources, threads)
                for name, speed in speeds.items():
                    share = speed.processors / speeds[OURS].processors
                    times = f"{share:.3g}" if name != NOTHING else ""
                    yield (
                        f"| {channels} | {threads} | {name} | {1 / speed.clock:,.0f} |"
                        f" {1000 * speed.processors:.3f} | {times} |"
                    )
    yield ""
    yield from (f"- *{name}*: {text}" for name, text in WAYS.items())
    yield ""


def ways(place: Path, channels: int) -> dict[str, Batches]:
    """What is fed, by the name of its way; pairs lie in ``place``."""
    image, mask = head()
    if channels > 1:
        image = np.dstack([np.roll(image, shift, axis=0) for shift in range(channels)])
    names = ",".join(f"c{number}" for number in range(channels)) if channels > 1 else ""
    pairs = [
        put.put(place, replace(pair(f"p{n}"), channels=names), image, mask, LABELS)
        for n in range(PAIRS)
    ]

    def fed_by(online: Fresh | None, kind: type[Batches] = Batches, most: int = 0) -> Batches:
        network = Network(SMALL, channels, 2, 3, 2, 1, 0.0, "relu", "none")
        return kind(place, pairs, LABELS, network, BATCH, 1, most, online, scratch=place)

    before = fed_by(None, Before, max(THREADS))  # an epoch of its batches takes seconds
    assert isinstance(before, Before)
    before.bend = ours(channels)
    return {
        NOTHING: fed_by(None),
        OURS: fed_by(ours(channels)),
        THEIRS: fed_by(theirs()),
        BEFORE: before,
    }


def ours(channels: int) -> Fresh:
    """Every pair bent: nothing is shown as it is."""
    variants = Variants("benchmark", Augment(7, True, {"v": STEPS}), channels, PX)

    def fresh(row: Pair, epoch: int, image: Picture, ids: Picture) -> tuple[Picture, Picture]:
        return variants.make("v", variants.key(row.id, "v", epoch), image, ids)

    return fresh


def theirs() -> Fresh:
    """One ``Compose`` a thread, since its random state is its own."""
    made = threading.local()
    share = SMALL / PX

    def fresh(row: Pair, epoch: int, image: Picture, ids: Picture) -> tuple[Picture, Picture]:
        if not hasattr(made, "compose"):
            each = {"x": (0.8, 1.25), "y": (0.8, 1.25)}
            # their alpha scales noise from -1 to 1 under the Gaussian: Simard's
            alpha = 12.0 * share * 3**0.5 * 2 * 48.0 * share * np.pi**0.5
            made.compose = albumentations.Compose(
                [
                    albumentations.Affine(each, (-0.08, 0.08), rotate=(-20, 20), p=1.0),
                    albumentations.ElasticTransform(alpha, 48.0 * share, p=1.0),
                    albumentations.RandomGamma((60, 160), p=1.0),
                    albumentations.RandomBrightnessContrast(0.15, 0.25, p=1.0),
                    albumentations.GaussNoise((2 / 255, 10 / 255), p=1.0),
                ],
                seed=7,
            )
        bent = made.compose(image=image, mask=ids)
        return bent["image"], bent["mask"]

    return fresh


def measured(sources: dict[str, Batches], threads: int) -> dict[str, Speed]:
    """The best of many short rounds, an epoch of each way; the first fills the caches."""
    speeds = {name: Speed() for name in sources}
    with ThreadPoolExecutor(threads) as pool:
        for epoch in range(ROUNDS + 1):
            for name, batches in sources.items():
                if name == BEFORE and epoch % RARELY:
                    continue
                batches.show(epoch)
                clock, processors = time.perf_counter(), time.process_time()
                shown = sum(
                    len(ids) for _, ids in pool.map(batches.__getitem__, range(len(batches)))
                )
                taken = time.perf_counter() - clock, time.process_time() - processors
                if epoch:
                    speeds[name].take(taken[0] / shown, taken[1] / shown)
    return speeds


def steps() -> Iterator[str]:
    """What each step costs alone, of one thread's processor time."""
    image, ids = (picture[4::8, 4::8].copy() for picture in head())
    yield "## Steps at 64 px, each alone\n"
    yield "| step | microseconds, 1 channel | 5 channels |"
    yield "|---|---|---|"
    several = np.dstack([image] * 5)
    more: list[Sequence[dict[str, Any]]] = [STEPS[:2], *([step] for step in STEPS)]
    more += [[{"Soften": {"sigma_px": [4, 8]}}], [{"Coarsen": {"cell_px": [8, 16]}}]]
    for chain in [*more, STEPS]:
        names = " + ".join(next(iter(step)) for step in chain)
        taken = [_alone(chain, picture, ids) for picture in (image, several)]
        yield f"| {names} | {taken[0] * 1e6:.0f} | {taken[1] * 1e6:.0f} |"
    yield ""


def _alone(chain: Sequence[dict[str, Any]], image: Picture, ids: Picture) -> float:
    parts, best, number = chains.chain(chain, "benchmark"), float("inf"), 0
    for _ in range(ROUNDS):
        begin = time.thread_time()
        for _ in range(200):
            number += 1
            chains.apply(parts, ("benchmark", number), image, ids, (PX, PX))
        best = min(best, (time.thread_time() - begin) / 200)
    return best


def _heading() -> list[str]:
    names = ("albumentations", "numpy", "opencv-python-headless")
    found = ", ".join(f"{name} {version(name)}" for name in names)
    return [
        "# Feeding a small network, measured\n",
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {found}. Pairs of"
        f" {PX}x{PX} px for a network of {SMALL} px, batches of {BATCH}; each pair is bent anew by"
        " an affine map and an elastic field, and toned by gamma, contrast and noise. The best of"
        f" {ROUNDS} interleaved rounds, on {os.cpu_count()} processors that others used too (load"
        f" average {os.getloadavg()[0]:.1f} at the beginning): processor time counts, and pairs/s"
        " by the clock are the least that can be had.\n"
        "`python -m tests.benchmarks.feeding` writes this page anew.\n",
    ]


if __name__ == "__main__":
    sys.exit(main())
