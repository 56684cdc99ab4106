"""DICOM files that gzip compressed: opened as if they were not, and no larger than they may be."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pydicom

from pipeline.params.limits import Limits
from pipeline.volumes.dicom.pixel_data import MOST_HEADER, PADDED
from pipeline.volumes.dicom.tags import Tags

ENDINGS = (".dcm.gz", ".dicom.gz", ".ima.gz")
"""What the names of such files end in."""
_MAGIC = b"\x1f\x8b"
_PIECE = 1 << 20
_TAGS = ["Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated"]


def is_packed(file: Path) -> bool:
    """Whether a file is one of these, by its name."""
    return file.name.lower().endswith(ENDINGS)


def is_gzip(file: Path) -> bool:
    """Whether gzip wrote a file, by its first bytes."""
    with file.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


@contextmanager
def opened(file: Path, limits: Limits = Limits()) -> Iterator[BinaryIO]:
    """The content of a DICOM file for reading at any place.

    What gzip compressed is unpacked into a file without a name. Raises OSError, EOFError or
    zlib.error for data that are damaged, and ValueError for more of them than the pixels of the
    header need, where these are within ``limits``.
    """
    if not is_packed(file):
        with file.open("rb") as plain:
            yield plain
        return
    with tempfile.TemporaryFile() as unpacked:
        _unpack(file, cast(BinaryIO, unpacked), limits)
        yield cast(BinaryIO, unpacked)


@contextmanager
def unpacked(file: Path, limits: Limits = Limits()) -> Iterator[Path]:
    """A path where a decoder finds the content of a DICOM file; raises as :func:`opened` does."""
    if not is_packed(file):
        yield file
        return
    with tempfile.NamedTemporaryFile(suffix=".dcm") as plain:
        _unpack(file, cast(BinaryIO, plain), limits)
        plain.flush()
        yield Path(plain.name)


def _unpack(file: Path, into: BinaryIO, limits: Limits) -> None:
    """Its content, as much as the pixels of its header need: a megabyte can become gigabytes."""
    most = MOST_HEADER
    with gzip.open(file, "rb") as content:
        while piece := content.read(_PIECE):
            into.write(piece)
            if into.tell() > most == MOST_HEADER:
                most += _most_pixels(into, limits)
            if into.tell() > most:
                raise ValueError(f"more than {most:,} bytes unpacked, where its header needs less")
    into.seek(0)


def _most_pixels(start: BinaryIO, limits: Limits) -> int:
    """The most bytes that the pixel data may have, by the header with which ``start`` begins."""
    end = start.tell()
    start.seek(0)
    header = pydicom.dcmread(start, stop_before_pixels=True, specific_tags=_TAGS, force=True)
    start.seek(end)
    tags = Tags(header)
    picture = tags.whole("Rows", 0) * tags.whole("Columns", 0)
    voxels = picture * tags.whole("NumberOfFrames", 1)
    if picture > limits.pixels or voxels > limits.voxels:
        return 0
    return (
        int(PADDED * voxels * tags.whole("SamplesPerPixel", 1) * tags.whole("BitsAllocated", 8))
        // 8
    )
