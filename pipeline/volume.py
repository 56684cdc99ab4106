"""Source files -> one :class:`Volume` in RAS+ order, its slices, and the way back.

World coordinates are millimetres, RAS+ (right, anterior, superior), as nibabel
gives them. Turning to RAS+ only permutes and flips axes: no voxel is resampled.

Which affine a NIfTI header states is decided by rule, as nibabel and most readers do: the
sform where its code is above 0, else the qform where its code is above 0, else (both codes
0, no orientation stated) the voxel sides with the axes taken as left, anterior, superior
and the origin in the middle. Where the two forms disagree by more than :data:`SAME_GRID`,
where none is stated, where lengths are said to be no millimetres, or where the voxel sides
that the header states are not those of the affine, that is a *finding* of the volume: it is
told, and nothing else is changed by it. Sides that were made up, or are no brain scan's, are
refused.

A file is read once, to its end, so that a checksum is always compared, and its header is judged
before memory is taken for its voxels.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from datasets_spec.contract import Picture, Problem
from pipeline import stream
from pipeline.limits import require_voxels
from pipeline.params import Limits

# plane -> (axis that counts slices, axis of the rows, axis of the columns), in RAS+
_AXES = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_RAS = np.array([[0, 1], [1, 1], [2, 1]], float)
_UNREADABLE = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    nib.wrapstruct.WrapStructError,  # less than a header is there
    EOFError,
    MemoryError,  # a damaged header can ask for any number of voxels
    OSError,
    OverflowError,
    ValueError,
    zlib.error,
)
_ANALYZE = nib.AnalyzeImage
_NIFTI = nib.Nifti1Header  # those of NIfTI-2 and of single files are kinds of it
_NIFTI_IMAGE = nib.Nifti1Pair  # likewise
_OTHER_LENGTHS = {1: "metres", 3: "micrometres"}  # by the header's xyzt_units, bits 0 to 2
_COUNTABLE = 1 << 16  # integers that span less are looked up, which is quicker than sorting
SAME_GRID = 0.1
"""Two grids are the same if their corners lie within this share of the smallest voxel side."""
INTEGER = 1e-6
"""A float label counts as an integer within this distance."""
SIDES_MM = (0.01, 30.0)
"""A voxel's shortest and longest side. The finest whole human brain (histology) has 0.02 mm and
the thickest slices of a scanner 10 mm; at 30 mm a brain would have five slices."""
LARGEST = 1e12
"""No scanner's value is larger: they are integers of 16 bits, or counts of PET below 1e9. Far
above, the float32 in which pictures are made overflows."""
_HEADER_BYTES = 1 << 26  # of a NIfTI header with all its extensions
_MGH_TAGS_BYTES = 1 << 24  # FreeSurfer's history and colour table, behind the voxels
_PADDING_BYTES = 1 << 12  # zeros behind the voxels: programs that write whole blocks leave them
_RESAMPLE = (
    "Resample the label onto the image's grid (nearest neighbour), or let the adapter state"
    " resample_labels, which does that."
)
_QUIET = logging.getLogger(f"{__name__}.nibabel")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False  # what nibabel's checks of a header change is refused here, or a finding


@dataclass(frozen=True)
class Grid:
    """A source's own voxel grid: shape (i, j, k) and affine (4, 4), voxel index to mm."""

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel sides in mm along RAS+ axes x, y, z."""
        sides = _lengths(self.affine)
        x, y, z = (float(sides[source]) for source in np.argsort(self._orientation()[:, 0]))
        return x, y, z

    @property
    def voxel_ml(self) -> float:
        """The volume of a voxel in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000

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
    packed = source.suffix if source.suffix in (".gz", ".bz2") else ""
    stem = source.with_suffix("") if packed else source
    if stem.suffix not in (".hdr", ".img"):
        return (source,)
    other = stem.with_suffix(".img" if stem.suffix == ".hdr" else ".hdr")
    other = other.with_name(other.name + packed)
    return (source, other) if other.exists() else (source,)


