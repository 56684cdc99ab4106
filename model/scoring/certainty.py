"""Whether a network is as sure as it is right, and whether its doubt marks its errors.

Both are asked of the pixels near what was predicted: those of the predicted foreground and all
within :data:`NEAR_PX` steps of it in its slice, on the source's own grid. That choice looks at the
prediction alone. One that looks at the truth, as that of
:class:`~model.scoring.scores.Calibration` does, takes of the predicted background just the pixels
that are wrong, so that even a network with perfect probabilities seems too sure of itself. And the
whole picture would hide all else behind air and normal tissue, which any network is sure of. What
is missed far from everything predicted is in the negative log-likelihood, that of all voxels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from datasets_spec.contract import IGNORED
from model.inference.expected import Expected
from model.inference.fusing import LEAST
from model.inference.sampling import Probabilities, class_ids
from model.scoring.answers import Look
from model.scoring.scores import Calibration, Stack
from model.scoring.voxels import merged

NEAR_PX = 2
DOUBTS = 256
"""Bins of doubt, by the square root of the entropy: most of it is small."""

Floats = NDArray[np.float64]


@dataclass
class Likelihood:
    """How much probability the truth was given: its negative logarithms in nats, and voxels."""

    cost: float = 0.0
    voxels: int = 0

    def add(self, truth: Stack, probability: Probabilities) -> None:
        """Class ids (n,) and probabilities (classes, n)."""
        of_truth = np.take_along_axis(probability, truth[None].astype(np.intp), axis=0)
        self.cost -= float(np.log(np.maximum(of_truth, LEAST)).sum(dtype=np.float64))
        self.voxels += truth.size


@dataclass
class Sureness:
    """Sums over the slices of one case beside one rater, of one kind of probabilities.

    ``near``: confidence and right answers; ``wrong`` and ``right``: pixels by their doubt, (bins,);
    ``likelihood``: of all annotated voxels; ``expected``: the Dice that the probabilities lead one
    to expect.
    """

    expected: Expected
    near: Calibration = field(default_factory=Calibration.none)
    likelihood: Likelihood = field(default_factory=Likelihood)
    wrong: Floats = field(default_factory=lambda: np.zeros(DOUBTS))
    right: Floats = field(default_factory=lambda: np.zeros(DOUBTS))

    def add(self, truth: Stack, probability: Probabilities) -> None:
        """One slice: class ids (rows, columns), and p (classes, rows, columns)."""
        guess = class_ids(probability)
        self.expected.add(probability, guess)
        known = truth != IGNORED
        if known.all():
            self.likelihood.add(truth.ravel(), probability.reshape(len(probability), -1))
        else:
            self.likelihood.add(truth[known], probability[:, known])
        beside = near(guess) & known
        p, hit = probability[:, beside], guess[beside] == truth[beside]
        self.near += Calibration.counted(p.max(axis=0), hit)
        place = _doubts(p)
        self.wrong += np.bincount(place[~hit], minlength=DOUBTS)
        self.right += np.bincount(place[hit], minlength=DOUBTS)


@dataclass(frozen=True)
class Certainty:
    """Those of calibrated probabilities, which count, and of the network's own before.

    The latter are of nothing where nothing was calibrated.
    """

    own: Sureness
    calibrated: Sureness

    @classmethod
    def none(cls, classes: int) -> Certainty:
        """Of no slices."""
        return cls(Sureness(Expected.none(classes)), Sureness(Expected.none(classes)))

    @property
    def changed(self) -> bool:
        """Whether probabilities were calibrated."""
        return self.own.likelihood.voxels > 0

    @property
    def before(self) -> Sureness:
        """Those of the network's own probabilities."""
        return self.own if self.changed else self.calibrated

    def add(
        self,
        truth: Stack,
        own: Probabilities,
        calibrated: Probabilities,
        unlabelled: Collection[int] = (),
    ) -> None:
        """One slice: class ids (rows, columns), and both p (classes, rows, columns).

        What nobody annotated is left out; classes of ``unlabelled`` count as background.
        """
        if own is not calibrated:
            self.own.add(truth, merged(own, unlabelled))
        self.calibrated.add(truth, merged(calibrated, unlabelled))


