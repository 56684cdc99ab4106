"""DICOM series: seeds of every transfer syntax that can be written here, and hostile elements.

Files are taken apart and put together by a small parser of this module, not by pydicom, so that
lengths, VRs and the order of elements can be as wrong as in a file from the street.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid as uids
from pydicom.encaps import encapsulate

from pipeline.virtual import dicom_writer
from pipeline.volumes.volume import Volume
from tests.fuzz import nifti
from tests.fuzz.mutations import Mutation, Random, anything, pick, stranger, target
from tests.fuzz.trees import Input, of_folder

SHAPE = (4, 12, 14)  # slices, rows, columns
_SHIPPED = Path(pydicom.__file__).parent / "data" / "test_files"
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFFFFFF
_PIXELS = (0x7FE0, 0x0010)
_TAGS = {
    (0x0008, 0x0008): b"CS", (0x0008, 0x0016): b"UI", (0x0008, 0x0018): b"UI",
    (0x0008, 0x0060): b"CS", (0x0010, 0x0020): b"LO", (0x0018, 0x0050): b"DS",
    (0x0018, 0x0088): b"DS", (0x0020, 0x000D): b"UI", (0x0020, 0x000E): b"UI",
    (0x0020, 0x0013): b"IS", (0x0020, 0x0032): b"DS", (0x0020, 0x0037): b"DS",
    (0x0020, 0x0052): b"UI", (0x0028, 0x0002): b"US", (0x0028, 0x0004): b"CS",
    (0x0028, 0x0008): b"IS", (0x0028, 0x0010): b"US", (0x0028, 0x0011): b"US",
    (0x0028, 0x0030): b"DS", (0x0028, 0x0100): b"US", (0x0028, 0x0101): b"US",
    (0x0028, 0x0102): b"US", (0x0028, 0x0103): b"US", (0x0028, 0x0120): b"SS",
    (0x0028, 0x0121): b"SS", (0x0028, 0x0301): b"CS", (0x0028, 0x1052): b"DS",
    (0x0028, 0x1053): b"DS", (0x0028, 0x2110): b"CS", (0x0028, 0x3000): b"SQ",
}  # fmt: skip
_META = {(0x0002, 0x0010): b"UI", (0x0002, 0x0002): b"UI", (0x0002, 0x0000): b"UL"}
_VALUES: dict[bytes, tuple[bytes, ...]] = {
    b"DS": (b"", b" ", b"0", b"-1", b"1e30", b"1e400", b"nan", b"inf", b"abc", b"1\\2\\3\\4\\5\\6",
            b"0\\0", b"1,5", b"1e-300", b"\\", b"\0\0", b"9" * 64, b"1\\0\\0\\0\\1\\0", b"2000\\1"),
    b"IS": (b"", b"-5", b"0", b"99999999999999", b"1.5", b"abc", b"1\\2", b"\\\\", b"4"),
    b"US": (b"", b"\1", b"\1\0\2\0",
            *(struct.pack("<H", n) for n in (0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 255, 65535))),
    b"SS": (*(struct.pack("<h", n) for n in (0, -1, -32768, 32767, 50, -2000)), b"", b"\1"),
    b"UL": (b"", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\0"),
    b"UI": (b"", b"1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.5",
            b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.1.99",
            b"1.2.840.10008.1.2.2", b"1.2.840.10008.5.1.4.1.1.4", b"1.2.840.10008.5.1.4.1.1.7",
            b"../../escaped", b"1" * 100, b"\xff\xfe", b"1.2\0\0\0", b"a\nb"),
    b"CS": (b"", b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"PALETTE COLOR", b"YBR_FULL", b"YES",
            b"MR", b"CT", b"SEG", b"LOCALIZER\\X", b"\\\\\\\\", b"\xff\xff", b"a\x1b[31mb", b"01"),
    b"LO": (b"", b"x\ny", b"\xe4\xf6", b"=1+1", b"<script>", b"a" * 500, b"\x1b$B"),
    b"SQ": (b"", b"\xfe\xff\x00\xe0\0\0\0\0", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"abc"),
}  # fmt: skip


@dataclass(frozen=True)
class Element:
    """One element: its value's bytes; ``length`` and ``vr`` may lie."""

    tag: tuple[int, int]
    vr: bytes
    value: bytes
    length: int | None = None


@dataclass(frozen=True)
class Parts:
    """A file taken apart: preamble, meta elements, the others, and how those are written."""

    meta: tuple[Element, ...]
    body: tuple[Element, ...]
    implicit: bool = False
    order: str = "<"
    deflated: bool = False

    def written(self) -> bytes:
        """The file's bytes."""
        meta = b"".join(_written(one, False, "<") for one in self.meta)
        body = b"".join(_written(one, self.implicit, self.order) for one in self.body)
        if self.deflated:
            engine = zlib.compressobj(6, wbits=-15)
            body = engine.compress(body) + engine.flush()
        return bytes(128) + b"DICM" + meta + body


