"""Source files -> one :class:`Volume` in RAS+ order, its slices, and the way back.

World coordinates are millimetres, RAS+ (right, anterior, superior), as nibabel
gives them. Turning to RAS+ only permutes and flips axes: no voxel is resampled.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    OrientationError,
    apply_orientation,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray

from datasets_spec.contract import Picture, Problem

# plane -> (axis that counts slices, axis of the rows, axis of the columns), in RAS+
_AXES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_RAS = np.array([[0, 1], [1, 1], [2, 1]], float)
_UNREADABLE = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    EOFError,
    MemoryError,  # a damaged header can ask for any number of voxels
    OSError,
    OverflowError,
    ValueError,
    zlib.error,
)
SAME_GRID = 0.1
"""Two grids are the same if their corners lie within this share of the smallest voxel side."""
INTEGER = 1e-6
"""A float label counts as an integer within this distance."""


@dataclass(frozen=True)
class Grid:
    """A source's own voxel grid: shape (i, j, k) and affine (4, 4), voxel index to mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel sides in mm along RAS+ axes x, y, z."""
        sides = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0))
        x, y, z = (float(sides[source]) for source in np.argsort(self._orientation()[:, 0]))
        return x, y, z

    def to_ras(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array in this grid's axis order -> (X, Y, Z) in RAS+ order."""
        turned: NDArray[Any] = apply_orientation(array, self._orientation())
        return turned

    def from_ras(self, array: NDArray[Any]) -> NDArray[Any]:
        """An array (X, Y, Z) in RAS+ order -> this grid's own axis order."""
        turned: NDArray[Any] = apply_orientation(array, ornt_transform(_RAS, self._orientation()))
        return turned

    def distance(self, other: Grid) -> float:
        """The largest distance in mm between corresponding corners of two equal shapes."""
        far = np.array(self.shape) - 1
        corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        corners = corners * np.append(far, 1)
        moved = corners @ (self.affine - other.affine).T[:, :3]
        return float(np.sqrt((moved**2).sum(axis=1)).max())

    def _orientation(self) -> NDArray[np.float64]:
        orientation: NDArray[np.float64] = io_orientation(self.affine)
        return orientation


@dataclass(frozen=True)
class Volume:
    """``array`` (X, Y, Z) in RAS+ order, and the grid that it was read from.

    ``instances``, for a DICOM series: the third index of each file in ``grid``, in the order
    of their InstanceNumber.
    """

    array: NDArray[Any]
    grid: Grid
    instances: tuple[int, ...] = ()


def read(source: Picture) -> Volume:
    """A NIfTI file (or any 3-D format of nibabel's) as a volume of its scaled values.

    Raises :class:`Problem` for a missing or unreadable file, more than one
    volume, an affine without three directions, or values that are not numbers.
    """
    if not isinstance(source, Path) or source.is_dir():
        raise Problem("expected a NIfTI file, got a folder or slices", where=source)
    if not source.is_file():
        raise Problem("expected a file, found none", where=source)
    try:
        file: Any = nib.load(source)
        if not isinstance(file, nib.spatialimages.SpatialImage):
            raise ValueError(f"it is a {type(file).__name__}, not a volume")
        array = np.asanyarray(file.dataobj)
        affine = np.asarray(file.affine, np.float64)
    except _UNREADABLE as error:
        raise Problem(
            f"expected a complete NIfTI file, got one that cannot be read ({error})",
            where=source,
            remedy="It may be truncated or damaged; download or unpack it again.",
        ) from None
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or 0 in array.shape:
        raise Problem(f"expected one volume with 3 axes, got shape {array.shape}", where=source)
    if array.dtype.kind not in "iufb":
        raise Problem(f"expected numbers as voxels, got {array.dtype}", where=source)
    if array.dtype.kind == "f":
        strange = int((~np.isfinite(array)).sum())
        if strange:
            raise Problem(
                f"expected finite values, got {strange} voxels that are NaN or infinite",
                where=source,
                remedy="Replace them (for example by 0) in a corrected copy.",
            )
    if not _three_directions(affine):
        raise Problem(
            f"expected an affine with three directions, got {affine[:3].tolist()}",
            where=source,
            remedy="Set a right qform or sform in the header.",
        )
    grid = Grid((array.shape[0], array.shape[1], array.shape[2]), affine)
    return Volume(grid.to_ras(array), grid)


def _three_directions(affine: NDArray[np.float64]) -> bool:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return False
    try:
        return bool(np.isfinite(io_orientation(affine)).all())
    except OrientationError:
        return False


def class_ids(label: Volume, declared: Mapping[int, int], where: object) -> Volume:
    """Raw label values -> class ids uint8; ``declared``: raw value -> class id.

    Raises :class:`Problem` for a value that is no integer or not declared, with
    the count.
    """
    values, inverse = np.unique(label.array, return_inverse=True)
    whole = np.rint(values.astype(np.float64))
    counts = np.bincount(inverse.ravel(), minlength=len(values))
    for value, integer, count in zip(values.tolist(), whole.tolist(), counts.tolist(), strict=True):
        if abs(value - integer) > INTEGER:
            raise Problem(
                f"expected integers as labels, got {value!r} in {count} voxels",
                where=where,
                remedy="Is it a probability map, or was it resampled with interpolation?",
            )
        if int(integer) not in declared:
            raise Problem(
                f"expected the label values {sorted(declared)}, got {int(integer)} in"
                f" {count} voxels",
                where=where,
                remedy="Declare the value in the dataset's label map, or correct the file.",
            )
    lookup = np.array([declared[int(value)] for value in whole], np.uint8)
    return Volume(lookup[inverse].reshape(label.array.shape), label.grid)


def require_same_grid(image: Grid, label: Grid, where: object) -> None:
    """Raises :class:`Problem` unless both grids agree within :data:`SAME_GRID`."""
    if image.shape != label.shape:
        raise Problem(
            f"expected the image's shape {image.shape}, got a label of shape {label.shape}",
            where=where,
            remedy="Resample the label onto the image's grid (nearest neighbour).",
        )
    apart, tolerance = image.distance(label), SAME_GRID * min(image.spacing)
    if apart > tolerance:
        raise Problem(
            f"expected the image's affine, got one whose corners lie up to {apart:.3g} mm away"
            f" (tolerance {tolerance:.3g} mm)",
            where=where,
            remedy="Correct the header that is wrong, or resample the label onto the image's"
            " grid (nearest neighbour).",
        )


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


def slice_spacing(grid: Grid, plane: str) -> tuple[float, float]:
    """Row and column spacing in mm of the slices in ``plane``."""
    _, row, col = _AXES[plane]
    return grid.spacing[row], grid.spacing[col]


def to_8_bit(native: NDArray[Any], window: tuple[float, float]) -> NDArray[np.float32]:
    """Intensities -> float32 in 0..255: ``window`` (low, high) becomes (0, 255), clipped."""
    low, high = window
    if high <= low:
        return np.zeros(native.shape, np.float32)
    scaled = (native.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.clip(scaled, 0, 255, out=scaled)


def save_like(file: Path, ids: NDArray[np.uint8], grid: Grid, source: Path) -> None:
    """Save class ids (i, j, k) in the source's own axis order as NIfTI with its geometry.

    The source's header is kept where it is NIfTI, but for its free text and extensions: they
    can hold names.
    """
    like: Any = None if source.is_dir() else nib.load(source)
    header = like.header.copy() if isinstance(like, nib.Nifti1Image) else None
    if header is not None:
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        header["cal_min"], header["cal_max"] = 0, 0
        for text in ("descrip", "aux_file", "db_name", "intent_name"):
            if text in header:
                header[text] = b""
        header.extensions.clear()
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(ids, grid.affine, header), file)
