"""Rules about DICOM files together: what does not lie in one grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.params.dicom import USUAL, Tolerances
from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.geometry import vector
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule, Slices, files_of
from pipeline.volumes.findings import Number

_KEEP_COMPLETE = "Take the complete series from its source."
_KEEP_TOGETHER = "Keep the files that belong together."
_EXPORT_AGAIN = "Export or download it again."
_LEAST_OWN = 3  # slices, from which on frames of reference that all differ are no two blocks


def _usual(value: Callable[[Instance], Any], slices: Slices) -> Any:
    return Counter(map(value, slices)).most_common(1)[0][0]


@dataclass(frozen=True)
class Together:
    """The slices of a series, and how far they may differ."""

    slices: Slices
    tolerances: Tolerances


def _of_size(them: Together) -> Evidence | None:
    slices = them.slices
    shape, spacing = _usual(lambda one: (one.shape, one.spacing), slices)
    other = [
        one
        for one in slices
        if one.shape != shape
        or not np.allclose(vector(one.spacing), spacing, rtol=them.tolerances.same_spacing)
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


def _one_of(value: Callable[[Instance], object]) -> Callable[[Together], Evidence | None]:
    """A check that ``value`` is the same in every file."""

    def check(them: Together) -> Evidence | None:
        slices = them.slices
        usual = _usual(value, slices)
        other = [one for one in slices if value(one) != usual]
        if not other:
            return None
        distinct = len(set(map(value, slices)))
        numbers = {"distinct": distinct, "files": len(other), "of": len(slices)}
        return Evidence(numbers, files_of(other))

    return check


def has_own_frames(slices: Slices) -> bool:
    """Whether each slice has a FrameOfReferenceUID of its own, as some anonymisers leave it."""
    frames = {one.origin[2] for one in slices}
    return len(slices) >= _LEAST_OWN and len(frames) == len(slices) and "" not in frames


def _of_frames(them: Together) -> Evidence | None:
    return None if has_own_frames(them.slices) else _one_of(lambda one: one.origin[2])(them)


def _of_inversion(one: Instance) -> object:
    """What has to be the same in slices whose values are inverted."""
    inverted = one.photometric == "MONOCHROME1"
    return (inverted, one.rescale, one.stored) if inverted else inverted


def _of_rescale(them: Together) -> Evidence | None:
    slices = them.slices
    without = [one for one in slices if not one.rescaled]
    if len(without) in (0, len(slices)) or len({one.rescale for one in slices}) == 1:
        return None
    return Evidence({"files": len(without), "of": len(slices)}, files_of(without))


def _of_directions(them: Together) -> Evidence | None:
    slices = them.slices
    orientation = _usual(lambda one: one.orientation, slices)
    axes = vector(orientation).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() <= them.tolerances.same_direction:
        return None
    wrong = [one for one in slices if one.orientation == orientation]
    return Evidence({"orientation": str(vector(orientation).tolist())}, files_of(wrong))


def _of_orientation(them: Together) -> Evidence | None:
    slices, same = them.slices, them.tolerances.same_direction
    usual = vector(_usual(lambda one: one.orientation, slices))
    other = [one for one in slices if np.abs(vector(one.orientation) - usual).max() > same]
    if not other:
        return None
    numbers: dict[str, Number] = {
        "orientation": str(usual.tolist()),
        "other": str(vector(other[0].orientation).tolist()),
        "files": len(other),
        "of": len(slices),
    }
    return Evidence(numbers, files_of(other))


LIKENESS: tuple[SeriesRule[Together], ...] = (
    SeriesRule(
        code="mixed-size",
        asks="Rows, Columns and PixelSpacing are those of the other slices",
        tolerance=f"{USUAL.same_spacing:g} of PixelSpacing",
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
        asks="FrameOfReferenceUID is the same in every file, or another in each",
        reason="positions in two frames of reference cannot be compared",
        remedy=_KEEP_TOGETHER,
        check=_of_frames,
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
        asks="BitsAllocated and PixelRepresentation are the same in every file",
        reason="one scanner writes one format, so the files come from two sources",
        remedy=_KEEP_TOGETHER,
        check=_one_of(lambda one: one.stored[::2]),
    ),
    SeriesRule(
        code="mixed-photometric",
        asks="all slices are MONOCHROME2, or all are MONOCHROME1 with one rescale and BitsStored",
        reason="what is counted from the other end has to begin at one end",
        remedy=_KEEP_TOGETHER,
        check=_one_of(_of_inversion),
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
        tolerance=f"{USUAL.same_direction:g} of a cosine",
        reason="anything else is no orientation",
        remedy=_EXPORT_AGAIN,
        check=_of_directions,
    ),
    SeriesRule(
        code="mixed-orientation",
        asks="ImageOrientationPatient is that of the other slices",
        tolerance=f"{USUAL.same_direction:g} of a cosine",
        reason="slices that cross each other do not lie in one grid",
        remedy="Keep the slices of one orientation.",
        check=_of_orientation,
    ),
)


def of_likeness(slices: Slices, tolerances: Tolerances = USUAL) -> list[Match]:
    """What cannot lie in one grid: sizes and directions that differ, or are no directions."""
    return rules.every(LIKENESS, Together(slices, tolerances))
