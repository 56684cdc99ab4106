"""One DICOM file: the facts of its header (pydicom) and its pixels (SimpleITK)."""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom import filereader
from pydicom import uid as uids
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.tag import BaseTag, Tag

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits

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
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
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
_MEASURES = {
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "SliceThickness",
    "SpacingBetweenSlices",
}
_REQUIRED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
"""What decoders would make up: without PixelRepresentation, -50 becomes 65486."""
_MOST_NUMBER = 1e6  # in geometry and rescale: a kilometre, or a million units per step
_LEAST_SLOPE = 1e-9
_UID = re.compile(r"[0-9.]{1,64}")
_PADDED = 1.1  # exporters add some bytes; more means that sizes or bits are not those of the pixels
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_PIXEL_DATA = Tag(0x7FE0, 0x0010)
_UNDEFINED = 0xFFFFFFFF
_MOST_NESTED = 100
_PIECE = 1 << 20
_MOST_HEADER = 16 << 20  # bytes of a deflated file that are not pixels


@dataclass(frozen=True)
class Instance:
    """The header of one picture file, as far as a volume needs it; lengths in mm.

    ``position``, ``orientation`` and ``spacing`` (rows, columns) are None where absent;
    ``odd`` tells what makes no sense or is missing, ``pixel_fault`` why the pixels cannot be
    complete. ``rescaled``: both rescale tags have a value. ``kind`` is the standard's name of
    what the file is. ``origin``, which is for comparing only, is (patient, study, frame of
    reference, modality), ``stored`` (bits allocated, bits stored, signed), ``step`` the distance
    of slices that the header states.
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


def read(file: Path, limits: Limits = Limits()) -> Instance | str:
    """The picture in ``file``, or in a few words what the file is instead.

    Pixels within ``limits`` that are deflated are measured; larger ones are not for reading.
    Raises :class:`Problem` for a file that should be DICOM and cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what pydicom finds odd is told as ``odd``
        try:
            with file.open("rb") as stream:
                header = _header(stream)
                stored = header.file_meta.get("MediaStorageSOPClassUID", "")
                kind = _printable(uids.UID(str(header.get("SOPClassUID") or stored)).name)
                if _IMAGE not in kind and ("Rows" not in header or "Storage" in kind):
                    if kind:
                        return kind  # dose grids and segmentations hold pixels, but no picture
                    raise ValueError("it does not say what it is: no SOPClassUID")
                return _instance(file, kind, header, stream, limits)
        except _UNREADABLE as error:
            if _is_something_else(file):
                return FOREIGN
            deep = isinstance(error, RecursionError)
            why = "sequences nested too deeply" if deep else _printable(error)
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
    """What the file says of itself before its header; the stream then stands at the header."""
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
        if head.tell() >= _MOST_HEADER:
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


def inflated(stream: BinaryIO) -> Iterator[bytes]:
    """The content of a deflated file in small pieces (PS3.5, annex A.5: RFC 1951, raw)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof and (packed := inflater.unconsumed_tail or stream.read(_PIECE)):
        yield inflater.decompress(packed, _PIECE)
    yield inflater.flush()
    if not inflater.eof:
        raise EOFError("its deflated content ends early")


def _is_something_else(file: Path) -> bool:
    """Whether a file that is no DICOM does not pretend to be: a text, or of another suffix."""
    suffix = file.suffix.lower()
    if suffix and not suffix[1:].isdigit():
        return suffix not in (".dcm", ".dicom", ".ima")
    with file.open("rb") as stream:
        start = stream.read(1024)
    return bool(start) and all(byte >= 9 for byte in start) and b"\x1b" not in start


def _instance(
    file: Path, kind: str, header: pydicom.Dataset, stream: BinaryIO, limits: Limits
) -> Instance:
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
        if len(found) == count and all(
            math.isfinite(one) and (abs(one) <= _MOST_NUMBER or tag not in _MEASURES)
            for one in found
        ):
            return found
        if tag not in _UNIMPORTANT:
            odd.append(f"{tag} {_short(header.get_item(tag).value)}")
        return None

    def number(tag: str, default: float) -> float:
        found = numbers(tag, 1)
        return default if found is None else found[0]

    def whole(tag: str, default: int, least: int = 1) -> int:
        found = numbers(tag, 1)
        if found is None:
            if tag in _REQUIRED and not any(told.startswith(tag) for told in odd):
                odd.append(f"no {tag}")
            return default
        if found[0] < least or found[0] % 1:
            odd.append(f"{tag} {found[0]:g}")
            return default
        return int(found[0])

    def text(tag: str) -> str:
        return _printable(header.get(tag) or "")

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
    shape = (whole("Rows", 0), whole("Columns", 0))
    frames, samples = whole("NumberOfFrames", 1), whole("SamplesPerPixel", 1)
    bits = whole("BitsAllocated", 16)
    bits_stored = whole("BitsStored", bits)
    if not (bits_stored - 1 == number("HighBit", bits_stored - 1) and 0 < bits_stored <= bits):
        high = number("HighBit", bits_stored - 1)
        odd.append(f"BitsAllocated {bits}, BitsStored {bits_stored}, HighBit {high:g}")
    slope, intercept = numbers("RescaleSlope", 1), numbers("RescaleIntercept", 1)
    rescale = (slope[0] if slope else 1.0, intercept[0] if intercept else 0.0)
    if abs(rescale[0]) < _LEAST_SLOPE:
        odd.append(f"RescaleSlope {rescale[0]:g}")
    signed = whole("PixelRepresentation", 0, least=0) == 1
    padding = [
        _stored(limit, bits, signed)
        for tag in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        if (limit := number(tag, math.nan)) == limit
    ]
    # of a header that is odd, the length of its pixels proves nothing
    wanted = 0 if odd else shape[0] * shape[1] * frames * samples * bits // 8
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
            _printable(part).upper()
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
        rescaled=None not in (slope, intercept),
        lookup=bool(header.get("ModalityLUTSequence")),
        padding=(min(padding), max(padding)) if padding else None,
        syntax=syntax,
        lossy=syntax in _LOSSY or text("LossyImageCompression") == "01",
        odd=tuple(odd),
        pixel_fault=_pixel_fault(
            stream, syntax, wanted, bool(wanted) and math.prod(shape) <= limits.pixels
        ),
    )


def _printable(value: object) -> str:
    """A header's text, which may hold anything, fit for a terminal and a page."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def _short(value: Any) -> str:
    told = _printable(value.decode("ascii", "replace") if isinstance(value, bytes) else value)
    return told if len(told) <= 60 else f"{told[:60]}..."


