"""One :class:`Volume` in RAS+ order, its grid, its slices, and the way back.

World coordinates are millimetres, RAS+ (right, anterior, superior), as nibabel
gives them. Turning to RAS+ only permutes and flips axes: no voxel is resampled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nibabel.orientations import (
    apply_orientation,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline.volumes.findings import Finding
from pipeline.volumes.uneven import Uneven

# plane -> (axis that counts slices, axis of the rows, axis of the columns), in RAS+
_AXES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_RAS = np.array([[0, 1], [1, 1], [2, 1]], float)
SAME_GRID = 0.1
"""Two grids are the same if their corners lie within this share of the smallest voxel side."""
LARGEST = 1e12
"""No scanner's value is larger: they are integers of 16 bits, or counts of PET below 1e9. Far
above, the float32 in which pictures are made overflows."""
_RESAMPLE = (
    "Resample the label onto the image's grid (nearest neighbour), or let the adapter state"
    " resample_labels, which does that."
)


Ml = float | NDArray[np.float64]
"""A voxel's volume in ml: that of all, or of each slice (N,) in the order of :func:`slices`."""


@dataclass(frozen=True)
class Grid:
    """A source's own voxel grid: shape (i, j, k) and affine (4, 4), voxel index to mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel sides in mm along RAS+ axes x, y, z."""
        sides = column_lengths(self.affine)
        x, y, z = (float(sides[source]) for source in np.argsort(self._orientation()[:, 0]))
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000

    @property
    def slice_mm2(self) -> float:
        """The area of a voxel within the slices that the third axis counts, in mm2."""
        return float(np.linalg.norm(np.cross(self.affine[:3, 0], self.affine[:3, 1])))

    def to_ras(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array in this grid's axis order -> (X, Y, Z) in RAS+ order."""
        turned: NDArray[Any] = apply_orientation(array, self._orientation())
        return turned

    def from_ras(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array (X, Y, Z) in RAS+ order -> this grid's own axis order."""
        turned: NDArray[Any] = apply_orientation(array, ornt_transform(_RAS, self._orientation()))
        return turned

    def steps(self, plane: str) -> NDArray[np.float64]:
        """Columns: the mm in x, y and z that one slice, one row and one column lead, (3, 3).

        Of :func:`slices` in ``plane``. In a sheared grid they do not stand upright on each other.
        """
        along = np.empty((3, 3))
        for axis, (source, flip) in enumerate(self._orientation()):
            along[:, int(source)] = self.affine[:3, axis] * flip
        steps: NDArray[np.float64] = along[:, _AXES[plane]] * [1, -1, -1]
        return steps

    def world(self, plane: str) -> NDArray[np.float64]:
        """The affine (4, 4) from (slice, row, column) in ``plane``, each from 0, to mm in RAS+."""
        corner = []
        for axis, count in enumerate(self.shape):  # its own index of the first slice's corner
            along = np.arange(count).reshape([-1 if one == axis else 1 for one in range(3)])
            own = self.to_ras(np.broadcast_to(along, self.shape))
            corner.append(int(slices(own, plane)[0, 0, 0]))
        affine = np.eye(4)
        affine[:3, :3] = self.steps(plane)
        affine[:3, 3] = (self.affine @ [*corner, 1])[:3]
        return affine

    def distance(self, other: Grid) -> float:
        """The largest distance in mm between corresponding corners of two equal shapes."""
        far = np.array(self.shape) - 1
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        corners = corners * np.append(far, 1)
        moved = corners @ (self.affine - other.affine).T[:, :3]
        return float(np.sqrt((moved**2).sum(axis=1)).max())

    @property
    def third(self) -> tuple[str, bool]:
        """The plane of the slices that the third axis counts, and whether in their own order.

        That is the order of :func:`slices`.
        """
        source, flip = self._orientation()[2]
        return next(plane for plane, axes in _AXES.items() if axes[0] == source), bool(flip > 0)

    def in_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """What belongs to each index of the third axis, in the order of :func:`slices`."""
        return values[:: 1 if self.third[1] else -1]

    def _orientation(self) -> NDArray[np.float64]:
        orientation: NDArray[np.float64] = io_orientation(self.affine)
        return orientation


@dataclass(frozen=True)
class Volume:
    """``array`` (X, Y, Z) in RAS+ order, and the grid that it was read from.

    ``instances``, for a DICOM series: the third index of each file in ``grid``, in the order
    of their InstanceNumber (nothing where the numbers do not tell them apart). ``findings``:
    what is odd about it, see :mod:`pipeline.volumes.findings`. ``uids``: the
    SOPInstanceUID of each third index. ``modality``: what a DICOM header states, "" elsewhere.
    ``unscaled``: a CT whose header does not say how stored values become HU. ``uneven``: where the
    slices of a DICOM series lie that has no one spacing; ``grid`` is right within its slices then,
    and states a mean from slice to slice.
    """

    array: NDArray[Any]
    grid: Grid
    instances: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    uids: tuple[str, ...] = ()
    modality: str = ""
    unscaled: bool = False
    uneven: Uneven | None = None

    @property
    def voxel_ml(self) -> Ml:
        """The volume of a voxel in ml; of slices without one spacing, that of each, (N,)."""
        return voxel_ml(self.grid, self.uneven.thicknesses if self.uneven else ())

    @property
    def places(self) -> list[tuple[tuple[float, ...], float]]:
        """Of slices without one spacing, where each lies and how thick it is, in mm.

        The place is the centre of its grid's first voxel (x, y, z in RAS+). In the order of
        :func:`slices`, as :attr:`voxel_ml` is; nothing where there is one spacing.
        """
        if self.uneven is None:
            return []
        places, thicknesses = (
            self.grid.in_order(one).tolist()
            for one in (self.uneven.places, self.uneven.thicknesses)
        )
        return [(tuple(place), mm) for place, mm in zip(places, thicknesses, strict=True)]

    def ml(self, mask: NDArray[np.bool_]) -> float:
        """The volume of a mask (X, Y, Z) in RAS+, in ml."""
        voxels = np.count_nonzero(slices(mask, self.grid.third[0]), axis=(1, 2))
        return float((voxels * self.voxel_ml).sum())

    def slice_uids(self, plane: str) -> tuple[str, ...]:
        """The SOPInstanceUID of each slice in ``plane``; "" where slices cut across instances."""
        axis = _AXES[plane][0]
        source, flip = self.grid._orientation()[2]
        if not self.uids or source != axis:
            return ("",) * int(self.array.shape[axis])
        return self.uids if flip > 0 else self.uids[::-1]


def voxel_ml(grid: Grid, thicknesses: Sequence[float] | NDArray[np.float64]) -> Ml:
    """The volume of a voxel in ml: one for all slices or, in the order of :func:`slices`, (N,).

    ``thicknesses``: those of the slices that the third axis counts, in mm; none of one spacing.
    """
    if not len(thicknesses):
        return grid.voxel_ml
    of_each: NDArray[np.float64] = grid.slice_mm2 * grid.in_order(np.asarray(thicknesses)) / 1000
    return of_each


def per_instance(
    ids: NDArray[np.uint8], grid: Grid, uids: Sequence[str]
) -> dict[str, NDArray[np.uint8]]:
    """Class ids (X, Y, Z) in RAS+ -> SOPInstanceUID: (rows, columns) as that instance stores them.

    ``grid`` is that of the DICOM series, ``uids`` those of its third axis; without any, nothing.
    """
    own = grid.from_ras(ids)
    return {uid: own[..., index].T for index, uid in enumerate(uids)}


def described(grid: Grid) -> str:
    return f"{by_sides(grid.shape)} voxels of {by_sides(grid.spacing)} mm"


def by_sides(numbers: Iterable[float]) -> str:
    return "x".join(f"{number:.4g}" for number in numbers)


def column_lengths(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lengths in mm of an affine's columns: the voxel sides along its own axes."""
    lengths: NDArray[np.float64] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return lengths


def same_grid(image: Grid, label: Grid) -> bool:
    """Whether both grids have their voxels at the same places, within :data:`SAME_GRID`.

    The order and the directions of the axes in which they are stored do not matter.
    """
    turned = _in_order_of(image, label)
    return turned.shape == image.shape and (
        image.distance(turned) <= SAME_GRID * min(image.spacing)
    )


def require_same_grid(image: Grid, label: Grid, where: object) -> None:
    """Raises :class:`Problem` unless both grids agree as :func:`same_grid` asks."""
    turned = _in_order_of(image, label)
    if turned.shape != image.shape:
        raise Problem(
            f"expected the image's shape {image.shape}, got a label of shape {turned.shape}",
            where=where,
            remedy=_RESAMPLE,
        )
    if not same_grid(image, label):
        raise Problem(
            "expected the image's affine, got one whose corners lie up to"
            f" {image.distance(turned):.3g} mm away"
            f" (tolerance {SAME_GRID * min(image.spacing):.3g} mm)",
            where=where,
            remedy=f"Correct the header that is wrong. {_RESAMPLE}",
        )


def require_own_plane(image: Volume, plane: str, where: object) -> None:
    """Raises :class:`Problem` for slices without one spacing that cannot stand for themselves.

    Pictures across them would be distorted, and predictions come back instance by instance.
    """
    own, _ = image.grid.third
    if image.uneven and own != plane:
        raise Problem(
            f"expected slices in the plane in which this series of uneven spacing was taken, {own},"
            f" got the dataset's plane {plane}",
            where=where,
            remedy=f'State plane="{own}" in the dataset, or resample the series to one spacing.',
        )
    if image.uneven and not image.uids:
        raise Problem(
            "expected distinct SOPInstanceUIDs, by which slices of uneven spacing are known, got"
            " missing or repeated ones",
            where=where,
            remedy="Export the series again, or resample it to one spacing.",
        )


def in_order_of(image: Grid, label: Volume) -> Volume:
    """The same voxels, stored in the order and directions of the image's axes: no resampling.

    So the label of a scan may be stored with other axes, or by a converter that turns rows over.
    """
    turn = _turn(image, label.grid)
    if not np.isfinite(turn).all() or (turn == _RAS).all():
        return label
    grid = _in_order_of(image, label.grid)
    native = apply_orientation(label.grid.from_ras(label.array), turn)
    return Volume(grid.to_ras(native), grid, findings=label.findings, modality=label.modality)


def _turn(image: Grid, label: Grid) -> NDArray[np.float64]:
    """Along which axis of the image each axis of the label runs, and in which direction, (3, 2)."""
    turn: NDArray[np.float64] = io_orientation(np.linalg.solve(image.affine, label.affine))
    return turn


def _in_order_of(image: Grid, label: Grid) -> Grid:
    """The grid that :func:`in_order_of` gives; the label's own where no axis runs along another."""
    turn = _turn(image, label)
    if not np.isfinite(turn).all():
        return label
    sides = np.empty(3, int)
    sides[turn[:, 0].astype(int)] = label.shape
    i, j, k = sides.tolist()
    return Grid((i, j, k), label.affine @ inv_ornt_aff(turn, label.shape))


def slices(array: NDArray[Any], plane: str) -> NDArray[Any]:
    """(X, Y, Z) in RAS+ -> slices (N, rows, columns), a view, as a radiologist sees them.

    Axial: anterior up, patient's right on the left. Coronal: superior up,
    patient's right on the left. Sagittal: superior up, anterior on the left.
    N counts from inferior, posterior or left.
    """
    return array.transpose(_AXES[plane])[:, ::-1, ::-1]


def unslice(stack: NDArray[Any], plane: str) -> NDArray[Any]:
    """The way back from :func:`slices`: (N, rows, columns) -> (X, Y, Z) in RAS+."""
    return stack[:, ::-1, ::-1].transpose(np.argsort(_AXES[plane]))


def slice_axis(plane: str) -> int:
    """The axis of RAS+ along which the slices in ``plane`` are counted: 0, 1 or 2."""
    return _AXES[plane][0]


def slice_spacing(grid: Grid, plane: str) -> tuple[float, float]:
    """Row and column spacing in mm of the slices in ``plane``."""
    _, row, col = _AXES[plane]
    return grid.spacing[row], grid.spacing[col]


def to_8_bit(native: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float32]:
    """Intensities -> float32 in 0..255: ``window`` (low, high) becomes (0, 255), clipped.

    Raises :class:`Problem` for a window that float32 cannot hold.
    """
    low, high = window
    if high <= low:
        return np.zeros(native.shape, np.float32)
    if max(abs(low), abs(high)) > LARGEST or high - low < 1 / LARGEST:
        raise Problem(
            f"expected a window within values up to {LARGEST:g} and wider than {1 / LARGEST:g},"
            f" got {low:g} to {high:g}",
            remedy="Is the slope or intercept in the scan's header damaged?",
        )
    scaled = (native.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(scaled, 0, 255, out=scaled)
