"""One DICOM file: the facts of its header (pydicom) and its pixels (SimpleITK)."""

from __future__ import annotations

import math
import re
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import uid as uids
from pydicom.errors import BytesLengthException, InvalidDicomError

from datasets_spec.contract import Problem

_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
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
]
_UNREADABLE = (
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    KeyError,
    MemoryError,  # a damaged length can ask for any number of bytes
    NotImplementedError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    struct.error,
)
_IMAGE = "Image Storage"  # how the standard names every class of pictures (PS3.4, annex B)
_NATIVE = (
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
)
_COMPRESSED = (
    uids.RLELossless,
    uids.JPEGBaseline8Bit,
    uids.JPEGExtended12Bit,
    uids.JPEGLossless,
    uids.JPEGLosslessSV1,
    uids.JPEGLSLossless,
    uids.JPEGLSNearLossless,
    uids.JPEG2000Lossless,
    uids.JPEG2000,
)
READABLE = frozenset({*_NATIVE, *_COMPRESSED, uids.DeflatedExplicitVRLittleEndian})
"""Transfer syntaxes that SimpleITK's decoder (GDCM) knows."""
_LOSSY = (uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit, uids.JPEGLSNearLossless)
FOREIGN = "not DICOM"
"""What :func:`read` says of a text, an archive or a picture beside a series."""
_UNIMPORTANT = {
    "InstanceNumber",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "SliceThickness",
    "SpacingBetweenSlices",
}
_UID = re.compile(r"[0-9.]{1,64}")
_PADDED = 1.1  # exporters add some bytes; more means that sizes or bits are not those of the pixels
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD


@dataclass(frozen=True)
class Instance:
    """The header of one picture file, as far as a volume needs it; lengths in mm.

    ``position``, ``orientation`` and ``spacing`` (rows, columns) are None where absent;
    ``odd`` tells what is there but makes no sense, ``pixel_fault`` why the pixels cannot be
    complete. ``kind`` is the standard's name of what the file is. ``origin``, which is for
    comparing only, is (patient, study, frame of reference, modality), ``stored`` (bits allocated,
    bits stored, signed), ``step`` the distance of slices that the header states.
    """

    file: Path
    kind: str
    series: str
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


def read(file: Path) -> Instance | str:
    """The picture in ``file``, or in a few words what the file is instead.

    Raises :class:`Problem` for a file that should be DICOM and cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom finds odd is told as ``odd``
        try:
            with file.open("rb") as stream:
                header = _header(stream)
                stored = header.file_meta.get("MediaStorageSOPClassUID", "")
                kind = str(uids.UID(str(header.get("SOPClassUID") or stored)).name)
                if _IMAGE not in kind and ("Rows" not in header or "Storage" in kind):
                    if kind:
                        return kind  # dose grids and segmentations hold pixels, but no picture
                    raise ValueError("it does not say what it is: no SOPClassUID")
                return _instance(file, kind, header, stream)
        except _UNREADABLE as error:
            if _is_something_else(file):
                return FOREIGN
            raise Problem(
                f"expected a DICOM file, got one that cannot be read ({error})",
                where=file,
                remedy="It may be damaged; download or unpack it again, or take it out.",
            ) from None


def pixels(one: Instance) -> NDArray[np.float32]:
    """Rescaled pixels (rows, columns) of one file, in HU or the scanner's values."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(one.file))
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise Problem(
            f"expected pixels that can be decoded, got {one.syntax.name} and the answer:"
            f" {str(error).splitlines()[-1]}",
            where=one.file,
            remedy="The file may be damaged; export or download it again.",
        ) from None
    return np.asarray(sitk.GetArrayFromImage(image).reshape(one.shape), np.float32)


def _header(stream: IO[bytes]) -> pydicom.Dataset:
    """The listed tags; the stream then stands at the pixel data.

    A file without the preamble is DICOM still if it names a class of the standard.
    """
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


def _is_something_else(file: Path) -> bool:
    """Whether a file that is no DICOM does not pretend to be: a text, or of another suffix."""
    suffix = file.suffix.lower()
    if suffix and not suffix[1:].isdigit():
        return suffix not in (".dcm", ".dicom", ".ima")
    with file.open("rb") as stream:
        start = stream.read(1024)
    return bool(start) and all(byte >= 9 for byte in start) and b"\x1b" not in start


