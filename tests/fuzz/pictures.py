"""PNG and JPEG: seeds, hostile chunks with right checksums, and other formats under their names."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from PIL import Image

from tests.fuzz import second
from tests.fuzz.mutations import NUMBERS, Mutation, Random, anything, pick, stranger, target
from tests.fuzz.trees import Input

HEIGHT, WIDTH, COUNT = 14, 16, 3
COLOURS = ((0, 0, 0), (230, 159, 0), (86, 180, 233))
"""Of the three classes of the label maps that masks are judged by."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DISGUISED: dict[str, bytes] = {
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 14\n%%EndComments\nshowpage\n%%EOF\n",
    "EPS with a bomb": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60000 60000\n%%EndComments\n",
    "PPM of 2 billion pixels": b"P6\n46000 46000\n255\n" + bytes(64),
    "PGM": b"P5\n16 14\n255\n" + bytes(range(224)),
    "XPM": b'/* XPM */\nstatic char *x[] = {\n"16 14 1 1",\n"a c #000000"\n};\n',
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="16" height="14"/>',
    "PDF": b"%PDF-1.4\n%%EOF\n",
    "HTML": b"<!doctype html><title>404</title>",
}


def grey() -> list[np.ndarray]:
    """Three slices (H, W) uint8 in which every pixel differs from its neighbours."""
    rng = np.random.default_rng(3)
    return [rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8) for _ in range(COUNT)]


def classes() -> list[np.ndarray]:
    """Three slices (H, W) uint8 of class ids 0 to 2."""
    rng = np.random.default_rng(4)
    return [rng.integers(0, 3, (HEIGHT, WIDTH), np.uint8) for _ in range(COUNT)]


