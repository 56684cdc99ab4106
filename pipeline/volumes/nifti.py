"""NIfTI and MGZ files -> a :class:`~pipeline.volumes.volume.Volume`, and class ids back into NIfTI.

Which affine a NIfTI header states is decided by rule, as nibabel and most readers do: the
sform where its code is above 0, else the qform where its code is above 0, else (both codes
0, no orientation stated) the voxel sides with the axes taken as left, anterior, superior
and the origin in the middle. Where the two forms disagree by more than :data:`SAME_GRID`,
where none is stated, where lengths are stated in another unit than millimetres, or where the
voxel sides that the header states are not those of the affine, that is a *finding* of the volume:
it is recorded, and nothing else is changed by it. Sides that were made up, or are no brain
scan's, are refused.

A file is read once, to its end, so that a checksum is always compared, and its header is judged
before memory is taken for its voxels.
"""

from __future__ import annotations

import logging
import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    OrientationError,
    io_orientation,
)
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits
from pipeline.volumes import scaling, stream
from pipeline.volumes.findings import Finding, finding
from pipeline.volumes.limits import require_voxels
from pipeline.volumes.volume import LARGEST, SAME_GRID, Grid, Volume, by_sides, column_lengths

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
SIDES_MM = (0.01, 30.0)
"""A voxel's shortest and longest side. The finest whole human brain (histology) has 0.02 mm and
the thickest slices of a scanner 10 mm; at 30 mm a brain would have five slices."""
_HEADER_BYTES = 1 << 26  # of a NIfTI header with all its extensions
_MGH_TAGS_BYTES = 1 << 24  # FreeSurfer's history and colour table, behind the voxels
_PADDING_BYTES = 1 << 12  # zeros behind the voxels: programs that write whole blocks leave them
_VOLUME = "volume"
_QUIET = logging.getLogger(f"{__name__}.nibabel")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False  # what nibabel's checks of a header change is refused here, or a finding


def files(source: Path) -> tuple[Path, ...]:
    """A file itself, or both halves (.hdr and .img) of a pair, as far as they are there."""
    packed = source.suffix if source.suffix in (".gz", ".bz2") else ""
    stem = source.with_suffix("") if packed else source
    if stem.suffix not in (".hdr", ".img"):
        return (source,)
    other = stem.with_suffix(".img" if stem.suffix == ".hdr" else ".hdr")
    other = other.with_name(other.name + packed)
    return (source, other) if other.exists() else (source,)


def choice(count: int, key: str) -> int | None:
    """The index of the volume that ``key`` names among so many: "volume 1", "volume 2", ..."""
    word, _, number = key.partition(" ")
    known = word == _VOLUME and number.isascii() and number.isdigit() and 1 <= int(number) <= count
    return int(number) - 1 if known else None


def volumes(source: Path) -> int:
    """How many volumes a file holds by its header; 1 for one that cannot be read."""
    try:
        shape: tuple[int, ...] = _kind(source).from_filename(source).shape
    except Exception:  # whatever is wrong with it, reading names it
        return 1
    return max(1, math.prod(shape[3:]))


def read(source: Path, limits: Limits = Limits(), key: str = "") -> Volume:
    """A NIfTI file (1 or 2, single or a pair) or an MGZ file as a volume of its scaled values.

    ``key``: which volume, where the file holds several (:func:`choice`). Raises :class:`Problem`
    for a missing or unreadable file, a wrong checksum, another format, more voxels than ``limits``
    allow, more than one volume and no key, an affine without three directions or with sides
    outside :data:`SIDES_MM`, and values that are not finite or above :data:`LARGEST`.
    """
    if source.is_dir():
        raise Problem("expected a NIfTI file, got a folder", where=source)
    if not source.exists():
        raise Problem("expected a file, found none", where=source)
    try:
        for half in files(source):
            stream.require_sound(half)
        block, header, array, ignored = _content(source, _kind(source), limits, key)
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
    return Volume(grid.to_ras(array), grid, findings=(*doubts, *ignored))