def read(source: Picture, limits: Limits = Limits()) -> Volume:
    """A NIfTI file (1 or 2, single or a pair) or an MGZ file as a volume of its scaled values.

    Raises :class:`Problem` for a missing or unreadable file, a wrong checksum, another format,
    more voxels than ``limits`` allow, more than one volume, an affine without three directions
    or with sides outside :data:`SIDES_MM`, and values that are not finite or above
    :data:`LARGEST`.
    """
    if not isinstance(source, Path) or source.is_dir():
        raise Problem("expected a NIfTI file, got a folder or slices", where=source)
    if not source.exists():
        raise Problem("expected a file, found none", where=source)
    try:
        for half in files(source):
            stream.require_sound(half)
        block, header, array, left = _content(source, _kind(source), limits)
        affine = np.asarray(header.get_best_affine(), np.float64)
    except _UNREADABLE as error:
        raise Problem(
            f"expected a complete NIfTI file, got one that cannot be read ({error})",
            where=source,
            remedy="It may be truncated or damaged; download or unpack it again.",
        ) from None
    _require_values(array, source)
    if not _three_directions(affine):
        raise Problem(
            f"expected an affine with three directions, got {affine[:3].tolist()}",
            where=source,
            remedy="Set a right qform or sform in the header.",
        )
    grid = Grid((array.shape[0], array.shape[1], array.shape[2]), affine)
    doubts = _of_nifti(block, header, grid) if isinstance(header, _NIFTI) else _of_mgh(block)
    _require_sides(grid, source, doubts)
    return Volume(grid.to_ras(array), grid, findings=(*doubts, *left))


def _content(
    source: Path, kind: Any, limits: Limits
) -> tuple[bytes, Any, NDArray[Any], tuple[str, ...]]:
    """The header's bytes, what nibabel makes of them, the scaled voxels, and what was left out.

    Both halves of a pair are read to their ends.
    """
    halves = {part: Path(one.filename) for part, one in kind.filespec_to_file_map(source).items()}
    file = halves["image"]
    with stream.opened(halves.get("header", file)) as content:
        block = content.read(kind.header_class.template_dtype.itemsize)
        if "header" in halves and len(content.read(_HEADER_BYTES + 1)) > _HEADER_BYTES:
            raise ValueError(f"more than {_HEADER_BYTES:,} bytes of header")
    header = kind.header_class(block, check=False)
    _require_stated_sides(header, source)
    header.check_fix(logger=_QUIET)
    shape = [int(side) for side in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) != 3 or min(shape) < 1:
        raise Problem(f"expected one volume with 3 axes, got shape {tuple(shape)}", where=source)
    require_voxels(shape, limits, source)
    try:
        dtype = header.get_data_dtype()
    except KeyError as code:  # nibabel looks it up in a table
        raise ValueError(f"voxels of the unknown type {code}") from None
    if dtype.kind not in "iufb":
        raise Problem(f"expected numbers as voxels, got {dtype}", where=source)
    slope, inter = header.get_slope_inter()
    tags = _MGH_TAGS_BYTES if issubclass(kind, nib.MGHImage) else 0
    array, left = _voxels(file, dtype, shape, int(header.get_data_offset()), tags)
    scaled = apply_read_scaling(
        array,
        np.float64(1.0 if slope is None else slope),
        np.float64(0.0 if inter is None else inter),
    )
    return block, header, scaled, left


