"""Labels on another grid than their image: resampled, with what each class lost by it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from datasets_spec.contract import Dataset, Problem
from pipeline.volumes.findings import LABEL, Finding, finding
from pipeline.volumes.volume import Grid, Volume, described

LOST = 0.1
"""A class may lose this share of its volume by resampling; above, image and label do not show
the same part of a head."""
DOUBTFUL = 0.05
"""A class that loses more than this share is in doubt: sampling costs a large one less."""
_SAMPLING = 8.0
"""Nearest neighbour alone may cost a class of n voxels (of the coarser grid) this many times the
root of n more: in 1,900 ellipsoids on straight, turned and sheared grids it cost up to 7.3."""


def onto_image(raw: Volume, grid: Grid, where: Path) -> Volume:
    """A label on the image's grid. Raises :class:`Problem` if all that it drew lies outside."""
    moved = resampled(raw, grid)
    if raw.array.any() and not moved.array.any():
        raise Problem(
            "expected a label that overlaps its image, got one whose drawing lies outside it"
            " or between its voxels",
            where=where,
            remedy="Do both belong to one patient and one scan? Correct the header that is wrong.",
        )
    return moved


def volume_changes(
    dataset: Dataset, before: Volume, after: Volume, where: Path
) -> tuple[Finding, ...]:
    """What resampling made of each class's volume; class ids before and after.

    Raises :class:`Problem` where a class, or all of them together, lost more than :data:`LOST`:
    outside the image, or altogether and beyond what sampling explains.
    """
    changes = []
    total_ml, total_left = 0.0, 0.0
    coarser_ml = max(before.grid.voxel_ml, after.grid.voxel_ml)
    beyond = outside(before, after.grid, len(dataset.label_map))
    for label in dataset.label_map.foreground:
        drawn = int(np.count_nonzero(before.array == label.id))
        if not drawn:
            continue
        ml = drawn * before.grid.voxel_ml
        left = int(np.count_nonzero(after.array == label.id)) * after.grid.voxel_ml
        cut = int(beyond[label.id]) / drawn
        change = finding(
            "class-shrunk" if max(cut, 1 - left / ml) > DOUBTFUL else "class-resampled",
            LABEL,
            name=label.name,
            before_ml=ml,
            after_ml=left,
            change=left / ml - 1,
            outside=cut,
        )
        if cut > LOST or _is_lost(ml, left, coarser_ml):
            raise _loses(change.sentence, where)
        total_ml, total_left = total_ml + ml, total_left + left
        changes.append(change)
    if _is_lost(total_ml, total_left, coarser_ml):
        raise _loses(f"{total_ml:.3g} to {total_left:.3g} ml of all classes", where)
    return tuple(changes)


def _is_lost(before_ml: float, after_ml: float, voxel_ml: float) -> bool:
    """Whether more than :data:`LOST` went, and more than sampling of such voxels explains."""
    sampling = _SAMPLING * math.sqrt(before_ml * voxel_ml)
    return before_ml - after_ml > LOST * before_ml + sampling


def _loses(what: str, where: Path) -> Problem:
    return Problem(
        f"expected classes that lose at most {LOST:.0%} by resampling, got {what}",
        where=where,
        remedy="Do both belong to one patient and one scan? Correct the header that is wrong, or"
        " cut the label to what the image shows.",
    )


def resampled(label: Volume, onto: Grid) -> Volume:
    """Raw label values on another grid: the voxel nearest to each centre, or 0 outside.

    Only for datasets that opt in (``resample_labels``); the volume's findings say so.
    """
    way = np.linalg.inv(label.grid.affine) @ onto.affine
    native = affine_transform(
        label.grid.from_ras(label.array),
        way,
        output_shape=onto.shape,
        order=0,
        mode="grid-constant",
    )
    moved = finding("resampled", from_grid=described(label.grid), to_grid=described(onto))
    return Volume(onto.to_ras(native), onto, findings=(*label.findings, moved))


def outside(ids: Volume, onto: Grid, classes: int) -> NDArray[np.int64]:
    """How many voxels of each class have their centre outside the voxels of ``onto``, (classes,).

    Background, class 0, is not counted.
    """
    way = np.linalg.inv(onto.affine) @ ids.grid.affine
    half = 0.5 + 1e-6  # of a voxel; a centre on the border is inside, whatever rounding says
    far = np.array(onto.shape) - 1 + half
    native = ids.grid.from_ras(ids.array)
    counts = np.zeros(classes, np.int64)
    for index in range(native.shape[2]):
        i, j = np.nonzero(native[..., index])
        place = np.stack([i, j, np.full(len(i), index)], axis=1) @ way[:3, :3].T + way[:3, 3]
        beyond = ((place < -half) | (place > far)).any(axis=1)
        found = np.bincount(native[i[beyond], j[beyond], index], minlength=classes)
        counts += found[:classes]  # without what nobody annotated
    return counts
