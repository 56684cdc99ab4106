"""One RTSTRUCT file -> its regions of interest, each with its contours. Lengths in mm, LPS+.

The values are those of the ROI Contour module (PS3.3, C.8.8.6). What becomes of a contour is the
question of :mod:`pipeline.labels.of_structures`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray

from pipeline.params.limits import Limits
from pipeline.volumes.dicom import objects
from pipeline.volumes.dicom.tags import printable
from pipeline.volumes.limits import require_voxels

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""The geometric types of contours that enclose something."""
_LARGEST_MM = 1e6  # a kilometre: no scanner's number is larger


@dataclass(frozen=True)
class Contour:
    """``points`` (N, 3) of one outline; ``kind`` is its geometric type, ``sources`` are the
    SOPInstanceUIDs of the pictures that it was drawn on."""

    kind: str
    points: NDArray[np.float64]
    sources: tuple[str, ...]

    @property
    def encloses(self) -> bool:
        """Whether it is closed, and three points or more."""
        return self.kind in CLOSED and len(self.points) > 2


@dataclass(frozen=True)
class Region:
    """A region of interest: its number, its name and its contours."""

    number: int
    name: str
    contours: tuple[Contour, ...]


def read(file: Path, limits: Limits = Limits()) -> tuple[Region, ...]:
    """The regions of an RTSTRUCT file in the order of the file, those without contours too.

    Raises :class:`Problem` for a damaged file, and for more points than ``limits`` allow voxels.
    """
    content = objects.content(file, limits)
    with objects.readable(file):
        contours: dict[int, tuple[Contour, ...]] = {}
        points = 0
        for item in content.get("ROIContourSequence") or []:
            number = int(item.ReferencedROINumber)
            read = tuple(_contour(one) for one in item.get("ContourSequence") or [])
            contours[number] = (*contours.get(number, ()), *read)
            points += sum(len(one.points) for one in read)
            require_voxels((points,), limits, file)
        return tuple(
            Region(
                int(one.ROINumber),
                printable(one.get("ROIName") or ""),
                contours.get(int(one.ROINumber), ()),
            )
            for one in content.get("StructureSetROISequence") or []
        )


def _contour(item: pydicom.Dataset) -> Contour:
    numbers = _numbers(item)
    if len(numbers) % 3 or not (np.abs(numbers) <= _LARGEST_MM).all():
        raise ValueError(f"ContourData of {len(numbers)} numbers, three for each point")
    sources = [
        str(one.get("ReferencedSOPInstanceUID", ""))
        for one in item.get("ContourImageSequence") or []
    ]
    kind = printable(item.get("ContourGeometricType") or "").upper()
    return Contour(kind, numbers.reshape(-1, 3), tuple(dict.fromkeys(filter(None, sources))))


def _numbers(item: pydicom.Dataset) -> NDArray[np.float64]:
    """The coordinates of a contour, one after the other; from their text, which is much quicker
    than by pydicom's decimal strings."""
    stored = item.get_item("ContourData")
    if stored is not None and isinstance(stored.value, bytes):
        texts = stored.value.rstrip(b" \0").split(b"\\")
        return np.array([float(one) for one in texts if one or len(texts) > 1])
    return np.array([float(one) for one in item.get("ContourData") or []])
