"""One DICOM file's pixels, decoded and rescaled: by SimpleITK where it is installed, or by pydicom.

SimpleITK (GDCM) knows every transfer syntax that is read. Of these, pydicom itself decodes RLE and
what is not compressed, with Pillow JPEG 2000 and 8-bit JPEG, with pyjpegls JPEG-LS, to the same
bits; lossless JPEG and 12-bit JPEG need SimpleITK.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid as uids
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels import get_decoder, iter_pixels  # type: ignore[attr-defined]  # documented there

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
_FORMAT = (
    *("Rows", "Columns", "SamplesPerPixel"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
)
_DEEPEST = 16  # bits that SimpleITK reads rightly, whatever part of them is stored
_JPEG_LS = (uids.JPEGLSLossless, uids.JPEGLSNearLossless)
_DAMAGED = "The file may be damaged; export or download it again."


def decoded(several: Sequence[Instance], file: Path) -> Iterator[NDArray[np.float32]]:
    """Rescaled pixels (rows, columns) of pictures that ``file`` holds without deflation, in order.

    The file is opened once, and one picture is held at a time. Raises :class:`Problem` for pixels
    that cannot be decoded, or by nothing that is installed.
    """
    if any(one.frame is None for one in several):
        yield from (_picture(one, file) for one in several)
    elif _known_to_pydicom(several[0]):
        yield from _frames_by_pydicom(several, file)
    elif find_spec("SimpleITK"):
        yield from _frames_by_simpleitk(several, file)
    else:
        raise _without_decoder(several[0])


def _picture(one: Instance, file: Path) -> NDArray[np.float32]:
    # SimpleITK makes 24 bits in 32 to other numbers, and inverts what is to be shown inverted
    as_it_is = one.stored[0] <= _DEEPEST and one.photometric != "MONOCHROME1"
    if as_it_is and find_spec("SimpleITK"):
        return by_simpleitk(one, file)
    if _known_to_pydicom(one) or one.stored[0] > _DEEPEST or not find_spec("SimpleITK"):
        return by_pydicom(one, file)
    return next(_frames_by_simpleitk([one], file))


def by_simpleitk(one: Instance, file: Path) -> NDArray[np.float32]:
    """Rescaled pixels (rows, columns) of a file with one picture, by SimpleITK."""
    return np.asarray(_read_by_simpleitk(one, file), np.float32)


def _read_by_simpleitk(one: Instance, file: Path) -> NDArray[Any]:
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _undecoded(one, str(error).splitlines()[-1]) from None
    return _shaped(one, sitk.GetArrayFromImage(image))


def by_pydicom(one: Instance, file: Path) -> NDArray[np.float32]:
    """The same, by pydicom with Pillow and pyjpegls."""
    if not _known_to_pydicom(one):
        raise _without_decoder(one)
    syntax = _plain_syntax(one)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bytes beyond the picture are no matter
            header = pydicom.dcmread(file, force=True, specific_tags=_TAGS)
            header.file_meta.TransferSyntaxUID = syntax
            stored, _ = get_decoder(syntax).as_array(header, raw=True)
    except Exception as error:  # decoders raise whatever damaged pixels lead them to
        raise _undecoded(one, printable(" ".join(str(error).split()))) from None
    return _scaled(one, stored)


def _frames_by_pydicom(frames: Sequence[Instance], file: Path) -> Iterator[NDArray[np.float32]]:
    """The same of frames, by pydicom, which reads no more of a file at once than one."""
    syntax = _plain_syntax(frames[0])
    indices = [one.frame or 0 for one in frames]
    pictures = iter_pixels(file, indices=indices, raw=True, transfer_syntax_uid=syntax)
    for one in frames:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                stored = next(pictures)
        except Exception as error:
            raise _undecoded(one, printable(" ".join(str(error).split()))) from None
        yield _scaled(one, stored)


def _frames_by_simpleitk(frames: Sequence[Instance], file: Path) -> Iterator[NDArray[np.float32]]:
    """The same, by SimpleITK: each frame becomes a file of one picture, which it decodes.

    Of the whole file it would rescale every frame as the first.
    """
    header = pydicom.dcmread(file, force=True, specific_tags=_TAGS)
    coded = generate_frames(header.PixelData, number_of_frames=frames[0].frames)
    content = dict(enumerate(coded))
    for one in frames:
        if (one.frame or 0) not in content:
            raise _undecoded(one, "fewer frames than its header states")
        yield _frame_by_simpleitk(one, header, content[one.frame or 0])


def _frame_by_simpleitk(
    one: Instance, header: pydicom.Dataset, content: bytes
) -> NDArray[np.float32]:
    single = pydicom.Dataset()
    for name in _FORMAT:
        if name in header:
            single[name] = header[name]
    single.PhotometricInterpretation = "MONOCHROME2"
    single.SOPClassUID, single.SOPInstanceUID = uids.SecondaryCaptureImageStorage, "2.25.1"
    single.PixelData = encapsulate([content])
    single["PixelData"].VR = "OB"
    single.file_meta = pydicom.dataset.FileMetaDataset()
    single.file_meta.TransferSyntaxUID = one.syntax
    with tempfile.NamedTemporaryFile(suffix=".dcm") as plain:
        single.save_as(plain.name, enforce_file_format=True)
        return _scaled(one, _read_by_simpleitk(one, Path(plain.name)))


def _known_to_pydicom(one: Instance) -> bool:
    deep = one.syntax == uids.JPEGExtended12Bit and one.stored[0] > 8  # Pillow knows 8 bits
    return not deep and bool(get_decoder(_plain_syntax(one)).is_available)


def _plain_syntax(one: Instance) -> uids.UID:
    """The transfer syntax of a file's content once it is inflated."""
    deflated = one.syntax == uids.DeflatedExplicitVRLittleEndian
    return uids.ExplicitVRLittleEndian if deflated else one.syntax


def _scaled(one: Instance, stored: NDArray[Any]) -> NDArray[np.float32]:
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
