"""Source files -> one :class:`Volume` in RAS+ order, its slices, and the way back.

World coordinates are millimetres, RAS+ (right, anterior, superior), as nibabel
gives them. Turning to RAS+ only permutes and flips axes: no voxel is resampled.

Which affine a NIfTI header states is decided by rule, as nibabel and most readers do: the
sform where its code is above 0, else the qform where its code is above 0, else (both codes
0, no orientation stated) the voxel sides with the axes taken as left, anterior, superior
and the origin in the middle. Where the two forms disagree by more than :data:`SAME_GRID`,
where none is stated, or where lengths are said to be no millimetres, that is a *finding*
of the volume: it is told, and nothing else is changed by it.
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
from scipy.ndimage import affine_transform

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
_ANALYZE = nib.AnalyzeImage
_NIFTI = nib.Nifti1Pair  # NIfTI-2 and single files are kinds of it
_OTHER_LENGTHS = {1: "metres", 3: "micrometres"}  # by the header's xyzt_units, bits 0 to 2
_COUNTABLE = 1 << 16  # integers that span less are counted, which is quicker than sorting them
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

    def steps(self, plane: str) -> NDArray[np.float64]:
        """Columns: the mm in x, y and z that one slice, one row and one column lead, (3, 3).

        Of :func:`slices` in ``plane``. In a sheared grid they do not stand upright on each other.
        """
        along = np.empty((3, 3))
        for axis, (source, flip) in enumerate(self._orientation()):
            along[:, int(source)] = self.affine[:3, axis] * flip
        steps: NDArray[np.float64] = along[:, _AXES[plane]] * [1, -1, -1]
        return steps

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
    of their InstanceNumber (nothing where the numbers do not tell them apart). ``findings``:
    what the headers say in a doubtful way, and what was made of it, in words. ``uids``: the
    SOPInstanceUID of each third index. ``modality``: what a DICOM header states, "" elsewhere.
    ``unscaled``: a CT whose header does not say how stored values become HU.
    """

    array: NDArray[Any]
    grid: Grid
    instances: tuple[int, ...] = ()
    findings: tuple[str, ...] = ()
    uids: tuple[str, ...] = ()
    modality: str = ""
    unscaled: bool = False

    def slice_uids(self, plane: str) -> tuple[str, ...]:
        """The SOPInstanceUID of each slice in ``plane``; "" where slices cut across instances."""
        axis = _AXES[plane][0]
        source, flip = self.grid._orientation()[2]
        if not self.uids or source != axis:
            return ("",) * int(self.array.shape[axis])
        return self.uids if flip > 0 else self.uids[::-1]


def per_instance(ids: NDArray[np.uint8], image: Volume) -> dict[str, NDArray[np.uint8]]:
    """Class ids (X, Y, Z) in RAS+ -> SOPInstanceUID: (rows, columns) as that instance stores them.

    ``image`` is the DICOM volume that the ids belong to; without SOPInstanceUIDs, nothing.
    """
    own = image.grid.from_ras(ids)
    return {uid: own[..., index].T for index, uid in enumerate(image.uids)}


def files(source: Path) -> tuple[Path, ...]:
    """A file itself, or both halves (.hdr and .img) of a pair, as far as they are there."""
    stem, gz = (source.with_suffix(""), ".gz") if source.suffix == ".gz" else (source, "")
    if stem.suffix not in (".hdr", ".img"):
        return (source,)
    other = stem.with_suffix(".img" if stem.suffix == ".hdr" else ".hdr")
    other = other.with_name(other.name + gz)
    return (source, other) if other.is_file() else (source,)


def read(source: Picture) -> Volume:
    """A NIfTI file (1 or 2, single or a pair) or an MGZ file as a volume of its scaled values.

    Raises :class:`Problem` for a missing or unreadable file, another format, more than one
    volume, an affine without three directions, or values that are not numbers.
    """
    if not isinstance(source, Path) or source.is_dir():
        raise Problem("expected a NIfTI file, got a folder or slices", where=source)
    if not source.is_file():
        raise Problem("expected a file, found none", where=source)
    try:
        file: Any = _kind(source).from_filename(source)
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
    doubts = _of_nifti(file.header, grid) if isinstance(file, _NIFTI) else _of_mgh(source)
    return Volume(grid.to_ras(array), grid, findings=doubts)


def _kind(source: Path) -> Any:
    """The image class that reads ``source``; a :class:`Problem` where its format is not read.

    Analyze is refused because it does not state which side is left, and all other formats
    because nobody has compared what nibabel makes of their headers with a second reader.
    """
    sniff = None
    for kind in nib.imageclasses.all_image_classes:
        fits, sniff = kind.path_maybe_image(source, sniff)
        if not fits:
            continue
        if issubclass(kind, (_NIFTI, nib.MGHImage)):
            return kind
        if issubclass(kind, _ANALYZE):
            raise Problem(
                "expected a format that states its orientation, got Analyze, which does not say"
                " which side is left",
                where=source,
                remedy="Convert it to NIfTI with the orientation that its publisher states.",
            )
        raise Problem(
            f"expected a NIfTI or MGZ file, got {kind.__name__.removesuffix('Image')}",
            where=source,
            remedy="Convert it to NIfTI.",
        )
    raise Problem(
        "expected a NIfTI or MGZ file, got one without the header of either",
        where=source,
        remedy="It may be truncated or something else; download or unpack it again.",
    )


