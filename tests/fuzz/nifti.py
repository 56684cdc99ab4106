"""NIfTI and MGH: seeds of every kind, hostile headers, and the way to judge what was read."""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Sequence

import nibabel as nib
import numpy as np

from pipeline.volumes.volume import Volume
from tests.fuzz import second
from tests.fuzz.mutations import FLOATS, NUMBERS, Mutation, Random, anything, pick, target
from tests.fuzz.trees import Input

SHAPE = (9, 8, 5)
_AFFINE = np.array([[-0.9, 0, 0.1, 4], [0, 1.1, 0, -3], [-0.1, 0, 3, 20], [0, 0, 0, 1.0]])
_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mgh", ".mgz")
_N1 = {
    "sizeof_hdr": (0, "i"), **{f"dim[{i}]": (40 + 2 * i, "h") for i in range(8)},
    "intent_code": (68, "h"), "datatype": (70, "h"), "bitpix": (72, "h"),
    **{f"pixdim[{i}]": (76 + 4 * i, "f") for i in range(8)},
    "vox_offset": (108, "f"), "scl_slope": (112, "f"), "scl_inter": (116, "f"),
    "xyzt_units": (123, "b"), "qform_code": (252, "h"), "sform_code": (254, "h"),
    **{f"quatern[{i}]": (256 + 4 * i, "f") for i in range(6)},
    **{f"srow[{i}]": (280 + 4 * i, "f") for i in range(12)}, "magic": (344, "4s"),
    "extension": (348, "4s"),
}  # fmt: skip
_N2 = {
    "sizeof_hdr": (0, "i"), "magic": (4, "4s"), "datatype": (12, "h"), "bitpix": (14, "h"),
    **{f"dim[{i}]": (16 + 8 * i, "q") for i in range(8)},
    **{f"pixdim[{i}]": (104 + 8 * i, "d") for i in range(8)},
    "vox_offset": (168, "q"), "scl_slope": (176, "d"), "scl_inter": (184, "d"),
    "qform_code": (344, "i"), "sform_code": (348, "i"),
    **{f"quatern[{i}]": (352 + 8 * i, "d") for i in range(6)},
    **{f"srow[{i}]": (400 + 8 * i, "d") for i in range(12)}, "xyzt_units": (500, "i"),
}  # fmt: skip
_MGH = {
    "version": (0, "i"), **{f"dim[{i}]": (4 + 4 * i, "i") for i in range(4)}, "type": (20, "i"),
    "dof": (24, "i"), "goodRASFlag": (28, "h"),
    **{f"delta[{i}]": (30 + 4 * i, "f") for i in range(3)},
    **{f"Mdc[{i}]": (42 + 4 * i, "f") for i in range(9)},
    **{f"c[{i}]": (78 + 4 * i, "f") for i in range(3)},
}  # fmt: skip
_KINDS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)
_DOUBLES = (*FLOATS, 1e302, 1e-302, 5e-324)
_ZEROS = gzip.compress(bytes(16 << 20), 9, mtime=0)


def seeds() -> list[Input]:
    """One of each kind; int16, uint8, float32, float64; sform, qform, neither; both ends first."""
    rng = np.random.default_rng(5)
    ints = np.rint(rng.normal(300, 100, SHAPE)).astype(np.int16)
    floats = rng.normal(0, 1, SHAPE)
    found = [
        _single("int16.nii", nib.Nifti1Image(ints, _AFFINE)),
        _single("uint8.nii.gz", nib.Nifti1Image((ints % 256).astype(np.uint8), _AFFINE)),
        _single("int16.nii.gz", nib.Nifti1Image(ints, np.diag([1.0, 1, 2, 1]))),
        _single("float32 NIfTI-2.nii", nib.Nifti2Image(floats.astype(np.float32), _AFFINE)),
        _single("float64 NIfTI-2.nii.gz", nib.Nifti2Image(floats, _AFFINE)),
        _single("qform and scale.nii", _with_qform(ints)),
        _single("big-endian.nii", _big(ints)),
        _single("extension.nii.gz", _with_extension(ints)),
        _single("mgh.mgh", nib.MGHImage(ints, np.diag([1.0, 1, 2, 1]))),
        _single("mgz.mgz", nib.MGHImage(floats.astype(np.float32), np.diag([1.0, 1, 2, 1]))),
    ]
    halves = nib.Nifti1Pair.make_file_map({"header": io.BytesIO(), "image": io.BytesIO()})
    nib.Nifti1Pair(ints, _AFFINE).to_file_map(halves)
    tree = {
        f"scan.{suffix}": halves[half].fileobj.getvalue()
        for half, suffix in (("header", "hdr"), ("image", "img"))
    }
    found.append(Input("pair", dict(tree), ("scan.img",)))
    found.append(
        Input(
            "packed pair",
            {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in tree.items()},
            ("scan.hdr.gz",),
        )
    )
    return found


def _single(name: str, image) -> Input:
    suffix = name[name.index(".") :]
    content = image.to_bytes()
    packed = suffix.endswith("gz") or suffix == ".mgz"
    file = f"scan{suffix}"
    return Input(name, {file: gzip.compress(content, mtime=0) if packed else content}, (file,))


def _with_qform(ints: np.ndarray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(ints, None)
    image.set_qform(np.diag([-0.9, 0.9, 2.5, 1]), 1)
    image.set_sform(None, 0)
    image.header.set_slope_inter(0.5, -100)
    return image


def _big(ints: np.ndarray) -> nib.Nifti1Image:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    return nib.Nifti1Image(ints.astype(">i2"), _AFFINE, header)


def _with_extension(ints: np.ndarray) -> nib.Nifti1Image:
    image = nib.Nifti1Image(ints, _AFFINE)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"some words"))
    return image


