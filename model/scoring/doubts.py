"""Which slices' labels a network speaks against: what finds wrong labels among unseen patients.

A network that did not learn from a patient gives each voxel's label a probability p. It is unsure
along every border, and the longer the border the more of that there is, so sums and means rank
large structures first, and least values rank chance. The doubt of a slice is the sum of 1 - p over
the areas, two voxels wide or more, in which another class is seen, divided by the square root of
the area of what is drawn or seen: evidence against the labels per length of border.

Beside it stands the soft minimum of cleanlab's segmentation score, for comparison: the mean of all
p, each weighed by exp((1 - p) / T), T = 0.1 (Lad and Mueller, Estimating label quality and errors
in semantic segmentation data via any model, 2023, arXiv 2307.05080). Of errors that were planted in
5 % of the labelled slices of 160 hippocampi, the first tenth of all slices by doubt held 97 %, and
by the soft minimum 74 % (tests/benchmarks/planted.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datasets_spec.contract import IGNORED
from model.inference.sampling import Probabilities
from model.scoring.answers import Drawings, Look, slices_of
from model.scoring.scores import Mask, Stack
from model.scoring.voxels import merged
from pipeline.volumes import volume
from pipeline.volumes.volume import Ml

TEMPERATURE = 0.1
_MOST = np.uint8(255)  # a probability of 1


@dataclass(frozen=True)
class Doubt:
    """A slice in which the network sees another class somewhere than is drawn.

    ``doubt`` and ``soft_minimum``: see the top of the module; a low minimum is bad. ``drawn`` and
    ``seen`` are the class ids that differ with most confidence, ``voxels`` and ``ml`` how much
    differs so, and ``confidence`` the mean probability there that the label is wrong.
    """

    slice_index: int
    doubt: float
    soft_minimum: float
    drawn: int
    seen: int
    voxels: int
    ml: float
    confidence: float


class OfLabels:
    """The probability that each voxel's label is given, rater by rater, as a share of 255.

    Slices come one after the other, in the order in which the network is asked about them.
    """

    def __init__(self, raters: int, unlabelled: Collection[int]) -> None:
        self._slices: list[list[Stack]] = [[] for _ in range(raters)]
        self._unlabelled = unlabelled

    def add(self, truths: Sequence[Stack], calibrated: Probabilities) -> None:
        """One slice: class ids of each rater (rows, columns), and p (classes, rows, columns)."""
        p = merged(calibrated, self._unlabelled)
        for slices, truth in zip(self._slices, truths, strict=True):
            given = np.full(truth.shape, _MOST)
            for label in np.unique(truth[truth != IGNORED]):
                here = truth == label
                given[here] = np.rint(p[label][here] * float(_MOST)).astype(np.uint8)
            slices.append(given)

    def stacks(self, count: int, indices: Sequence[int] | None = None) -> list[Stack]:
        """(N, rows, columns) of each rater; slices that are not among ``indices`` are in no doubt.

        ``indices``: which of ``count`` slices came; None: all.
        """
        found = []
        for slices in self._slices:
            stack = np.full((count, *slices[0].shape), _MOST)
            stack[slice(None) if indices is None else list(indices)] = slices
            found.append(stack)
        return found


def looking(labels: OfLabels, look: Look) -> Look:
    """``look``, and :meth:`OfLabels.add`."""

    def both(truths: Sequence[Stack], own: Probabilities, calibrated: Probabilities) -> None:
        look(truths, own, calibrated)
        labels.add(truths, calibrated)

    return both


def in_plane(labels: OfLabels, drawings: Drawings, plane: str, from_pairs: bool) -> list[Stack]:
    """What one network gave the labels of a case, in the plane of its pairs.

    ``plane`` is that of the slices that it was asked about; ``from_pairs``: whether these were the
    pairs themselves, of which split may have left some out.
    """
    first = drawings[0][0]
    count = slices_of(first, plane)
    if from_pairs:
        return labels.stacks(count, [pair.slice_index for pair in drawings[0]])
    return [volume.slices(volume.unslice(one, plane), first.plane) for one in labels.stacks(count)]


def soft_minimum(p: NDArray[np.floating]) -> float:
    """See the top of the module. Probabilities (n,), n > 0.

    >>> soft_minimum(np.array([1.0, 1.0])), round(soft_minimum(np.array([1.0] * 999 + [0.0])), 3)
    (1.0, 0.043)
    """
    weights = np.exp((1 - p) / TEMPERATURE)
    return float((p * weights).sum() / weights.sum())


def against_the_labels(p: NDArray[np.float64], wrong: Mask, truth: Stack, seen: Stack) -> float:
    """The doubt of a slice: see the top of the module. All (rows, columns).

    >>> square = np.zeros((12, 12), np.uint8)
    >>> square[2:10, 2:10] = 1
    >>> nothing, p = np.zeros_like(square), np.full(square.shape, 0.25)
    >>> against_the_labels(p, square > 0, nothing, square)
    6.0
    >>> against_the_labels(p, square[:, ::-1] > 9, square, square)
    0.0
    """
    wide = ndimage.binary_opening(wrong, np.ones((2, 2)))
    area = max(int(np.count_nonzero(truth)), int(np.count_nonzero(seen)), 1)
    return float((1 - p[wide]).sum() / math.sqrt(area))


def of_case(given: Stack, truth: Stack, seen: Stack, voxel_ml: Ml) -> Iterator[Doubt]:
    """Every slice (N, rows, columns) whose labels the network would draw otherwise somewhere.

    ``given``: of :class:`OfLabels`; ``seen``: the class ids that the network answers.
    """
    classes = int(max(seen.max(), truth[truth != IGNORED].max(initial=0))) + 1
    ml = np.broadcast_to(voxel_ml, len(given))
    for index in range(len(given)):
        known = truth[index] != IGNORED
        wrong = known & (seen[index] != truth[index]) & (given[index] < _MOST)
        if not wrong.any():
            continue
        p = given[index].astype(np.float64) / float(_MOST)
        kinds = truth[index][wrong].astype(np.intp) * classes + seen[index][wrong]
        against = np.bincount(kinds, weights=1 - p[wrong], minlength=classes**2)
        strongest = int(against.argmax())
        voxels = int(np.count_nonzero(kinds == strongest))
        yield Doubt(
            index,
            round(against_the_labels(p, wrong, truth[index] * known, seen[index]), 6),
            round(soft_minimum(p[known]), 6),
            *divmod(strongest, classes),
            voxels,
            round(voxels * float(ml[index]), 6),
            round(float(against[strongest]) / voxels, 6),
        )
