"""Rules about where the slices of a DICOM series lie: gaps, uneven steps, tilt."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from pipeline.params.dicom import USUAL, Tolerances
from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.geometry import Line
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule, Slices, files_of
from pipeline.volumes.findings import Number
from pipeline.volumes.nifti import SIDES_MM
from pipeline.volumes.uneven import usual_step

_KEEP_COMPLETE = "Take the complete series from its source."
_EXPORT_AGAIN = "Export or download it again."
_GAPS = 5  # missing slices in one line
_STEPS = 3  # different ones in one line
UNEVEN = "uneven-spacing"
"""The code of what is matched by slices that need a place each."""
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


def _is_even(line: Line) -> bool:
    if len(line.slices) < 2:
        return True
    allowed = min(line.tolerances.off_line_mm, line.tolerances.off_line_step * line.step)
    return line.off <= allowed and float(line.along.min()) >= line.tolerances.same_place_mm


def _of_line(line: Line) -> Evidence | None:
    """Slices at one place, or beside the straight line from the first to the last."""
    if _is_even(line):
        return None
    if line.along.min() < line.tolerances.same_place_mm:
        return Evidence({"off_mm": line.off}, files_of(line.slices))
    depths = np.append(0, line.along.cumsum())
    ends = line.positions[-1] - line.positions[0]
    straight = line.positions[0] + np.outer(depths / depths[-1], ends)
    off = float(np.linalg.norm(line.positions - straight, axis=1).max())
    return (
        Evidence({"off_mm": off}, files_of(line.slices))
        if off > line.tolerances.off_line_mm
        else None
    )


@dataclass(frozen=True)
class _Wide:
    """A step that is ``times`` as wide as the others: which, counted from 0."""

    step: int
    times: int


def _missing(line: Line) -> list[_Wide]:
    """The steps in which slices are missing.

    Few steps are whole multiples of all others or, in a part of its own spacing, of the equal steps
    on both sides; and no slice beside them is as thick as that.
    """
    few = max(1, line.tolerances.few_gaps * len(line.along))
    for wide in (_among_all(line), _among_neighbours(line)):
        if len(wide) <= few and (missing := [one for one in wide if not _is_covered(line, one)]):
            return missing
    return []


def _among_all(line: Line) -> list[_Wide]:
    """Steps that are multiples of the smallest usual one, where all steps are whole multiples."""
    along = line.along
    base = float(np.median(along[along < 1.5 * along.min()]))
    times = np.rint(along / base)
    off = np.abs(along - times * base)
    if (
        off > np.minimum(line.tolerances.off_line_mm * times, line.tolerances.off_line_step * base)
    ).any():
        return []
    return [_Wide(int(at), int(times[at])) for at in np.flatnonzero(times > 1)]


def _among_neighbours(line: Line) -> list[_Wide]:
    """Steps that are multiples of those before and after them, which are equal."""
    before, here, after = line.along[:-2], line.along[1:-1], line.along[2:]
    beside = (before + after) / 2
    times = np.rint(here / beside)
    alike = np.abs(before - after) <= line.tolerances.same_step * beside
    whole = np.abs(here - times * beside) <= line.tolerances.off_line_step * beside
    found = np.flatnonzero(alike & whole & (times > 1))
    return [_Wide(int(at) + 1, int(times[at])) for at in found]


def _is_covered(line: Line, wide: _Wide) -> bool:
    """Whether a slice beside a step is thicker than others, and as thick as the step is wide."""
    thick = [one.thickness or 0.0 for one in line.slices]
    here = max(thick[wide.step : wide.step + 2])
    return here > min(thick) and here >= _COVERED * line.along[wide.step]


def _of_gaps(line: Line) -> Evidence | None:
    missing = [] if _is_even(line) else _missing(line)
    if not missing:
        return None
    places = [
        f"{one.times - 1} between {line.depth(one.step):.1f} and"
        f" {line.depth(one.step) + line.along[one.step]:.1f} mm"
        for one in missing[:_GAPS]
    ]
    numbers: dict[str, Number] = {
        "least_mm": float(line.along.min()),
        "most_mm": float(line.along.max()),
        "gaps": ", ".join(places),
    }
    beside = [one for at in missing for one in line.slices[at.step : at.step + 2]]
    return Evidence(numbers, files_of(beside))


def _of_spacing(line: Line) -> Evidence | None:
    if _is_even(line):
        return None
    counts = Counter(round(float(step), 1) for step in line.along)
    counted = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    shown = [f"{step:g} mm ({count})" for step, count in counted[:_STEPS]]
    return Evidence({"steps": ", ".join([*shown, *["..."] * (len(counted) > _STEPS)])})


def _of_unseen(line: Line) -> Evidence | None:
    if _is_even(line):
        return None
    usual = usual_step(line.along)
    wide = np.flatnonzero(line.along > (1 + line.tolerances.same_step) * usual)
    if not wide.size:
        return None
    widest = int(wide[line.along[wide].argmax()])
    numbers: dict[str, Number] = {
        "gaps": int(wide.size),
        "step_mm": float(line.along[widest]),
        "usual_mm": usual,
        "at_mm": line.depth(widest),
    }
    return Evidence(numbers)


def _of_jitter(line: Line) -> Evidence | None:
    """Slices off the line by more than usual, but not by more than is stated."""
    allowed = line.tolerances.off_line_mm
    if len(line.slices) < 2 or line.off <= USUAL.off_line_mm or not _is_even(line):
        return None
    return Evidence({"off_mm": line.off, "allowed_mm": allowed})


def _of_tilt(line: Line) -> Evidence | None:
    # a shear as large as the step itself would be no tilt but a stack along another axis
    if len(line.slices) < 2 or not _is_even(line) or line.tilt <= line.tolerances.tilt_degrees:
        return None
    return Evidence({"degrees": line.tilt, "aside_mm": line.aside})


def _of_stated_step(line: Line) -> Evidence | None:
    stated = line.slices[0].step
    if len(line.slices) < 2 or not stated or not _is_even(line):
        return None
    if abs(line.step - stated) <= line.tolerances.same_step * line.step:
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
        code="off-line",
        asks="the slices lie in one line",
        tolerance=f"{USUAL.off_line_mm:g} mm",
        reason="slices that lie aside of each other make no volume",
        remedy=_KEEP_COMPLETE,
        check=_of_line,
    ),
    SeriesRule(
        code="missing-slices",
        asks="no step between slices is a multiple of the others, or of the equal ones beside it,"
        " but for a slice that is as thick",
        tolerance=f"{_TOLERANCE}; up to {USUAL.few_gaps:.0%} of the steps",
        reason="a part of the head was not seen, and nobody would know",
        remedy=_KEEP_COMPLETE,
        check=_of_gaps,
    ),
    SeriesRule(
        code=UNEVEN,
        asks="all steps between slices are equal",
        tolerance=_TOLERANCE,
        reason="every slice has a place of its own, and there is no NIfTI of all",
        check=_of_spacing,
    ),
    SeriesRule(
        code="uneven-gap",
        asks="no step is wider than the largest that occurs twice, or than the median",
        tolerance=f"{USUAL.same_step:.0%}",
        reason="slices may be missing; what lies in between is in no volume",
        check=_of_unseen,
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


def of_places(ordered: Slices, tolerances: Tolerances = USUAL) -> list[Match]:
    """Gaps, uneven steps and tilt of slices in order, and sides that no voxel has."""
    return rules.until_refused(PLACES, Line(tuple(ordered), tolerances))
