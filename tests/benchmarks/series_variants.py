"""Series with one oddity each, as :mod:`tests.benchmarks.series` reads them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from tests.pipeline import test_doctor as odd
from tests.pipeline.volumes.dicom import enhanced, test_frames
from tests.pipeline.volumes.dicom.test_assemble import Change, write_series

Make = Callable[[Path], None]


def _mr(header: pydicom.Dataset, _number: int) -> None:
    """What HU say is no question here."""
    header.Modality, header.SOPClassUID = "MR", pydicom.uid.MRImageStorage
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID


def _classic(*changes: Change, count: int = 5) -> Make:
    def change(header: pydicom.Dataset, number: int) -> None:
        _mr(header, number)
        for one in changes:
            one(header, number)

    return lambda folder: write_series(folder, count=count, change=change)


def _ct(*changes: Change) -> Make:
    def change(header: pydicom.Dataset, number: int) -> None:
        for one in changes:
            one(header, number)

    return lambda folder: write_series(folder, change=change)


def _enhanced(*order: int, **how: object) -> Make:
    return lambda folder: enhanced.write(folder / "a.dcm", order, modality="MR", **how)  # type: ignore[arg-type]


def _gzipped(folder: Path) -> None:
    _classic()(folder)
    for file in sorted(folder.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()


def _tagged(**values: object) -> Change:
    return odd.on_slice(-1, **values)


def _deep(header: pydicom.Dataset, number: int) -> None:
    header.BitsAllocated, header.BitsStored, header.HighBit = 32, 24, 23
    header.PixelData = (np.arange(120, dtype=np.uint32) * 1000 + number).tobytes()


_TWICE = test_frames.TWICE
VARIANTS: dict[str, Make] = {
    "plain": _classic(),
    "gantry tilt": _classic(odd.tilted),
    "rescale per slice": _classic(odd.own_rescale),
    "slice exported twice": _classic(odd.copy_of(3, onto=4, same=True)),
    "missing slice": _classic(odd.at(lambda n: 5.0 * (n + (n > 2)))),
    "positions rounded to 0.1 mm": _classic(odd.at(lambda n: round(0.625 * n, 1)), count=9),
    "positions that jitter by 0.3 mm": _classic(odd.jittering),
    "frame of reference per file": _classic(odd.own_frame),
    "two frames of reference": _classic(odd.two_frames),
    "mixed BitsStored": _classic(odd.on_slice(2, BitsStored=12, HighBit=11)),
    "24 bits in 32": _classic(_deep),
    "scout with a position": _classic(odd.overview),
    "capture with a position": _classic(odd.capture),
    "MONOCHROME1, MR": _ct(odd.inverted("MR")),
    "MONOCHROME1, CT, inverted": _ct(odd.inverted("CT")),
    "MONOCHROME1 in one slice": _classic(odd.on_slice(2, PhotometricInterpretation="MONOCHROME1")),
    "gzip": _gzipped,
    "CT, HU without rescale": _ct(odd.hu_without("RescaleSlope", "RescaleIntercept")),
    "CT, empty intercept, HU + 1024": _ct(odd.hu_without("RescaleIntercept", more=1024)),
    "CT, HU + 1024 with rescale": _ct(odd.hu_without(more=1024)),
    "two echoes": _classic(test_frames.classic_echoes, count=10),
    "two time points": _classic(test_frames.classic_times, count=10),
    "modality lookup table": _classic(_tagged(ModalityLUTSequence=[pydicom.Dataset()])),
    "mosaic": _classic(_tagged(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])),
    "enhanced": _enhanced(3, 0, 4, 1, 2),
    "enhanced, shared geometry": _enhanced(0, 1, 2, 3, 4, shared=True),
    "enhanced, RLE": _enhanced(0, 1, 2, 3, 4, syntax=RLELossless),
    "enhanced, deflated": _enhanced(0, 1, 2, 3, 4, syntax=DeflatedExplicitVRLittleEndian),
    "enhanced, missing frame": _enhanced(0, 1, 3, 4),
    "enhanced, two kinds": _enhanced(*_TWICE, change=test_frames.kinds),
    "enhanced, two echoes": _enhanced(*_TWICE, change=test_frames.echoes),
    "enhanced, two b-values": _enhanced(*_TWICE, change=test_frames.weightings),
    "enhanced, two time points": _enhanced(*_TWICE, change=test_frames.times),
    "enhanced, undistinguished": _enhanced(*_TWICE),
}
