"""One DICOM SEG file -> its segments and its frames, each with its place. Lengths in mm, LPS+.

BINARY, FRACTIONAL (PS3.3, C.8.20) and LABELMAP segmentations, read by pydicom alone. Which class a
segment is, and which slice of a scan a frame belongs to, is the question of
:mod:`pipeline.labels.of_segmentation`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import uid as uids
from pydicom.pixels import get_decoder  # type: ignore[attr-defined]  # documented there

from datasets_spec.contract import Problem
from pipeline.params.dicom import USUAL
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import objects
from pipeline.volumes.dicom.tags import printable
from pipeline.volumes.limits import require_voxels

BINARY, FRACTIONAL, LABELMAP = "BINARY", "FRACTIONAL", "LABELMAP"
_NATIVE = (
    uids.ImplicitVRLittleEndian,
    uids.ExplicitVRLittleEndian,
    uids.DeflatedExplicitVRLittleEndian,
)
_LARGEST_MM = 1e6  # a kilometre: no scanner's number is larger
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Segment:
    """``label`` is its name, ``kind`` the meaning of the code of its type ("Hemorrhage")."""

    number: int
    label: str
    kind: str


@dataclass(frozen=True)
class Frame:
    """A frame: the segment that it shows (0: a label map, of all), and where it lies.

    ``position`` is the centre of its first pixel, ``across`` and ``down`` the ways from a column
    and from a row to the next, all (3,); None where they are not stated. ``sources``: the
    SOPInstanceUIDs of the pictures that it was drawn on.
    """

    segment: int
    position: Vector | None
    across: Vector | None
    down: Vector | None
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Segmentation:
    """A SEG file. ``shape``: rows and columns of its frames. ``kind``: BINARY, FRACTIONAL, or
    LABELMAP. ``highest``: the value that stands for a share of 1 in a FRACTIONAL one. ``step``: the
    distance of slices that it states in mm, or 0."""

    file: Path
    kind: str
    shape: tuple[int, int]
    segments: tuple[Segment, ...]
    frames: tuple[Frame, ...]
    highest: int
    step: float
    _content: pydicom.Dataset

    def pixels(self) -> Iterator[NDArray[Any]]:
        """The stored pixels (rows, columns) of one frame after the other.

        Raises :class:`Problem` where they cannot be decoded.
        """
        with objects.readable(self.file):
            syntax = self._content.file_meta.get("TransferSyntaxUID", uids.ImplicitVRLittleEndian)
            if syntax in _NATIVE and int(self._content.BitsAllocated) == 1:
                yield from self._bits()
                return
            deflated = syntax == uids.DeflatedExplicitVRLittleEndian
            if deflated:
                self._content.file_meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
            decoder = get_decoder(uids.ExplicitVRLittleEndian if deflated else syntax)
            for frame, _ in decoder.iter_array(self._content, raw=True):
                yield frame.reshape(self.shape)

    def _bits(self) -> Iterator[NDArray[np.uint8]]:
        """Frames of one bit per pixel, which follow each other without a gap (PS3.5, 8.1.1)."""
        size = math.prod(self.shape)
        stored = np.frombuffer(self._content.PixelData, np.uint8)
        if 8 * len(stored) < size * len(self.frames):
            raise ValueError(f"{len(stored)} bytes of pixel data for {len(self.frames)} frames")
        for index in range(len(self.frames)):
            first, last = index * size, (index + 1) * size
            bits = np.unpackbits(stored[first // 8 : -(-last // 8)], bitorder="little")
            yield bits[first % 8 :][:size].reshape(self.shape)


def read(file: Path, limits: Limits = Limits()) -> Segmentation:
    """The segments and frames of a SEG file; no pixel is decoded yet.

    Raises :class:`Problem` for a damaged file, more pixels than ``limits`` allow, and frames that
    do not each state their place and segment.
    """
    content = objects.content(file, limits)
    with objects.readable(file):
        kind = printable(content.get("SegmentationType", "")).upper()
        if kind not in (BINARY, FRACTIONAL, LABELMAP):
            raise ValueError(f"SegmentationType {kind or 'missing'}")
        shape = (int(content.Rows), int(content.Columns))
        count = int(content.get("NumberOfFrames") or 1)
        if min(*shape, count) < 1:
            raise ValueError(f"{count} frames of {shape[1]} x {shape[0]} pixels")
        require_voxels((shape[1], shape[0], count), limits, file)
        groups = content.get("PerFrameFunctionalGroupsSequence") or []
        if len(groups) != count:
            raise Problem(
                f"expected {count} frames that state their place, got {len(groups)}"
                f" ({content.get('DimensionOrganizationType') or 'no dimension organization'})",
                where=file,
                remedy="Export it with a functional group for each frame.",
            )
        [shared] = content.get("SharedFunctionalGroupsSequence") or [pydicom.Dataset()]
        return Segmentation(
            file,
            kind,
            shape,
            tuple(_segment(one) for one in content.SegmentSequence),
            tuple(_frame(one, shared, kind) for one in groups),
            int(content.get("MaximumFractionalValue") or 0),
            _step(shared),
            content,
        )


def _step(shared: pydicom.Dataset) -> float:
    measures = _item("PixelMeasuresSequence", shared, shared)
    step = 0.0 if measures is None else abs(float(measures.get("SpacingBetweenSlices") or 0))
    return step if USUAL.same_place_mm < step <= _LARGEST_MM else 0.0


def _segment(item: pydicom.Dataset) -> Segment:
    kinds = item.get("SegmentedPropertyTypeCodeSequence") or []
    meaning = printable(kinds[0].get("CodeMeaning") or "") if len(kinds) else ""
    return Segment(int(item.SegmentNumber), printable(item.get("SegmentLabel") or ""), meaning)


def _frame(group: pydicom.Dataset, shared: pydicom.Dataset, kind: str) -> Frame:
    number = 0
    if kind != LABELMAP:
        identity = _item("SegmentIdentificationSequence", group, shared)
        if identity is None:
            raise ValueError("a frame of no segment")
        number = int(identity.ReferencedSegmentNumber)
    measures = _item("PixelMeasuresSequence", group, shared)
    axes = _numbers(_item("PlaneOrientationSequence", group, shared), "ImageOrientationPatient")
    spacing = _numbers(measures, "PixelSpacing")
    across = None if axes is None or spacing is None else axes[:3] * spacing[1]
    down = None if axes is None or spacing is None else axes[3:] * spacing[0]
    derivations = group.get("DerivationImageSequence") or shared.get("DerivationImageSequence")
    sources = [
        str(source.get("ReferencedSOPInstanceUID", ""))
        for derivation in derivations or []
        for source in derivation.get("SourceImageSequence") or []
    ]
    return Frame(
        number,
        _numbers(_item("PlanePositionSequence", group, shared), "ImagePositionPatient"),
        across,
        down,
        tuple(dict.fromkeys(filter(None, sources))),
    )


def _item(name: str, group: pydicom.Dataset, shared: pydicom.Dataset) -> pydicom.Dataset | None:
    """The one item of a functional group, that of the frame before that of all frames."""
    items = group.get(name) or shared.get(name) or []
    return items[0] if len(items) else None


_COUNTS = {"ImagePositionPatient": 3, "ImageOrientationPatient": 6, "PixelSpacing": 2}


def _numbers(item: pydicom.Dataset | None, name: str) -> Vector | None:
    """The numbers of a tag; None where it is absent. Raises ValueError for odd ones."""
    value = None if item is None else item.get(name)
    if value is None:
        return None
    numbers = np.array([float(one) for one in value])
    odd = len(numbers) != _COUNTS[name] or not (np.abs(numbers) <= _LARGEST_MM).all()
    if odd or (name == "PixelSpacing" and numbers.min() <= 0):
        raise ValueError(f"{name} {numbers.tolist()}")
    return numbers
