"""Second readers: small, strict decoders that share no code with the project or its libraries.

They say what a file holds by its own header and checksums. :class:`Damaged` is a file whose
checksum or length is wrong, so that nothing but a refusal or the sound file's content is right;
:class:`Undecided` is a file that may mean this or that.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

_MOST = 4_000_000  # values that are compared; more would only cost time


class Damaged(Exception):
    """A checksum or a length is wrong."""


class Undecided(Exception):
    """The meaning of the file is not clear enough to judge a reader by it."""


@dataclass(frozen=True)
class Scan:
    """``array`` (i, j, k) of scaled values, ``affine`` (4, 4) to mm, RAS+."""

    array: np.ndarray
    affine: np.ndarray


def gunzip(content: bytes, most: int = 64 << 20) -> bytes:
    """All members of a gzip file, their checksums compared; what follows the last is left."""
    out: list[bytes] = []
    while content[:2] == b"\x1f\x8b" or not out:
        engine = zlib.decompressobj(wbits=31)
        try:
            out.append(engine.decompress(content, most))
        except zlib.error as error:
            if out:  # something after a whole member
                break
            raise Damaged(str(error)) from None
        if engine.unconsumed_tail:
            raise Undecided("too much to compare")
        if not engine.eof:
            raise Damaged("the end is missing")
        content = engine.unused_data
    return b"".join(out)


_NIFTI_KINDS = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8",
}  # fmt: skip


def nifti(header: bytes, voxels: bytes | None = None) -> Scan:
    """NIfTI-1 or NIfTI-2, one file or (with ``voxels``) a pair, by the header's own words."""
    if len(header) < 348:
        raise Damaged("the header is short")
    for order in "<>":
        size = struct.unpack_from(f"{order}i", header)[0]
        if size in (348, 540):
            break
    else:
        raise Undecided("no size of a header")
    if size == 348:
        dim = struct.unpack_from(f"{order}8h", header, 40)
        kind, bits = struct.unpack_from(f"{order}2h", header, 70)
        pixdim = struct.unpack_from(f"{order}8f", header, 76)
        offset, slope, inter = struct.unpack_from(f"{order}3f", header, 108)
        qcode, scode = struct.unpack_from(f"{order}2h", header, 252)
        quaternion = struct.unpack_from(f"{order}6f", header, 256)
        rows = struct.unpack_from(f"{order}12f", header, 280)
        magic = header[344:348]
    else:
        if len(header) < 540:
            raise Damaged("the header is short")
        magic = header[4:8]
        kind, bits = struct.unpack_from(f"{order}2h", header, 12)
        dim = struct.unpack_from(f"{order}8q", header, 16)
        pixdim = struct.unpack_from(f"{order}8d", header, 104)
        offset = struct.unpack_from(f"{order}q", header, 168)[0]
        slope, inter = struct.unpack_from(f"{order}2d", header, 176)
        qcode, scode = struct.unpack_from(f"{order}2i", header, 344)
        quaternion = struct.unpack_from(f"{order}6d", header, 352)
        rows = struct.unpack_from(f"{order}12d", header, 400)
    single = voxels is None
    if magic[:3] not in ((b"n+1", b"n+2") if single else (b"ni1", b"ni2")):
        raise Undecided("another magic")
    if not 3 <= dim[0] <= 7 or kind not in _NIFTI_KINDS:
        raise Undecided("another number of axes, or a kind of voxels that is not compared")
    shape = dim[1 : dim[0] + 1]
    if min(shape) < 1 or any(side != 1 for side in shape[3:]) or bits not in (0, _bits(kind)):
        raise Undecided("not one volume")
    start_least = (352 if size == 348 else 544) if single else 0
    if not (np.isfinite(offset) and offset == int(offset) and int(offset) >= start_least):
        raise Undecided("an odd offset")
    if not (np.isfinite(slope) and np.isfinite(inter)):
        raise Undecided("an odd scale")
    dtype = np.dtype(order + _NIFTI_KINDS[kind])
    count = int(np.prod([int(side) for side in shape[:3]], dtype=object))
    content = header if voxels is None else voxels
    if count * dtype.itemsize > len(content) - int(offset):
        raise Damaged("voxels are missing")
    if count > _MOST:
        raise Undecided("too much to compare")
    array = np.frombuffer(content, dtype, count, int(offset)).reshape(shape[:3], order="F")
    with np.errstate(all="ignore"):
        scaled = array.astype(np.float64)
        if slope != 0 and (slope, inter) != (1, 0):
            scaled = scaled * slope + inter
    return Scan(scaled, _affine(shape, pixdim, qcode, scode, quaternion, rows))


def _bits(kind: int) -> int:
    return np.dtype(_NIFTI_KINDS[kind]).itemsize * 8


