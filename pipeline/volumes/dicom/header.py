"""One DICOM file: the facts of its header, read by pydicom."""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import filereader
from pydicom import uid as uids
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag, Tag

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import functional_groups, packed, pixel_data
from pipeline.volumes.dicom.pixel_data import LOSSY, MOST_HEADER, inflated
from pipeline.volumes.dicom.tags import VARYING, Tags, printable

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "StudyInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "Modality",
    "InstanceNumber",
    "ImageType",
    "BurnedInAnnotation",
    "LossyImageCompression",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SpacingBetweenSlices",
    "SliceThickness",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *VARYING,
]
UNREADABLE = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    KeyError,
    MemoryError,  # a damaged length can ask for any number of bytes
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What pydicom raises for damaged files."""
_IMAGE = "Image Storage"  # how the standard names every class of pictures (PS3.4, annex B)
FOREIGN = "not DICOM"
"""What :func:`read` calls a text, an archive or a picture beside a series."""
_LEAST_SLOPE = 1e-9
_UID = re.compile(r"[0-9.]{1,64}")
_PIXEL_DATA = Tag(0x7FE0, 0x0010)


@dataclass(frozen=True)
class Instance:
    """The header of one picture, as far as a volume needs it; lengths in mm.

    ``position``, ``orientation`` and ``spacing`` (rows, columns) are None where absent;
    ``odd`` lists what makes no sense or is missing, ``pixel_fault`` why the pixels cannot be
    complete. ``rescaled``: both rescale tags have a value. ``kind`` is the standard's name of
    what the file is. ``origin``, which is for comparing only, is (patient, study, frame of
    reference, modality), ``stored`` (bits allocated, bits stored, signed), ``step`` the distance
    of slices that the header states. ``varies``: the tags by which volumes that lie in one series
    differ (:data:`~pipeline.volumes.dicom.tags.VARYING`). ``frame``: which picture of its file it
    is, from 0; None where the file holds one alone, or states no place for each.
    """

    file: Path
    kind: str
    series: str
    series_number: int | None
    uid: str
    modality: str
    number: int | None
    image_type: tuple[str, ...]
    burned_in: bool
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    step: float | None
    origin: tuple[str, str, str, str]
    stored: tuple[int, int, bool]
    shape: tuple[int, int]
    frames: int
    samples: int
    photometric: str
    rescale: tuple[float, float]
    rescaled: bool
    lookup: bool
    padding: tuple[float, float] | None
    syntax: uids.UID
    lossy: bool
    odd: tuple[str, ...]
    pixel_fault: str
    varies: tuple[tuple[str, str], ...] = ()
    frame: int | None = None
    inverted: bool = False

    @property
    def name(self) -> str:
        """What identifies the picture: its SOPInstanceUID, and which frame of that it is.

        Frames count from 1, as references to them do; "" where there is no UID.
        """
        return (
            self.uid if self.frame is None or not self.uid else f"{self.uid}_frame{self.frame + 1}"
        )

    @property
    def scale(self) -> tuple[float, float]:
        """(slope, intercept) from stored values to those of the volume.

        Of one that is ``inverted``, of the stored values that count down from the highest there
        may be.
        """
        slope, intercept = self.rescale
        if not self.inverted:
            return slope, intercept
        _, bits, signed = self.stored
        ends = -1 if signed else (1 << bits) - 1  # the sum of the lowest and the highest
        return -slope, slope * ends + intercept


def read(file: Path, limits: Limits = Limits()) -> Instance | str:
    """The picture in ``file``, or in a few words what the file is instead.

    Of several frames it is what they have in common, without their places. Raises
    :class:`Problem` as :func:`read_all` does.
    """
    content = read_all(file, limits)
    return content if isinstance(content, str) else content[0]


def read_all(file: Path, limits: Limits = Limits()) -> tuple[Instance, ...] | str:
    """The pictures in ``file``, or in a few words what the file is instead.

    There is one for each frame whose place the file states in its functional groups (PS3.3,
    C.7.6.16). Pixels within ``limits`` that are deflated are measured; larger ones are not for
    reading. Raises :class:`Problem` for a file that should be DICOM and cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom finds odd becomes ``odd``
        try:
            with packed.opened(file, limits) as stream:
                header = _header(stream)
                stored = header.file_meta.get("MediaStorageSOPClassUID", "")
                kind = printable(uids.UID(str(header.get("SOPClassUID") or stored)).name)
                if _IMAGE not in kind and ("Rows" not in header or "Storage" in kind):
                    if kind:
                        return kind  # dose grids and segmentations hold pixels, but no picture
                    raise ValueError("it does not say what it is: no SOPClassUID")
                return _instances(file, kind, header, stream, limits)
        except UNREADABLE as error:
            if _is_something_else(file):
                return FOREIGN
            deep = isinstance(error, RecursionError)
            why = "sequences nested too deeply" if deep else printable(error)
            raise Problem(
                f"expected a DICOM file, got one that cannot be read"
                f" ({why or type(error).__name__})",
                where=file,
                remedy="It may be damaged; download or unpack it again, or take it out.",
            ) from None


