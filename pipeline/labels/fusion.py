"""The truth of a case: raw labels of one or several raters -> class ids, one way or another.

``convert.raters`` decides what several raters become: ``majority`` (the class that most
raters chose, background where no class has more than the others), ``staple`` (Warfield et
al., IEEE TMI 23, 2004, in SimpleITK's multi-label form), ``union`` (foreground wherever any rater
drew; of several classes the one that most of them chose, ignored at a tie), ``agreed`` (ignored
where raters disagree), ``each`` (a pair per rater), or the name of one rater.

Of two raters, ``majority`` and ``staple`` are what both drew alike: STAPLE cannot tell which of two
is better. What a rater did not annotate is an abstention: the others decide, and where all abstain
it stays ignored. STAPLE asks the voxels that all raters annotated; of the others it takes the
majority.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, Dataset, Picture, Problem
from pipeline.labels import slabs
from pipeline.labels.decode import Ids, drawn
from pipeline.labels.tables import AUTO
from pipeline.params.convert import FUSIONS
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes.findings import LABEL, Finding, finding
from pipeline.volumes.volume import Grid, Volume


@dataclass(frozen=True)
class Truth:
    """Class ids (X, Y, Z) in RAS+ by rater ("": one, or several fused), and how they were made.

    ``drawn``: those of every rater. ``agreement``: mean Dice over all pairs of raters, per class
    id, NaN where neither has the class; nothing for a single rater. ``snapped``: pixels whose
    colour was moved to a class. ``findings``: what is odd about the labels' headers, and what
    resampling cost each class.
    """

    ids: Mapping[str, Ids]
    drawn: Mapping[str, Ids]
    raters: int
    agreement: tuple[float, ...]
    table: str
    evidence: str
    snapped: int
    findings: tuple[Finding, ...] = ()


def truth(
    dataset: Dataset,
    image: Volume,
    labels: Mapping[str, Picture],
    raters: str,
    table: str = AUTO,
    evidence: str = "",
    limits: Limits = Limits(),
    annotated: Sequence[int] | None = None,
    tolerances: Tolerances = USUAL,
) -> Truth:
    """Read, decode and fuse the labels of one case.

    ``table`` names the label table where the dataset declares several; ``auto`` lets the
    probe decide by ``image``. ``annotated``: the only slices that were annotated, as
    :class:`~datasets_spec.contract.Case` states them. ``tolerances`` are those of labels that are
    DICOM series. Raises :class:`Problem` for a label that
    cannot be read, lies on another grid or holds undeclared values, that resampling takes more than
    :data:`LOST` from, or that is larger than ``limits`` allow, and for a rater that is not there.
    """
    read = drawn(dataset, image, labels, table, evidence, limits, tolerances)
    ids = read.ids
    if annotated is not None:
        ids = {rater: _only(one, image.grid, annotated) for rater, one in ids.items()}
    classes = len(dataset.label_map)
    two = len(ids) == 2 and raters in BOTH_ALIKE
    more = [finding("two-raters", LABEL, fusion=raters)] if two else []
    return Truth(
        fused(ids, raters, classes),
        ids,
        len(labels),
        _agreement(list(ids.values()), classes),
        read.table,
        read.evidence,
        read.snapped,
        (*read.findings, *more),
    )


def _only(ids: Ids, grid: Grid, annotated: Sequence[int]) -> Ids:
    """Class ids (X, Y, Z) in RAS+ of which only some slices of the stored grid were annotated.

    Raises :class:`Problem` for a slice that is not there.
    """
    own = grid.from_ras(ids)
    if max(annotated) >= own.shape[2]:
        raise Problem(
            f"expected annotated slices from 0 to {own.shape[2] - 1}, got {max(annotated)}",
            where="Case.annotated_slices",
            remedy="They are indices along the third axis of the image as it is stored.",
        )
    left = np.ones(own.shape[2], bool)
    left[list(annotated)] = False
    own[..., left] = IGNORED
    return grid.to_ras(own)


def fused(ids: Mapping[str, Ids], raters: str, classes: int) -> dict[str, Ids]:
    """What :data:`FUSIONS` or the name of a rater make of the class ids of several raters.

    Raises :class:`Problem` for a rater who is not there.
    """
    if raters == "each":
        return dict(ids)
    if raters not in FUSIONS:
        if raters not in ids:
            raise Problem(
                f"expected a label of {raters!r}, got those of {', '.join(ids)}",
                where="convert.raters",
            )
        return {raters: ids[raters]}
    arrays = list(ids.values())
    if len(arrays) == 1:
        return {"": arrays[0]}
    if raters != "staple":
        return {"": _elected(arrays, _RULES[raters])}
    known = np.logical_and.reduce([array != IGNORED for array in arrays])
    if known.all():
        return {"": _staple(arrays, classes)}
    whole = _elected(arrays, _majority)
    if known.any():
        whole[known] = _staple([array[known][None] for array in arrays], classes)[0]
    return {"": whole}


def _staple(arrays: Sequence[Ids], classes: int) -> Ids:
    staple = sitk.MultiLabelSTAPLE([sitk.GetImageFromArray(array) for array in arrays], classes)
    whole: Ids = sitk.GetArrayFromImage(staple).astype(np.uint8, copy=False)
    whole[whole >= classes] = 0  # STAPLE's mark for a tie
    return whole


@dataclass(frozen=True)
class _Votes:
    """What raters chose of some voxels: the class with most votes, how many, and whether alone.

    Without any vote, the class is 0, and alone.
    """

    winner: Ids
    most: Ids
    alone: NDArray[np.bool_]

    @classmethod
    def of(cls, votes: Sequence[Ids], first: int) -> _Votes:
        """Of class ids of several raters, counting the classes from ``first`` on."""
        winner, most = np.zeros_like(votes[0]), np.zeros_like(votes[0])
        alone = np.ones(votes[0].shape, bool)
        for label in sorted(set().union(*(np.unique(vote).tolist() for vote in votes))):
            if not first <= label < IGNORED:
                continue
            times = np.sum([vote == label for vote in votes], axis=0, dtype=np.uint8)
            alone = np.where(times > most, True, alone & ((times < most) | (times == 0)))
            winner = np.where(times > most, np.uint8(label), winner)
            most = np.maximum(most, times)
        return cls(winner, most, alone)


def _majority(votes: Sequence[Ids]) -> Ids:
    chosen = _Votes.of(votes, 0)
    ids = np.where(chosen.alone, chosen.winner, np.uint8(0))
    return np.where(chosen.most > 0, ids, np.uint8(IGNORED))


def _union(votes: Sequence[Ids]) -> Ids:
    chosen = _Votes.of(votes, 1)
    nobody = np.logical_and.reduce([vote == IGNORED for vote in votes])
    return np.where(chosen.alone & ~nobody, chosen.winner, np.uint8(IGNORED))


def _agreed(votes: Sequence[Ids]) -> Ids:
    chosen = _Votes.of(votes, 0)
    asked = np.sum([vote != IGNORED for vote in votes], axis=0)
    return np.where((chosen.most == asked) & (asked > 0), chosen.winner, np.uint8(IGNORED))


_RULES: Mapping[str, Callable[[Sequence[Ids]], Ids]] = {
    "majority": _majority,
    "union": _union,
    "agreed": _agreed,
}
BOTH_ALIKE = ("majority", "staple")
"""The fusions that keep of two raters what both drew alike."""


def _elected(arrays: Sequence[Ids], rule: Callable[[Sequence[Ids]], Ids]) -> Ids:
    """What ``rule`` makes of the class ids of several raters, slab by slab."""
    whole = slabs.blank(arrays[0])
    for out, *votes in slabs.slabs(whole, *arrays):
        if any(vote.any() for vote in votes):
            out[:] = rule(votes)
    return whole


def _agreement(ids: Sequence[Ids], classes: int) -> tuple[float, ...]:
    if len(ids) < 2:
        return ()
    tables = _confusions(ids, classes)
    means = []
    for class_id in range(classes):
        scores = []
        for table in tables:
            total = int(table[class_id].sum() + table[:, class_id].sum())
            if total:
                scores.append(2 * int(table[class_id, class_id]) / total)
        means.append(sum(scores) / len(scores) if scores else math.nan)
    return tuple(means)


def _confusions(ids: Sequence[Ids], classes: int) -> NDArray[np.int64]:
    """Voxels by the classes that two raters chose, for all pairs: (pairs, classes, classes).

    What one of them did not annotate is left out.
    """
    pairs = list(combinations(range(len(ids)), 2))
    tables = np.zeros((len(pairs), classes, classes), np.int64)
    code = np.min_scalar_type(classes**2)
    for slab in slabs.slabs(*ids):
        if not any(one.any() for one in slab):
            tables[:, 0, 0] += slab[0].size
            continue
        for table, (one, other) in zip(tables, pairs, strict=True):
            first, second = slab[one], slab[other]
            known = np.maximum(first, second) < IGNORED
            if not known.all():
                first, second = first[known], second[known]
            both = first.astype(code) * code.type(classes) + second
            table += np.bincount(both.ravel("K"), minlength=classes**2).reshape(table.shape)
    return tables
