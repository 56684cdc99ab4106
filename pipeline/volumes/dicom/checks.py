"""What is odd about the slices of one DICOM series: a table of rules, and their tolerances.

Every match of a rule becomes a :class:`~pipeline.volumes.findings.Finding`. Nothing is decoded but
files at one place. :func:`rules_table` renders all rules for the documentation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import pixels, rules
from pipeline.volumes.dicom.geometry import Line, depth_of, normal_of, position_of, vector
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.rules import (
    Evidence,
    FileRule,
    Match,
    Rule,
    SeriesRule,
    files_of,
)
from pipeline.volumes.findings import KINDS, Number
from pipeline.volumes.nifti import SIDES_MM

SAME_DIRECTION = 1e-3
"""Cosines that differ by less are one direction: at 120 mm from the centre, 0.12 mm."""
SAME_SPACING = 1e-4
"""Relative. Exporters round pixel sides; over 512 pixels this moves the last by 0.05 of one."""
SAME_PLACE_MM = 0.1
"""Two slices closer than this are one place: no scanner's slices are as thin."""
OFF_LINE_MM = 0.1
"""How far a slice may lie from where even spacing puts it: positions rounded to 0.1 mm pass."""
OFF_LINE_STEP = 0.2
"""The same as a share of the spacing, for thin slices: a lost one leaves at least 0.5."""
FEW_GAPS = 0.25
"""Up to this share of wider steps, slices are missing; above, the spacing itself changes."""
SAME_STEP = 0.1
"""How far the stated distance of slices may be from theirs, as a share: thick ones are rounded."""
TILT_DEGREES = 0.5
"""Less shear is rounding of positions: 0.05 mm of 5 mm; gantries tilt by whole degrees."""
AIR_HU = -1000
"""CT padding at or below air is left as it is: every window clips it."""

_KEEP_COMPLETE = "Take the complete series from its source."
_KEEP_TOGETHER = "Keep the files that belong together."
_EXPORT_AGAIN = "Export or download it again."
_SHOWN = 3  # odd values or places in one line
_GAPS = 5


# --- single files ------------------------------------------------------------------------------


def is_localizer(one: Instance) -> bool:
    """Whether a picture is an overview of where the slices lie."""
    return not {"LOCALIZER", "SCOUT"}.isdisjoint(one.image_type)


def _in_colour(one: Instance) -> bool:
    return one.samples > 1 or one.photometric not in ("", "MONOCHROME1", "MONOCHROME2")


def _distinct(words: Callable[[Instance], Sequence[str]], slices: Sequence[Instance]) -> list[str]:
    return sorted({word for one in slices for word in words(one)})