def _header(stream: BinaryIO) -> pydicom.Dataset:
    """The listed tags; the stream then stands at the pixel data.

    A file without the preamble is DICOM still if it names a class of the standard.
    """
    meta = file_meta(stream)
    if meta.get("TransferSyntaxUID") == uids.DeflatedExplicitVRLittleEndian:
        return _deflated_header(meta, stream)
    stream.seek(0)
    try:
        return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS)
    except InvalidDicomError:
        stream.seek(0)
        bare = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        if not uids.UID(str(bare.get("SOPClassUID", ""))).name.endswith("Storage"):
            raise InvalidDicomError("it has neither DICOM's prefix nor a SOPClassUID") from None
        implicit, little = bare.original_encoding
        bare.file_meta.TransferSyntaxUID = (
            uids.ImplicitVRLittleEndian
            if implicit
            else uids.ExplicitVRLittleEndian
            if little
            else uids.ExplicitVRBigEndian
        )
        return bare


def file_meta(stream: BinaryIO) -> pydicom.dataset.FileMetaDataset:
    """The file meta information; the stream then stands behind it, at the header."""
    filereader.read_preamble(stream, force=True)
    wanted: list[BaseTag | int] = [Tag("TransferSyntaxUID"), Tag("MediaStorageSOPClassUID")]
    return pydicom.dataset.FileMetaDataset(
        filereader.read_dataset(
            stream, False, True, stop_when=lambda tag, *_: tag.group != 2, specific_tags=wanted
        )
    )


def _deflated_header(meta: pydicom.dataset.FileMetaDataset, stream: BinaryIO) -> pydicom.Dataset:
    """The listed tags of a deflated file. Its pixels are left alone: they may be of any size."""
    start = stream.tell()
    head = io.BytesIO()
    for piece in inflated(stream):
        head.write(piece)
        if head.tell() >= MOST_HEADER:
            break
    head.seek(0)
    header = filereader.read_dataset(
        head,
        False,
        True,
        stop_when=lambda tag, *_: tag == _PIXEL_DATA,
        specific_tags=[Tag(name) for name in _TAGS],
    )
    header.file_meta = meta
    stream.seek(start)
    return header


def _is_something_else(file: Path) -> bool:
    """Whether a file that is no DICOM does not pretend to be: a text, or of another suffix."""
    suffix = file.suffix.lower()
    if packed.is_packed(file):
        return not packed.is_gzip(file)
    if suffix and not suffix[1:].isdigit():
        return suffix not in (".dcm", ".dicom", ".ima")
    with file.open("rb") as stream:
        start = stream.read(1024)
    return bool(start) and all(byte >= 9 for byte in start) and b"\x1b" not in start


def _instances(
    file: Path, kind: str, header: pydicom.Dataset, stream: BinaryIO, limits: Limits
) -> tuple[Instance, ...]:
    """The picture of a file or, where each frame has a place, all of them."""
    first = _instance(file, kind, header, header)
    # of a header that is odd, the length of its pixels proves nothing
    pixels = math.prod(first.shape) * first.frames
    wanted = 0 if first.odd else pixels * first.samples * first.stored[0] // 8
    measured = bool(wanted) and math.prod(first.shape) <= limits.pixels and pixels <= limits.voxels
    fault = pixel_data.fault(stream, first.syntax, wanted, measured)
    first = replace(first, pixel_fault=fault)
    several = first.frames > 1 or "Enhanced" in kind
    flat = functional_groups.flattened(header) if several else []
    if not flat:
        return (first,)
    if len(flat) != first.frames:
        words = f"NumberOfFrames {first.frames}, and places of {len(flat)}"
        return (replace(first, frame=0, odd=(*first.odd, words)),)
    return tuple(
        replace(
            _instance(file, kind, header, own), frame=index, number=index + 1, pixel_fault=fault
        )
        for index, own in enumerate(flat)
    )


