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

from model.inference import fusing, scans
from model.inference.fusing import Weights
from model.inference.member import Member
from model.inference.sampling import Probabilities, class_ids
from model.scoring import reference
from model.scoring.answers import Answer, Beside, Drawings
from model.scoring.scores import Calibration, Stack
from pipeline import paths
from pipeline.pairs import png
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.limits import Limits
from pipeline.volumes import volume
from pipeline.volumes.arrays import Image8

Answers = NDArray[np.float32]
"""Of each network (members, classes, n, rows, columns)."""
Look = Callable[[slice, Answers, Probabilities], object]
"""Called with some slices, what each network answers to them, and what all do together."""


@dataclass(frozen=True)
class Case:
    """One case, and the networks that are asked about it; what is computed waits in ``scratch``.

    Stacks are (N, rows, columns) in the plane of the first network, as :mod:`model.inference.scans`
    has them.
    """

    members: Sequence[Member]
    drawings: Drawings
    limits: Limits
    scratch: Path

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
        """What each network answers, some slices at a time: :func:`model.inference.scans.every`."""
        shape = volume.unslice(self.truths[0], self.planes[0]).shape
        seen = [_OfPairs(self.drawings[0]) for _ in self.members]
        yield from scans.every(self.members, seen, shape, self.scratch)

    def back(self, stack: Stack) -> Stack:
        """A stack in the plane of the pairs."""
        return volume.slices(volume.unslice(stack, self.planes[0]), self.kept.plane)

    def _turned(self, stack: Stack) -> Stack:
        return volume.slices(volume.unslice(stack, self.kept.plane), self.planes[0])


def predicted(case: Case, weights: Weights | None, *looks: Look) -> Stack:
    """The class ids that the networks answer to a case together, in the plane of the pairs."""
    stack = np.empty(case.truths[0].shape, np.uint8)
    for at, answers in case.slabs():
        probability = fusing.fused(answers, case.planes, weights)
        stack[at] = class_ids(probability)
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
        for one in beside:
            _compare(one, at, probability, case.drawings[0][0].unlabelled)

    stack = predicted(case, weights, compare, *looks)
    for one in beside:
        one.truth = case.back(one.truth)
    kept, missing = case.kept, len(stack) - len(case.drawings[0])
    return Answer(kept, stack, missing, beside, kept.grid.steps(kept.plane))


class _OfPairs:
    """The pictures of a case's pairs; slices that split left out have none."""

    def __init__(self, slices: Sequence[Pair]) -> None:
        self._pairs = {pair.slice_index: pair for pair in slices}
        self._folder = paths.dataset(slices[0].dataset) / slices[0].split
        self.canvas = Canvas.of(slices[0].canvas)

    def picture(self, index: int) -> Image8 | None:
        pair = self._pairs.get(index)
        return None if pair is None else png.read_image(self._folder / pair.image, pair.depth)


def _compare(
    one: Beside, at: slice, probability: Probabilities, unlabelled: Collection[int]
) -> None:
    """Add some slices to the sums of what one rater drew."""
    truth, last = one.truth[at], np.moveaxis(probability, 0, -1)
    one.calibration += Calibration.of(truth, last, unlabelled)
    background = np.zeros((1, 1, 1, len(probability)), np.float32)
    background[..., 0] = 1
    guesses = (
        (one.reference, last),
        (one.reference_background, np.broadcast_to(background, last.shape)),
    )
    for (means, guess), name in product(guesses, reference.METRICS):
        values = reference.METRICS[name](truth, guess, unlabelled)
        means.setdefault(name, []).extend(values[np.isfinite(values)].tolist())
