"""Which small corrections of a prediction (:mod:`model.inference.rules`) valid chooses.

They are chosen per class by the gain in Dice over the cases of valid, and kept only if that gain
is :data:`LEAST_GAIN` or more, its 95 % interval over the *patients* lies above 0, and there are
:data:`LEAST_PATIENTS` or more of them: a rule that helped by chance would cost on test. A class
that is in neither truth nor prediction counts as a Dice of 1 here, so that removing what was
invented is a gain. Cases in which nobody annotated the class are not asked about it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED
from model.inference import structure
from model.inference.facts import LEAST_PATIENTS
from model.inference.rules import Rule
from model.regions import Amount, box, holes, regions, runs, slabs, within
from model.scoring import obeying
from model.scoring.bootstrap import Resamples, interval, mean_over
from model.scoring.obeying import Case, Cases, Obeyed
from model.scoring.scores import Stack
from pipeline.structure.label_rules import LabelRule

LEAST_GAIN = 0.001
SMALLEST_ML = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Choice:
    """A rule, its mean gain in Dice on valid with the 95 % interval, and whether it is kept."""

    rule: Rule
    gain: float
    low: float
    high: float
    patients: int

    @property
    def kept(self) -> bool:
        """Whether it helps by more than noise."""
        return self.rule != Rule() and helps(self.gain, self.low, self.patients)


def helps(gain: float, low: float, patients: int) -> bool:
    """Whether a gain on valid, with the lower end of its interval, is more than noise."""
    return patients >= LEAST_PATIENTS and gain >= LEAST_GAIN and low > 0


# the mildest first: of equal gains, the first is taken
RULES = tuple(Rule(fill, ml) for ml, fill in product(SMALLEST_ML, (False, True)))


class Search:
    """The Dice of every rule for every class, case by case of valid.

    ``label_rules``: those that train's labels obey, for :meth:`obey`.
    """

    def __init__(self, classes: int, label_rules: Sequence[LabelRule] = ()) -> None:
        self._label_rules = tuple(label_rules)
        self._cases = Cases()
        self._dice: dict[int, list[list[float]]] = {label: [] for label in range(1, classes)}
        self.patients: list[str] = []

    def add(
        self,
        patient: str,
        truth: Stack,
        predicted: Stack,
        voxel_ml: Amount,
        planar: bool,
        unlabelled: Collection[int] = (),
        world: NDArray[np.float64] | None = None,
    ) -> None:
        """Try every rule on one case, but for the classes that nobody annotated in it.

        ``world`` (4, 4): indices of the stacks to mm; None of slices without one spacing.
        """
        self.patients.append(patient)
        if self._label_rules and not planar:
            self._cases.add(Case(patient, truth, predicted, voxel_ml, unlabelled, world))
        self._try(truth, predicted, voxel_ml, planar, unlabelled)

    def obey(self, *key: object) -> list[Obeyed]:
        """What the label rules gain, see :func:`model.scoring.obeying.choose`.

        From then on, :meth:`choose` is asked about predictions that obey those that are kept.
        """
        tried = obeying.choose(self._cases, self._label_rules, len(self._dice) + 1, *key)
        if kept := [one.rule for one in tried if one.kept]:
            for rows in self._dice.values():
                rows.clear()
            for case in self._cases:
                ids = structure.obey(case.predicted, kept, case.world)
                self._try(case.truth, ids, case.voxel_ml, False, case.unlabelled)
        return tried

    def _try(
        self,
        truth: Stack,
        predicted: Stack,
        voxel_ml: Amount,
        planar: bool,
        unlabelled: Collection[int],
    ) -> None:
        for label, rows in self._dice.items():
            if label in unlabelled:
                rows.append([math.nan] * len(RULES))
            else:
                rows.append(_dice_of_rules(truth, predicted, label, voxel_ml, planar))

    def plain_dice(self) -> NDArray[np.float64]:
        """The mean foreground Dice of every case without any rule, (cases,)."""
        by_class = [[dice[0] for dice in rows] for rows in self._dice.values()]
        return mean_over(np.array(by_class).T)

    def choose(self, *key: object) -> dict[int, Choice]:
        """The best rule of every class, kept or not; ``key`` draws the resamples."""
        chosen = {}
        for label, rows in self._dice.items():
            known = [at for at, row in enumerate(rows) if not math.isnan(row[0])]
            if not known:
                continue
            patients = [self.patients[at] for at in known]
            resamples = Resamples.drawn(patients, *key)
            dice = np.array([rows[at] for at in known])  # (cases, rules)
            gains = dice - dice[:, :1]
            best = int(gains.mean(axis=0).argmax())
            bounds = interval(resamples.means(patients, gains[:, best]))
            assert bounds is not None
            chosen[label] = Choice(
                RULES[best], float(gains[:, best].mean()), *bounds, len(resamples.patients)
            )
        return chosen


def _dice_of_rules(
    truth: Stack, predicted: Stack, label: int, voxel_ml: Amount, planar: bool
) -> list[float]:
    """Dice of one class in one case under each of :data:`RULES`, of what was annotated.

    Of voxels or, where slices differ in thickness, of volumes.
    """
    weight: Amount = 1.0 if isinstance(voxel_ml, float) else voxel_ml
    counts = [np.count_nonzero(slab == label, axis=(1, 2)) for slab in slabs(truth)]
    total = float((np.concatenate(counts) * weight).sum())
    near = box(predicted, label)
    truth, predicted = truth[near], predicted[near]
    voxel_ml, weight = (within(one, near[0]) for one in (voxel_ml, weight))
    mask = predicted == label
    drawn, unknown = (runs(slab == value for slab in slabs(truth)) for value in (label, IGNORED))
    measured = {}
    for fill in (False, True):
        filled = mask | (holes(mask, planar) & (predicted == 0)) if fill else mask
        found = regions(filled, corners=True, planar=planar)
        judged = found.amounts(weight) - found.amounts_in(unknown, weight)
        measured[fill] = found.amounts(voxel_ml), judged, found.amounts_in(drawn, weight)
    dice = []
    for rule in RULES:
        ml, judged, both = measured[rule.fill_holes]
        kept = ml >= rule.smallest_ml
        whole = total + float(judged[kept].sum())
        dice.append(2 * float(both[kept].sum()) / whole if whole else 1.0)
    return dice