FILES = (
    FileRule(
        code="burned-in-annotation",
        asks="BurnedInAnnotation is not YES",
        reason="names may stand in the pixels",
        remedy="Names may stand in the pixels: blank them and set the tag to NO, or leave it out.",
        unfit=lambda one, _: one.burned_in,
    ),
    FileRule(
        code="localizer",
        asks="ImageType names neither LOCALIZER nor SCOUT",
        reason="an overview lies across the slices, and is none of them",
        remedy="Take it out of the folder.",
        unfit=lambda one, _: is_localizer(one),
    ),
    FileRule(
        code="multi-frame",
        asks="NumberOfFrames is 1, and the SOP class is no enhanced one",
        reason="the places of frames stand in other tags, which are not read",
        remedy="Convert the multi-frame file to single slices (dcm2niix reads it, too).",
        unfit=lambda one, _: one.frames > 1 or "Enhanced" in one.kind,
        numbers=lambda slices, _: {"frames": max(one.frames for one in slices)},
    ),
    FileRule(
        code="mosaic",
        asks="ImageType does not name MOSAIC",
        reason="one picture holds all slices as tiles",
        remedy="Convert it with dcm2niix and use the NIfTI file.",
        unfit=lambda one, _: "MOSAIC" in one.image_type,
    ),
    FileRule(
        code="colour",
        asks="SamplesPerPixel is 1 and PhotometricInterpretation is a grey one",
        reason="colours are no intensities",
        remedy="Take the original grey series.",
        unfit=lambda one, _: _in_colour(one),
        numbers=lambda slices, _: {
            "photometric": ", ".join(_distinct(lambda one: [one.photometric], slices))
        },
    ),
    FileRule(
        code="inverted-photometric",
        asks="PhotometricInterpretation is MONOCHROME2",
        reason="in MONOCHROME1 low values are bright, so dark tissue would be shown as bright",
        remedy="Export it as MONOCHROME2.",
        unfit=lambda one, _: one.photometric == "MONOCHROME1",
    ),
    FileRule(
        code="modality-lookup-table",
        asks="there is no ModalityLUTSequence",
        reason="a table of values need not be linear, and decoders ignore it",
        remedy="Export it with linear values.",
        unfit=lambda one, _: one.lookup,
    ),
    FileRule(
        code="too-large",
        asks="Rows times Columns is within the limit",
        tolerance="`limits.pixels` of the parameter file",
        reason="a damaged header can ask for any amount of memory",
        remedy="Is its header right? If so, and there is memory for it, raise limits.pixels in the"
        " parameter file.",
        unfit=lambda one, limits: math.prod(one.shape) > limits.pixels,
        numbers=lambda slices, limits: {
            "limit": limits.pixels,
            "rows": slices[0].shape[0],
            "columns": slices[0].shape[1],
        },
        last=True,
    ),
    FileRule(
        code="unreadable-pixels",
        asks="the pixel data are complete, and of a known transfer syntax",
        reason="decoders fill up what a shortened file lacks",
        remedy=_EXPORT_AGAIN,
        unfit=lambda one, _: one.pixel_fault,
        numbers=lambda slices, _: {
            "faults": ", ".join(_distinct(lambda one: [one.pixel_fault], slices))
        },
        last=True,
    ),
    FileRule(
        code="odd-values",
        asks="sizes, bits, geometry and rescale are there, and make sense",
        tolerance="a kilometre in geometry, a million units in rescale",
        reason="decoders make up what is missing",
        remedy=_EXPORT_AGAIN,
        unfit=lambda one, _: one.odd,
        numbers=lambda slices, _: {
            "values": ", ".join(_distinct(lambda one: one.odd, slices)[:_SHOWN])
        },
        last=True,
    ),
    FileRule(
        code="missing-geometry",
        asks="ImagePositionPatient, ImageOrientationPatient and PixelSpacing are there",
        reason="without them a slice has no place",
        remedy="Without them a slice has no place; take the original export.",
        unfit=lambda one, _: None in (one.position, one.orientation, one.spacing),
        last=True,
    ),
)
"""What a file is comes first; only of files that are slices is it asked whether their sizes,
pixels, numbers and geometry are whole, and the first that is not explains the others."""


def of_files(slices: Sequence[Instance], limits: Limits) -> list[Match]:
    """What makes single files unfit, whatever the others are."""
    return rules.of_files(FILES, slices, limits)


# --- likeness ----------------------------------------------------------------------------------

Slices = Sequence[Instance]


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


# --- files at one place ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Twins:
    """Slices of their own places, and files at the same: like the slice kept there, or not.

    ``places`` counts the further files at each depth, in mm; ``problem`` says why files could not
    be compared.
    """

    kept: list[Instance]
    same: list[Instance]
    differing: list[Instance]
    places: Counter[float]
    problem: Problem | None = None

    @property
    def at_mm(self) -> str:
        return ", ".join(f"{place:g}" for place in sorted(self.places)[:_SHOWN])

    @property
    def everywhere(self) -> bool:
        return len(self.places) == len(self.kept)


def _of_undecodable(twins: _Twins) -> Evidence | None:
    return Evidence({"problem": twins.problem.what}) if twins.problem else None


def _of_conflicts(everywhere: bool) -> Callable[[_Twins], Evidence | None]:
    def check(twins: _Twins) -> Evidence | None:
        if not twins.differing or twins.everywhere != everywhere:
            return None
        return Evidence({"at_mm": twins.at_mm}, files_of(twins.differing))

    return check


def _of_repeats(twins: _Twins) -> Evidence | None:
    if not twins.same:
        return None
    return Evidence({"files": len(twins.same), "at_mm": twins.at_mm}, files_of(twins.same))


_SAME_PLACE = f"{SAME_PLACE_MM:g} mm"
TWINS: tuple[SeriesRule[_Twins], ...] = (
    SeriesRule(
        code="undecodable-pixels",
        asks="files at one position can be decoded, to compare them",
        reason="which of them is the slice is unknown",
        remedy="The file may be damaged; export or download it again.",
        check=_of_undecodable,
    ),
    SeriesRule(
        code="several-volumes",
        asks="not every position has several different pictures",
        tolerance=_SAME_PLACE,
        reason="they are time points, echoes or diffusion weightings, each a volume of its own",
        remedy="Keep one of these volumes in the folder.",
        check=_of_conflicts(everywhere=True),
    ),
    SeriesRule(
        code="conflicting-slices",
        asks="files at one position hold the same pixels",
        tolerance=_SAME_PLACE,
        reason="one of them does not belong there",
        remedy="Take the wrong one out.",
        check=_of_conflicts(everywhere=False),
    ),
    SeriesRule(
        code="repeated-slices",
        asks="every position has one file",
        tolerance=_SAME_PLACE,
        reason="a slice that was exported twice is kept once",
        check=_of_repeats,
    ),
)


