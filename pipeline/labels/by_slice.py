"""Labels of slices without one spacing: laid on these one by one, each on its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline.volumes import volume
from pipeline.volumes.findings import LABEL, finding
from pipeline.volumes.volume import SAME_GRID, Volume, described


def laid(label: Volume, image: Volume, where: Path) -> Volume:
    """A label on the slices of ``image``, of which one of both has no one spacing.

    A label with places of its own has to lie where the image's slices do. A file whose header can
    only state a spacing, a NIfTI, is taken slice by slice if it has as many, they are alike and the
    first or the last lies where the image's does. Raises :class:`Problem` for any other.
    """
    plane, _ = image.grid.third
    stack, own = (volume.slices(one.array, plane) for one in (label, image))
    if stack.shape == own.shape:
        off = np.linalg.norm(_corners(label, plane) - _corners(image, plane), axis=2).max(axis=1)
        apart = off > SAME_GRID * min(image.grid.spacing)
        if not apart.any():
            return label
        # a DICOM series, which is a folder, states where each of its slices lies
        placeless = image.uneven is not None and where.is_file()
        if placeless and not apart.all() and _alike(label, image, plane):
            count = finding("label-by-slice", LABEL, slices=len(stack), moved_mm=float(off.max()))
            return replace(label, findings=(*label.findings, count))
    raise _refusal(label, image, where)


def _corners(scan: Volume, plane: str) -> NDArray[np.float64]:
    """The first, the first row's last and the last row's first voxel of each slice, (N, 3, 3)."""
    count, rows, columns = volume.slices(scan.array, plane).shape
    index = np.zeros((count, 3, 4))
    index[..., 0] = np.arange(count)[:, None]
    index[:, 1, 2], index[:, 2, 1], index[..., 3] = columns - 1, rows - 1, 1
    corners: NDArray[np.float64] = index @ scan.grid.world(plane)[:3].T
    if scan.uneven is not None:
        corners += scan.grid.in_order(scan.uneven.shifts(scan.grid.affine))[:, None]
    return corners


def _alike(label: Volume, image: Volume, plane: str) -> bool:
    """Whether the slices are turned alike and as large, wherever they lie."""
    first = _corners(label, plane)[0], _corners(image, plane)[0]
    sides, others = (corners[1:] - corners[0] for corners in first)
    off = np.linalg.norm(sides - others, axis=1).max()
    return float(off) <= SAME_GRID * min(image.grid.spacing)


def _refusal(label: Volume, image: Volume, where: Path) -> Problem:
    if image.uneven is None:
        return Problem(
            f"expected a label on the image's grid of {described(image.grid)}, got a series of"
            " uneven spacing",
            where=where,
            remedy="Do both belong to one scan?",
        )
    got = "slices elsewhere" if label.uneven else f"{described(label.grid)}"
    return Problem(
        f"expected a label of each slice of this series of uneven spacing ({described(image.grid)}"
        f" on average), got {got}",
        where=where,
        remedy="No header of one spacing says where these slices lie. Let the label be a DICOM"
        " series on the image's slices, a picture of each instance, or a volume with the series'"
        " own slices, one by one, not resampled to an even grid.",
    )
