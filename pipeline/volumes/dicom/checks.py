"""What is odd about the slices of one DICOM series: the rules, and their tolerances.

Every oddity becomes a :class:`Finding`: *handled* (told, and the volume is right all the same) or
*refused* (a volume made of it would be wrong). Nothing is decoded but files at one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import pixels
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.limits import require_pixels
from pipeline.volumes.nifti import SIDES_MM

HANDLED = "handled"
REFUSED = "refused"
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

_NAMED = 3  # files told of one finding
_KEEP_COMPLETE = "Take the complete series from its source."
_EXPORT_AGAIN = "Export or download it again."


@dataclass(frozen=True)
class Finding:
    """One oddity: its name, the evidence in numbers, and whether it is handled or refused.

    ``told`` holds no name, path or id, so that it may leave the raw data; ``files`` are for
    the user's own screen.
    """

    kind: str
    told: str
    action: str
    files: tuple[Path, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.told}"

    @property
    def names(self) -> str:
        """The first files' names in brackets, "" where there are none."""
        told = ", ".join(file.name for file in self.files[:_NAMED])
        return f" ({told}{', ...' if len(self.files) > _NAMED else ''})" if told else ""


def of_files(slices: Sequence[Instance], limits: Limits) -> list[Finding]:
    """What makes single files unfit, whatever the others are.

    What a file is comes first; only of files that are slices is it asked whether their sizes,
    pixels, numbers and geometry are whole, and the first that is not explains the others.
    """
    named: set[Path] = set()

    def of(kind: str, told: str, unfit: Callable[[Instance], object], remedy: str) -> list[Finding]:
        files = tuple(one.file for one in slices if unfit(one))
        named.update(files)
        return [Finding(kind, told, REFUSED, files, remedy)] if files else []

    def else_of(
        kind: str, told: str, unfit: Callable[[Instance], object], remedy: str
    ) -> list[Finding]:
        known = frozenset(named)
        return of(kind, told, lambda one: one.file not in known and unfit(one), remedy)

    def too_large(one: Instance) -> Problem | None:
        try:
            require_pixels(one.shape, limits, one.file)
        except Problem as problem:
            return problem
        return None

    large = next(filter(None, map(too_large, slices)), Problem(""))

    faults = sorted({one.pixel_fault for one in slices if one.pixel_fault})
    frames = max(one.frames for one in slices)
    colours = sorted({one.photometric for one in slices if _in_colour(one)})
    odd = sorted({told for one in slices for told in one.odd})
    return [
        *of(
            "burned-in annotation",
            "expected pictures without text, got BurnedInAnnotation YES",
            lambda one: one.burned_in,
            "Names may stand in the pixels: blank them and set the tag to NO, or leave it out.",
        ),
        *of(
            "localizer in the series",
            "expected slices only, got a localizer",
            is_localizer,
            "Take it out of the folder.",
        ),
        *of(
            "multi-frame",
            f"expected one slice per file, got {frames} frames of enhanced or multi-frame DICOM",
            lambda one: one.frames > 1 or "Enhanced" in one.kind,
            "Convert the multi-frame file to single slices (dcm2niix reads it, too).",
        ),
        *of(
            "mosaic",
            "expected one slice per file, got slices tiled into one picture",
            lambda one: "MOSAIC" in one.image_type,
            "Convert it with dcm2niix and use the NIfTI file.",
        ),
        *of(
            "colour",
            f"expected grey pictures, got {', '.join(colours)}",
            _in_colour,
            "Take the original grey series.",
        ),
        *of(
            "turned brightness",
            "expected MONOCHROME2, got MONOCHROME1, whose bright is low",
            lambda one: one.photometric == "MONOCHROME1",
            "Export it as MONOCHROME2.",
        ),
        *of(
            "modality lookup table",
            "expected RescaleSlope and RescaleIntercept, got a ModalityLUTSequence",
            lambda one: one.lookup,
            "Export it with linear values.",
        ),
        *else_of("too large", large.what, too_large, large.remedy),
        *else_of(
            "unreadable pixels",
            f"expected whole pixel data of a known transfer syntax, got {', '.join(faults)}",
            lambda one: one.pixel_fault,
            _EXPORT_AGAIN,
        ),
        *else_of(
            "odd header",
            f"expected finite numbers, got {', '.join(odd[:3])}",
            lambda one: one.odd,
            _EXPORT_AGAIN,
        ),
        *else_of(
            "missing geometry",
            "expected ImagePositionPatient, ImageOrientationPatient and PixelSpacing, found not"
            " all of them",
            lambda one: None in (one.position, one.orientation, one.spacing),
            "Without them a slice has no place; take the original export.",
        ),
    ]