def _instance(file: Path, kind: str, header: pydicom.Dataset, stream: IO[bytes]) -> Instance:
    odd: list[str] = []

    def numbers(tag: str, count: int) -> tuple[float, ...] | None:
        """The values of a tag, None where it is absent; odd ones are noted if they matter."""
        try:
            value = header.get(tag)
            if value is None or value == "":
                return None
            found = tuple(map(float, [value] if count == 1 else value))
        except (BytesLengthException, OverflowError, TypeError, ValueError):
            found = ()
        if len(found) == count and all(map(math.isfinite, found)):
            return found
        if tag not in _UNIMPORTANT:
            odd.append(f"{tag} {_short(header.get_item(tag).value)}")
        return None

    def number(tag: str, default: float) -> float:
        found = numbers(tag, 1)
        return default if found is None else found[0]

    def text(tag: str) -> str:
        return str(header.get(tag) or "")

    spacing = numbers("PixelSpacing", 2)
    if spacing is not None and min(spacing) <= 0:
        odd.append(f"PixelSpacing {spacing}")
        spacing = None
    orientation = numbers("ImageOrientationPatient", 6)
    position = numbers("ImagePositionPatient", 3)
    step = abs(number("SpacingBetweenSlices", 0))
    thickness = step or number("SliceThickness", 0)
    counted = numbers("InstanceNumber", 1)
    syntax = uids.UID(str(header.file_meta.get("TransferSyntaxUID", "")))
    shape = (int(number("Rows", 0)), int(number("Columns", 0)))
    frames, samples = int(number("NumberOfFrames", 1)), int(number("SamplesPerPixel", 1))
    bits = int(number("BitsAllocated", 16))
    bits_stored = int(number("BitsStored", bits))
    if not (bits_stored - 1 == number("HighBit", bits_stored - 1) and 0 < bits_stored <= bits):
        high = number("HighBit", bits_stored - 1)
        odd.append(f"BitsAllocated {bits}, BitsStored {bits_stored}, HighBit {high:g}")
    rescale = (number("RescaleSlope", 1), number("RescaleIntercept", 0))
    if rescale[0] == 0:
        odd.append("RescaleSlope 0")
    signed = number("PixelRepresentation", 0) == 1
    limits = [
        _stored(limit, bits, signed)
        for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        if (limit := number(tag, math.nan)) == limit
    ]
    wanted = shape[0] * shape[1] * frames * samples * bits // 8
    image_type = header.get("ImageType") or []
    sop = text("SOPInstanceUID")
    return Instance(
        file=file,
        kind=kind,
        series=text("SeriesInstanceUID"),
        uid=sop if _UID.fullmatch(sop) else "",
        modality=text("Modality"),
        number=None if counted is None else int(counted[0]),
        image_type=tuple(
            str(part).upper()
            for part in ([image_type] if isinstance(image_type, str) else image_type)
        ),
        burned_in=text("BurnedInAnnotation").upper() == "YES",
        position=position,
        orientation=orientation,
        spacing=spacing,
        thickness=thickness if thickness > 0 else None,
        step=step or None,
        origin=(
            text("PatientID"),
            text("StudyInstanceUID"),
            text("FrameOfReferenceUID"),
            text("Modality"),
        ),
        stored=(bits, bits_stored, signed),
        shape=shape,
        frames=frames,
        samples=samples,
        photometric=text("PhotometricInterpretation"),
        rescale=rescale,
        rescaled="RescaleIntercept" in header,
        lookup="ModalityLUTSequence" in header,
        padding=(min(limits), max(limits)) if limits else None,
        syntax=syntax,
        lossy=syntax in _LOSSY or text("LossyImageCompression") == "01",
        odd=tuple(odd),
        pixel_fault=_pixel_fault(stream, syntax, wanted),
    )


def _short(value: Any) -> str:
    told = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)
    return told if len(told) <= 60 else f"{told[:60]}..."


def _stored(padding: float, bits: int, signed: bool) -> float:
    """A padding value as the pixels hold it: scanners write 63536 for -2000 and the reverse."""
    span = float(1 << bits)
    wrapped = padding % span
    return wrapped - span if signed and wrapped >= span / 2 else wrapped


def _pixel_fault(stream: IO[bytes], syntax: uids.UID, wanted: int) -> str:
    """Why the pixel data, at which ``stream`` stands, cannot be whole; "" where it may be.

    Decoders fill up what a shortened file lacks, so the lengths are compared first: of native
    pixels with ``wanted`` bytes, of compressed ones with the file (PS3.5, annex A.4).
    """
    if syntax not in READABLE:
        return f"unsupported compression: {syntax.name or 'no transfer syntax'}"
    if syntax == uids.DeflatedExplicitVRLittleEndian:
        return ""  # the decoder inflates it, and fails where it is cut
    order = ">" if syntax == uids.ExplicitVRBigEndian else "<"
    group, element = struct.unpack(f"{order}HH", stream.read(4).ljust(4, b"\0"))
    if (group, element) != (0x7FE0, 0x0010):
        return "no pixel data"
    if syntax == uids.ImplicitVRLittleEndian:
        length = _u32(stream, order)
    elif stream.read(2) in (b"OB", b"OW", b"UN"):
        stream.seek(2, 1)
        length = _u32(stream, order)
    else:
        return "pixel data of an unknown kind"
    start = stream.tell()
    end = stream.seek(0, 2)
    if syntax in _NATIVE:
        have = min(length, end - start)
        if have < wanted:
            return f"truncated pixel data of {syntax.name}, {have} of {wanted} bytes"
        if length > _PADDED * wanted:
            return f"pixel data of {length} bytes, where the header's sizes and bits need {wanted}"
        return ""
    stream.seek(start)
    while (tag := _tag(stream)) == _ITEM:
        length = _u32(stream, order)
        if stream.tell() + length > end:
            return f"truncated pixel data of {syntax.name}"
        stream.seek(length, 1)
    return "" if tag == _END else f"truncated pixel data of {syntax.name}"


def _tag(stream: IO[bytes]) -> int:
    group, element = struct.unpack("<HH", stream.read(4).ljust(4, b"\0"))
    return int(group << 16 | element)


def _u32(stream: IO[bytes], order: str) -> int:
    return int(struct.unpack(f"{order}I", stream.read(4).ljust(4, b"\0"))[0])