def _stored(padding: float, bits: int, signed: bool) -> float:
    """A padding value as the pixels hold it: scanners write 63536 for -2000 and the reverse."""
    span = float(1 << bits)
    wrapped = padding % span
    return wrapped - span if signed and wrapped >= span / 2 else wrapped


def _pixel_fault(stream: BinaryIO, syntax: uids.UID, wanted: int, measured: bool) -> str:
    """Why the pixel data, at which ``stream`` stands, cannot be whole; "" where it may be.

    Decoders fill up what a shortened file lacks, so the lengths are compared first: of native
    pixels with ``wanted`` bytes, of compressed ones with the file (PS3.5, annex A.4). A deflated
    file is ``measured`` piece by piece, since the decoder would inflate all of it.
    """
    order = ">" if syntax == uids.ExplicitVRBigEndian else "<"
    if syntax not in READABLE:
        return f"unsupported compression: {_printable(syntax.name) or 'no transfer syntax'}"
    if syntax == uids.DeflatedExplicitVRLittleEndian:
        return _deflated_fault(stream, wanted) if measured else ""
    here = stream.tell()
    stream.seek(0)
    _require_shallow(stream.read(here), order)
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
        stream.seek(start + length)
        _require_shallow(stream.read(), order)
        have = min(length, end - start)
        if not wanted:
            return ""
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
    _require_shallow(stream.read(), order)
    return "" if tag == _END else f"truncated pixel data of {syntax.name}"


def _require_shallow(content: bytes, order: str) -> None:
    """Raises :class:`RecursionError` for sequences in sequences to a depth that no scanner writes.

    The decoder reads them by recursion, and its stack would end with the whole process. Items
    begin with a tag and a length in every transfer syntax (PS3.5, section 7.5).
    """
    item, end = (struct.pack(f"{order}HH", 0xFFFE, tag) for tag in (0xE000, 0xE00D))
    if content.count(item) <= _MOST_NESTED:
        return
    ends: list[float] = []
    for found in re.finditer(re.escape(item) + b"|" + re.escape(end), content):
        while ends and ends[-1] <= found.start():
            ends.pop()
        if found[0] == item:
            length = struct.unpack(
                f"{order}I", content[found.end() : found.end() + 4].ljust(4, b"\0")
            )[0]
            ends.append(math.inf if length == _UNDEFINED else found.end() + 4 + length)
        elif ends:
            ends.pop()
        if len(ends) > _MOST_NESTED:
            raise RecursionError


def _deflated_fault(stream: BinaryIO, wanted: int) -> str:
    """The same of a deflated file, whose header and pixels ``stream`` holds."""
    content, most = bytearray(), _MOST_HEADER + int(_PADDED * wanted)
    for piece in inflated(stream):
        content += piece
        if len(content) > most:
            return f"deflated data of more than {most} bytes, where the pixels need {wanted}"
    _require_shallow(bytes(content), "<")
    return f"truncated deflated data, {len(content)} bytes" if len(content) < wanted else ""


def _tag(stream: BinaryIO) -> int:
    group, element = struct.unpack("<HH", stream.read(4).ljust(4, b"\0"))
    return int(group << 16 | element)


def _u32(stream: BinaryIO, order: str) -> int:
    return int(struct.unpack(f"{order}I", stream.read(4).ljust(4, b"\0"))[0])
