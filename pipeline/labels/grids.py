"""A label's voxels on the grid of its image: as they are, turned, or resampled, or refused.

What is compared is where voxels lie in the world. A label that a converter stored with other axes
is on the image's grid, and none of its voxels is resampled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Problem
from pipeline.labels.resample import onto_image
from pipeline.params.dicom import USUAL
from pipeline.volumes import volume
from pipeline.volumes.findings import LABEL, finding
from pipeline.volumes.volume import SAME_GRID, Grid, Volume, column_lengths

_SAME_NORMAL = 1e-5  # 1 - cosine: a quarter of a degree
_PADDED = 1.0  # of a voxel, by which a straightened copy may be too short


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
        _require_around(image, turned.grid, where)
        return onto_image(raw, image, where), True
    _require_tilt_of(image, turned.grid, where)
    volume.require_same_grid(image, turned.grid, where)
    raise AssertionError("grids that are the same were compared above")


def _as_stored(turned: Volume, image: Grid) -> Volume:
    """The voxels with the image's own grid, whose affine has no other rounding."""
    return replace(turned, array=image.to_ras(turned.grid.from_ras(turned.array)), grid=image)


def _shortened_step(image: Grid, label: Grid) -> float:
    """The step in mm that a label of a tilted series states, if it is just too short; else 0.

    dcm2niix, where it keeps the slices of a tilted gantry as they are, writes the distance between
    their planes for the step, which is longer by 1 / cos(tilt), and reaches the first slice of a
    descending series from the last as if they stood upright. So the label's slices are those of
    the image, though its header has all but one of them at other places.
    """
    if label.shape != image.shape or image.shape[2] < 2:
        return 0.0
    step, true, last = label.affine[:3, 2], image.affine[:3, 2], image.shape[2] - 1
    normal = _normal(image.affine)
    upright = normal * (true @ normal)
    stated, length = float(np.linalg.norm(step)), float(np.linalg.norm(true))
    allowed = SAME_GRID * min(image.spacing)
    if abs(stated - np.linalg.norm(upright)) * last > allowed or length - stated < 1e-3:
        return 0.0
    for led_here in (0 * step, step, upright):  # from the first slice, or to it from the last
        affine = label.affine.copy()
        affine[:3, 2] *= length / stated
        if led_here.any():
            affine[:3, 3] += last * (led_here - affine[:3, 2])
        if image.distance(Grid(label.shape, affine)) <= allowed:
            return stated
    return 0.0


def _require_around(image: Grid, label: Grid, where: Path) -> None:
    """Raises :class:`Problem` for a straightened copy of tilted slices that is not around them.

    dcm2niix pads the slices of a tilted gantry and moves them above each other, so the copy holds
    the whole image; but where a series descends, its header places the copy beside the image.
    """
    parallel = np.abs(_normal(image.affine) @ _normal(label.affine)) > 1 - _SAME_NORMAL
    upright = _tilt(image.affine) >= USUAL.tilt_degrees > _tilt(label.affine)
    if not (parallel and upright and label.shape[2] == image.shape[2]):
        return
    far = np.array(image.shape) - 1
    corners = np.array([[*far * end, 1] for end in np.ndindex(2, 2, 2)])
    place = (corners @ np.linalg.solve(label.affine, image.affine).T)[:, :3]
    beyond = np.maximum(-place, place - (np.array(label.shape) - 1)).max(axis=0)
    if beyond.max() > _PADDED:
        mm = float((beyond * column_lengths(label.affine)).max())
        raise Problem(
            "expected a straightened copy of tilted slices to hold all of them, got one that the"
            f" header places up to {mm:.1f} mm beside",
            where=where,
            remedy="dcm2niix does so where a series descends. Draw on the slices as they were"
            " taken, or correct the label's header.",
        )


def _require_tilt_of(image: Grid, label: Grid, where: Path) -> None:
    """Raises :class:`Problem` for an upright label of tilted slices, with its likely reason."""
    tilt, upright = _tilt(image.affine), _tilt(label.affine)
    if tilt >= USUAL.tilt_degrees and upright < USUAL.tilt_degrees:
        raise Problem(
            f"expected the image's own slices, of a gantry tilted by {tilt:.1f} degrees, got a"
            " label of slices straight above each other",
            where=where,
            remedy="A converter may have straightened what it was drawn on (dcm2niix names such a"
            " copy _Tilt). Draw on the slices as they were taken, or let the adapter state"
            " resample_labels, which resamples the label onto them.",
        )


def _tilt(affine: NDArray[np.float64]) -> float:
    """The angle in degrees between the way from slice to slice and the normal."""
    step = affine[:3, 2]
    cosine = abs(float(step @ _normal(affine))) / float(np.linalg.norm(step))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def _normal(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit vector across the slices that the third axis counts."""
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    unit: NDArray[np.float64] = normal / np.linalg.norm(normal)
    return unit
