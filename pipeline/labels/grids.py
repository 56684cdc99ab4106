"""A label's voxels on the grid of its image: as they are, turned, or resampled, or refused.

What is compared is where voxels lie in the world. A label that a converter stored with other axes
is on the image's grid, and none of its voxels is resampled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset
from pipeline.labels.resample import onto_image
from pipeline.volumes import volume
from pipeline.volumes.findings import LABEL, finding
from pipeline.volumes.volume import SAME_GRID, Grid, Volume, column_lengths


def on_grid(dataset: Dataset, raw: Volume, image: Grid, where: Path) -> tuple[Volume, bool]:
    """A label on the image's grid, and whether it was resampled, where the dataset allows that.

    Raises :class:`Problem` for a label that lies on another grid otherwise.
    """
    turned = volume.in_order_of(image, raw)
    if volume.same_grid(image, turned.grid):
        return _as_stored(turned, image), False
    step = _shortened_step(image, turned.grid)
    if step:
        true_mm = float(column_lengths(image.affine)[2])
        short = finding("shortened-step", LABEL, stated_mm=step, true_mm=true_mm)
        return _as_stored(replace(turned, findings=(*turned.findings, short)), image), False
    if dataset.resample_labels:
        return onto_image(raw, image, where), True
    volume.require_same_grid(image, turned.grid, where)
    raise AssertionError("grids that are the same were compared above")


def _as_stored(turned: Volume, image: Grid) -> Volume:
    """The voxels with the image's own grid, whose affine has no other rounding."""
    return replace(turned, array=image.to_ras(turned.grid.from_ras(turned.array)), grid=image)


def _shortened_step(image: Grid, label: Grid) -> float:
    """The step in mm that a label of a tilted series states, if it is just too short; else 0.

    dcm2niix, where it keeps the slices of a tilted gantry as they are, writes the distance between
    their planes for the step, which is longer by 1 / cos(tilt). So the label's slices are those of
    the image, though its header has all but one of them at other places.
    """
    if label.shape != image.shape or image.shape[2] < 2:
        return 0.0
    step, true = label.affine[:3, 2], image.affine[:3, 2]
    distance = abs(float(true @ _normal(image.affine)))
    stated, length = float(np.linalg.norm(step)), float(np.linalg.norm(true))
    allowed = SAME_GRID * min(image.spacing)
    if abs(stated - distance) * (image.shape[2] - 1) > allowed or length - distance < 1e-3:
        return 0.0
    for fixed in (0, image.shape[2] - 1):  # the slice whose place is right
        affine = label.affine.copy()
        affine[:3, 2] *= length / stated
        affine[:3, 3] += fixed * (step - affine[:3, 2])
        if image.distance(Grid(label.shape, affine)) <= allowed:
            return stated
    return 0.0


def _normal(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit vector across the slices that the third axis counts."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    return unit