def _written(one: Element, implicit: bool, order: str) -> bytes:
    tag = struct.pack(f"{order}HH", *one.tag)
    size = len(one.value) if one.length is None else one.length
    if implicit:
        return tag + struct.pack(f"{order}I", size % 2**32) + one.value
    if one.vr in _LONG:
        return tag + one.vr + b"\0\0" + struct.pack(f"{order}I", size % 2**32) + one.value
    return tag + one.vr + struct.pack(f"{order}H", size % 2**16) + one.value


def parts(content: bytes) -> Parts | None:
    """A file's elements; None where this small parser does not follow."""
    if content[128:132] != b"DICM":
        return None
    try:
        meta, at = [], 132
        while struct.unpack_from("<H", content, at)[0] == 2:
            element, at = _element(content, at, False, "<")
            meta.append(element)
        syntax = next(one.value for one in meta if one.tag == (2, 0x10)).rstrip(b"\0 ").decode()
        implicit = syntax == uids.ImplicitVRLittleEndian
        order = ">" if syntax == uids.ExplicitVRBigEndian else "<"
        deflated = syntax == uids.DeflatedExplicitVRLittleEndian
        if deflated:
            content, at = zlib.decompress(content[at:], wbits=-15), 0
        body = []
        while at < len(content):
            element, at = _element(content, at, implicit, order)
            body.append(element)
    except (struct.error, zlib.error, StopIteration, UnicodeDecodeError):
        return None
    return Parts(tuple(meta), tuple(body), implicit, order, deflated)


def _element(content: bytes, at: int, implicit: bool, order: str) -> tuple[Element, int]:
    group, number = struct.unpack_from(f"{order}HH", content, at)
    at += 4
    vr = b"UN"
    if implicit:
        size = struct.unpack_from(f"{order}I", content, at)[0]
        at += 4
    else:
        vr = content[at : at + 2]
        if vr in _LONG:
            size = struct.unpack_from(f"{order}I", content, at + 4)[0]
            at += 8
        else:
            size = struct.unpack_from(f"{order}H", content, at + 2)[0]
            at += 4
    if size == _UNDEFINED:  # encapsulated pixels stand last; a sequence is kept with all after it
        return Element((group, number), vr, content[at:], _UNDEFINED), len(content)
    if at + size > len(content):
        raise struct.error
    return Element((group, number), vr, content[at : at + size]), at + size


def seeds() -> list[Input]:
    """CT and MR of each transfer syntax, a tilted one, and single files that pydicom ships."""
    syntaxes = {
        "explicit": uids.ExplicitVRLittleEndian,
        "implicit": uids.ImplicitVRLittleEndian,
        "big-endian": uids.ExplicitVRBigEndian,
        "deflated": uids.DeflatedExplicitVRLittleEndian,
        "RLE": uids.RLELossless,
        "JPEG": uids.JPEGBaseline8Bit,
        "JPEG 2000": uids.JPEG2000Lossless,
    }
    found = [_series(name, syntax) for name, syntax in syntaxes.items()]
    found.append(_series("tilted", uids.ExplicitVRLittleEndian, tilt=12.0))
    found.append(_series("padded MR", uids.ExplicitVRLittleEndian, modality="MR"))
    for name in (
        "JPEG-LS MR_small_jpeg_ls_lossless.dcm",
        "12-bit JPGExtended.dcm",
        "JPEG 2000 MR_small_jp2klossless.dcm",
        "RLE MR_small_RLE.dcm",
        "CT CT_small.dcm",
        "deflated image_dfl.dcm",
    ):
        file = _SHIPPED / name.rpartition(" ")[2]
        if file.is_file():
            found.append(Input(name, {file.name: file.read_bytes()}, may_be_refused=True))
    return found


def _series(name: str, syntax: str, tilt: float = 0.0, modality: str = "CT") -> Input:
    rng = np.random.default_rng(len(name))
    hu = np.rint(rng.normal(40, 30, SHAPE)).astype(np.int16)
    frame = dicom_writer.Frame.around((1.0, 2.0, 3.0), SHAPE, 0.9, 5.0, tilt)
    tree = {}
    for number, values in enumerate(hu):
        header = dicom_writer._header(
            dicom_writer.WrittenSeries(f"fuzz {name}", "p", 1, False, -1024), frame, number, len(hu)
        )
        header.Rows, header.Columns = values.shape
        header.Modality = modality
        if modality == "MR":
            header.PixelPaddingValue = 0
            header["PixelPaddingValue"].VR = "SS"
        stored = (values + 1024).astype("<i2")
        header.PixelData = stored.tobytes()
        header["PixelData"].VR = "OW"
        if syntax == uids.RLELossless:
            header.compress(syntax, encoding_plugin="pydicom", generate_instance_uid=False)
        elif syntax == uids.JPEGBaseline8Bit:
            _encode(header, (values % 256).astype(np.uint8), "JPEG", quality=95)
        elif syntax == uids.JPEG2000Lossless:
            _encode(header, (values + 1024).astype(np.uint16), "JPEG2000", no_jp2=True)
        header.file_meta.TransferSyntaxUID = uids.UID(syntax)
        if syntax == uids.ExplicitVRBigEndian:
            header.PixelData = stored.astype(">i2").tobytes()
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, header, enforce_file_format=True)
        tree[f"series/{number:03d}.dcm"] = stream.getvalue()
    return Input(name, dict(tree))