def look(certain: Sequence[Certainty], unlabelled: Collection[int]) -> Look:
    """Fills the sums of one case beside each rater, slice by slice."""

    def add(truths: Sequence[Stack], own: Probabilities, calibrated: Probabilities) -> None:
        for one, truth in zip(certain, truths, strict=True):
            one.add(truth, own, calibrated, unlabelled)

    return add


def near(guess: Stack) -> NDArray[np.bool_]:
    """Where in a slice of class ids (rows, columns) foreground is predicted, or close by."""
    foreground = guess > 0
    if not foreground.any():
        return foreground
    steps = ndimage.generate_binary_structure(2, 1)
    return np.asarray(ndimage.binary_dilation(foreground, steps, NEAR_PX), bool)


def _doubts(probability: Probabilities) -> NDArray[np.intp]:
    """The bins of (classes, n): by their entropy as a share of the most there can be."""
    safe = np.maximum(probability, np.finfo(np.float32).tiny)
    share = -(probability * np.log(safe)).sum(axis=0) / math.log(len(probability))
    bins: NDArray[np.intp] = (np.sqrt(np.clip(share, 0, 1)) * DOUBTS).astype(np.intp)
    return np.minimum(bins, DOUBTS - 1)


def ranked(wrong: Floats, right: Floats) -> tuple[Floats, Floats]:
    """How well doubt marks errors: area under the ROC curve, and average precision.

    Of counts by rising doubt (..., bins). The area is how likely an error is more in doubt than a
    right answer, equal ones counting half; .5 is chance. The precision is that of the most doubtful
    first (Davis & Goadrich, ICML 2006); chance is the share of errors. NaN where there are none,
    or errors alone.
    """
    errors, rights = wrong.sum(axis=-1), right.sum(axis=-1)
    below = np.cumsum(right, axis=-1) - right / 2
    won = (wrong * below).sum(axis=-1)
    pairs = errors * rights
    area = np.divide(won, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)
    found = np.cumsum(wrong[..., ::-1], axis=-1)
    looked = found + np.cumsum(right[..., ::-1], axis=-1)
    precision = np.divide(found, looked, out=np.zeros(found.shape), where=looked > 0)
    sums = (precision * wrong[..., ::-1]).sum(axis=-1)
    average = np.divide(sums, errors, out=np.full(errors.shape, np.nan), where=pairs > 0)
    return area, average


def rank_correlation(one: Floats, other: Floats, times: Floats) -> Floats:
    """Spearman's correlation of two values of cases (n,), each counted ``times`` (..., n).

    Equal values share the mean of their ranks. NaN where one does not vary.
    """
    ranks = [_ranks(each, times) for each in (one, other)]
    total = times.sum(axis=-1, keepdims=True)
    safe = np.maximum(total, 1)
    apart = [each - (each * times).sum(axis=-1, keepdims=True) / safe for each in ranks]
    both = (apart[0] * apart[1] * times).sum(axis=-1)
    spread = np.sqrt(np.prod([(each**2 * times).sum(axis=-1) for each in apart], axis=0))
    found: Floats = np.divide(both, spread, out=np.full(both.shape, np.nan), where=spread > 1e-9)
    return found


def _ranks(values: Floats, times: Floats) -> Floats:
    """The mean rank of each of some values (n,), counted ``times`` (..., n)."""
    _, group = np.unique(values, return_inverse=True)
    members = np.eye(group.max() + 1)[group]  # (n, values)
    counts = times @ members
    ranks: Floats = (np.cumsum(counts, axis=-1) - counts / 2)[..., group]
    return ranks