def _instance(file: Path, kind: str, header: pydicom.Dataset, own: pydicom.Dataset) -> Instance:
    """A picture whose tags ``own`` holds; ``header`` is that of its file."""
    tags = Tags(own)
    syntax = uids.UID(str(header.file_meta.get("TransferSyntaxUID", "")))
    number = tags.numbers("InstanceNumber", 1)
    position, orientation, spacing = _place(tags)
    step = abs(tags.number("SpacingBetweenSlices", 0))
    thickness = step or tags.number("SliceThickness", 0)
    shape, frames, samples, stored = _pixel_format(tags)
    rescale, rescaled = _rescale(tags)
    padding = _padding(tags, stored)
    modality, uid = tags.text("Modality"), tags.text("SOPInstanceUID")
    patient, study = tags.text("PatientID"), tags.text("StudyInstanceUID")
    return Instance(
        file=file,
        kind=kind,
        series=tags.text("SeriesInstanceUID"),
        series_number=_whole(tags.numbers("SeriesNumber", 1)),
        uid=uid if _UID.fullmatch(uid) else "",
        modality=modality,
        number=_whole(number),
        image_type=tags.words("ImageType"),
        burned_in=tags.text("BurnedInAnnotation").upper() == "YES",
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=thickness if thickness > 0 else None,
        step=step or None,
        origin=(patient, study, tags.text("FrameOfReferenceUID"), modality),
        stored=stored,
        shape=shape,
        frames=frames,
        samples=samples,
        photometric=tags.text("PhotometricInterpretation"),
        rescale=rescale,
        rescaled=rescaled,
        lookup=tags.has("ModalityLUTSequence"),
        padding=padding,
        syntax=syntax,
        lossy=syntax in LOSSY or tags.text("LossyImageCompression") == "01",
        odd=tuple(tags.odd),
        pixel_fault="",
        varies=tags.varying(),
    )


_Numbers = tuple[float, ...] | None


def _whole(numbers: _Numbers) -> int | None:
    return None if numbers is None else int(numbers[0])


def _place(tags: Tags) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Position, orientation and spacing, None where they are absent or odd."""
    spacing = tags.numbers("PixelSpacing", 2)
    if spacing is not None and min(spacing) <= 0:
        tags.odd.append(f"PixelSpacing {spacing}")
        spacing = None
    orientation = tags.numbers("ImageOrientationPatient", 6)
    return tags.numbers("ImagePositionPatient", 3), orientation, spacing


def _pixel_format(tags: Tags) -> tuple[tuple[int, int], int, int, tuple[int, int, bool]]:
    """(rows, columns), frames, samples, and (bits allocated, bits stored, signed)."""
    shape = (tags.whole("Rows", 0), tags.whole("Columns", 0))
    frames, samples = tags.whole("NumberOfFrames", 1), tags.whole("SamplesPerPixel", 1)
    bits = tags.whole("BitsAllocated", 16)
    stored = tags.whole("BitsStored", bits)
    high = tags.number("HighBit", stored - 1)
    if not (stored - 1 == high and 0 < stored <= bits):
        tags.odd.append(f"BitsAllocated {bits}, BitsStored {stored}, HighBit {high:g}")
    signed = tags.whole("PixelRepresentation", 0, least=0) == 1
    return shape, frames, samples, (bits, stored, signed)


def _rescale(tags: Tags) -> tuple[tuple[float, float], bool]:
    """(slope, intercept), and whether both are stated."""
    slope, intercept = tags.numbers("RescaleSlope", 1), tags.numbers("RescaleIntercept", 1)
    rescale = (slope[0] if slope else 1.0, intercept[0] if intercept else 0.0)
    if abs(rescale[0]) < _LEAST_SLOPE:
        tags.odd.append(f"RescaleSlope {rescale[0]:g}")
    return rescale, None not in (slope, intercept)


def _padding(tags: Tags, stored: tuple[int, int, bool]) -> tuple[float, float] | None:
    """The least and the greatest stored value that is padding; None without any."""
    bits, _, signed = stored
    limits = [
        _stored(limit, bits, signed)
        for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        if (limit := tags.number(tag, math.nan)) == limit
    ]
    return (min(limits), max(limits)) if limits else None


def _stored(padding: float, bits: int, signed: bool) -> float:
    """A padding value as the pixels hold it: scanners write 63536 for -2000 and the reverse."""
    span = float(1 << bits)
    wrapped = padding % span
    return wrapped - span if signed and wrapped >= span / 2 else wrapped