def _content(
    source: Path, kind: Any, limits: Limits, key: str
) -> tuple[bytes, Any, NDArray[Any], tuple[Finding, ...]]:
    """The header's bytes, what nibabel makes of them, the scaled voxels, and what was ignored.

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
    shape, count = _shape(header, limits, source)
    which = _which(count, key, source)
    dtype = _dtype(header, source)
    slope, inter = header.get_slope_inter()
    scaled = (1.0 if slope is None else float(slope), 0.0 if inter is None else float(inter))
    tags = _MGH_TAGS_BYTES if issubclass(kind, nib.MGHImage) else 0
    one = math.prod(shape) * dtype.itemsize
    offset, behind = int(header.get_data_offset()), (count - 1 - which) * one
    array, ignored = _voxels(file, dtype, shape, offset, tags, scaled, which * one, behind)
    return block, header, array, ignored


def _shape(header: Any, limits: Limits, source: Path) -> tuple[list[int], int]:
    """The shape (i, j, k) of a volume, and how many there are.

    Raises :class:`Problem` for fewer axes, empty ones, and more voxels than allowed.
    """
    shape = [int(side) for side in header.get_data_shape()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) < 3 or min(shape) < 1:
        raise Problem(
            f"expected a volume with 3 axes, got shape {tuple(shape)}",
            where=source,
            remedy="Save the volume that is meant as a file of its own.",
        )
    require_voxels(shape[:3], limits, source)
    return shape[:3], math.prod(shape[3:])


def _which(count: int, key: str, source: Path) -> int:
    """The index of the volume that ``key`` names; a :class:`Problem` that lists the keys."""
    if count == 1 and not key:
        return 0
    index = choice(count, key) if count > 1 else None
    if index is not None:
        return index
    wanted, first = f"the volume {key!r}" if key else "one volume", f"{_VOLUME} 1"
    there = f"{count} volumes: {first} to {_VOLUME} {count}" if count > 1 else "a file of one"
    remedy = f"Name one of them: OneVolume(file, {first!r}) as the image of a case, or" + (
        f" predict --volume {first!r}."
    )
    raise Problem(
        f"expected {wanted}, got {there}",
        where=source,
        remedy=remedy if count > 1 else "Name the file itself as the image of the case.",
    )


def _dtype(header: Any, source: Path) -> np.dtype[Any]:
    """The type of the stored voxels, a number; a :class:`Problem` for colours and other records."""
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except KeyError as code:  # nibabel looks it up in a table
        raise ValueError(f"voxels of the unknown type {code}") from None
    if dtype.kind not in "iufb":
        raise Problem(f"expected numbers as voxels, got {dtype}", where=source)
    return dtype


def _voxels(
    file: Path,
    dtype: np.dtype[Any],
    shape: Sequence[int],
    offset: int,
    tags: int,
    scaled: tuple[float, float],
    before: int,
    behind: int,
) -> tuple[NDArray[Any], tuple[Finding, ...]]:
    """The voxels of a volume, ``scaled`` by (slope, intercept), and a finding for bytes behind all.

    All volumes begin at ``offset``; there are ``before`` and ``behind`` bytes of other ones.

    ``tags``: so many bytes behind the voxels are the format's own. Otherwise less than a slice
    is ignored with a finding, but for padding; a slice or more means that the header lies.
    """
    count = math.prod(shape) * dtype.itemsize
    every = before + count + behind
    if not 0 <= offset <= _HEADER_BYTES:
        raise ValueError(f"voxels that begin at byte {offset:,}")
    one_slice = count // shape[2]
    most = tags or max(_PADDING_BYTES, one_slice)
    compressed = stream.compression(file)
    there = file.stat().st_size - offset
    if there < every and not compressed:
        raise EOFError(f"{max(there, 0):,} of {every:,} bytes of voxels are there")
    with stream.opened(file) as content:
        if compressed or not scaling.kept_as_stored(dtype, *scaled, math.prod(shape)):
            content.seek(offset + before)
            array = scaling.read(content, dtype, shape, *scaled)
            stream.skip(content, behind)
        else:
            array = np.asarray(np.memmap(file, dtype, "c", offset + before, tuple(shape), "F"))
            content.seek(offset + every)
        rest = content.read(most + 1)
    padding = len(rest) <= _PADDING_BYTES and not any(rest)
    if padding or (tags and len(rest) <= tags):
        return array, ()
    if tags or len(rest) >= one_slice:
        raise Problem(
            f"expected {every:,} bytes of voxels, as the header states, got a slice or more"
            " behind them",
            where=file,
            remedy="Its header may be damaged; download or unpack it again.",
        )
    return array, (finding("trailing-bytes", bytes=len(rest)),)


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
            f"expected voxel sides in mm, got {by_sides(header['pixdim'][1:4])} (pixdim)",
            where=source,
            remedy="Set the true voxel sides in the header.",
        )


def _require_sides(grid: Grid, source: Path, doubts: Sequence[Finding]) -> None:
    """Raises :class:`Problem` for voxel sides outside :data:`SIDES_MM`."""
    least, most = SIDES_MM
    if not (least <= min(grid.spacing) and max(grid.spacing) <= most):
        raise Problem(
            f"expected voxel sides of {least:g} to {most:g} mm, got {by_sides(grid.spacing)}"
            + "".join(f"; {doubt.sentence}" for doubt in doubts),
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
    with source.open("rb") as stream:
        dicom = stream.read(132)[128:] == b"DICM"
    raise Problem(
        "expected a NIfTI or MGZ file, got "
        + ("DICOM" if dicom else "one without the header of either"),
        where=source,
        remedy="Name its folder: a DICOM series is read as a whole."
        if dicom
        else "It may be truncated or something else; download or unpack it again.",
    )


def _of_mgh(block: bytes) -> tuple[Finding, ...]:
    """What is doubtful in the geometry of an MGH header: its goodRASFlag, bytes 28 and 29, is 0."""
    return () if any(block[28:30]) else (finding("mgh-no-orientation"),)


def _code(header: Any, name: str) -> int:
    """The code of a NIfTI form, 0 for one that the standard does not have, as nibabel does."""
    code = int(header[name])
    return code if code in nib.nifti1.xform_codes.value_set() else 0


def _of_nifti(block: bytes, header: Any, grid: Grid) -> tuple[Finding, ...]:
    """What is doubtful in the geometry of a NIfTI header; ``grid`` is what was made of it.

    ``block`` holds the header's bytes in the file, ``header`` is what nibabel corrected.
    """
    stated = type(header)(block, check=False)
    return (*_of_forms(stated, header, grid), *_of_lengths(stated, grid))


def _of_forms(stated: Any, header: Any, grid: Grid) -> Iterator[Finding]:
    """Doubts about sform and qform: unknown codes, neither of them, or two that disagree."""
    for name in ("sform_code", "qform_code"):
        if int(stated[name]) > 0 and not _code(stated, name):
            yield finding("unknown-form-code", form=name, value=int(stated[name]))
    codes = {"sform": _code(stated, "sform_code"), "qform": _code(stated, "qform_code")}
    if max(codes.values()) <= 0:
        yield finding("no-orientation")
    elif min(codes.values()) > 0:
        try:
            apart = grid.distance(Grid(grid.shape, header.get_qform()))
        except (nib.spatialimages.HeaderDataError, ValueError):
            apart = math.inf
        if not math.isfinite(apart):
            yield finding("unusable-qform", **codes)
        elif apart > SAME_GRID * min(grid.spacing):
            yield finding("forms-disagree", **codes, apart_mm=apart)


def _of_lengths(stated: Any, grid: Grid) -> Iterator[Finding]:
    """Doubts about the voxel sides that a header states, and about their unit."""
    sides = np.asarray(stated["pixdim"][1:4], float)
    taken = column_lengths(grid.affine)
    sform = _code(stated, "sform_code") > 0
    if sform and not np.allclose(np.abs(sides), taken, rtol=SAME_GRID):
        yield finding("sides-disagree", stated=by_sides(sides), taken=by_sides(taken))
    elif (sides < 0).any():
        yield finding("negative-sides", stated=by_sides(sides))
    unit = _OTHER_LENGTHS.get(int(stated["xyzt_units"]) & 7)
    if unit:
        yield finding("not-millimetres", unit=unit)


def _three_directions(affine: NDArray[np.float64]) -> bool:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return False
    try:
        return bool(np.isfinite(io_orientation(affine)).all())
    except OrientationError:
        return False


def save_like(file: Path, ids: NDArray[np.uint8], grid: Grid, source: Path | None) -> None:
    """Save class ids (i, j, k) in the source's own axis order as NIfTI with its geometry.

    See :func:`image_like`.
    """
    image = image_like(ids, grid, source)
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, file)


def image_like(array: NDArray[Any], grid: Grid, source: Path | None) -> Any:
    """Values (i, j, k) in the source's own axis order as a NIfTI image with its geometry.

    ``source`` is the NIfTI or MGZ file that the grid was read from; None, or a folder, where the
    grid alone is known. The header of NIfTI is kept (sform, qform, their codes, units, version and
    byte order), but for its free text and extensions: they can hold names.
    """
    like: Any = None if source is None or source.is_dir() else nib.load(source)
    if isinstance(like, _NIFTI_IMAGE):
        two = isinstance(like, (nib.Nifti2Image, nib.Nifti2Pair))
        kind: Any = nib.Nifti2Image if two else nib.Nifti1Image
        return kind(array, grid.affine, _header_like(like.header, kind, array.dtype))
    image = nib.Nifti1Image(array, grid.affine)
    image.header.set_xyzt_units("mm")
    return image


def _header_like(header: Any, kind: Any, dtype: np.dtype[Any]) -> Any:
    """A header of ``kind`` for other values, with the geometry of ``header`` and no text of it."""
    # a pair's header has no magic of its own beside that of the file: the bytes serve both
    made = kind.header_class(header.binaryblock, header.endianness, check=False)
    made.set_data_dtype(dtype)
    made.set_slope_inter(1, 0)
    made["cal_min"], made["cal_max"] = 0, 0
    for text in ("descrip", "aux_file", "db_name", "intent_name"):
        if text in made:
            made[text] = b""
    made.extensions.clear()
    return made