def _encode(header: pydicom.Dataset, pixels: np.ndarray, kind: str, **settings: object) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **settings)
    header.PixelData = encapsulate([stream.getvalue()])
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    bits = pixels.dtype.itemsize * 8
    header.BitsAllocated, header.BitsStored, header.HighBit = bits, bits, bits - 1
    header.PixelRepresentation = 0


def fixture(folder: Path) -> Input:
    """A series of the repository's fixtures."""
    return Input(f"fixture {folder.name}", dict(of_folder(folder)))


def hostile_elements(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A value, VR, length or number of elements that no header should have, in one file or all."""
    first = target(rng, made)
    if first is None:
        return None
    tag = pick(rng, [*_TAGS, *_TAGS, *_META])
    vr = {**_TAGS, **_META}[tag]
    value = pick(rng, _VALUES[vr])
    harms = {
        "value": 6.0, "without": 2.0, "empty": 2.0, "twice": 1.0, "VR": 1.0, "length": 1.0,
        "nested": 0.7, "order": 0.3,
    }  # fmt: skip
    harm = str(rng.choice(list(harms), p=np.array(list(harms.values())) / sum(harms.values())))
    details = (
        pick(rng, (b"UN", b"SQ", b"OB", b"US", b"DS", b"UT", b"\0\0", b"ZZ", b"FD")),
        int(pick(rng, (0, 1, 3, 0xFFFE, 0xFFFF, 0xFFFFFFF0, _UNDEFINED, 2**31))),
        int(pick(rng, (3, 200, 3000, 20000))),
    )
    every = rng.random() < 0.5
    for file in made.files() if every else [first]:
        taken = parts(made.content(file))
        if taken is None:
            continue
        changed = _harmed(taken, tag, vr, value, harm, details)
        words = f"({tag[0]:04x},{tag[1]:04x}) {harm}"
        words += f" {value!r}" if harm == "value" else f" {details}" * (harm in _DETAILED)
        made = made.with_entry(file, changed.written(), words)
    return made if made.recipe else None


_DETAILED = ("VR", "length", "nested")


def _harmed(
    taken: Parts,
    tag: tuple[int, int],
    vr: bytes,
    value: bytes,
    harm: str,
    details: tuple[bytes, int, int],
) -> Parts:
    elements = list(taken.meta if tag[0] == 2 else taken.body)
    at = next((index for index, one in enumerate(elements) if one.tag >= tag), len(elements))
    there = at < len(elements) and elements[at].tag == tag
    if vr in (b"US", b"SS", b"UL") and taken.order == ">":
        value = value[::-1]
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    new = Element(tag, elements[at].vr if there else vr, value)
    if harm == "without":
        del elements[at : at + there]
    elif harm == "empty":
        elements[at : at + there] = [replace(new, value=b"")]
    elif harm == "twice":
        elements[at:at] = [new] if there else [new, new]
    elif harm == "VR":
        elements[at : at + there] = [replace(elements[at] if there else new, vr=details[0])]
    elif harm == "length":
        elements[at : at + there] = [replace(elements[at] if there else new, length=details[1])]
    elif harm == "nested":
        elements[at:at] = [_nested(tag, details[2])]
    elif harm == "order":
        elements = [*elements[at:], *elements[:at]]
    else:
        elements[at : at + there] = [new]
    return replace(taken, **{"meta" if tag[0] == 2 else "body": tuple(elements)})


def _nested(tag: tuple[int, int], depth: int) -> Element:
    """A sequence in a sequence in ..., each of undefined length."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
    inner = struct.pack("<HH2sHI", *tag, b"SQ", 0, _UNDEFINED)
    end = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return Element(tag, b"SQ", item + (inner + item) * depth + end * depth + end, _UNDEFINED)


def inflated(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A deflated file with an element of many zeros, which take no room until they are read."""
    file = target(rng, made)
    taken = parts(made.content(file)) if file else None
    if file is None or taken is None or taken.implicit or taken.order == ">":
        return None
    size = int(pick(rng, (1 << 20, 50 << 20, 400 << 20)))
    place = (0x0029, 0x1010) if rng.random() < 0.5 else (0x0009, 0x1010)
    body = sorted((*taken.body, Element(place, b"OB", b"")), key=lambda one: one.tag)
    index = next(at for at, one in enumerate(body) if one.tag == place)
    engine = zlib.compressobj(9, wbits=-15)
    packed = [engine.compress(b"".join(_written(one, False, "<") for one in body[:index]))]
    packed.append(engine.compress(struct.pack("<HH2sHI", *place, b"OB", 0, size)))
    packed += [engine.compress(bytes(1 << 20)) for _mebibyte in range(size >> 20)]
    packed.append(engine.compress(b"".join(_written(one, False, "<") for one in body[index + 1 :])))
    packed.append(engine.flush())
    syntax = Element((2, 0x10), b"UI", uids.DeflatedExplicitVRLittleEndian.encode())
    meta = tuple(syntax if one.tag == (2, 0x10) else one for one in taken.meta)
    start = Parts(meta, ()).written()
    return made.with_entry(file, start + b"".join(packed), f"deflated, {size} zeros in an element")


def another_series(rng: Random, made: Input, seeds: Sequence[Input]) -> Input | None:
    """A slice is missing, there twice, of another series, or without its preamble."""
    file = target(rng, made)
    if file is None:
        return None
    harm = int(rng.integers(4))
    if harm == 0:
        return made.without(file)
    if harm == 1:
        return made.with_entry(f"{file}.copy.dcm", made.content(file), "a copy")
    if harm == 2:
        content = made.content(file)
        return made.with_entry(file, content[132:], "without preamble")
    other = seeds[int(rng.integers(len(seeds)))]
    donor = target(rng, other)
    if donor is None:
        return None
    return made.with_entry(f"{file}.other.dcm", other.content(donor), f"of {other.origin}")


MUTATIONS = (
    *anything(),
    Mutation("element", hostile_elements, 6.0),
    Mutation("series", another_series, 0.7),
    Mutation("stranger", stranger, 0.4),
    Mutation("deflated bomb", inflated, 0.1),
)


def fault(read: Volume, made: Input) -> str:
    """What is wrong with the volume that was read; "" if nothing is.

    Every slice is compared with what pydicom's own decoder says of the file of its UID, where
    the pixels are not compressed by a codec: no checksum reveals damage in them.
    """
    strange = nifti.oddity(read)
    if strange:
        return strange
    slices = read.grid.from_ras(read.array)
    own = {}
    for file in made.files():
        try:
            header = pydicom.dcmread(io.BytesIO(made.content(file)), force=True)
            uid = str(header.get("SOPInstanceUID", ""))
            if uid in read.uids:
                own.setdefault(uid, header)
        except Exception:  # noqa: S112  # the second reader cannot judge this file
            continue
    for index, uid in enumerate(read.uids):
        found = _differs(slices[..., index].T, own.get(uid), read, index)
        if found:
            return found
    return ""


_PLAIN = (
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.ExplicitVRBigEndian,
    uids.DeflatedExplicitVRLittleEndian,
)


def _differs(pixels: np.ndarray, header: pydicom.Dataset | None, read: Volume, index: int) -> str:
    if header is None:
        return ""
    try:
        if header.file_meta.TransferSyntaxUID not in _PLAIN:
            return ""
        stated = [header.get(name) for name in ("RescaleSlope", "RescaleIntercept")]
        present = [name in header for name in ("RescaleSlope", "RescaleIntercept")]
        position = [float(part) for part in header.ImagePositionPatient]
        slope, intercept = (1.0 if stated[0] is None else float(stated[0])), float(stated[1] or 0)
        wanted = header.pixel_array * slope + intercept
    except Exception:  # the second reader cannot judge this file
        return ""
    empty = any(here and value in (None, "") for here, value in zip(present, stated, strict=True))
    if (
        empty
        and header.get("Modality") == "CT"
        and not any("rescale" in one.code for one in read.findings)
    ):
        return "empty rescale tags of a CT pass without a finding"
    even = (read.grid.affine @ [0, 0, index, 1])[:3]
    origin = even if read.uneven is None else read.uneven.places[index]
    if not np.allclose(origin, np.array(position) * (-1, -1, 1), atol=1e-2, rtol=1e-5):
        return "a slice at another place than its header says"
    if wanted.shape != pixels.shape:
        return "a slice of another shape than pydicom's"
    if any(one.heading == "padding" for one in read.findings):
        return ""
    scale = float(np.abs(wanted).max(initial=0))
    if not np.allclose(pixels, wanted, rtol=1e-4, atol=1e-6 * scale):
        return "other pixels than pydicom's"
    return ""