def _unpacked(content: bytes) -> tuple[bytes, bool]:
    if content[:2] != b"\x1f\x8b":
        return content, False
    try:
        return second.gunzip(content), True
    except (second.Damaged, second.Undecided):
        return content, False


def hostile_fields(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """One to three fields of a header with values that a reader stumbles at."""
    file = target(rng, made, (".nii", ".nii.gz", ".hdr", ".hdr.gz", ".mgh", ".mgz"))
    if file is None:
        return None
    content, packed = _unpacked(made.content(file))
    if len(content) < 352:
        return None
    fields, order = _fields(file, content)
    changed, words = bytearray(content), []
    for _turn in range(int(pick(rng, (1, 1, 2, 3)))):
        name = str(pick(rng, list(fields)))
        at, form = fields[name]
        value = _value(rng, name, form)
        if at + struct.calcsize(form) <= len(changed):
            struct.pack_into(order + form, changed, at, value)
            words.append(f"{name} = {value!r}")
    harmed = gzip.compress(bytes(changed), mtime=0) if packed else bytes(changed)
    return made.with_entry(file, harmed, ", ".join(words))


def _fields(file: str, content: bytes) -> tuple[dict[str, tuple[int, str]], str]:
    if file.lower().endswith((".mgh", ".mgz")):
        return _MGH, ">"
    order = ">" if content[:2] == b"\0\0" else "<"
    return (_N2 if struct.unpack_from(f"{order}i", content)[0] == 540 else _N1), order


def _value(rng: Random, name: str, form: str) -> int | float | bytes:
    if form == "4s":
        return bytes(pick(rng, (b"n+1\0", b"ni1\0", b"n+2\0", b"\0\0\0\0", b"\xff" * 4, b"n+9\0")))
    if form == "f":
        return float(pick(rng, FLOATS))
    if form == "d":
        return float(pick(rng, _DOUBLES))
    span = 256 ** struct.calcsize(form)
    choices = _KINDS if name == "datatype" else NUMBERS
    value = int(pick(rng, choices)) % span
    return value - span if value >= span // 2 else value


def bomb(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """A small file whose header asks for gigabytes, with compressed zeros to fill them."""
    file = target(rng, made, (".nii", ".nii.gz"))
    if file is None:
        return None
    sides = [int(side) for side in rng.choice((64, 256, 512, 1024, 4096, 30000), 3)]
    array = np.zeros((1, 1, 1), np.dtype(str(pick(rng, ("u1", "i2", "f4", "f8")))))
    content = bytearray(nib.Nifti1Image(array, _AFFINE).to_bytes()[:352])
    struct.pack_into("<4h", content, 40, 3, *sides)
    zeros = int(rng.integers(1, 40))
    words = f"{array.dtype} {sides}, {16 * zeros} MiB of zeros behind it"
    if file.endswith(".gz"):
        return made.with_entry(file, gzip.compress(bytes(content)) + _ZEROS * zeros, words)
    return made.with_entry(file, bytes(content) + bytes(1000), f"{array.dtype} {sides}, no voxels")


MUTATIONS = (*anything(), Mutation("header", hostile_fields, 5.0), Mutation("bomb", bomb, 0.3))


def expected(made: Input) -> second.Scan:
    """What the file or pair of files holds, by the second reader."""
    name = made.main[0]
    entries = {}
    stem = name.removesuffix(".gz").rpartition(".")[0]
    for file in (name, f"{stem}.hdr", f"{stem}.img", f"{stem}.hdr.gz", f"{stem}.img.gz"):
        entry = made.tree.get(file)
        if isinstance(entry, bytes):
            entries[file] = second.gunzip(entry) if file.endswith((".gz", ".mgz")) else entry
    if name.lower().endswith((".mgh", ".mgz")):
        return second.mgh(entries[name])
    if name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz")):
        gz = ".gz" if name.endswith(".gz") else ""
        if f"{stem}.hdr{gz}" not in entries or f"{stem}.img{gz}" not in entries:
            raise second.Undecided("half a pair")
        return second.nifti(entries[f"{stem}.hdr{gz}"], entries[f"{stem}.img{gz}"])
    if name not in entries:
        raise second.Undecided("no regular file")
    return second.nifti(entries[name])


def oddity(read: Volume) -> str:
    """What no volume may be, whatever its file says."""
    if read.array.ndim != 3 or 0 in read.array.shape:
        return "not three axes"
    if read.array.dtype.kind not in "iufb":
        return "no numbers"
    if read.array.dtype.kind == "f" and not np.isfinite(read.array).all():
        return "values that are not finite"
    if not np.isfinite(read.grid.affine).all() or not np.isfinite(read.grid.spacing).all():
        return "a grid that is not finite"
    if min(read.grid.spacing) <= 0:
        return "sides that are not above 0"
    return ""


def differs(read: Volume, wanted: second.Scan) -> str:
    """How a volume differs from what the second reader says; "" if it does not."""
    voxels = read.grid.from_ras(read.array)
    if voxels.shape != wanted.array.shape:
        return "another shape than the second reader's"
    scale = float(np.abs(wanted.array).max(initial=0))
    if not np.allclose(voxels, wanted.array, rtol=1e-4, atol=1e-6 * scale, equal_nan=True):
        return "other voxels than the second reader's"
    stated = np.isfinite(wanted.affine).all()
    if stated and not np.allclose(read.grid.affine, wanted.affine, rtol=1e-4, atol=1e-4):
        return "another affine than the second reader's"
    return ""
