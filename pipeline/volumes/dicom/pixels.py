"""The pixels of one DICOM file, whatever its transfer syntax."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import filewriter
from pydicom import uid as uids
from pydicom.filebase import DicomBytesIO

from pipeline.volumes.dicom.decoders import decoded
from pipeline.volumes.dicom.header import Instance, file_meta
from pipeline.volumes.dicom.pixel_data import inflated


def pixels(one: Instance) -> NDArray[np.float32]:
    """Rescaled pixels (rows, columns) of one file, in HU or the scanner's values."""
    if one.syntax != uids.DeflatedExplicitVRLittleEndian:
        return decoded(one, one.file)
    # inflated here: in a deflated file the decoder believes any length, and takes memory for it
    with tempfile.NamedTemporaryFile(suffix=".dcm") as plain, one.file.open("rb") as stream:
        meta = file_meta(stream)
        meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
        start = DicomBytesIO()
        filewriter.write_file_meta_info(start, meta, enforce_standard=False)
        plain.write(b"\0" * 128 + b"DICM" + start.getvalue())
        for piece in inflated(stream):
            plain.write(piece)
        plain.flush()
        return decoded(one, Path(plain.name))