def without_twins(ordered: Slices) -> tuple[list[Instance], list[Match]]:
    """Slices of their own places. Files at one place are one slice only if their pixels agree."""
    twins = _twins(ordered)
    matches = rules.until_refused(TWINS, twins)
    return (list(ordered) if any(one.refused for one in matches) else twins.kept), matches


def _twins(ordered: Slices) -> _Twins:
    normal = normal_of(ordered[0])
    twins = _Twins([], [], [], Counter())
    for one in ordered:
        last = twins.kept[-1] if twins.kept else None
        if last is None or np.abs(position_of(one) - position_of(last)).max() >= SAME_PLACE_MM:
            twins.kept.append(one)
            continue
        twins.places[round(depth_of(last, normal), 1)] += 1
        try:
            same = np.array_equal(pixels.pixels(one), pixels.pixels(last))
        except Problem as problem:
            return _Twins([], [], [], Counter(), problem)
        if same:
            twins.same.append(one)
        else:
            twins.differing.extend([last, one])
    return twins


# --- places ------------------------------------------------------------------------------------


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
    allowed = min(OFF_LINE_MM, OFF_LINE_STEP * line.step)
    return line.off <= allowed and float(line.along.min()) >= SAME_PLACE_MM


def _uneven(line: Line) -> _Uneven | None:
    """Steps that differ along the normal; None where they are even, or slices lie beside it."""
    along = line.along
    if _is_even(line) or along.min() < SAME_PLACE_MM or np.ptp(along) < SAME_PLACE_MM:
        return None
    base = float(np.median(along[along < 1.5 * along.min()]))
    times = np.rint(along / base)
    whole = np.abs(along - times * base) <= np.minimum(OFF_LINE_MM * times, OFF_LINE_STEP * base)
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
    return uneven if len(uneven.odd) <= max(1, FEW_GAPS * len(line.along)) else None


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


def _of_tilt(line: Line) -> Evidence | None:
    # a shear as large as the step itself would be no tilt but a stack along another axis
    if len(line.slices) < 2 or line.tilt <= TILT_DEGREES:
        return None
    return Evidence({"degrees": line.tilt, "aside_mm": line.aside})


def _of_stated_step(line: Line) -> Evidence | None:
    stated = line.slices[0].step
    if len(line.slices) < 2 or not stated or abs(line.step - stated) <= SAME_STEP * line.step:
        return None
    return Evidence({"step_mm": line.step, "stated_mm": stated})


def _of_numbers(line: Line) -> Evidence | None:
    numbers = sorted(one.number for one in line.slices if one.number is not None)
    span = numbers[-1] - numbers[0] + 1 if numbers else 0
    if len(set(numbers)) != len(line.slices) or span == len(line.slices):
        return None
    return Evidence({"first": numbers[0], "last": numbers[-1], "slices": len(line.slices)})