def encoded(picture: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    """The bytes of a picture in a format of Pillow."""
    stream = io.BytesIO()
    picture.save(stream, kind, **settings)
    return stream.getvalue()


def indexed(ids: np.ndarray) -> Image.Image:
    """Class ids (H, W) as an indexed picture in the classes' colours."""
    picture = Image.frombytes("P", ids.shape[::-1], ids.tobytes())
    picture.putpalette([channel for colour in COLOURS for channel in colour])
    return picture


def stack(name: str, contents: Sequence[bytes], suffix: str = ".png") -> Input:
    """Slices as an input that is called with the tuple of their files."""
    tree = {f"slices/{at:03d}{suffix}": content for at, content in enumerate(contents)}
    return Input(name, dict(tree), tuple(tree))


def image_seeds() -> list[Input]:
    """Grey of 1, 8 and 16 bits, colours, alpha, a palette, interlaced, and three kinds of JPEG."""
    plain = [Image.fromarray(one) for one in grey()]
    deep = [Image.fromarray(one.astype(np.uint16) * 257) for one in grey()]
    return [
        stack("8 bits", [encoded(one) for one in plain]),
        stack("16 bits", [encoded(one) for one in deep]),
        stack("1 bit", [encoded(one.convert("1")) for one in plain]),
        stack("RGB", [encoded(one.convert("RGB")) for one in plain]),
        stack("RGBA", [encoded(one.convert("RGBA")) for one in plain]),
        stack("palette", [encoded(indexed(one)) for one in classes()]),
        stack("interlaced", [_interlaced(one) for one in grey()]),
        stack("JPEG", [encoded(one, "JPEG", quality=95) for one in plain], ".jpg"),
        stack("colour JPEG", [encoded(one.convert("RGB"), "JPEG") for one in plain], ".jpg"),
        stack("progressive", [encoded(one, "JPEG", progressive=True) for one in plain], ".jpeg"),
    ]


def label_seeds() -> dict[str, list[Input]]:
    """By coding (values, binary, colours): stacks of labels as publishers store them."""
    ids = classes()
    colours = np.array(COLOURS, np.uint8)
    return {
        "values": [
            stack("values", [encoded(Image.fromarray(one)) for one in ids]),
            stack("indexed", [encoded(indexed(one)) for one in ids]),
            stack("grey RGB", [encoded(Image.fromarray(one).convert("RGB")) for one in ids]),
        ],
        "binary": [
            stack("binary", [encoded(Image.fromarray((one > 0) * np.uint8(255))) for one in ids]),
            stack("1 bit", [encoded(Image.fromarray(one > 0)) for one in ids]),
        ],
        "colours": [
            stack("colours", [encoded(Image.fromarray(colours[one])) for one in ids]),
            stack("indexed", [encoded(indexed(one)) for one in ids]),
        ],
    }


def _interlaced(array: np.ndarray) -> bytes:
    """PNG (third edition), section 8: the seven passes of Adam7, written by hand."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1))  # fmt: skip
    rows = b""
    for row, column, down, across in passes:
        part = array[row::down, column::across]
        if part.size:
            rows += b"".join(b"\0" + line.tobytes() for line in part)
    height, width = array.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    return _SIGNATURE + b"".join(
        chunk(kind, body)
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    )


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its right length and checksum."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def hostile_chunks(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """Sizes, palettes, bombs and animations in chunks whose checksums are right."""
    file = target(rng, made, (".png",))
    if file is None:
        return None
    try:
        chunks = second.png_chunks(made.content(file))
    except (second.Damaged, second.Undecided):
        return None
    harms = (_sizes, _forms, _palette, _data, _data_bomb, _ancillary, _animated, _order)
    changed, words = harms[int(rng.integers(len(harms)))](rng, chunks)
    content = _SIGNATURE + b"".join(chunk(kind, body) for kind, body in changed)
    return made.with_entry(file, content, words)


Chunks = list[tuple[bytes, bytes]]


def _with_header(chunks: Chunks, **fields: int) -> Chunks:
    names = ("width", "height", "depth", "colour", "packing", "filters", "interlace")
    values = dict(zip(names, struct.unpack(">IIBBBBB", chunks[0][1]), strict=True)) | fields
    header = struct.pack(">IIBBBBB", *(values[name] for name in names))
    return [(b"IHDR", header), *chunks[1:]]


def _sizes(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    sides = (0, 1, 15, 16, 17, 3000, 13000, 50000, 65535, 2**31 - 1, 2**31, 2**32 - 1)
    width, height = (int(pick(rng, sides)) for _side in range(2))
    return _with_header(chunks, width=width, height=height), f"IHDR of {width} x {height}"


def _forms(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    depth = int(pick(rng, (0, 1, 2, 4, 8, 16, 32, 255)))
    colour = int(pick(rng, (0, 1, 2, 3, 4, 6, 255)))
    interlace = int(pick(rng, (0, 0, 1, 2)))
    words = f"IHDR of depth {depth}, colour {colour}, interlace {interlace}"
    return _with_header(chunks, depth=depth, colour=colour, interlace=interlace), words


def _palette(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    others = [(kind, body) for kind, body in chunks if kind != b"PLTE"]
    size = int(pick(rng, (0, 1, 2, 3, 9, 768, 771, 3000)))
    place = int(rng.integers(1, len(others)))
    new = [] if size == 0 else [(b"PLTE", rng.bytes(size))]
    return [*others[:place], *new, *others[place:]], f"a palette of {size} bytes as chunk {place}"


def _data(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    raw = b"".join(body for kind, body in chunks if kind == b"IDAT")
    cut = raw[: int(rng.integers(len(raw)))]
    bent = bytearray(zlib.decompress(raw))
    bent[int(rng.integers(len(bent)))] ^= 1 << int(rng.integers(8))
    bodies = {
        "cut": cut,
        "with one bit flipped before compression": zlib.compress(bytes(bent)),
        "with a wrong Adler-32": raw[:-4] + bytes(4),
        "twice": raw * 2,
        "empty": b"",
        "one row less": zlib.compress(bytes(bent)[: len(bent) * (HEIGHT - 1) // HEIGHT]),
        "with a filter of 9": zlib.compress(b"\x09" + bytes(bent)[1:]),
    }
    words = str(pick(rng, list(bodies)))
    return _replaced(chunks, bodies[words]), f"IDAT {words}"


def _replaced(chunks: Chunks, data: bytes) -> Chunks:
    others = [one for one in chunks if one[0] != b"IDAT"]
    return [*others[:-1], (b"IDAT", data), others[-1]]


def _data_bomb(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    side = int(pick(rng, (4000, 9000, 13000, 20000)))
    depth = int(pick(rng, (1, 8)))
    engine = zlib.compressobj(1)
    row = bytes(1 + side * depth // 8)
    packed = b"".join(engine.compress(row) for _row in range(side)) + engine.flush()
    whole = _with_header(chunks, width=side, height=side, depth=depth, colour=0, interlace=0)
    return _replaced(whole, packed), f"{side} x {side} black pixels of {depth} bits"


def _ancillary(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    size = int(pick(rng, (1 << 10, 1 << 20, 80 << 20)))
    packed = zlib.compress(bytes(size), 9)
    kinds: dict[bytes, bytes] = {
        b"zTXt": b"Comment\0\0" + packed,
        b"iTXt": b"Comment\0\1\0\0\0" + packed,
        b"iCCP": b"profile\0\0" + packed,
        b"tEXt": b"Comment\0" + rng.bytes(200),
        b"eXIf": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0",
        b"tRNS": rng.bytes(int(pick(rng, (0, 1, 2, 6, 300)))),
        b"gAMA": rng.bytes(4),
        b"pHYs": rng.bytes(9),
        b"ABCD": b"critical and unknown",
        b"sBIT": b"\xff",
        b"bKGD": b"",
    }
    kind = bytes(pick(rng, list(kinds)))
    place = int(rng.integers(1, len(chunks)))
    words = f"{kind.decode()} of {len(kinds[kind])} bytes as chunk {place}"
    return [*chunks[:place], (kind, kinds[kind]), *chunks[place:]], words


def _animated(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    frames = int(pick(rng, (0, 1, 2, 2**31)))
    width, height = struct.unpack_from(">II", chunks[0][1])
    width = int(pick(rng, (width, width, 0, 60000)))
    control = (b"acTL", struct.pack(">II", frames, 0))
    frame = (b"fcTL", struct.pack(">IIIIIHHBB", 0, width, height, 0, 0, 1, 1, 0, 0))
    data = next(body for kind, body in chunks if kind == b"IDAT")
    more = (b"fdAT", struct.pack(">I", 1) + data)
    parts = [chunks[0], control, frame, *chunks[1:-1], more, chunks[-1]]
    return parts, f"an animation of {frames} frames, {width} wide"


def _order(rng: Random, chunks: Chunks) -> tuple[Chunks, str]:
    order = rng.permutation(len(chunks))
    return [chunks[at] for at in order], f"chunks in the order {order.tolist()}"


def hostile_jpeg(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """Sizes, components and tables of a JPEG's segments; a turned or commented picture."""
    file = target(rng, made, (".jpg", ".jpeg"))
    if file is None:
        return None
    content = bytearray(made.content(file))
    starts = [at for at in range(2, len(content) - 12) if content[at] == 255 and content[at + 1] in
              (0xC0, 0xC2, 0xC4, 0xDB, 0xDA)]  # fmt: skip
    if not starts:
        return None
    at = int(pick(rng, starts))
    if content[at + 1] in (0xC0, 0xC2):
        sides = [int(pick(rng, (0, 1, 13, 3000, 65535))) for _side in range(2)]
        struct.pack_into(">HH", content, at + 5, *sides)
        return made.with_entry(file, bytes(content), f"JPEG frame of {sides}")
    place = at + 2 + int(rng.integers(8))
    number = int(pick(rng, NUMBERS)) % 256
    content[place] = number
    words = f"{number} in segment {content[at + 1]:02x} at {place}"
    return made.with_entry(file, bytes(content), words)


def disguised(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """Another format under the picture's name."""
    file = target(rng, made)
    if file is None:
        return None
    picture = Image.fromarray(grey()[0])
    kinds: dict[str, bytes] = dict(_DISGUISED)
    for kind in ("GIF", "BMP", "TIFF", "WEBP", "ICO", "TGA", "PCX", "JPEG2000", "SGI", "DDS"):
        kinds[kind] = encoded(picture.convert("RGB"), kind)
    name = str(pick(rng, list(kinds)))
    return made.with_entry(file, kinds[name], f"{name} under this name")


MUTATIONS = (
    *anything(),
    Mutation("chunks", hostile_chunks, 4.0),
    Mutation("JPEG segments", hostile_jpeg, 1.5),
    Mutation("another format", disguised, 0.5),
)
WITH_STRANGERS = (*MUTATIONS, Mutation("stranger", stranger, 0.4))


def samples(content: object) -> tuple[np.ndarray, int, bytes]:
    """What a picture holds, by the second reader of PNG."""
    if not isinstance(content, bytes):
        raise second.Undecided("no regular file")
    return second.png(content)


def grey_of(content: object) -> np.ndarray:
    """Grey values (H, W) of a PNG whose samples are grey; else Undecided."""
    values, colour, _ = samples(content)
    if colour != 0 or b"tRNS" in bytes(content):
        raise second.Undecided("not plainly grey")
    return values[..., 0]


def ids_of(content: object) -> np.ndarray:
    """Values or palette indices (H, W) of a PNG; else Undecided."""
    values, colour, _ = samples(content)
    if colour not in (0, 3) or b"tRNS" in bytes(content):
        raise second.Undecided("neither values nor indices")
    return values[..., 0]


def rgb_of(content: object) -> np.ndarray:
    """Colours (H, W, 3) of a PNG of 8 bits; else Undecided."""
    values, colour, palette = samples(content)
    if values.dtype != np.uint8 or b"tRNS" in bytes(content):
        raise second.Undecided("not plainly coloured")
    if colour == 2:
        return values
    if colour == 0:
        return np.repeat(values, 3, axis=2)
    table = np.frombuffer(palette[: len(palette) // 3 * 3], np.uint8).reshape(-1, 3)
    if colour != 3 or values.max(initial=0) >= len(table):
        raise second.Undecided("not plainly coloured")
    return table[values[..., 0]]
