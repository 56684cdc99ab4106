"""Rules about where the slices of a DICOM series lie: gaps, uneven steps, tilt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.params.dicom import USUAL, Tolerances
from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.geometry import Line
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule, Slices, files_of
from pipeline.volumes.findings import Number
from pipeline.volumes.nifti import SIDES_MM

_KEEP_COMPLETE = "Take the complete series from its source."
_EXPORT_AGAIN = "Export or download it again."
_GAPS = 5  # missing slices in one line
_STEPS = 3  # different ones in one line
_OFF_LINE, _UNEVEN, _MISSING = "off-line", "uneven-spacing", "missing-slices"
_COVERED = 0.9  # of a step, by the thickness of a slice


def _of_sides(line: Line) -> Evidence | None:
    first = line.slices[0]
    assert first.spacing is not None
    sides = (*first.spacing, line.step or first.thickness or 1.0)
    least, most = SIDES_MM
    if least <= min(sides) and max(sides) <= most:
        return None
    shown = " x ".join(f"{side:.4g}" for side in sides)
    return Evidence({"least": least, "most": most, "sides": shown}, files_of(line.slices))


def _of_thickness(line: Line) -> Evidence | None:
    [first, *others] = line.slices
    if others or not first.thickness:
        return None
    return Evidence({"thickness_mm": first.thickness}, files_of([first]))


def _of_no_thickness(line: Line) -> Evidence | None:
    [first, *others] = line.slices
    return None if others or first.thickness else Evidence({}, files_of([first]))


@dataclass(frozen=True)
class _Uneven:
    """Steps along the normal as multiples of the smallest usual one, ``base``.

    ``odd``: those that are no single one; ``whole``: whether all are whole multiples.
    """

    base: float
    times: NDArray[np.float64]
    odd: tuple[int, ...]
    whole: bool


def _is_even(line: Line) -> bool:
    if len(line.slices) < 2:
        return True
    allowed = min(line.tolerances.off_line_mm, line.tolerances.off_line_step * line.step)
    return line.off <= allowed and float(line.along.min()) >= line.tolerances.same_place_mm


def _uneven(line: Line) -> _Uneven | None:
    """Steps that differ along the normal; None where they are even, or slices lie beside it."""
    along = line.along
    if (
        _is_even(line)
        or along.min() < line.tolerances.same_place_mm
        or np.ptp(along) < line.tolerances.same_place_mm
    ):
        return None
    base = float(np.median(along[along < 1.5 * along.min()]))
    times = np.rint(along / base)
    whole = np.abs(along - times * base) <= np.minimum(
        line.tolerances.off_line_mm * times, line.tolerances.off_line_step * base
    )
    odd = np.flatnonzero((times > 1) | ~whole).tolist()
    return _Uneven(base, times, tuple(odd), bool(whole.all()))


def _of_line(line: Line) -> Evidence | None:
    if _is_even(line):
        return None
    uneven = _uneven(line)
    if uneven is None:
        return Evidence({"off_mm": line.off}, files_of(line.slices))
    if uneven.odd:
        return None
    off = float(np.abs(line.along - uneven.base).max())
    return Evidence({"off_mm": off}, files_of(line.slices))


def _gaps(line: Line) -> _Uneven | None:
    """Missing slices: few steps are whole multiples of the others."""
    uneven = _uneven(line)
    if uneven is None or not uneven.odd or not uneven.whole:
        return None
    return uneven if len(uneven.odd) <= max(1, line.tolerances.few_gaps * len(line.along)) else None


def _beside(line: Line, steps: Sequence[int]) -> list[Instance]:
    """The slices on both sides of some steps."""
    return [one for index in steps for one in line.slices[index : index + 2]]


def _of_gaps(line: Line) -> Evidence | None:
    gaps = _gaps(line)
    if gaps is None:
        return None
    places = [
        f"{gaps.times[index] - 1:.0f} between {line.depth(index):.1f} and"
        f" {line.depth(index) + line.along[index]:.1f} mm"
        for index in gaps.odd[:_GAPS]
    ]
    numbers: dict[str, Number] = {
        "least_mm": float(line.along.min()),
        "most_mm": float(line.along.max()),
        "gaps": ", ".join(places),
    }
    return Evidence(numbers, files_of(_beside(line, gaps.odd)))


def _of_spacing(line: Line) -> Evidence | None:
    uneven = _uneven(line)
    if uneven is None or not uneven.odd or _gaps(line):
        return None
    numbers: dict[str, Number] = {
        "least_mm": float(line.along.min()),
        "most_mm": float(line.along.max()),
        "odd": len(uneven.odd),
        "steps": len(line.along),
        "at_mm": line.depth(uneven.odd[0]),
    }
    return Evidence(numbers, files_of(_beside(line, uneven.odd)))


def _of_bend(line: Line) -> Evidence | None:
    """Slices at one place, or beside the straight line from the first to the last."""
    depths = np.append(0, line.along.cumsum())
    if line.along.min() < line.tolerances.same_place_mm:
        return Evidence({"off_mm": line.off}, files_of(line.slices))
    ends = line.positions[-1] - line.positions[0]
    straight = line.positions[0] + np.outer(depths / depths[-1], ends)
    off = float(np.linalg.norm(line.positions - straight, axis=1).max())
    return (
        Evidence({"off_mm": off}, files_of(line.slices))
        if off > line.tolerances.off_line_mm
        else None
    )


def _are_thicker(line: Line) -> bool:
    """Whether all steps that look like a missing slice are those of slices that are thicker."""
    gaps = _gaps(line)
    thick = [one.thickness or 0.0 for one in line.slices]
    wide = [(max(thick[at : at + 2]), line.along[at]) for at in (gaps.odd if gaps else ())]
    return all(one > min(thick) and one >= _COVERED * step for one, step in wide)


def _of_steps(line: Line) -> Evidence:
    counts = Counter(round(float(step), 1) for step in line.along)
    counted = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{step:g} mm ({count})" for step, count in counted[:_STEPS]]
    return Evidence({"steps": ", ".join([*shown, *["..."] * (len(counted) > _STEPS)])})


def _of_jitter(line: Line) -> Evidence | None:
    """Slices off the line by more than usual, but not by more than is stated."""
    allowed = line.tolerances.off_line_mm
    if len(line.slices) < 2 or line.off <= USUAL.off_line_mm or line.off > allowed:
        return None
    return Evidence({"off_mm": line.off, "allowed_mm": allowed})


def _of_tilt(line: Line) -> Evidence | None:
    # a shear as large as the step itself would be no tilt but a stack along another axis
    if len(line.slices) < 2 or line.tilt <= line.tolerances.tilt_degrees:
        return None
    return Evidence({"degrees": line.tilt, "aside_mm": line.aside})


def _of_stated_step(line: Line) -> Evidence | None:
    stated = line.slices[0].step
    if (
        len(line.slices) < 2
        or not stated
        or abs(line.step - stated) <= line.tolerances.same_step * line.step
    ):
        return None
    return Evidence({"step_mm": line.step, "stated_mm": stated})


def _of_numbers(line: Line) -> Evidence | None:
    numbers = sorted(one.number for one in line.slices if one.number is not None)
    span = numbers[-1] - numbers[0] + 1 if numbers else 0
    if len(set(numbers)) != len(line.slices) or span == len(line.slices):
        return None
    return Evidence({"first": numbers[0], "last": numbers[-1], "slices": len(line.slices)})


_TOLERANCE = (
    f"{USUAL.off_line_mm:g} mm or {USUAL.off_line_step:.0%} of the spacing, whichever is less"
)
PLACES: tuple[SeriesRule[Line], ...] = (
    SeriesRule(
        code="odd-sides",
        asks="the sides of a voxel are those of a brain scan",
        tolerance=f"{SIDES_MM[0]:g} to {SIDES_MM[1]:g} mm",
        reason="a unit or a position is wrong",
        remedy=_EXPORT_AGAIN,
        check=_of_sides,
    ),
    SeriesRule(
        code="single-slice",
        asks="there are two slices or more",
        reason="the thickness in the header of a single one is taken as its spacing",
        check=_of_thickness,
    ),
    SeriesRule(
        code="unknown-thickness",
        asks="a single slice states its thickness",
        reason="1 mm is taken, so volumes in ml may be wrong",
        check=_of_no_thickness,
    ),
    SeriesRule(
        code=_OFF_LINE,
        asks="the slices lie in one line",
        tolerance=_TOLERANCE,
        reason="no affine puts every slice at its place",
        remedy=_KEEP_COMPLETE,
        check=_of_line,
    ),
    SeriesRule(
        code=_MISSING,
        asks="no step between slices is a multiple of the others",
        tolerance=f"{_TOLERANCE}; up to {USUAL.few_gaps:.0%} of the steps",
        reason="readers would spread the slices that are left evenly, each at a wrong place",
        remedy=_KEEP_COMPLETE,
        check=_of_gaps,
    ),
    SeriesRule(
        code=_UNEVEN,
        asks="all steps between slices are equal",
        tolerance=_TOLERANCE,
        reason="a volume has one spacing; only `predict` does without",
        remedy="Take a series of one spacing, or resample it to NIfTI yourself.",
        check=_of_spacing,
    ),
    SeriesRule(
        code="jittering-positions",
        asks="every slice lies where even spacing puts it",
        tolerance=f"{USUAL.off_line_mm:g} mm, where `convert.dicom.off_line_mm` states more",
        reason="each slice is taken at its even place, as the parameter file allows",
        check=_of_jitter,
    ),
    SeriesRule(
        code="gantry-tilt",
        asks="the slices lie straight above each other",
        tolerance=f"{USUAL.tilt_degrees:g} degrees",
        reason="the affine is sheared, so that every slice keeps its place",
        check=_of_tilt,
    ),
    SeriesRule(
        code="spacing-disagrees",
        asks="SpacingBetweenSlices is the distance of the positions, which are believed",
        tolerance=f"{USUAL.same_step:.0%} of the distance",
        reason="slices may be missing, but some scanners write the gap between slices there",
        check=_of_stated_step,
    ),
    SeriesRule(
        code="number-gaps",
        asks="InstanceNumber counts the slices without gaps",
        reason="slices may be missing at an end, but numbers are free",
        check=_of_numbers,
    ),
)
STEPS: SeriesRule[Line] = SeriesRule(
    code="uneven-steps",
    asks="the same, where each slice may have a place of its own (`predict`)",
    tolerance=f"slices in one line: {USUAL.off_line_mm:g} mm",
    reason="masks are written for each slice, and no NIfTI of all",
    check=_of_steps,
)
_LINE, _NUMBERS = (
    next(rule for rule in PLACES if rule.code == code) for code in (_OFF_LINE, "number-gaps")
)
_OF_UNEVEN = (replace(_LINE, check=_of_bend), STEPS, _NUMBERS)


def of_places(ordered: Slices, uneven: bool = False, tolerances: Tolerances = USUAL) -> list[Match]:
    """Gaps, uneven steps and tilt of slices in order, and sides that no voxel has.

    ``uneven``: steps that differ are no reason to refuse slices that lie in one line.
    """
    line = Line(tuple(ordered), tolerances)
    matches = rules.until_refused(PLACES, line)
    codes = {one.finding.code for one in matches}
    missing = _MISSING in codes and not _are_thicker(line)
    if uneven and not missing and codes & {_OFF_LINE, _UNEVEN, _MISSING}:
        return rules.until_refused(_OF_UNEVEN, line)
    return matches
