"""The truth of a case: raw labels of one or several raters -> class ids, one way or another.

``convert.raters`` decides what several raters become: ``majority`` (the class that most
raters chose, background where no class has more than the others), ``staple`` (Warfield et
al., IEEE TMI 23, 2004, in SimpleITK's multi-label form), ``each`` (a pair per rater), or
the name of one rater.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Picture, Problem
from pipeline.labels import slabs
from pipeline.labels.decode import Ids, drawn
from pipeline.labels.tables import AUTO
from pipeline.params.convert import FUSIONS
from pipeline.params.limits import Limits
from pipeline.volumes.findings import Finding
from pipeline.volumes.volume import Volume


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
) -> Truth:
    """Read, decode and fuse the labels of one case.

    ``table`` names the label table where the dataset declares several; ``auto`` lets the
    probe decide by ``image``. Raises :class:`Problem` for a label that cannot be read, lies
    on another grid or holds undeclared values, that resampling takes more than :data:`LOST`
    from, or that is larger than ``limits`` allow, and for a rater that is not there.
    """
    read = drawn(dataset, image, labels, table, evidence, limits)
    classes = len(dataset.label_map)
    agreement = _agreement(list(read.ids.values()), classes)
    return Truth(
        fused(read.ids, raters, classes),
        read.ids,
        len(labels),
        agreement,
        read.table,
        read.evidence,
        read.snapped,
        read.findings,
    )


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
    if raters == "majority":
        whole = slabs.blank(arrays[0])
        for out, *votes in slabs.slabs(whole, *arrays):
            if any(vote.any() for vote in votes):
                out[:] = sitk.GetArrayFromImage(
                    sitk.LabelVoting([sitk.GetImageFromArray(vote) for vote in votes], 0)
                )
        return {"": whole}
    staple = sitk.MultiLabelSTAPLE([sitk.GetImageFromArray(array) for array in arrays], classes)
    whole = sitk.GetArrayFromImage(staple).astype(np.uint8, copy=False)
    whole[whole >= classes] = 0  # STAPLE's mark for a tie
    return {"": whole}


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
    """Voxels by the classes that two raters chose, for all pairs: (pairs, classes, classes)."""
    pairs = list(combinations(range(len(ids)), 2))
    tables = np.zeros((len(pairs), classes, classes), np.int64)
    code = np.min_scalar_type(classes**2)
    for slab in slabs.slabs(*ids):
        if not any(one.any() for one in slab):
            tables[:, 0, 0] += slab[0].size
            continue
        for table, (one, other) in zip(tables, pairs, strict=True):
            both = slab[one].astype(code) * code.type(classes) + slab[other]
            table += np.bincount(both.ravel("K"), minlength=classes**2).reshape(table.shape)
    return tables
