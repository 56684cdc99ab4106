"""The pixels of one DICOM file, decoded by SimpleITK."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom import filewriter
from pydicom import uid as uids
from pydicom.filebase import DicomBytesIO

from datasets_spec.contract import Problem
from pipeline.volumes.dicom.header import Instance, file_meta
from pipeline.volumes.dicom.pixel_data import inflated


def pixels(one: Instance) -> NDArray[np.float32]:
    """Rescaled pixels (rows, columns) of one file, in HU or the scanner's values."""
    if one.syntax != uids.DeflatedExplicitVRLittleEndian:
        return _decoded(one, one.file)
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
        return _decoded(one, Path(plain.name))


def _decoded(one: Instance, file: Path) -> NDArray[np.float32]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise Problem(
            f"expected pixels that can be decoded, got {one.syntax.name} and the decoder's error:"
            f" {str(error).splitlines()[-1]}",
            where=one.file,
            remedy="The file may be damaged; export or download it again.",
        ) from None
    decoded = sitk.GetArrayFromImage(image)
    if decoded.size != math.prod(one.shape):  # a tag that is there twice is read in two ways
        raise Problem(
            f"expected {one.shape[1]} x {one.shape[0]} pixels, as its header states, got"
            f" {decoded.size:,}",
            where=one.file,
            remedy="The file may be damaged; export or download it again.",
        )
    return np.asarray(decoded.reshape(one.shape), np.float32)
