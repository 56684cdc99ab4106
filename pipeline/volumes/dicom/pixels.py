"""The pixels of DICOM files, whatever their transfer syntax and however they are packed."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import filewriter
from pydicom import uid as uids
from pydicom.filebase import DicomBytesIO

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import packed
from pipeline.volumes.dicom.decoders import decoded
from pipeline.volumes.dicom.header import Instance, file_meta
from pipeline.volumes.dicom.pixel_data import MOST_HEADER, PADDED, inflated


def pixels(one: Instance) -> NDArray[np.float32]:
    """Rescaled pixels (rows, columns) of one picture, in HU or the scanner's values."""
    [(_, picture)] = each([one])
    return picture


def each(several: Sequence[Instance]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The same of several pictures, each with its index, file by file.

    A file of several frames is opened once, and one picture is held at a time.
    """
    together: dict[Path, list[int]] = defaultdict(list)
    for index, one in enumerate(several):
        together[one.file].append(index)
    for indices in together.values():
        theirs = [several[index] for index in indices]
        with _plain(theirs[0]) as file:
            yield from zip(indices, decoded(theirs, file), strict=True)


@contextmanager
def _plain(one: Instance) -> Iterator[Path]:
    """A path at which a decoder finds the picture neither packed nor deflated."""
    picture = math.prod(one.shape)
    limits = Limits(voxels=max(1, picture * one.frames), pixels=max(1, picture))
    if one.syntax != uids.DeflatedExplicitVRLittleEndian:
        with packed.unpacked(one.file, limits) as file:
            yield file
        return
    # inflated here: in a deflated file the decoder believes any length, and takes memory for it
    with (
        tempfile.NamedTemporaryFile(suffix=".dcm") as plain,
        packed.opened(one.file, limits) as stream,
    ):
        meta = file_meta(stream)
        meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
        start = DicomBytesIO()
        filewriter.write_file_meta_info(start, meta, enforce_standard=False)
        plain.write(b"\0" * 128 + b"DICM" + start.getvalue())
        most = MOST_HEADER + int(PADDED * picture * one.frames * one.samples * one.stored[0] / 8)
        for piece in inflated(stream):
            plain.write(piece)
            if plain.tell() > most:
                raise Problem(
                    f"expected at most {most:,} bytes in a deflated file, as its header needs, got"
                    " more",
                    where=one.file,
                    remedy="The file may be damaged; export or download it again.",
                )
        plain.flush()
        yield Path(plain.name)
