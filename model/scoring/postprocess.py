"""Small corrections of a prediction, chosen on valid: holes filled, small components removed.

They are chosen per class by the gain in Dice over the cases of valid, and kept only if that gain
is :data:`LEAST_GAIN` or more, its 95 % interval over the *patients* lies above 0, and there are
:data:`LEAST_PATIENTS` or more of them: a rule that helped by chance would cost on test. A class
that is in neither truth nor prediction counts as a Dice of 1 here, so that removing what was
invented is a gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from model.inference.rules import Rule
from model.scoring.bootstrap import Resamples, interval
from model.scoring.scores import Mask, Parts, Stack, box, corners, slabs

LEAST_PATIENTS = 5
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


def apply(
    ids: Stack, rules: Mapping[int, Rule], voxel_ml: float, planar: bool
) -> NDArray[np.uint8]:
    """Class ids (N, H, W) with the rule of every class id in ``rules`` applied, in order.

    Only background is filled, and what is removed becomes background.
    """
    changed = ids.copy()
    for label, rule in sorted(rules.items()):
        part = changed[box(changed, label)]  # a view; what is enclosed lies in it
        if rule.fill_holes:
            part[holes(part == label, planar) & (part == 0)] = label
        if rule.smallest_ml:
            pieces, again = Parts(corners(planar)), Parts(corners(planar))
            for slab in slabs(part):
                pieces.add(slab == label)
            small = pieces.sizes() * voxel_ml < rule.smallest_ml
            small[0] = False
            removed = small[pieces.whole()]
            for slab in slabs(part):
                slab[removed[again.add(slab == label)]] = 0
    return changed


def holes(mask: Mask, planar: bool) -> Mask:
    """What ``mask`` (N, H, W) encloses: parts of its outside that do not reach the border.

    Parts hang together by their sides (6 neighbours; 4 when planar, slice by slice).
    """
    near = ndimage.generate_binary_structure(3, 1)
    if planar:
        near[[0, 2]] = False
    pieces, again = Parts(near), Parts(near)
    border = [np.zeros(1, np.int64)]
    ends = [np.zeros(1, np.int64)]
    for slab in slabs(mask):
        numbers = pieces.add(~slab)
        border += [np.unique(numbers[:, [0, -1]]), np.unique(numbers[:, :, [0, -1]])]
        ends += [np.unique(numbers[0]), np.unique(numbers[-1])]
    if not planar:
        border += [*ends[:2], ends[-1]]
    whole = pieces.whole()
    closed = np.ones(len(whole), bool)
    closed[whole[np.concatenate(border)]] = False
    enclosed = np.zeros(mask.shape, bool)
    for slab, inside in zip(slabs(mask), slabs(enclosed), strict=True):
        inside[:] = closed[whole[again.add(~slab)]]
    return enclosed


class Search:
    """The Dice of every rule for every class, case by case of valid."""

    def __init__(self, classes: int) -> None:
        self._dice: dict[int, list[list[float]]] = {label: [] for label in range(1, classes)}
        self.patients: list[str] = []

    def add(
        self, patient: str, truth: Stack, predicted: Stack, voxel_ml: float, planar: bool
    ) -> None:
        """Try every rule on one case."""
        self.patients.append(patient)
        for label, rows in self._dice.items():
            rows.append(_dice_of_rules(truth, predicted, label, voxel_ml, planar))

    def plain_dice(self) -> NDArray[np.float64]:
        """The mean foreground Dice of every case without any rule, (cases,)."""
        by_class = [[dice[0] for dice in rows] for rows in self._dice.values()]
        mean: NDArray[np.float64] = np.array(by_class).mean(axis=0)
        return mean

    def choose(self, *key: object) -> dict[int, Choice]:
        """The best rule of every class, kept or not; ``key`` draws the resamples."""
        if not self.patients:
            return {}
        resamples = Resamples.drawn(self.patients, *key)
        chosen = {}
        for label, rows in self._dice.items():
            dice = np.array(rows)  # (cases, rules)
            gains = dice - dice[:, :1]
            best = int(gains.mean(axis=0).argmax())
            bounds = interval(resamples.means(self.patients, gains[:, best]))
            assert bounds is not None
            chosen[label] = Choice(
                RULES[best], float(gains[:, best].mean()), *bounds, len(resamples.patients)
            )
        return chosen


def _dice_of_rules(
    truth: Stack, predicted: Stack, label: int, voxel_ml: float, planar: bool
) -> list[float]:
    """Dice of one class in one case under each of :data:`RULES`."""
    total = sum(int(np.count_nonzero(slab == label)) for slab in slabs(truth))
    near = box(predicted, label)
    truth, predicted = truth[near], predicted[near]
    mask = predicted == label
    counts = {}
    for fill in (False, True):
        filled = mask | (holes(mask, planar) & (predicted == 0)) if fill else mask
        pieces, right = Parts(corners(planar)), [np.zeros(0, np.int64)]
        for slab, drawn in zip(slabs(filled), slabs(truth), strict=True):
            right.append(pieces.add(slab)[drawn == label])
        voxels, whole = pieces.sizes(), pieces.whole()
        both = np.bincount(whole[np.concatenate(right)], minlength=len(voxels))
        counts[fill] = voxels[1:], both[1:]
    dice = []
    for rule in RULES:
        voxels, both = counts[rule.fill_holes]
        kept = voxels * voxel_ml >= rule.smallest_ml
        sizes = total + int(voxels[kept].sum())
        dice.append(2 * int(both[kept].sum()) / sizes if sizes else 1.0)
    return dice
