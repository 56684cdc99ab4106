"""One DICOM file's pixels, decoded and rescaled: by SimpleITK where it is installed, or by pydicom.

SimpleITK (GDCM) knows every transfer syntax that is read. Of these, pydicom itself decodes RLE and
what is not compressed, with Pillow JPEG 2000 and 8-bit JPEG, with pyjpegls JPEG-LS, to the same
bits; lossless JPEG and 12-bit JPEG need SimpleITK.
"""

from __future__ import annotations

import math
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid as uids
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]  # documented there

from datasets_spec.contract import Problem
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.tags import printable

_TAGS = [
    "BitsAllocated",
    "BitsStored",
    "Columns",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "HighBit",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "PixelData",
    "PixelRepresentation",
    "Rows",
    "SamplesPerPixel",
]
_JPEG_LS = (uids.JPEGLSLossless, uids.JPEGLSNearLossless)
_DAMAGED = "The file may be damaged; export or download it again."


def decoded(one: Instance, file: Path) -> NDArray[np.float32]:
    """Rescaled pixels (rows, columns) of ``one``, which ``file`` holds without deflation.

    Raises :class:`Problem` for pixels that cannot be decoded, or by nothing that is installed.
    """
    return by_simpleitk(one, file) if find_spec("SimpleITK") else by_pydicom(one, file)


def by_simpleitk(one: Instance, file: Path) -> NDArray[np.float32]:
    """The same, by SimpleITK."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _undecoded(one, str(error).splitlines()[-1]) from None
    return np.asarray(_shaped(one, sitk.GetArrayFromImage(image)), np.float32)


def by_pydicom(one: Instance, file: Path) -> NDArray[np.float32]:
    """The same, by pydicom with Pillow and pyjpegls."""
    deflated = one.syntax == uids.DeflatedExplicitVRLittleEndian
    syntax = uids.ExplicitVRLittleEndian if deflated else one.syntax
    decoder = get_decoder(syntax)
    deep = one.syntax == uids.JPEGExtended12Bit and one.stored[0] > 8  # Pillow knows 8 bits
    if deep or not decoder.is_available:
        raise _without_decoder(one)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bytes beyond the picture are no matter
            header = pydicom.dcmread(file, force=True, specific_tags=_TAGS)
            header.file_meta.TransferSyntaxUID = syntax
            stored, _ = decoder.as_array(header, raw=True)
    except Exception as error:  # decoders raise whatever damaged pixels lead them to
        raise _undecoded(one, printable(" ".join(str(error).split()))) from None
    slope, intercept = one.rescale
    values = _of_bits(_shaped(one, stored), one.stored).astype(np.float64)
    return (values * slope + intercept).astype(np.float32)


def _of_bits(stored: NDArray[Any], bits: tuple[int, int, bool]) -> NDArray[np.integer]:
    """Pixels without what lies in the bits above those stored, such as overlays."""
    _, used, signed = bits
    unused = 64 - used
    shifted = stored.astype(np.int64) << unused
    return shifted >> unused if signed else (shifted.view(np.uint64) >> np.uint64(unused))


def _shaped(one: Instance, pixels: NDArray[Any]) -> NDArray[Any]:
    if pixels.size != math.prod(one.shape):  # a tag that is there twice is read in two ways
        raise Problem(
            f"expected {one.shape[1]} x {one.shape[0]} pixels, as its header states, got"
            f" {pixels.size:,}",
            where=one.file,
            remedy=_DAMAGED,
        )
    return pixels.reshape(one.shape)


def _undecoded(one: Instance, error: str) -> Problem:
    return Problem(
        f"expected pixels that can be decoded, got {one.syntax.name} and the decoder's error:"
        f" {error}",
        where=one.file,
        remedy=_DAMAGED,
    )


def _without_decoder(one: Instance) -> Problem:
    package = "pyjpegls" if one.syntax in _JPEG_LS else "SimpleITK"
    return Problem(
        f"expected a decoder of {one.syntax.name}, found none installed",
        where=one.file,
        remedy=f"Install {package}: pip install {package}",
    )