_OFF_LINE = f"{OFF_LINE_MM:g} mm or {OFF_LINE_STEP:.0%} of the spacing, whichever is less"
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
        tolerance=_OFF_LINE,
        reason="no affine puts every slice at its place",
        remedy=_KEEP_COMPLETE,
        check=_of_line,
    ),
    SeriesRule(
        code="missing-slices",
        asks="no step between slices is a multiple of the others",
        tolerance=f"{_OFF_LINE}; up to {FEW_GAPS:.0%} of the steps",
        reason="readers would spread the slices that are left evenly, each at a wrong place",
        remedy=_KEEP_COMPLETE,
        check=_of_gaps,
    ),
    SeriesRule(
        code="uneven-spacing",
        asks="all steps between slices are equal",
        tolerance=_OFF_LINE,
        reason="a volume has one spacing",
        remedy="Take a series of one spacing, or resample it to NIfTI yourself.",
        check=_of_spacing,
    ),
    SeriesRule(
        code="gantry-tilt",
        asks="the slices lie straight above each other",
        tolerance=f"{TILT_DEGREES:g} degrees",
        reason="the affine is sheared, so that every slice keeps its place",
        check=_of_tilt,
    ),
    SeriesRule(
        code="spacing-disagrees",
        asks="SpacingBetweenSlices is the distance of the positions, which are believed",
        tolerance=f"{SAME_STEP:.0%} of the distance",
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


def of_places(ordered: Slices) -> list[Match]:
    """Gaps, uneven steps and tilt of slices in order, and sides that no voxel has."""
    return rules.until_refused(PLACES, Line(tuple(ordered)))


# --- values ------------------------------------------------------------------------------------


def _of_own_rescale(slices: Slices) -> Evidence | None:
    slopes, intercepts = ({one.rescale[part] for one in slices} for part in (0, 1))
    if len(slopes) == 1 and len(intercepts) == 1:
        return None
    return Evidence(
        {
            "least_slope": min(slopes),
            "most_slope": max(slopes),
            "least_intercept": min(intercepts),
            "most_intercept": max(intercepts),
        }
    )


def _of_no_rescale(slices: Slices) -> Evidence | None:
    bare = any(one.modality == "CT" and not one.rescaled for one in slices)
    return Evidence({}) if bare else None


def _of_compression(slices: Slices) -> Evidence | None:
    lossy = [one for one in slices if one.lossy]
    if not lossy:
        return None
    syntaxes = ", ".join(sorted({one.syntax.name for one in lossy}))
    return Evidence({"slices": len(lossy), "of": len(slices), "syntaxes": syntaxes})


def _of_uids(slices: Slices) -> Evidence | None:
    known = [one.uid for one in slices]
    return Evidence({}) if "" in known or len(set(known)) < len(known) else None


VALUES: tuple[SeriesRule[Slices], ...] = (
    SeriesRule(
        code="rescale-per-slice",
        asks="RescaleSlope and RescaleIntercept are the same in every slice",
        reason="each slice is rescaled by its own, as PET and some MR need it",
        check=_of_own_rescale,
    ),
    SeriesRule(
        code="no-rescale",
        asks="a CT states RescaleSlope and RescaleIntercept",
        reason="its stored values are taken as HU, which its histogram has to confirm",
        check=_of_no_rescale,
    ),
    SeriesRule(
        code="lossy-compression",
        asks="the pixels were compressed without loss",
        reason="fine texture may be lost",
        check=_of_compression,
    ),
    SeriesRule(
        code="odd-instance-uids",
        asks="every slice has a SOPInstanceUID of its own",
        reason="a prediction cannot be written per source instance",
        check=_of_uids,
    ),
)


def of_values(ordered: Slices) -> list[Match]:
    """What is right in the volume but worth to know."""
    return rules.every(VALUES, ordered)


# --- padding -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Padding:
    """Padding of a series: its share of the voxels, its bounds, and those of the real values."""

    share: float
    low: float
    high: float
    least: float
    most: float
    modality: str

    @property
    def in_air(self) -> bool:
        return self.modality == "CT" and self.high <= AIR_HU

    @property
    def apart(self) -> bool:
        """Whether it can be told apart from the real values."""
        return self.high < self.least or self.low > self.most

    def evidence(self) -> Evidence:
        """The numbers of all findings about padding."""
        upper = f" to {self.high:g}" if self.high > self.low else ""
        values = f"{self.low:g}{upper}"
        return Evidence({"share": self.share, "values": values, "lowest": self.least})


PADDING: tuple[SeriesRule[Padding], ...] = (
    SeriesRule(
        code="padding-in-air",
        asks="no CT voxel holds the padding value",
        tolerance=f"{AIR_HU} HU and below",
        reason="it lies at or below air, where every window clips it",
        check=lambda one: one.evidence() if one.in_air else None,
    ),
    SeriesRule(
        code="padding-replaced",
        asks="no voxel holds a padding value outside the real ones",
        reason="it is set to the lowest real value, so that it spoils no percentile",
        check=lambda one: one.evidence() if one.apart and not one.in_air else None,
    ),
    SeriesRule(
        code="padding-kept",
        asks="no voxel holds a padding value among the real ones",
        reason="it cannot be told apart from them, and is left as it is",
        check=lambda one: None if one.apart or one.in_air else one.evidence(),
    ),
)


def of_padding(padding: Padding) -> list[Match]:
    """What becomes of padding: exactly one of three."""
    return rules.every(PADDING, padding)


# --- documentation -----------------------------------------------------------------------------

RULES: tuple[Rule, ...] = (*FILES, *LIKENESS, *TWINS, *PLACES, *VALUES, *PADDING)
_COLUMNS = ("Rule", "Code", "Severity", "Expected", "Tolerance", "Why", "What to do")
_RULE_OFF = ("---",) * len(_COLUMNS)


def rules_table() -> str:
    """All rules about DICOM series as a Markdown table, in the order in which they are asked."""
    rows = [
        (
            KINDS[rule.code].heading,
            f"`{rule.code}`",
            rule.severity.value,
            rule.asks,
            rule.tolerance or "-",
            rule.reason,
            rule.remedy or "-",
        )
        for rule in RULES
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (_COLUMNS, _RULE_OFF, *rows))