def _voxels(
    file: Path, dtype: np.dtype[Any], shape: Sequence[int], offset: int, tags: int
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The voxels from ``offset`` on, and what is left behind them, in words.

    ``tags``: so many bytes behind the voxels are the format's own. Otherwise less than a slice
    is left out with a finding, but for padding; a slice or more means that the header lies.
    """
    count = math.prod(shape) * dtype.itemsize
    if not 0 <= offset <= _HEADER_BYTES:
        raise ValueError(f"voxels that begin at byte {offset:,}")
    one_slice = count // shape[2]
    most = tags or max(_PADDING_BYTES, one_slice)
    with stream.opened(file) as content:
        if stream.compression(file):
            content.seek(offset)
            array = stream.take(content, count).view(dtype).reshape(shape, order="F")
        else:
            there = file.stat().st_size - offset
            if there < count:
                raise EOFError(f"{max(there, 0):,} of {count:,} bytes of voxels are there")
            array = np.asarray(np.memmap(file, dtype, "c", offset, tuple(shape), "F"))
            content.seek(offset + count)
        rest = content.read(most + 1)
    padding = len(rest) <= _PADDING_BYTES and not any(rest)
    if padding or (tags and len(rest) <= tags):
        return array, ()
    if tags or len(rest) >= one_slice:
        raise Problem(
            f"expected {count:,} bytes of voxels, as the header states, got a slice or more"
            " behind them",
            where=file,
            remedy="Its header may be damaged; download or unpack it again.",
        )
    return array, (f"{len(rest):,} bytes behind the last voxel are left out",)


def _require_values(array: NDArray[Any], source: Path) -> None:
    """Raises :class:`Problem` for values that are not finite, or of no scanner."""
    if array.dtype.kind in "iub" and array.dtype.itemsize <= 4:
        return
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        strange = int((~np.isfinite(array)).sum())
        raise Problem(
            f"expected finite values, got {strange} voxels that are NaN or infinite",
            where=source,
            remedy="Replace them (for example by 0) in a corrected copy.",
        )
    if max(-low, high) > LARGEST:
        raise Problem(
            f"expected values up to {LARGEST:g}, got {low:g} to {high:g}",
            where=source,
            remedy="Is the header's slope or intercept damaged?",
        )


def _require_stated_sides(header: Any, source: Path) -> None:
    """Raises :class:`Problem` where the grid has to follow voxel sides that are none.

    nibabel makes 0 to 1 mm, and the sform alone does without them.
    """
    if not isinstance(header, _NIFTI) or _code(header, "sform_code") > 0:
        return
    sides = np.abs(np.asarray(header["pixdim"][1:4], float))
    if not (np.isfinite(sides) & (sides > 0)).all():
        raise Problem(
            f"expected voxel sides in mm, got {_by(header['pixdim'][1:4])} (pixdim)",
            where=source,
            remedy="Set the true voxel sides in the header.",
        )


def _require_sides(grid: Grid, source: Path, doubts: Sequence[str]) -> None:
    """Raises :class:`Problem` for voxel sides outside :data:`SIDES_MM`."""
    least, most = SIDES_MM
    if not (least <= min(grid.spacing) and max(grid.spacing) <= most):
        raise Problem(
            f"expected voxel sides of {least:g} to {most:g} mm, got {_by(grid.spacing)}"
            + "".join(f"; {doubt}" for doubt in doubts),
            where=source,
            remedy="Correct the voxel sides, or their unit, in the header.",
        )


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
        if issubclass(kind, (_NIFTI_IMAGE, nib.MGHImage)):
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


def _of_mgh(block: bytes) -> tuple[str, ...]:
    """What is doubtful in the geometry of an MGH header: its goodRASFlag, bytes 28 and 29, is 0."""
    if any(block[28:30]):
        return ()
    return (
        "the header states no orientation (goodRASFlag is 0): its axes are taken as left,"
        " inferior, anterior with sides of 1 mm, as FreeSurfer does",
    )


def _code(header: Any, name: str) -> int:
    """The code of a NIfTI form, 0 for one that the standard does not have, as nibabel does."""
    code = int(header[name])
    return code if code in nib.nifti1.xform_codes.value_set() else 0


def _of_nifti(block: bytes, header: Any, grid: Grid) -> tuple[str, ...]:
    """What is doubtful in the geometry of a NIfTI header; ``grid`` is what was made of it.

    ``block`` holds the header's bytes in the file, ``header`` is what nibabel corrected.
    """
    stated = type(header)(block, check=False)
    sform, qform = _code(stated, "sform_code"), _code(stated, "qform_code")
    found = [
        f"the header's {name} is {int(stated[name])}, which the standard does not have: that form"
        " is left out"
        for name in ("sform_code", "qform_code")
        if int(stated[name]) > 0 and not _code(stated, name)
    ]
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
    sides = np.asarray(stated["pixdim"][1:4], float)
    if sform > 0 and not np.allclose(np.abs(sides), _lengths(grid.affine), rtol=SAME_GRID):
        found.append(
            f"the header states voxel sides of {_by(sides)} mm, the sform"
            f" {_by(_lengths(grid.affine))} mm: the sform is taken"
        )
    elif (sides < 0).any():
        found.append(
            f"the header states negative voxel sides, {_by(sides)} mm: they are taken as positive"
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
    ids = blank(label.array)
    wrong = []
    for raw, out in slabs(label.array, ids):
        if raw.any() or declared.get(0) != 0:
            found, strange = _of_values(raw, declared)
            if strange.any():
                wrong.append(raw[strange].min())
            elif found.any():
                out[:] = found
    if not wrong:
        return Volume(ids, label.grid)
    value = min(wrong)
    count = sum(int(np.count_nonzero(raw == value)) for (raw,) in slabs(label.array))
    if abs(float(value) - np.rint(float(value))) > INTEGER:
        raise Problem(
            f"expected integers as labels, got {value.item()!r} in {count} voxels",
            where=where,
            remedy="Is it a probability map, or was it resampled with interpolation?",
        )
    raise Problem(
        f"expected the label values {sorted(declared)}, got {int(np.rint(value))} in"
        f" {count} voxels",
        where=where,
        remedy="Declare the value in the dataset's label map, or correct the file.",
    )


def _of_values(
    raw: NDArray[Any], declared: Mapping[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The class ids of raw values, and where these are no integers or not declared."""
    with np.errstate(invalid="ignore"):  # what is beyond 64 bits is not declared either
        whole = np.rint(raw).astype(np.int64) if raw.dtype.kind == "f" else raw
    low = int(whole.min())
    if int(whole.max()) - low < _COUNTABLE:
        place = whole.astype(np.uint16) - np.uint16(low % _COUNTABLE)  # wraps round, and back
        values = range(low, low + int(place.max()) + 1)
    else:
        distinct, place = np.unique(whole, return_inverse=True)
        values = distinct.tolist()
    ids = np.array([declared.get(value, 0) for value in values], np.uint8)
    strange = np.array([value not in declared for value in values])[place]
    if raw.dtype.kind == "f":
        strange |= np.abs(raw - whole) > INTEGER
    return ids[place], strange


def blank(like: NDArray[Any]) -> NDArray[np.uint8]:
    """Class ids of the shape and the order in memory of ``like``, all of them background.

    Operating systems give zeros no memory before something is written there, so slices in which
    nothing is drawn cost none as long as nobody writes into them.
    """
    order = np.argsort(np.abs(like.strides), kind="stable")[::-1]
    zeros = np.zeros([like.shape[axis] for axis in order], np.uint8)
    return zeros.transpose(np.argsort(order))


def slabs(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Slice by slice, the same views of arrays of one shape, in the order of the first's memory."""
    axis = int(np.argmax(np.abs(arrays[0].strides)))
    yield from zip(*(np.moveaxis(array, axis, 0) for array in arrays), strict=True)


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
        counts += np.bincount(native[i[beyond], j[beyond], index], minlength=classes)
    return counts


def _told(grid: Grid) -> str:
    return f"{_by(grid.shape)} voxels of {_by(grid.spacing)} mm"


def _by(numbers: Iterable[float]) -> str:
    return "x".join(f"{number:.4g}" for number in numbers)


def _lengths(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The lengths in mm of an affine's columns: the voxel sides along its own axes."""
    lengths: NDArray[np.float64] = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return lengths


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
            remedy=_RESAMPLE,
        )
    if not same_grid(image, label):
        raise Problem(
            "expected the image's affine, got one whose corners lie up to"
            f" {image.distance(label):.3g} mm away"
            f" (tolerance {SAME_GRID * min(image.spacing):.3g} mm)",
            where=where,
            remedy=f"Correct the header that is wrong. {_RESAMPLE}",
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


def save_like(file: Path, ids: NDArray[np.uint8], grid: Grid, source: Path) -> None:
    """Save class ids (i, j, k) in the source's own axis order as NIfTI with its geometry.

    The source's header is kept where it is NIfTI (sform, qform, their codes, units, version
    and byte order), but for its free text and extensions: they can hold names.
    """
    like: Any = None if source.is_dir() else nib.load(source)
    header: Any = None
    kind: Any = nib.Nifti1Image
    if isinstance(like, _NIFTI_IMAGE):
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
