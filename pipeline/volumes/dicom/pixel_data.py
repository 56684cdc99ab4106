"""Whether the pixel data of a DICOM file are whole, before anything is decoded."""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from pydicom import uid as uids

from pipeline.volumes.dicom.tags import printable

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
LOSSY = (uids.JPEGBaseline8Bit, uids.JPEGExtended12Bit, uids.JPEGLSNearLossless)
PADDED = 1.1
"""Exporters add some bytes; more means that sizes or bits are not those of the pixels."""
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_MOST_NESTED = 100
_PIECE = 1 << 20
MOST_HEADER = 16 << 20
"""Bytes of a deflated file that are not pixels."""


def fault(stream: BinaryIO, syntax: uids.UID, wanted: int, measured: bool) -> str:
    """Why the pixel data, at which ``stream`` stands, cannot be whole; "" where it may be.

    Decoders fill up what a shortened file lacks, so the lengths are compared first: of native
    pixels with ``wanted`` bytes, of compressed ones with the file (PS3.5, annex A.4). A deflated
    file is ``measured`` piece by piece, since the decoder would inflate all of it.
    """
    order = ">" if syntax == uids.ExplicitVRBigEndian else "<"
    if syntax not in READABLE:
        return f"unsupported compression: {printable(syntax.name) or 'no transfer syntax'}"
    if syntax == uids.DeflatedExplicitVRLittleEndian:
        return _deflated_fault(stream, wanted) if measured else ""
    here = stream.tell()
    stream.seek(0)
    _require_shallow(stream.read(here), order)
    if struct.unpack(f"{order}HH", stream.read(4).ljust(4, b"\0")) != (0x7FE0, 0x0010):
        return "no pixel data"
    length = _length(stream, syntax, order)
    if length is None:
        return "pixel data of an unknown kind"
    if syntax in _NATIVE:
        return _native_fault(stream, syntax, length, wanted)
    return _compressed_fault(stream, syntax, order)


def _length(stream: BinaryIO, syntax: uids.UID, order: str) -> int | None:
    """The stated length of the pixel data, which follow; None where no kind of theirs is stated."""
    if syntax != uids.ImplicitVRLittleEndian:
        if stream.read(2) not in (b"OB", b"OW", b"UN"):
            return None
        stream.seek(2, 1)
    return _u32(stream, order)


def _native_fault(stream: BinaryIO, syntax: uids.UID, length: int, wanted: int) -> str:
    """The same of pixels that are not compressed; of 0 ``wanted`` bytes, nothing is known."""
    order = ">" if syntax == uids.ExplicitVRBigEndian else "<"
    start = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(start + length)
    _require_shallow(stream.read(), order)
    have = min(length, end - start)
    if not wanted:
        return ""
    if have < wanted:
        return f"truncated pixel data of {syntax.name}, {have} of {wanted} bytes"
    if length > PADDED * wanted:
        return f"pixel data of {length} bytes, where the header's sizes and bits need {wanted}"
    return ""


def _compressed_fault(stream: BinaryIO, syntax: uids.UID, order: str) -> str:
    """The same of compressed pixels, which stand in items up to a delimiter."""
    start = stream.tell()
    end = stream.seek(0, 2)
    stream.seek(start)
    while (tag := _tag(stream)) == _ITEM:
        length = _u32(stream, order)
        if stream.tell() + length > end:
            return f"truncated pixel data of {syntax.name}"
        stream.seek(length, 1)
    _require_shallow(stream.read(), order)
    return "" if tag == _END else f"truncated pixel data of {syntax.name}"


def inflated(stream: BinaryIO) -> Iterator[bytes]:
    """The content of a deflated file in small pieces (PS3.5, annex A.5: RFC 1951, raw)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while not inflater.eof and (packed := inflater.unconsumed_tail or stream.read(_PIECE)):
        yield inflater.decompress(packed, _PIECE)
    yield inflater.flush()
    if not inflater.eof:
        raise EOFError("its deflated content ends early")


def _require_shallow(content: bytes, order: str) -> None:
    """Raises :class:`RecursionError` for sequences in sequences to a depth that no scanner writes.

    The decoder reads them by recursion, and its stack would end with the whole process. Items
    begin with a tag and a length in every transfer syntax (PS3.5, section 7.5).
    """
    item, end = (struct.pack(f"{order}HH", 0xFFFE, tag) for tag in (0xE000, 0xE00D))
    if content.count(item) <= _MOST_NESTED:
        return
    ends: list[float] = []
    for mark in re.finditer(re.escape(item) + b"|" + re.escape(end), content):
        while ends and ends[-1] <= mark.start():
            ends.pop()
        if mark[0] == item:
            length = struct.unpack(
                f"{order}I", content[mark.end() : mark.end() + 4].ljust(4, b"\0")
            )[0]
            ends.append(math.inf if length == _UNDEFINED else mark.end() + 4 + length)
        elif ends:
            ends.pop()
        if len(ends) > _MOST_NESTED:
            raise RecursionError


def _deflated_fault(stream: BinaryIO, wanted: int) -> str:
    """The same of a deflated file, whose header and pixels ``stream`` holds."""
    content, most = bytearray(), MOST_HEADER + int(PADDED * wanted)
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
