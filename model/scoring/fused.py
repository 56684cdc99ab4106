"""One case -> what several networks answer together, on the source's own grid, beside the truth.

Unlike :mod:`model.scoring.answers`, which asks one network, nothing here is at the size of a
network: networks of several planes and sizes meet in the source's grid alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.inference import fusing, scans
from model.inference.fusing import Weights
from model.inference.member import Member, viewed
from model.inference.sampling import Probabilities, class_ids
from model.inference.scans import Slices
from model.inference.temperature import NONE, Temperatures
from model.scoring import reference
from model.scoring.answers import Answer, Beside, Drawings
from model.scoring.scores import Calibration, Stack
from pipeline import paths
from pipeline.pairs import kept_scan, pictures
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.channels import Images
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.limits import Limits
from pipeline.volumes import volume
from pipeline.volumes.arrays import Image8

Answers = NDArray[np.float32]
"""Of each network (members, classes, n, rows, columns)."""
Look = Callable[[slice, Answers, Probabilities], object]
"""Called with some slices, what each network answers to them, and what all do, not calibrated."""


@dataclass(frozen=True)
class Case:
    """One case, and the networks that are asked about it; what is computed waits in ``scratch``.

    ``temperatures``: what calibrates the networks' answer.

    Stacks are (N, rows, columns) in the plane of the first network, as :mod:`model.inference.scans`
    has them.
    """

    members: Sequence[Member]
    drawings: Drawings
    limits: Limits
    scratch: Path
    temperatures: Temperatures = NONE

    @cached_property
    def kept(self) -> KeptTruth:
        """What convert kept of the case."""
        first = self.drawings[0][0]
        return KeptTruth.of(paths.converted(first.dataset), first, self.limits)

    @cached_property
    def truths(self) -> list[Stack]:
        """What each rater drew, in the order of the drawings."""
        return [self._turned(self.kept.stack(slices[0].rater)) for slices in self.drawings]

    @property
    def planes(self) -> list[str]:
        """The plane of each network."""
        return [one.facts.plane for one in self.members]

    def slabs(self) -> Iterator[tuple[slice, Answers]]:
        """What each network answers, some slices at a time: :func:`model.inference.scans.every`.

        Raises :class:`Problem` where slices have no one spacing and a network is of another plane.
        """
        others = [one for one in self.members if one.facts.plane != self.kept.plane]
        if self.kept.record.uneven and others:
            raise Problem(
                f"expected networks of {self.kept.plane} slices, as those of this series of uneven"
                f" spacing are, got one of {others[0].facts.plane} slices",
                where=self.drawings[0][0].case,
                remedy="Leave it out, resample it to one spacing, or take such members out.",
            )
        shape = volume.unslice(self.truths[0], self.planes[0]).shape
        seen = [self._shown_to(one) for one in self.members]
        yield from scans.every(self.members, seen, shape, self.scratch)

    @property
    def missing(self) -> int:
        """Slices that split left out and no network is shown: they count as background."""
        if any(one.facts.source == "scans" for one in self.members):
            return 0
        return len(self.back(self.truths[0])) - len(self.drawings[0])

    def back(self, stack: Stack) -> Stack:
        """A stack in the plane of the pairs."""
        return volume.slices(volume.unslice(stack, self.planes[0]), self.kept.plane)

    @cached_property
    def _images(self) -> Images:
        """The scan that convert kept."""
        first = self.drawings[0][0]
        return kept_scan.images(paths.converted(first.dataset), first, self.limits)

    def _shown_to(self, member: Member) -> Slices:
        """The slices of the case as a network is shown them: what it learnt from."""
        if member.facts.source == "scans":
            return viewed(self._images, member.facts, own_grey=True)
        return _OfPairs(self.drawings[0])

    def _turned(self, stack: Stack) -> Stack:
        return volume.slices(volume.unslice(stack, self.kept.plane), self.planes[0])


def predicted(case: Case, weights: Weights | None, *looks: Look) -> Stack:
    """The class ids that the networks answer to a case together, in the plane of the pairs."""
    stack = np.empty(case.truths[0].shape, np.uint8)
    for at, answers in case.slabs():
        probability = fusing.fused(answers, case.planes, weights)
        stack[at] = class_ids(case.temperatures(probability))
        for look in looks:
            look(at, answers, probability)
        del answers, probability  # before the next are computed
    return case.back(stack)


def answer(case: Case, weights: Weights | None, *looks: Look) -> Answer:
    """What the networks answer to a case, as :func:`model.scoring.answers.answer` has it of one.

    Calibration and the reference projects' metrics are those of the source's grid, slice by slice
    of the first network's plane.
    """
    beside = [Beside(truth) for truth in case.truths]

    def compare(at: slice, _: Answers, probability: Probabilities) -> None:
        calibrated = case.temperatures(probability)
        for one in beside:
            _compare(one, at, probability, calibrated, case.drawings[0][0].unlabelled)

    stack, missing = predicted(case, weights, compare, *looks), case.missing
    for one in beside:
        one.truth = case.back(one.truth)
    kept = case.kept
    return Answer(kept, stack, missing, beside, kept.grid.steps(kept.plane))


class _OfPairs:
    """The pictures of a case's pairs; slices that split left out have none."""

    def __init__(self, slices: Sequence[Pair]) -> None:
        self._pairs = {pair.slice_index: pair for pair in slices}
        self._folder = paths.dataset(slices[0].dataset)
        self.canvas = Canvas.of(slices[0].canvas)

    def picture(self, index: int) -> Image8 | None:
        pair = self._pairs.get(index)
        return None if pair is None else pictures.image(self._folder, pair)


def _compare(
    one: Beside,
    at: slice,
    probability: Probabilities,
    calibrated: Probabilities,
    unlabelled: Collection[int],
) -> None:
    """Add some slices to the sums of what one rater drew."""
    truth, last = one.truth[at], np.moveaxis(probability, 0, -1)
    one.calibration += Calibration.of(truth, last, unlabelled)
    one.calibrated += Calibration.of(truth, np.moveaxis(calibrated, 0, -1), unlabelled)
    background = np.zeros((1, 1, 1, len(probability)), np.float32)
    background[..., 0] = 1
    guesses = (
        (one.reference, last),
        (one.reference_background, np.broadcast_to(background, last.shape)),
    )
    for (means, guess), name in product(guesses, reference.METRICS):
        values = reference.METRICS[name](truth, guess, unlabelled)
        means.setdefault(name, []).extend(values[np.isfinite(values)].tolist())