def _affine(shape, pixdim, qcode, scode, quaternion, rows) -> np.ndarray:
    affine = np.eye(4)
    if scode > 0:
        affine[:3] = np.reshape(rows, (3, 4))
        return affine
    sides = np.array(pixdim[1:4], float)
    if not (np.isfinite(sides).all() and (sides > 0).all()):
        raise Undecided("sides that are not above 0")
    if qcode <= 0:
        affine[:3, :3] = np.diag(sides * (-1, 1, 1))
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape[:3]) - 1) / 2)
        return affine
    b, c, d, *origin = quaternion
    square = 1 - (b * b + c * c + d * d)
    if not -1e-7 < square <= 1 or pixdim[0] not in (-1, 0, 1):
        raise Undecided("an odd quaternion")
    a = np.sqrt(max(square, 0))
    turn = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    affine[:3, :3] = turn * sides * (1, 1, -1 if pixdim[0] == -1 else 1)
    affine[:3, 3] = origin
    return affine


def mgh(content: bytes) -> Scan:
    """An MGH file (FreeSurfer); the place of its voxels is not compared."""
    if len(content) < 284:
        raise Damaged("the header is short")
    version, *shape, frames, kind, _ = struct.unpack_from(">7i", content)
    kinds = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2"}
    if version != 1 or frames != 1 or kind not in kinds or min(shape) < 1:
        raise Undecided("an odd header")
    count = int(np.prod(np.array(shape, object)))
    if count * np.dtype(kinds[kind]).itemsize > len(content) - 284:
        raise Damaged("voxels are missing")
    array = np.frombuffer(content, kinds[kind], count, 284).reshape(shape, order="F")
    return Scan(array.astype(np.float64), np.full((4, 4), np.nan))


def png_chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks (kind, content) of a PNG up to IEND; their checksums are compared."""
    if content[:8] != b"\x89PNG\r\n\x1a\n":
        raise Undecided("no PNG")
    chunks, at = [], 8
    while True:
        if at + 12 > len(content):
            raise Damaged("the end is missing")
        size, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + size]
        end = at + 8 + size
        if len(body) < size or content[end : end + 4] != zlib.crc32(kind + body).to_bytes(4, "big"):
            raise Damaged(f"the checksum of {kind!r}")
        chunks.append((kind, body))
        if kind == b"IEND":
            return chunks
        at = end + 4


_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(content: bytes) -> tuple[np.ndarray, int, bytes]:
    """Samples (H, W, channels) as stored, the colour type, and the palette (b"" if none)."""
    chunks = png_chunks(content)
    if chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise Undecided("no header first")
    width, height, depth, colour, packing, filters, interlace = struct.unpack(
        ">IIBBBBB", chunks[0][1]
    )
    kinds = [kind for kind, _ in chunks]
    if colour not in _CHANNELS or depth not in (8, 16) or packing or filters or interlace:
        raise Undecided("a form that is not compared")
    if kinds.count(b"IHDR") > 1 or kinds.count(b"PLTE") > 1 or not width * height:
        raise Undecided("a form that is not compared")
    if width * height * _CHANNELS[colour] > _MOST:
        raise Undecided("too much to compare")
    if any(not (kind[0] & 32) and kind not in _CRITICAL for kind in kinds):
        raise Undecided("a critical chunk that nobody knows")
    data = [index for index, kind in enumerate(kinds) if kind == b"IDAT"]
    if data != list(range(data[0], data[0] + len(data))) if data else True:
        raise Damaged("no data, or data in several places")
    stride = width * _CHANNELS[colour] * depth // 8
    engine = zlib.decompressobj()
    try:
        raw = engine.decompress(b"".join(chunks[at][1] for at in data), height * (stride + 1) + 1)
    except zlib.error as error:
        raise Damaged(str(error)) from None
    if len(raw) > height * (stride + 1):
        raise Undecided("more data than pixels")
    if len(raw) < height * (stride + 1) or not engine.eof:
        raise Damaged("pixels are missing")
    rows = _unfiltered(raw, height, stride, max(1, _CHANNELS[colour] * depth // 8))
    samples = rows.view(">u2").astype(np.uint16) if depth == 16 else rows
    palette = next((body for kind, body in chunks if kind == b"PLTE"), b"")
    return samples.reshape(height, width, _CHANNELS[colour]), colour, palette


_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")


def _unfiltered(raw: bytes, height: int, stride: int, step: int) -> np.ndarray:
    """PNG (third edition), section 9: the five filters of a row."""
    rows = np.zeros((height, stride), np.uint8)
    before = bytearray(stride)
    for row in range(height):
        start = row * (stride + 1)
        way, line = raw[start], bytearray(raw[start + 1 : start + 1 + stride])
        if way > 4:
            raise Damaged(f"filter {way}")
        for at in range(stride) if way else ():
            left = line[at - step] if at >= step else 0
            up, corner = before[at], before[at - step] if at >= step else 0
            guess = (left, up, (left + up) // 2, 0)[way - 1]
            if way == 4:
                near = left + up - corner
                guess = min((left, up, corner), key=lambda one: abs(near - one))
            line[at] = (line[at] + guess) & 255
        rows[row] = np.frombuffer(line, np.uint8)
        before = line
    return rows
