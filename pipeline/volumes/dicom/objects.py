"""DICOM objects that hold drawings instead of pictures: which files do, and their content.

A file is known by its SOP class, never by its name.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import filereader
from pydicom import uid as uids

from datasets_spec.contract import Picture, Problem
from pipeline import paths
from pipeline.params.limits import Limits
from pipeline.runtime import files as runtime_files
from pipeline.volumes.dicom import header, packed
from pipeline.volumes.dicom.pixel_data import MOST_HEADER, inflated
from pipeline.volumes.dicom.tags import printable

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage, and Label Map Segmentation Storage."""
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
"""RT Structure Set Storage."""
_GROUP_8 = (b"\x08\x00", b"\x00\x08")  # in either byte order
_REFUSED = ("1.2.840.10008.5.1.4.1.1.66.5",)
"""Surface Segmentation Storage, which nothing here reads."""
_UNREADABLE = (*header.UNREADABLE, IndexError, RuntimeError)
_SHOWN = 3  # files in one line


@dataclass(frozen=True)
class Drawing:
    """A file of which the SOP class is one of :data:`SEGMENTATIONS` or :data:`STRUCTURES`."""

    file: Path
    sop_class: str

    @property
    def is_segmentation(self) -> bool:
        return self.sop_class in SEGMENTATIONS


def drawing(picture: Picture) -> Drawing | None:
    """The DICOM SEG or RTSTRUCT that a path is, or that a folder holds; None for other pictures.

    Pictures in the same folder, such as the series that was drawn on, are left alone. Raises
    :class:`Problem` for a folder with more than one, and for a surface segmentation.
    """
    if not isinstance(picture, Path):
        return None
    entries = paths.files_below(picture) if picture.is_dir() else [picture]
    drawings = [
        Drawing(file, kind)
        for file in entries
        if (kind := _sop_class(file)) in (*SEGMENTATIONS, STRUCTURES, *_REFUSED)
    ]
    if len(drawings) > 1:
        names = ", ".join(one.file.name for one in drawings[:_SHOWN])
        raise Problem(
            f"expected one DICOM SEG or RTSTRUCT, got {len(drawings)} ({names}"
            f"{', ...' if len(drawings) > _SHOWN else ''})",
            where=picture,
            remedy="Let the adapter name the file.",
        )
    if drawings and drawings[0].sop_class in _REFUSED:
        raise Problem(
            "expected a DICOM SEG of pixels or an RTSTRUCT, got a surface segmentation",
            where=drawings[0].file,
            remedy="Export it as a segmentation of pixels.",
        )
    return drawings[0] if drawings else None


def _sop_class(file: Path) -> str:
    """The SOP class of a file by its meta information, or without that by its header; else ""."""
    if runtime_files.kind(file):
        return ""
    try:
        with warnings.catch_warnings(), packed.opened(file) as stream:
            warnings.simplefilter("ignore")
            if not _has_prefix(stream) and stream.read(2) not in _GROUP_8:
                return ""  # without a preamble, a header begins with group 8
            stream.seek(0)
            stated = header.file_meta(stream).get("MediaStorageSOPClassUID", "")
            if not stated:
                stream.seek(0)
                bare = pydicom.dcmread(
                    stream, stop_before_pixels=True, force=True, specific_tags=["SOPClassUID"]
                )
                stated = bare.get("SOPClassUID", "")
            return str(stated)
    except _UNREADABLE:
        return ""


def content(file: Path, limits: Limits) -> pydicom.Dataset:
    """The whole content of a file. Raises :class:`Problem` where it cannot be read."""
    with readable(file), packed.opened(file, limits) as stream:
        force = not _has_prefix(stream)
        meta = header.file_meta(stream)
        if meta.get("TransferSyntaxUID") == uids.DeflatedExplicitVRLittleEndian:
            return _inflated(stream, meta, limits)
        stream.seek(0)
        return pydicom.dcmread(stream, force=force)


def _has_prefix(stream: BinaryIO) -> bool:
    """Whether a file has DICOM's prefix; the stream then stands at its beginning."""
    start = stream.read(132)
    stream.seek(0)
    return start[128:] == b"DICM"


def _inflated(
    stream: BinaryIO, meta: pydicom.dataset.FileMetaDataset, limits: Limits
) -> pydicom.Dataset:
    """The content of a deflated file, which may claim to be of any size."""
    plain, most = io.BytesIO(), MOST_HEADER + limits.voxels
    for piece in inflated(stream):
        plain.write(piece)
        if plain.tell() > most:
            raise ValueError(f"more than {most:,} bytes of deflated content")
    plain.seek(0)
    dataset = filereader.read_dataset(plain, False, True)
    dataset.file_meta = meta
    return dataset


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """What a damaged file makes pydicom raise in this block becomes a :class:`Problem`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except _UNREADABLE as error:
            deep = isinstance(error, RecursionError)
            why = "sequences nested too deeply" if deep else printable(" ".join(str(error).split()))
            raise Problem(
                f"expected a complete DICOM SEG or RTSTRUCT, got one that cannot be read"
                f" ({why[:200] or type(error).__name__})",
                where=file,
                remedy="It may be damaged; export or download it again.",
            ) from None