def is_localizer(one: Instance) -> bool:
    """Whether a picture is an overview of where the slices lie."""
    return not {"LOCALIZER", "SCOUT"}.isdisjoint(one.image_type)


def _in_colour(one: Instance) -> bool:
    return one.samples > 1 or one.photometric not in ("", "MONOCHROME1", "MONOCHROME2")


def of_likeness(slices: Sequence[Instance]) -> list[Finding]:
    """What cannot lie in one grid: sizes and directions that differ, or are no directions."""
    (shape, spacing), _ = Counter((one.shape, one.spacing) for one in slices).most_common(1)[0]
    assert spacing is not None
    findings = []
    other = [
        one
        for one in slices
        if one.shape != shape or not np.allclose(_array(one.spacing), spacing, rtol=SAME_SPACING)
    ]
    if other:
        findings.append(
            Finding(
                "mixed size",
                f"expected slices of {shape} pixels of {spacing} mm, got {other[0].shape} of"
                f" {other[0].spacing} in {len(other)} of {len(slices)} files",
                REFUSED,
                tuple(one.file for one in other),
                "Keep the slices of one size.",
            )
        )
    findings += [*_of_origin(slices), *_of_rescale(slices)]
    orientation, _ = Counter(one.orientation for one in slices).most_common(1)[0]
    axes = _array(orientation).reshape(2, 3)
    if np.abs(axes @ axes.T - np.eye(2)).max() > SAME_DIRECTION:
        findings.append(
            Finding(
                "odd header",
                f"expected two perpendicular directions of length 1 as orientation, got"
                f" {_array(orientation).tolist()}",
                REFUSED,
                tuple(one.file for one in slices if one.orientation == orientation),
                _EXPORT_AGAIN,
            )
        )
    turned = [
        one
        for one in slices
        if np.abs(_array(one.orientation) - _array(orientation)).max() > SAME_DIRECTION
    ]
    if turned:
        findings.append(
            Finding(
                "mixed orientation",
                f"expected the orientation {_array(orientation).tolist()}, got"
                f" {_array(turned[0].orientation).tolist()} in {len(turned)} of"
                f" {len(slices)} files",
                REFUSED,
                tuple(one.file for one in turned),
                "Keep the slices of one orientation.",
            )
        )
    return findings


def _of_origin(slices: Sequence[Instance]) -> list[Finding]:
    """Files of several patients, studies, frames of reference or modalities, or stored unlike."""
    findings = []
    asked: list[tuple[str, Callable[[Instance], object]]] = [
        ("patient", lambda one: one.origin[0]),
        ("study", lambda one: one.origin[1]),
        ("frame of reference", lambda one: one.origin[2]),
        ("modality", lambda one: one.origin[3]),
        ("pixel format (bits allocated, bits stored, signed)", lambda one: one.stored),
    ]
    for name, value in asked:
        usual, count = Counter(map(value, slices)).most_common(1)[0]
        if count < len(slices):
            others = [one for one in slices if value(one) != usual]
            kind = name.partition(" (")[0]
            told = f"expected one {name}, got {len(set(map(value, slices)))}, another one in"
            findings.append(
                Finding(
                    f"mixed {kind}",
                    f"{told} {len(others)} of {len(slices)} files",
                    REFUSED,
                    _files(others),
                    "Keep the files that belong together.",
                )
            )
    return findings


def _of_rescale(slices: Sequence[Instance]) -> list[Finding]:
    """Slices without a rescale among others that need theirs: their values lie elsewhere."""
    without = [one for one in slices if not one.rescaled]
    if len(without) in (0, len(slices)) or len({one.rescale for one in slices}) == 1:
        return []
    told = (
        "expected RescaleSlope and RescaleIntercept in every slice, got none or one of them in"
        f" {len(without)} of {len(slices)} files"
    )
    return [Finding("mixed rescale", told, REFUSED, _files(without), _KEEP_COMPLETE)]


def ordered(slices: Sequence[Instance]) -> list[Instance]:
    """By position along the normal; at one place by number and UID, never by file name."""
    normal = normal_of(slices[0])
    return sorted(
        slices,
        key=lambda one: (round(depth_of(one, normal), 4), one.number or 0, one.uid),
    )


