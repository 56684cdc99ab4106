"""How much each network of an ensemble counts for each class, chosen on cases that it did not see.

Equal weights are hard to beat, and many weights are easily fitted to few patients. So there are few
to choose from: networks of one plane form a group (or each is one, where all see one plane), and
for each class one group may be left out, count half or count double. A class takes the best of
these only if it gains by more than noise on patients that had no part in its choice: each patient
is judged by what all others chose. Background weighs as the other classes do on average.

Whether the choices of all classes gain together is asked in a second look at the same cases.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, LabelMap
from model.inference import fusing
from model.inference.fusing import Weights
from model.inference.sampling import Probabilities
from model.scoring.bootstrap import Resamples, interval
from model.scoring.fused import Answers, Case
from model.scoring.postprocess import helps

_FACTORS = (0.0, 0.5, 2.0)
Floats = NDArray[np.float64]


def groups(planes: Sequence[str]) -> list[str]:
    """The group of each network: its plane or, where all see one, the network by its place.

    >>> groups(["axial", "coronal", "axial"]), groups(["axial", "axial"])
    (['axial', 'coronal', 'axial'], ['0', '1'])
    """
    if len(set(planes)) > 1:
        return list(planes)
    return [str(at) for at in range(len(planes))]


def candidates(of: Sequence[str]) -> list[Floats]:
    """Weights of the networks (members,), whose sum is 1, equal ones first; none twice."""
    every: list[Floats] = []
    for group, factor in [("", 1.0), *((one, f) for one in sorted(set(of)) for f in _FACTORS)]:
        row = np.array([factor if one == group else 1.0 for one in of])
        row = row / row.sum() if row.sum() else row
        if row.any() and not any(np.allclose(row, other) for other in every):
            every.append(row)
    return every


def among(rows: Sequence[Floats], voters: Sequence[int]) -> list[Floats]:
    """The candidates of some networks alone; one that weighs none of them is that of equal ones."""
    equal = np.full(len(voters), 1 / len(voters))
    totals = [row[list(voters)].sum() for row in rows]
    return [
        row[list(voters)] / total if total else equal
        for row, total in zip(rows, totals, strict=True)
    ]


@dataclass(frozen=True)
class Choice:
    """The weights of the networks for one class, and what they gained on patients left out."""

    row: Floats
    gain: float
    low: float
    high: float
    patients: int

    @property
    def kept(self) -> bool:
        """Whether they gain by more than noise."""
        return helps(self.gain, self.low, self.patients)


class OfCase:
    """The Dice of every class under every candidate, in one case; counted slab by slab."""

    def __init__(self, case: Case, rows: Sequence[Floats]) -> None:
        self.case, self._rows = case, rows
        self._classes = len(case.members[0].facts.label_map)
        # by rater: candidates, classes, and voxels (or ml) drawn, predicted and both
        shape = (len(case.truths), len(rows), self._classes, 3)
        self._counts = np.zeros(shape)

    def look(self, at: slice, answers: Answers, _: Probabilities) -> None:
        """Count some slices, as :data:`model.scoring.fused.Look` has them."""
        ml = self.case.kept.voxel_ml
        weight = 1.0 if isinstance(ml, float) else ml[at]
        equal = np.tensordot(self._rows[0].astype(np.float32), answers, axes=1)
        for label in range(1, self._classes):
            others = [one for one in range(1, self._classes) if one != label]
            before = [equal[one] for one in others if one < label]
            after = [equal[one] for one in others if one > label]
            for number, row in enumerate(self._rows):
                own = np.tensordot(row.astype(np.float32), answers[:, label], axes=1)
                background = (row + (self._classes - 2) * self._rows[0]) / (self._classes - 1)
                empty = np.tensordot(background.astype(np.float32), answers[:, 0], axes=1)
                marked = own > empty
                for one in before:
                    marked &= own > one
                for one in after:
                    marked &= own >= one
                self._count(number, label, at, marked, weight)

    def _count(
        self, number: int, label: int, at: slice, marked: NDArray[np.bool_], weight: Any
    ) -> None:
        for rater, truth in enumerate(self.case.truths):
            drawn, known = truth[at] == label, truth[at] != IGNORED
            for place, mask in enumerate((drawn, marked & known, marked & drawn)):
                voxels = np.count_nonzero(mask, axis=(1, 2))
                self._counts[rater, number, label, place] += float((voxels * weight).sum())

    def dice(self) -> Floats:
        """(raters, candidates, foreground classes); 1 of a class that is nowhere.

        NaN of one that nobody annotated in the case.
        """
        drawn, marked, both = np.moveaxis(self._counts[:, :, 1:], -1, 0)
        total = drawn + marked
        found = np.where(total > 0, 2 * both / np.where(total > 0, total, 1), 1.0)
        for label in self.case.drawings[0][0].unlabelled:
            found[:, :, label - 1] = math.nan
        return found


@dataclass
class Search:
    """The Dice of every candidate for every class, case by case."""

    rows: Sequence[Floats]
    label_map: LabelMap
    patients: list[str] = field(default_factory=list)
    _dice: list[Floats] = field(default_factory=list)

    def add(self, counted: OfCase) -> None:
        """Add a case of which all slices are counted, once for each rater."""
        for of_rater in counted.dice():
            self.patients.append(counted.case.drawings[0][0].patient)
            self._dice.append(of_rater)

    def choose(self, *key: object) -> dict[int, Choice]:
        """The best candidate for every class, kept or not; ``key`` draws the resamples."""
        if not self._dice or len(self.rows) < 2:
            return {}
        every = np.stack(self._dice)  # (cases, candidates, foreground classes)
        chosen = {}
        for label in range(1, len(self.label_map)):
            dice = every[:, :, label - 1]
            known = np.isfinite(dice[:, 0])
            if known.any():
                patients = [one for one, there in zip(self.patients, known, strict=True) if there]
                chosen[label] = _chosen(dice[known], patients, self.rows, *key)
        return chosen


def table(choices: dict[int, Choice], members: int, classes: int) -> Weights | None:
    """The weights of every network and class; None where no choice is kept."""
    kept = {label: one for label, one in choices.items() if one.kept}
    if not kept:
        return None
    weights = np.full((members, classes), 1 / members)
    for label, one in kept.items():
        weights[:, label] = one.row
    weights[:, 0] = weights[:, 1:].mean(axis=1)
    return fusing.normalised(weights)


def _chosen(dice: Floats, patients: Sequence[str], rows: Sequence[Floats], *key: object) -> Choice:
    """Of one class: ``dice`` (cases, candidates), of which the first is that of equal weights."""
    gains = dice - dice[:, :1]
    names = np.array(patients)
    honest = np.zeros(len(gains))
    for patient in set(patients):
        own = names == patient
        if not own.all():
            honest[own] = gains[own, _best(gains[~own])]
    resamples = Resamples.drawn(patients, *key)
    low, high = interval(resamples.means(patients, honest)) or (math.nan, math.nan)
    best = _best(gains)
    return Choice(rows[best], float(honest.mean()), low, high, len(resamples.patients))


def _best(gains: Floats) -> int:
    return int(gains.mean(axis=0).argmax())
