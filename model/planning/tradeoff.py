"""Which network is worth its time: finer pixels, more steps, planes and filters compete for it.

Every network that a plan may choose is given the Dice that it may be expected to reach,

    ceiling(pixels) (1 - gap(steps))
        + FUSED[planes] + SEEDED[seeds] + FILTERS[filters] - PARTS,

and the best is taken. The ceiling is measured on the labels of the dataset itself
(:mod:`model.planning.ceilings`). The gap is what :data:`DICE` lacks of :data:`REACHED`: test Dice
of the hippocampus network at native 1 mm in 56 pixels, after so many :data:`STEPS` of 32 pictures.
FUSED is what two and three planes gained there over the axial one, and FILTERS what half and twice
the filters changed. A step with fewer pictures, or with parts of them, counts for the square root
of its share, as the noise of a mean does. SEEDED and PARTS are judgement, not measurement: more
seeds of one plane come where time is left, and a part does not show what lies beyond it. The sum
ranks candidates; it is no promise of a score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from datasets_spec.contract import Problem
from model.params import Network
from model.planning import rules, work
from model.planning.ceilings import COARSER, ceiling
from model.planning.cohort import Cohort
from model.planning.machine import Speed
from pipeline.params.values import OutOfRange

BATCH_PIXELS, BATCHES = 32 * 64**2, (8, 16, 32)
"""Of the batches of the measured recipe: as many pixels are in one, as far as BATCHES go."""
FILTERS = {8: -0.012, 16: 0.0, 32: 0.005}
"""After as many steps: what differs between 160 patients after equal times, in three folds, less
what the gap says of the steps."""
MOST_FILTERS = 512
"""Of a level (nnU-Net's most in 2-D): deeper and wider networks are weights without information."""
PARTS_PX = (128, 192, 256)
PARTS = 0.02
EQUAL = 0.002
"""Less than the half width of any interval that these figures have: not worth more pixels."""
FUSED = {1: 0.0, 2: 0.0065, 3: 0.0095}
SEEDED = {1: 0.0, 2: 0.001, 3: 0.0015}
STEPS = (50, 100, 200, 400, 800, 1600, 4125)
DICE = (0.789, 0.804, 0.840, 0.8655, 0.8713, 0.8743, 0.877)
REACHED = 0.880
"""What more and more steps seem to come to."""
_FIRST, _LAST = (1.0, 1.0), (10_000.0, 0.0018)  # steps and gap; the last is extrapolated
PICTURES = 32
"""Of a step, in the measurement of the gap."""
EPOCHS = 20
"""Between which the best is chosen; more where all pairs are shown sooner."""
PLENTY = 10_000
"""Steps after which nothing more is expected."""
STARTUP_S = 40.0
"""Of a network: imports, the graph, the first pictures, and what valid decides at the end."""
EPOCH_S = 1.5
"""Of an epoch beside its steps and its judging: the checkpoint, the pictures of mini_test."""
TRAINING = 0.85
"""The part of the minutes that is planned; the rest is for fusing, scoring and other programs."""
_MEMORY = 0.5  # the part of the memory that a step may take


@dataclass(frozen=True)
class Budget:
    """The time for all networks in seconds, the speed and the memory of the machine, and which
    parts of the patients are learnt from and judged by."""

    seconds: float
    speed: Speed
    memory_gb: float
    train: float
    valid: float


@dataclass(frozen=True)
class Candidate:
    """A network for each of ``planes``, which repeat with other seeds, trained for ``epochs`` of
    ``per_epoch`` steps, each in so many ``minutes``."""

    network: Network
    batch: int
    planes: tuple[str, ...]
    coarser: float
    epochs: int
    per_epoch: int
    minutes: float
    expected: float

    @property
    def steps(self) -> int:
        """Of each network."""
        return self.epochs * self.per_epoch


@dataclass(frozen=True)
class Wanted:
    """What is settled already: 0 leaves it open."""

    planes: Sequence[str]
    neighbours: int
    scans: bool
    image_px: int = 0
    picture_px: int | None = None
    num_layers: int = 0
    base_filters: int = 0
    batch: int = 0
    epochs: int = 0
    per_epoch: int = 0
    most: int = 9


def best(cohort: Cohort, usual: Network, wanted: Wanted, budget: Budget) -> Candidate:
    """The candidate of which most is expected; within :data:`EQUAL` of it, the least pixels.

    Where stated epochs leave none that fits the time, one network that does not, never several.
    ``usual`` holds all that a plan leaves as it is. Raises :class:`Problem` where no network fits
    the memory and what is stated.
    """
    found = [
        planned
        for network, coarser in _networks(cohort, usual, wanted)
        for planes in _subsets(wanted)
        if (planned := timed(cohort, network, coarser, wanted, planes, budget))
    ]
    if not found:
        raise Problem(
            "expected a network that fits the memory and the stated values, found none",
            where="train.network",
            remedy="Take out some of the values that are stated for this dataset.",
        )
    fits = [one for one in found if 60 * one.minutes * len(one.planes) < budget.seconds + 1]
    found = fits or [one for one in found if len(one.planes) == 1]
    most = max(one.expected for one in found)
    good = [one for one in found if one.expected >= most - EQUAL]
    return min(good, key=lambda one: (one.network.whole_px, -one.expected))


def batch_of(px: int, learnt: float) -> int:
    """Pictures of a batch: about as many pixels as in the measured recipe, no more than there are.

    >>> [batch_of(px, 10_000) for px in (48, 64, 96, 128, 256)]
    [32, 32, 16, 8, 8]
    """
    near = min(BATCHES, key=lambda one: abs(math.log(one * px**2 / BATCH_PIXELS)))
    return max(one for one in BATCHES if one <= max(min(near, learnt), BATCHES[0]))


def _networks(cohort: Cohort, usual: Network, wanted: Wanted) -> Iterator[tuple[Network, float]]:
    """Every network that fits the pictures, with how much coarser than the source it sees them."""
    side = max(map(cohort.side, wanted.planes))
    finest = min(map(cohort.within, wanted.planes))
    for coarser in COARSER:
        whole = wanted.picture_px or wanted.image_px
        whole_px = float(whole or side / (finest * coarser))
        if whole:
            coarser = side / (finest * whole)
        for filters in [wanted.base_filters] if wanted.base_filters else FILTERS:
            for seen in _seen(whole_px, wanted):
                image_px, deep = rules.fitting(seen or whole_px, wanted.num_layers)
                if filters * 2 ** (deep - 1) > MOST_FILTERS and not wanted.base_filters:
                    continue
                shape: dict[str, Any] = {
                    "neighbours": wanted.neighbours,
                    "base_filters": filters,
                    "num_layers": deep,
                    "image_px": wanted.image_px or image_px,
                    "picture_px": math.ceil(whole_px / 16) * 16 if seen else 0,
                    "dropout_rate": rules.dropout(deep).value,
                }
                if wanted.picture_px is not None:
                    shape["picture_px"] = wanted.picture_px
                if wanted.scans and cohort.spacing:
                    side_px = shape["picture_px"] or shape["image_px"]
                    shape["field_mm"] = round(side_px * finest * coarser, 2)
                with suppress(OutOfRange):
                    yield replace(usual, **shape), max(coarser, 1.0)
        if whole:
            return


def _seen(whole_px: float, wanted: Wanted) -> list[int]:
    """The sides of what the network sees at once; 0 is all of a picture."""
    if wanted.picture_px is not None:
        return [wanted.image_px or 128] if wanted.picture_px else [0]
    if wanted.image_px:
        return [0]
    return [0, *(px for px in PARTS_PX if px * 1.25 < whole_px)]


def _subsets(wanted: Wanted) -> list[tuple[str, ...]]:
    """The planes of the networks that there may be: the first ones, and all with more seeds."""
    firsts = [tuple(wanted.planes[:count]) for count in range(1, len(wanted.planes) + 1)]
    every = [*firsts, *(firsts[-1] * seeds for seeds in SEEDED if seeds > 1)]
    return [planes for planes in every if len(planes) <= wanted.most]


def timed(
    cohort: Cohort,
    network: Network,
    coarser: float,
    wanted: Wanted,
    planes: tuple[str, ...],
    budget: Budget,
) -> Candidate | None:
    """The candidate with as many steps as its share of the time allows; None without memory."""
    classes, count = len(cohort.classes) + 1, max(map(cohort.count, planes))
    learnt, parts = budget.train * count, math.ceil(network.whole_px / network.image_px) ** 2
    batch = wanted.batch or batch_of(network.image_px, learnt)
    if work.training_gb(network, batch, classes) > _MEMORY * budget.memory_gb:
        return None
    step_s = budget.speed.step(network, batch, classes)
    judged = EPOCH_S + parts * budget.valid * count / batch * step_s / 3
    left = max(budget.seconds / len(planes) - STARTUP_S, 0.0)
    looks = wanted.epochs or EPOCHS
    steps = int((left - judged * wanted.epochs) / step_s)  # fewer looks leave more, where open
    per_epoch = min(math.ceil(learnt / batch), max(1, min(steps, PLENTY) // looks))
    per_epoch = wanted.per_epoch or per_epoch
    epochs = max(1, min(int(left / (per_epoch * step_s + judged)), PLENTY // per_epoch))
    epochs = wanted.epochs or epochs
    if not wanted.per_epoch:  # what whole epochs leave of the time
        most = min(math.ceil(learnt / batch), PLENTY // epochs)
        per_epoch = max(per_epoch, min(int((left / epochs - judged) / step_s), most))
    share = batch / PICTURES * (network.image_px / network.whole_px) ** 2
    counted = epochs * per_epoch * math.sqrt(share)
    expected = ceiling(cohort.ceilings, coarser) * (1 - gap(counted))
    kinds = len(set(planes))
    expected += FUSED[kinds] + SEEDED[len(planes) // kinds] - PARTS * (parts > 1)
    expected += FILTERS.get(network.base_filters, 0.0)
    minutes = (STARTUP_S + epochs * (per_epoch * step_s + judged)) / 60
    return Candidate(network, batch, planes, coarser, epochs, per_epoch, minutes, expected)


def gap(steps: float) -> float:
    """What is still missing after so many steps, as a part of what can be reached.

    Between those that were measured both grow as powers of each other.

    >>> [round(gap(steps), 4) for steps in (100, 400, 1600, 10_000)]
    [0.0864, 0.0165, 0.0065, 0.0018]
    """
    measured = [(count, 1 - dice / REACHED) for count, dice in zip(STEPS, DICE, strict=True)]
    known = np.log([_FIRST, *measured, _LAST])
    return float(np.exp(np.interp(np.log(steps), known[:, 0], known[:, 1])))