def without_twins(ordered: Sequence[Instance]) -> tuple[list[Instance], list[Finding]]:
    """Slices of their own places. Files at one place are one slice only if their pixels agree."""
    normal = normal_of(ordered[0])
    kept: list[Instance] = []
    same: list[Instance] = []
    places: Counter[float] = Counter()
    differing: list[Instance] = []
    for one in ordered:
        if kept and np.abs(position_of(one) - position_of(kept[-1])).max() < SAME_PLACE_MM:
            places[round(depth_of(kept[-1], normal), 1)] += 1
            if np.array_equal(pixels.pixels(one), pixels.pixels(kept[-1])):
                same.append(one)
            else:
                differing += [kept[-1], one]
            continue
        kept.append(one)
    where = ", ".join(f"{place:g}" for place in sorted(places)[:3])
    if differing:
        told = (
            f"expected one slice per position, got different pictures at the same, at {where} mm"
            " along the normal"
        )
        remedy = "Take the wrong one out."
        if len(places) == len(kept):
            told += ", and every position has several: time points, echoes or diffusion weightings"
            remedy = "Keep one of these volumes in the folder."
        return list(ordered), [
            Finding("duplicate position", told, REFUSED, _files(differing), remedy)
        ]
    if same:
        told = f"{len(same)} files repeat a slice pixel by pixel, at {where} mm, one of each kept"
        return kept, [Finding("duplicate position", told, HANDLED, _files(same))]
    return kept, []


def of_places(ordered: Sequence[Instance]) -> list[Finding]:
    """Gaps, uneven steps and tilt of slices in order, and sides that no voxel has."""
    strange = _of_sides(ordered)
    if strange:
        return strange
    if len(ordered) == 1:
        mm = ordered[0].thickness
        kind = "single slice" if mm else "spacing in doubt"
        told = (
            f"the thickness {mm:g} mm of its header taken"
            if mm
            else "a single slice without a thickness, 1 mm taken"
        )
        return [Finding(kind, told, HANDLED, _files(ordered))]
    normal = normal_of(ordered[0])
    positions = np.stack([position_of(one) for one in ordered])
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    mean = (positions[-1] - positions[0]) / (len(ordered) - 1)
    expected = positions[0] + np.arange(len(ordered))[:, None] * mean
    off = float(np.sqrt(((positions - expected) ** 2).sum(axis=1)).max())
    if (
        off > min(OFF_LINE_MM, OFF_LINE_STEP * float(np.linalg.norm(mean)))
        or along.min() < SAME_PLACE_MM
    ):
        if along.min() < SAME_PLACE_MM or along.max() - along.min() < SAME_PLACE_MM:
            return [_sideways(ordered, off)]
        return [_uneven(ordered, along, normal)]
    # a shear as large as the step itself would be no tilt but a stack along another axis
    degrees = float(np.degrees(np.arccos(np.clip(mean @ normal / np.linalg.norm(mean), -1, 1))))
    found = _of_stated_places(ordered, float(np.linalg.norm(mean)))
    if degrees > TILT_DEGREES:
        aside = float(np.linalg.norm(mean - (mean @ normal) * normal))
        told = (
            f"{degrees:.1f} degrees, each slice lies {aside:.3g} mm aside of the one before,"
            " kept in a sheared affine, every slice at its place"
        )
        return [Finding("gantry tilt", told, HANDLED), *found]
    return found


def _of_sides(ordered: Sequence[Instance]) -> list[Finding]:
    ends = position_of(ordered[-1]) - position_of(ordered[0])
    step = float(np.linalg.norm(ends)) / max(len(ordered) - 1, 1) or ordered[0].thickness or 1.0
    assert ordered[0].spacing is not None
    sides = (*ordered[0].spacing, step)
    if SIDES_MM[0] <= min(sides) and max(sides) <= SIDES_MM[1]:
        return []
    told = (
        f"expected voxel sides of {SIDES_MM[0]:g} to {SIDES_MM[1]:g} mm, got"
        f" {' x '.join(f'{side:.4g}' for side in sides)}"
    )
    return [Finding("odd header", told, REFUSED, _files(ordered), _EXPORT_AGAIN)]