def _of_mgh(source: Path) -> tuple[str, ...]:
    """What is doubtful in the geometry of an MGH file: its goodRASFlag, bytes 28 and 29, is 0."""
    with nib.openers.ImageOpener(str(source)) as stream:
        stated = any(stream.read(30)[28:])
    if stated:
        return ()
    return (
        "the header states no orientation (goodRASFlag is 0): its axes are taken as left,"
        " inferior, anterior with sides of 1 mm, as FreeSurfer does",
    )


def _of_nifti(header: Any, grid: Grid) -> tuple[str, ...]:
    """What is doubtful in the geometry of a NIfTI header; ``grid`` is what was made of it."""
    found = []
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform <= 0 and qform <= 0:
        found.append(
            "the header states no orientation (sform and qform codes are 0): its axes are taken"
            " as left, anterior, superior, so left and right may be exchanged"
        )
    elif sform > 0 and qform > 0:
        try:
            apart = grid.distance(Grid(grid.shape, header.get_qform()))
        except (nib.spatialimages.HeaderDataError, ValueError):
            apart = np.inf
        if not apart <= SAME_GRID * min(grid.spacing):
            found.append(
                f"sform (code {sform}) and qform (code {qform}) place the corners up to"
                f" {apart:.3g} mm apart: the sform is taken"
            )
    lengths = _OTHER_LENGTHS.get(int(header["xyzt_units"]) & 7)
    if lengths:
        found.append(f"the header states lengths in {lengths}: they are taken as millimetres")
    return tuple(found)


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
    values, place, counts = _distinct(label.array)
    whole = np.rint(values.astype(np.float64))
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
    return Volume(lookup[place].reshape(label.array.shape), label.grid)


def _distinct(array: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
    """The values of an array in order, the place of each voxel's among them, and their counts."""
    low = int(array.min())
    if array.dtype.kind not in "ui" or int(array.max()) - low >= _COUNTABLE:
        return np.unique(array, return_inverse=True, return_counts=True)
    above = array.astype(np.uint16) - np.uint16(low % _COUNTABLE)  # wraps round, and back
    every = np.bincount(above.ravel("K"))
    present = np.flatnonzero(every)
    place = np.zeros(len(every), np.min_scalar_type(len(present)))
    place[present] = np.arange(len(present))
    return present + low, place[above], every[present]


def resampled(label: Volume, onto: Grid) -> Volume:
    """Raw label values on another grid: the voxel nearest to each centre, or 0 outside.

    Only for datasets that opt in (``resample_labels``); the volume's findings tell of it.
    """
    way = np.linalg.inv(label.grid.affine) @ onto.affine
    native = affine_transform(
        label.grid.from_ras(label.array),
        way,
        output_shape=onto.shape,
        order=0,
        mode="grid-constant",
    )
    told = f"resampled by nearest neighbour from {_told(label.grid)} onto the image's {_told(onto)}"
    return Volume(onto.to_ras(native), onto, findings=(*label.findings, told))


def _told(grid: Grid) -> str:
    shape, sides = ("x".join(f"{n:.4g}" for n in them) for them in (grid.shape, grid.spacing))
    return f"{shape} voxels of {sides} mm"


def same_grid(image: Grid, label: Grid) -> bool:
    """Whether both grids agree within :data:`SAME_GRID`."""
    if image.shape != label.shape:
        return False
    return image.distance(label) <= SAME_GRID * min(image.spacing)


def require_same_grid(image: Grid, label: Grid, where: object) -> None:
    """Raises :class:`Problem` unless both grids agree within :data:`SAME_GRID`."""
    if image.shape != label.shape:
        raise Problem(
            f"expected the image's shape {image.shape}, got a label of shape {label.shape}",
            where=where,
            remedy="Resample the label onto the image's grid (nearest neighbour).",
        )
    if not same_grid(image, label):
        raise Problem(
            "expected the image's affine, got one whose corners lie up to"
            f" {image.distance(label):.3g} mm away"
            f" (tolerance {SAME_GRID * min(image.spacing):.3g} mm)",
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

    The source's header is kept where it is NIfTI (sform, qform, their codes, units, version
    and byte order), but for its free text and extensions: they can hold names.
    """
    like: Any = None if source.is_dir() else nib.load(source)
    header: Any = None
    kind: Any = nib.Nifti1Image
    if isinstance(like, _NIFTI):
        if isinstance(like, (nib.Nifti2Image, nib.Nifti2Pair)):
            kind = nib.Nifti2Image
        # a pair's header has no magic of its own beside that of the file: the bytes serve both
        header = kind.header_class(like.header.binaryblock, like.header.endianness, check=False)
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        header["cal_min"], header["cal_max"] = 0, 0
        for text in ("descrip", "aux_file", "db_name", "intent_name"):
            if text in header:
                header[text] = b""
        header.extensions.clear()
    file.parent.mkdir(parents=True, exist_ok=True)
    image = kind(ids, grid.affine, header)
    if header is None:
        image.header.set_xyzt_units("mm")
    nib.save(image, file)
