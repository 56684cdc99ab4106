"""The content of a file, plain or compressed, in one pass from its first byte to its last.

gzip and bzip2 keep checksums, and gzip's stands behind the last byte: a reader that takes only
the bytes that a header asks for never compares it, and gives other voxels for a damaged file.
A file's name states how it is compressed, as for nibabel; a name that contradicts the first
bytes is refused.
"""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline.runtime import files

_BY_SUFFIX = {".gz": "gzip", ".mgz": "gzip", ".bz2": "bzip2", ".zst": "Zstandard"}
_BY_FIRST_BYTES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "Zstandard"}
_SUFFIX = {"gzip": ".gz", "bzip2": ".bz2", "Zstandard": ".zst"}
_PLAIN = (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c", b"\0\0\0\x01")
"""First bytes of NIfTI-1 and 2 (the header's length, in either byte order) and of MGH."""
_CHUNK = 1 << 20  # bytes that are decompressed at once


def compression(file: Path) -> str:
    """gzip, bzip2, Zstandard or "" (none), by the file's name."""
    return _BY_SUFFIX.get(file.suffix.lower(), "")


def require_sound(file: Path) -> None:
    """Raises :class:`Problem` for what is no regular file, and for a name that states a wrong kind.

    Zstandard is refused, since its checksum is optional: damage could not be seen.
    """
    files.require_regular(file)
    with file.open("rb") as stream:
        start = stream.read(4)
    named = compression(file)
    kinds = (kind for first, kind in _BY_FIRST_BYTES.items() if start.startswith(first))
    real = next(kinds, "" if start in _PLAIN else named)
    if real != named:
        raise Problem(
            f"expected {_kind(named)}, as its name states, got {_kind(real)}",
            where=file,
            remedy=f"Rename it to {_renamed(file, named, real)}.",
        )
    if named == "Zstandard":
        raise Problem(
            "expected a plain file, or one that gzip or bzip2 compressed, got Zstandard, whose"
            " checksum may be missing",
            where=file,
            remedy="Decompress it (zstd -d), or compress it with gzip.",
        )


def opened(file: Path) -> BinaryIO:
    """The content of a file for reading; reading past its end compares the checksum.

    Data behind the first compressed stream are read too where they are another stream of that
    kind, and refused by gzip where they are neither that nor zeros (RFC 1952).
    """
    opener: Any = {"gzip": gzip.open, "bzip2": bz2.open}.get(compression(file), Path.open)
    return cast(BinaryIO, opener(file, "rb"))


def take(stream: BinaryIO, count: int) -> NDArray[np.uint8]:
    """The next ``count`` bytes; memory is touched only as far as bytes arrive.

    Raises EOFError if the content ends before.
    """
    taken = np.empty(count, np.uint8)
    at = 0
    while at < count:
        chunk = stream.read(min(_CHUNK, count - at))
        if not chunk:
            raise EOFError(f"{at:,} of {count:,} bytes of voxels are there")
        taken[at : at + len(chunk)] = np.frombuffer(chunk, np.uint8)
        at += len(chunk)
    return taken


def skip(stream: BinaryIO, count: int) -> None:
    """Read the next ``count`` bytes and leave them. Raises EOFError if the content ends before."""
    left = count
    while left:
        read = len(stream.read(min(_CHUNK, left)))
        if not read:
            raise EOFError(f"{count - left:,} of {count:,} bytes of further volumes are there")
        left -= read


def _kind(compressed: str) -> str:
    return f"a file that {compressed} compressed" if compressed else "a plain file"


def _renamed(file: Path, named: str, real: str) -> str:
    """The name that states how the content is compressed: mgz is the compressed mgh."""
    if file.suffix.lower() == ".mgz":
        return file.with_suffix(".mgh" + (_SUFFIX[real] if real else "")).name
    if file.suffix.lower() == ".mgh" and real == "gzip":
        return file.with_suffix(".mgz").name
    stem = file.stem if named else file.name
    return stem + (_SUFFIX[real] if real else "")
