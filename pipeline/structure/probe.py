"""Which rules the labels of train obey in nearly all patients, and not by chance.

A rule is stated if it holds in :data:`NEARLY_ALL` of :data:`LEAST_PATIENTS` or more patients who
show its classes, in all of their drawings. It holds in a drawing

- of a plane, if the border of both classes deviates from it by :data:`verdicts.BORDER_VOXELS` or
  less in the mean, and the first class is on the same side in all patients;
- of one piece and of a class inside another, up to :data:`verdicts.STRAY` of the voxels or of the
  border;
- of classes that never touch, up to the same share of the smaller one's border.

What would hold by chance is no rule: a plane must divide classes that share a border
(:data:`verdicts.LEAST_AREA`), classes that never touch must lie side by side, a class must have
:data:`LEAST_VOXELS` voxels, and its name must mean the same in every patient
(:mod:`pipeline.structure.identity`). So labels whose voxels, pieces or names are shuffled obey
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, permutations
from statistics import fmean, median

import numpy as np

from pipeline.runtime import executor
from pipeline.runtime.executor import Workers
from pipeline.structure import cuts, shapes, verdicts
from pipeline.structure.cuts import Floats, Ids
from pipeline.structure.identity import recognised
from pipeline.structure.label_rules import APART, DIVIDED, NESTED, ONCE, LabelRule
from pipeline.structure.shapes import Shape
from pipeline.structure.verdicts import STRAY, Verdict

LEAST_PATIENTS = 12
NEARLY_ALL = 0.9
LEAST_VOXELS = 50
_ALIKE = 0.5  # cosine between a plane's normal and the patients' mean
_TOLERATED = {
    DIVIDED: "up to half a voxel in the mean",
    ONCE: f"up to {STRAY:.0%} of its voxels",
    NESTED: f"up to {STRAY:.0%} of its border",
    APART: f"up to {STRAY:.0%} of the smaller one's border",
}


@dataclass(frozen=True)
class Drawing:
    """Class ids that someone drew of a patient, read when they are asked for.

    ``read`` gives (N, rows, columns), and the affine (4, 4) of these indices to mm in RAS+.
    ``unlabelled``: classes that nobody annotated in it.
    """

    patient: str
    read: Callable[[], tuple[Ids, Floats]]
    unlabelled: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Evidence:
    """A rule, in how many ``patients`` it was asked, holds, and holds to the voxel.

    ``dice``: of :data:`DIVIDED`, the mean Dice of both classes as the cut alone would draw them.
    """

    rule: LabelRule
    patients: int
    holds: int
    exact: int
    dice: float | None = None

    def sentence(self, names: Sequence[str]) -> str:
        """For people; ``names``: those of all classes by their ids."""
        alone = f"; the cut alone draws both at a mean Dice of {self.dice:.3f}" if self.dice else ""
        return (
            f"{self.rule.in_words(names)}: in {self.holds} of {self.patients} patients of train"
            f" ({_TOLERATED[self.rule.kind]}), exactly in {self.exact}{alone}"
        )


@dataclass(frozen=True)
class Probed:
    """The rules that the drawings of so many patients obey, those of planes first."""

    patients: int
    rules: tuple[Evidence, ...] = ()


@dataclass
class _Seen:
    """What a drawing showed."""

    drawing: Drawing
    shape: Shape
    planes: dict[tuple[int, int], Verdict]

    def knows(self, *classes: int) -> bool:
        """Whether all of these classes are drawn in it, as a whole."""
        return not self.drawing.unlabelled & {*classes} and self.shape.present(*classes)


def probe(
    drawings: Sequence[Drawing], classes: int, name: str = "", workers: Workers = 1
) -> Probed:
    """The rules that these drawings obey.

    Case by case, so memory does not grow with their number. ``name``: of the dataset, for the
    progress bar.

    >>> ids = np.zeros((9, 12, 9), np.uint8)
    >>> ids[1:8, 1:8, 1:8], ids[1:8, 8:11, 1:8] = 1, 2
    >>> drawings = [Drawing(f"patient {n}", lambda: (ids, np.eye(4))) for n in range(12)]
    >>> probed = probe(drawings, 3)
    >>> probed.rules[0].rule.in_words(("background", "head", "tail"))
    'head and tail are divided by a coronal plane, head on the posterior side'
    """
    patients = len({one.patient for one in drawings})
    if patients < LEAST_PATIENTS:
        return Probed(patients)
    title = f"label rules {name}".strip()
    looked = executor.results(partial(_looked_at, classes), drawings, workers, title)
    seen = [_Seen(drawing, *shown) for drawing, shown in looked]
    named = recognised([(one.drawing.patient, one.shape) for one in seen], classes)
    sure = [label for label in range(1, classes) if label in named and _large(seen, label)]
    nested = list(_nested(seen, sure))
    inside = {one.rule.classes[1] for one in nested}
    outside = [label for label in sure if label not in inside]
    rules = (*_divided(seen, sure), *nested, *_apart(seen, outside), *_once(seen, sure))
    return Probed(patients, rules)


def _looked_at(classes: int, drawing: Drawing) -> tuple[Shape, dict[tuple[int, int], Verdict]]:
    ids, world = drawing.read()
    shape = shapes.measure(ids, world, classes)
    planes = {
        pair: verdicts.of_axis(ids, world, shape, *pair)
        for pair in combinations(range(1, classes), 2)
        if shape.present(*pair) and verdicts.flat(shape, *pair)
    }
    return shape, planes


def _large(seen: Sequence[_Seen], label: int) -> bool:
    sizes = [int(one.shape.voxels[label]) for one in seen if one.knows(label)]
    return bool(sizes) and median(sizes) >= LEAST_VOXELS


def _judged(rule: LabelRule, judged: Sequence[tuple[_Seen, Verdict]]) -> Iterator[Evidence]:
    """The evidence of a rule, if it holds in nearly all of enough patients."""
    patients = {one.drawing.patient for one, _ in judged}
    broken = {one.drawing.patient for one, verdict in judged if not verdict.holds}
    rough = {one.drawing.patient for one, verdict in judged if not verdict.exact}
    holds = len(patients - broken)
    if len(patients) >= LEAST_PATIENTS and holds >= NEARLY_ALL * len(patients):
        dice = [verdict.dice for _, verdict in judged if not np.isnan(verdict.dice)]
        mean = fmean(dice) if dice else None
        yield Evidence(rule, len(patients), holds, len(patients - broken - rough), mean)


def _once(seen: Sequence[_Seen], sure: Sequence[int]) -> Iterator[Evidence]:
    for label in sure:
        judged = [(one, verdicts.one_piece(one.shape, label)) for one in seen if one.knows(label)]
        yield from _judged(LabelRule(ONCE, (label,)), judged)


def _nested(seen: Sequence[_Seen], sure: Sequence[int]) -> Iterator[Evidence]:
    for outer, inner in permutations(sure, 2):
        judged = [
            (one, verdicts.inside(one.shape, outer, inner))
            for one in seen
            if one.knows(inner) and outer not in one.drawing.unlabelled
        ]
        yield from _judged(LabelRule(NESTED, (outer, inner)), judged)


def _apart(seen: Sequence[_Seen], sure: Sequence[int]) -> Iterator[Evidence]:
    for pair in combinations(sure, 2):
        judged = [(one, verdicts.apart(one.shape, *pair)) for one in seen if one.knows(*pair)]
        yield from _judged(LabelRule(APART, pair), judged)


def _divided(seen: Sequence[_Seen], sure: Sequence[int]) -> Iterator[Evidence]:
    for pair in combinations(sure, 2):
        both = [one for one in seen if one.knows(*pair)]
        flat = [one for one in both if pair in one.planes]
        if flat and len(flat) >= NEARLY_ALL * len(both):
            found = list(_by_axis(both, pair)) or list(_by_direction(both, flat, pair))
            yield from found[:1]


def _by_axis(both: Sequence[_Seen], pair: tuple[int, int]) -> Iterator[Evidence]:
    """A plane perpendicular to x, y or z: to that which most borders are nearest."""
    found = [one.planes.get(pair, Verdict()) for one in both]
    (axis, side), _ = Counter((one.axis, one.side) for one in found if one.side).most_common(1)[0]
    judged = [
        (one, verdict if (verdict.axis, verdict.side) == (axis, side) else Verdict())
        for one, verdict in zip(both, found, strict=True)
    ]
    towards = tuple(float(side * (at == axis)) for at in range(3))
    yield from _judged(LabelRule(DIVIDED, pair, towards), judged)


def _by_direction(
    both: Sequence[_Seen], flat: Sequence[_Seen], pair: tuple[int, int]
) -> Iterator[Evidence]:
    """An oblique plane of one direction in all patients or, failing that, of each one's own."""
    normals = np.array([verdicts.normal(one.shape, *pair) for one in flat])
    mean = normals.sum(axis=0)
    mean = np.round(mean / (np.linalg.norm(mean) or 1), 4)
    mean /= np.linalg.norm(mean) or 1
    if np.mean(normals @ mean >= _ALIKE) < NEARLY_ALL:
        return
    of_one: list[tuple[_Seen, Verdict]] = []
    of_each: list[tuple[_Seen, Verdict]] = []
    for one in both:
        ids, world = one.drawing.read()
        own = cuts.facing(ids, *pair, world, verdicts.normal(one.shape, *pair))
        own = own if own @ mean >= _ALIKE else mean
        for judged, towards in ((of_one, mean), (of_each, own)):
            judged.append((one, verdicts.of_plane(ids, world, one.shape, pair, towards)))
    for judged, free in ((of_one, False), (of_each, True)):
        yield from _judged(LabelRule(DIVIDED, pair, tuple(mean.tolist()), free), judged)
