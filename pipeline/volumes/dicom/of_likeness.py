"""Rules about DICOM files together: what does not lie in one grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.geometry import vector
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule, Slices, files_of
from pipeline.volumes.dicom.tolerances import SAME_DIRECTION, SAME_SPACING
from pipeline.volumes.findings import Number

_KEEP_COMPLETE = "Take the complete series from its source."
_KEEP_TOGETHER = "Keep the files that belong together."
_EXPORT_AGAIN = "Export or download it again."


def _usual(value: Callable[[Instance], Any], slices: Slices) -> Any:
    return Counter(map(value, slices)).most_common(1)[0][0]


def _of_size(slices: Slices) -> Evidence | None:
    shape, spacing = _usual(lambda one: (one.shape, one.spacing), slices)
    other = [
        one
        for one in slices
        if one.shape != shape or not np.allclose(vector(one.spacing), spacing, rtol=SAME_SPACING)
    ]
    if not other:
        return None
    numbers: dict[str, Number] = {
        "shape": str(shape),
        "spacing": str(spacing),
        "other_shape": str(other[0].shape),
        "other_spacing": str(other[0].spacing),
        "files": len(other),
        "of": len(slices),
    }
    return Evidence(numbers, files_of(other))


def _one_of(value: Callable[[Instance], object]) -> Callable[[Slices], Evidence | None]:
    """A check that ``value`` is the same in every file."""

    def check(slices: Slices) -> Evidence | None:
        usual = _usual(value, slices)
        other = [one for one in slices if value(one) != usual]
        if not other:
            return None
        distinct = len(set(map(value, slices)))
        numbers = {"distinct": distinct, "files": len(other), "of": len(slices)}
        return Evidence(numbers, files_of(other))

    return check


def _of_rescale(slices: Slices) -> Evidence | None:
    without = [one for one in slices if not one.rescaled]
    if len(without) in (0, len(slices)) or len({one.rescale for one in slices}) == 1:
        return None
    return Evidence({"files": len(without), "of": len(slices)}, files_of(without))


def _of_directions(slices: Slices) -> Evidence | None:
    orientation = _usual(lambda one: one.orientation, slices)
    axes = vector(orientation).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() <= SAME_DIRECTION:
        return None
    wrong = [one for one in slices if one.orientation == orientation]
    return Evidence({"orientation": str(vector(orientation).tolist())}, files_of(wrong))


def _of_orientation(slices: Slices) -> Evidence | None:
    usual = vector(_usual(lambda one: one.orientation, slices))
    other = [
        one for one in slices if np.abs(vector(one.orientation) - usual).max() > SAME_DIRECTION
    ]
    if not other:
        return None
    numbers: dict[str, Number] = {
        "orientation": str(usual.tolist()),
        "other": str(vector(other[0].orientation).tolist()),
        "files": len(other),
        "of": len(slices),
    }
    return Evidence(numbers, files_of(other))


LIKENESS: tuple[SeriesRule[Slices], ...] = (
    SeriesRule(
        code="mixed-size",
        asks="Rows, Columns and PixelSpacing are those of the other slices",
        tolerance=f"{SAME_SPACING:g} of PixelSpacing",
        reason="slices of two sizes do not lie in one grid",
        remedy="Keep the slices of one size.",
        check=_of_size,
    ),
    SeriesRule(
        code="mixed-patient",
        asks="PatientID is the same in every file",
        reason="a volume shows one patient",
        remedy=_KEEP_TOGETHER,
        check=_one_of(lambda one: one.origin[0]),
    ),
    SeriesRule(
        code="mixed-study",
        asks="StudyInstanceUID is the same in every file",
        reason="between two studies the patient moved",
        remedy=_KEEP_TOGETHER,
        check=_one_of(lambda one: one.origin[1]),
    ),
    SeriesRule(
        code="mixed-frame-of-reference",
        asks="FrameOfReferenceUID is the same in every file",
        reason="positions in two frames of reference cannot be compared",
        remedy=_KEEP_TOGETHER,
        check=_one_of(lambda one: one.origin[2]),
    ),
    SeriesRule(
        code="mixed-modality",
        asks="Modality is the same in every file",
        reason="values of two modalities mean different things",
        remedy=_KEEP_TOGETHER,
        check=_one_of(lambda one: one.origin[3]),
    ),
    SeriesRule(
        code="mixed-pixel-format",
        asks="BitsAllocated, BitsStored and PixelRepresentation are the same in every file",
        reason="one scanner writes one format, so the files come from two sources",
        remedy=_KEEP_TOGETHER,
        check=_one_of(lambda one: one.stored),
    ),
    SeriesRule(
        code="mixed-rescale",
        asks="all slices state RescaleSlope and RescaleIntercept, or none does",
        reason="the values of a slice without them lie elsewhere",
        remedy=_KEEP_COMPLETE,
        check=_of_rescale,
    ),
    SeriesRule(
        code="no-directions",
        asks="ImageOrientationPatient holds two perpendicular directions of length 1",
        tolerance=f"{SAME_DIRECTION:g} of a cosine",
        reason="anything else is no orientation",
        remedy=_EXPORT_AGAIN,
        check=_of_directions,
    ),
    SeriesRule(
        code="mixed-orientation",
        asks="ImageOrientationPatient is that of the other slices",
        tolerance=f"{SAME_DIRECTION:g} of a cosine",
        reason="slices that cross each other do not lie in one grid",
        remedy="Keep the slices of one orientation.",
        check=_of_orientation,
    ),
)


def of_likeness(slices: Slices) -> list[Match]:
    """What cannot lie in one grid: sizes and directions that differ, or are no directions."""
    return rules.every(LIKENESS, slices)