def _of_stated_places(ordered: Sequence[Instance], step: float) -> list[Finding]:
    """Where the header contradicts the positions, which are believed: slices may be missing.

    Told, not refused: some scanners write the gap as SpacingBetweenSlices, and numbers are free.
    """
    found = []
    stated = ordered[0].step
    if stated and abs(step - stated) > SAME_STEP * step:
        told = f"slices lie {step:.3g} mm apart, SpacingBetweenSlices says {stated:g} mm"
        found.append(Finding("spacing in doubt", f"{told}, are some missing?", HANDLED))
    numbers = sorted(one.number for one in ordered if one.number is not None)
    span = numbers[-1] - numbers[0] + 1 if numbers else 0
    if len(set(numbers)) == len(ordered) and span != len(ordered):
        told = f"InstanceNumber runs from {numbers[0]} to {numbers[-1]} in {len(ordered)} slices"
        found.append(Finding("numbers with gaps", f"{told}, are some missing?", HANDLED))
    return found


def _sideways(ordered: Sequence[Instance], off: float) -> Finding:
    return Finding(
        "uneven spacing",
        f"expected evenly spaced slices in one line, got slices up to {off:.3g} mm off it",
        REFUSED,
        _files(ordered),
        _KEEP_COMPLETE,
    )


def _uneven(
    ordered: Sequence[Instance], along: NDArray[np.float64], normal: NDArray[np.float64]
) -> Finding:
    """Missing slices, where few steps are whole multiples of the others; else uneven spacing."""
    base = float(np.median(along[along < 1.5 * along.min()]))
    times = np.rint(along / base)
    whole = np.abs(along - times * base) <= np.minimum(OFF_LINE_MM * times, OFF_LINE_STEP * base)
    odd = np.flatnonzero((times > 1) | ~whole).tolist()
    told = f"expected even spacing, got steps from {along.min():.3g} to {along.max():.3g} mm"
    at = [depth_of(ordered[index], normal) for index in odd]
    files = _files([one for index in odd for one in ordered[index : index + 2]])
    if not odd:
        return _sideways(ordered, float(np.abs(along - base).max()))
    if whole.all() and len(odd) <= max(1, FEW_GAPS * len(along)):
        gaps = [
            f"{times[index] - 1:.0f} between {place:.1f} and {place + along[index]:.1f} mm"
            for index, place in zip(odd, at, strict=True)
        ]
        return Finding(
            "missing slice",
            f"{told}: missing along the normal {', '.join(gaps[:5])}",
            REFUSED,
            files,
            _KEEP_COMPLETE,
        )
    return Finding(
        "uneven spacing",
        f"{told}, {len(odd)} of {len(along)} differ, the first at {at[0] if at else 0:.1f} mm",
        REFUSED,
        files,
        "Take a series of one spacing, or resample it to NIfTI yourself.",
    )


def of_values(ordered: Sequence[Instance]) -> list[Finding]:
    """What is right in the volume but worth to know."""
    findings = []
    slopes, intercepts = ({one.rescale[part] for one in ordered} for part in (0, 1))
    if len(slopes) > 1 or len(intercepts) > 1:
        told = (
            f"slopes {min(slopes):g} to {max(slopes):g}, intercepts {min(intercepts):g} to"
            f" {max(intercepts):g}, each slice by its own"
        )
        findings.append(Finding("rescale per slice", told, HANDLED))
    if any(one.modality == "CT" and not one.rescaled for one in ordered):
        told = "a CT without RescaleSlope or RescaleIntercept, its stored values taken as HU"
        findings.append(Finding("no rescale", told, HANDLED))
    lossy = sorted({one.syntax.name for one in ordered if one.lossy})
    if lossy:
        count = sum(one.lossy for one in ordered)
        told = f"{count} of {len(ordered)} slices, stored as {', '.join(lossy)}"
        findings.append(Finding("lossy compression", told, HANDLED))
    known = [one.uid for one in ordered]
    if "" in known or len(set(known)) < len(known):
        told = "missing or repeated: no way back to single instances"
        findings.append(Finding("odd SOPInstanceUIDs", told, HANDLED))
    return findings


def normal_of(one: Instance) -> NDArray[np.float64]:
    """The unit vector across rows and columns, in DICOM's LPS+ mm."""
    axes = _array(one.orientation)
    normal: NDArray[np.float64] = np.cross(axes[:3], axes[3:])
    return normal / np.linalg.norm(normal)


def position_of(one: Instance) -> NDArray[np.float64]:
    """The centre of the first pixel in DICOM's LPS+ mm."""
    return _array(one.position)


def depth_of(one: Instance, normal: NDArray[np.float64]) -> float:
    """Where a slice lies along ``normal``, in mm."""
    return float(position_of(one) @ normal)


def _array(values: Any) -> NDArray[np.float64]:
    assert values is not None
    return np.array(values, np.float64)


def _files(slices: Iterable[Instance]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(one.file for one in slices))
