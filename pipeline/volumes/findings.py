"""Findings: what is odd about a scan, its labels or both, as records; text is made at the edge.

A :class:`Finding` is a code of the closed list :data:`KINDS`, a severity and numbers. The manifest
holds findings as JSON (:func:`to_json`), people read :func:`text`. No number may be a name, path or
id of the raw data: findings leave it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

Number = float | int | str
_NOT_FINITE = ("inf", "-inf", "nan")  # JSON has no numbers for these


class Severity(StrEnum):
    """How much a finding weighs.

    ``handled``: the volume is right all the same, and what was done is recorded. ``doubt``: the
    header or the labels may be wrong, and a person should look. ``refused``: a volume made of it
    would be wrong.
    """

    HANDLED = "handled"
    DOUBT = "doubt"
    REFUSED = "refused"


HANDLED, DOUBT, REFUSED = Severity.HANDLED, Severity.DOUBT, Severity.REFUSED
IMAGE, LABEL, PAIR = "image", "label", "pair"
"""What a finding is about: an image, a label, or how image and label stand to each other."""


class Kind(NamedTuple):
    """One kind of finding: its severity, its heading ("" where it needs none) and its sentence.

    ``sentence`` is a format string over the finding's numbers.
    """

    severity: Severity
    heading: str
    sentence: str


_NIFTI = {
    "unknown-form-code": Kind(
        DOUBT,
        "",
        "the header's {form} is {value}, which the standard does not have: that form is ignored",
    ),
    "no-orientation": Kind(
        DOUBT,
        "",
        "the header states no orientation (sform and qform codes are 0): its axes are taken"
        " as left, anterior, superior, so left and right may be exchanged",
    ),
    "forms-disagree": Kind(
        DOUBT,
        "",
        "sform (code {sform}) and qform (code {qform}) place the corners up to {apart_mm:.3g} mm"
        " apart: the sform is taken",
    ),
    "unusable-qform": Kind(
        DOUBT,
        "",
        "the qform (code {qform}) gives no affine: the sform (code {sform}) is taken",
    ),
    "sides-disagree": Kind(
        DOUBT,
        "",
        "the header states voxel sides of {stated} mm, the sform {taken} mm: the sform is taken",
    ),
    "negative-sides": Kind(
        DOUBT,
        "",
        "the header states negative voxel sides, {stated} mm: they are taken as positive",
    ),
    "not-millimetres": Kind(
        DOUBT, "", "the header states lengths in {unit}: they are taken as millimetres"
    ),
    "trailing-bytes": Kind(DOUBT, "", "{bytes:,} bytes behind the last voxel are ignored"),
    "mgh-no-orientation": Kind(
        DOUBT,
        "",
        "the header states no orientation (goodRASFlag is 0): its axes are taken as left,"
        " inferior, anterior with sides of 1 mm, as FreeSurfer does",
    ),
}

_DICOM_FILES = {
    "burned-in-annotation": Kind(
        REFUSED,
        "burned-in annotation",
        "expected pictures without text, got BurnedInAnnotation YES",
    ),
    "multi-frame": Kind(
        REFUSED,
        "multi-frame",
        "expected one slice per file, or functional groups that state where each frame lies, got"
        " {frames} frames of enhanced or multi-frame DICOM without",
    ),
    "mosaic": Kind(
        REFUSED, "mosaic", "expected one slice per file, got slices tiled into one picture"
    ),
    "colour": Kind(REFUSED, "colour", "expected grey pictures, got {photometric}"),
    "modality-lookup-table": Kind(
        REFUSED,
        "modality lookup table",
        "expected RescaleSlope and RescaleIntercept, got a ModalityLUTSequence",
    ),
    "too-large": Kind(
        REFUSED,
        "too large",
        "expected at most {limit:,} pixels, got {columns} x {rows}",
    ),
    "unreadable-pixels": Kind(
        REFUSED,
        "unreadable pixels",
        "expected whole pixel data of a known transfer syntax, got {faults}",
    ),
    "undecodable-pixels": Kind(REFUSED, "unreadable pixels", "{problem}"),
    "odd-values": Kind(REFUSED, "odd header", "expected finite numbers, got {values}"),
    "missing-geometry": Kind(
        REFUSED,
        "missing geometry",
        "expected ImagePositionPatient, ImageOrientationPatient and PixelSpacing, got not all"
        " of them",
    ),
}


def _mixed(what: str, heading: str = "") -> Kind:
    return Kind(
        REFUSED,
        f"mixed {heading or what}",
        f"expected one {what}, got {{distinct}}, a different one in {{files}} of {{of}} slices",
    )


_DICOM_LIKENESS = {
    "mixed-size": Kind(
        REFUSED,
        "mixed size",
        "expected slices of {shape} pixels of {spacing} mm, got {other_shape} of {other_spacing}"
        " in {files} of {of} slices",
    ),
    "mixed-patient": _mixed("patient"),
    "mixed-study": _mixed("study"),
    "mixed-frame-of-reference": _mixed("frame of reference"),
    "mixed-modality": _mixed("modality"),
    "mixed-pixel-format": _mixed(
        "pixel format (bits allocated, bits stored, signed)", "pixel format"
    ),
    "mixed-photometric": _mixed("photometric interpretation"),
    "mixed-rescale": Kind(
        REFUSED,
        "mixed rescale",
        "expected RescaleSlope and RescaleIntercept in every slice, got none or one of them in"
        " {files} of {of} slices",
    ),
    "no-directions": Kind(
        REFUSED,
        "odd header",
        "expected two perpendicular directions of length 1 as orientation, got {orientation}",
    ),
    "mixed-orientation": Kind(
        REFUSED,
        "mixed orientation",
        "expected the orientation {orientation}, got {other} in {files} of {of} slices",
    ),
}

_DICOM_PLACES = {
    "conflicting-slices": Kind(
        REFUSED,
        "duplicate position",
        "expected one slice per position, got different pictures at the same, at {at_mm} mm along"
        " the normal",
    ),
    "several-volumes": Kind(
        REFUSED,
        "duplicate position",
        "expected one slice per position, got different pictures at the same, at {at_mm} mm along"
        " the normal, and every position has several: time points, echoes or diffusion weightings",
    ),
    "repeated-slices": Kind(
        HANDLED,
        "duplicate position",
        "{files} files repeat a slice pixel by pixel, at {at_mm} mm, one of each kept",
    ),
    "odd-sides": Kind(
        REFUSED,
        "odd header",
        "expected voxel sides of {least:g} to {most:g} mm, got {sides}",
    ),
    "single-slice": Kind(
        HANDLED, "single slice", "the thickness {thickness_mm:g} mm of its header taken"
    ),
    "unknown-thickness": Kind(
        DOUBT, "spacing in doubt", "a single slice without a thickness, 1 mm taken"
    ),
    "off-line": Kind(
        REFUSED,
        "slices out of line",
        "expected slices in one line, got slices up to {off_mm:.3g} mm off it",
    ),
    "missing-slices": Kind(
        REFUSED,
        "missing slice",
        "expected even spacing, got steps from {least_mm:.3g} to {most_mm:.3g} mm: missing along"
        " the normal {gaps}",
    ),
    "uneven-spacing": Kind(
        HANDLED, "uneven spacing", "steps of {steps}, every slice taken at its own place"
    ),
    "uneven-gap": Kind(
        DOUBT,
        "uneven spacing",
        "{gaps} of the steps wider than the usual {usual_mm:.3g} mm, the widest {step_mm:.3g} mm at"
        " {at_mm:.1f} mm, are slices missing?",
    ),
    "jittering-positions": Kind(
        HANDLED,
        "uneven spacing",
        "slices lie up to {off_mm:.3g} mm from where even spacing puts them, within the stated"
        " {allowed_mm:g} mm",
    ),
    "gantry-tilt": Kind(
        HANDLED,
        "gantry tilt",
        "{degrees:.1f} degrees, each slice lies {aside_mm:.3g} mm aside of the one before, kept"
        " in a sheared affine, every slice at its place",
    ),
    "spacing-disagrees": Kind(
        DOUBT,
        "spacing in doubt",
        "slices lie {step_mm:.3g} mm apart, SpacingBetweenSlices states {stated_mm:g} mm, are some"
        " missing?",
    ),
    "number-gaps": Kind(
        DOUBT,
        "numbers with gaps",
        "InstanceNumber runs from {first} to {last} in {slices} slices, are some missing?",
    ),
}

_DICOM_VALUES = {
    "rescale-per-slice": Kind(
        HANDLED,
        "rescale per slice",
        "slopes {least_slope:g} to {most_slope:g}, intercepts {least_intercept:g} to"
        " {most_intercept:g}, each slice by its own",
    ),
    "no-rescale": Kind(
        HANDLED,
        "no rescale",
        "a CT without RescaleSlope or RescaleIntercept, its stored values taken as HU",
    ),
    "mixed-bits": Kind(
        HANDLED, "mixed bits", "{least} to {most} bits stored, each slice decoded by its own"
    ),
    "own-frames-of-reference": Kind(
        HANDLED,
        "frames of reference",
        "each of {slices} slices has its own, and all lie in one even line: taken as one",
    ),
    "inverted-photometric": Kind(
        HANDLED,
        "inverted photometric interpretation",
        "MONOCHROME1, where low values are bright: counted from the other end",
    ),
    "inverted-display": Kind(
        HANDLED,
        "inverted photometric interpretation",
        "MONOCHROME1, where low values are shown as bright: they are HU, and kept",
    ),
    "lossy-compression": Kind(
        HANDLED, "lossy compression", "{slices} of {of} slices, stored as {syntaxes}"
    ),
    "odd-instance-uids": Kind(
        DOUBT, "odd SOPInstanceUIDs", "missing or repeated: no way back to single instances"
    ),
    "padding-in-air": Kind(
        HANDLED,
        "padding",
        "{share:.1%} of the voxels, {values} HU: at or below air, clipped by the window",
    ),
    "padding-replaced": Kind(
        HANDLED,
        "padding",
        "{share:.1%} of the voxels, {values}: outside the real values, set to the lowest of these,"
        " {lowest:g}",
    ),
    "padding-kept": Kind(
        HANDLED,
        "padding",
        "{share:.1%} of the voxels, {values}: among the real values, kept",
    ),
    "left-out": Kind(HANDLED, "left out", "{what}"),
}

_HU_RANGE = "values from {lowest:.4g} to {highest:.4g}, half of them {quarter:.4g} to {three:.4g}"
_HOUNSFIELD = {
    "hu-too-few": Kind(DOUBT, "HU in doubt", f"too little to judge by, {_HU_RANGE}"),
    "hu-two-airs": Kind(
        DOUBT,
        "HU in doubt",
        f"air at {{air}}, tissue at {{tissue}}, and air near {{air_hu}} HU too, {_HU_RANGE}",
    ),
    "hu-no-air": Kind(DOUBT, "HU in doubt", f"no air near {{air_hu}} HU, {_HU_RANGE}"),
    "hu-no-tissue": Kind(DOUBT, "HU in doubt", f"no soft tissue near 0 HU, {_HU_RANGE}"),
}

_VOLUME_CHANGE = (
    "{name} {before_ml:.3g} to {after_ml:.3g} ml ({change:+.1%}), {outside:.1%} of it outside the"
    " image"
)
_LABELS = {
    "resampled": Kind(
        HANDLED,
        "resampled",
        "by nearest neighbour from {from_grid} onto the image's {to_grid}",
    ),
    "label-by-slice": Kind(
        DOUBT,
        "uneven spacing",
        "a label whose header states one spacing, its {slices} slices laid on the image's one by"
        " one, by up to {moved_mm:.3g} mm",
    ),
    "class-resampled": Kind(HANDLED, "resampled", _VOLUME_CHANGE),
    "class-shrunk": Kind(DOUBT, "resampled", _VOLUME_CHANGE),
    "two-raters": Kind(HANDLED, "raters", "two, of whom {fusion} keeps what both drew alike"),
    "shortened-step": Kind(
        HANDLED,
        "tilt",
        "the header states steps of {stated_mm:.4g} mm, the distance between the planes of a tilted"
        " series, whose slices lie {true_mm:.4g} mm apart: its slices are taken for the image's",
    ),
    "segments-ignored": Kind(
        HANDLED,
        "drawing",
        "{ignored} of {of} segments or regions are of no class, left out as the adapter states",
    ),
    "classes-overlap": Kind(
        HANDLED,
        "drawing",
        "{voxels} voxels are drawn in two classes, the later of the label map taken",
    ),
    "fractional": Kind(
        HANDLED,
        "drawing",
        "shares of a voxel, drawn where they are {threshold:g} or more",
    ),
    "frames-by-position": Kind(
        DOUBT,
        "drawing",
        "{frames} of {of} frames or contours refer to other pictures than the image's, placed by"
        " their positions",
    ),
    "contours-rasterised": Kind(
        HANDLED,
        "drawing",
        "from {contours} contours on {slices} slices, a pixel is drawn where its centre is inside",
    ),
    "contours-centred": Kind(
        HANDLED,
        "drawing",
        "outlines run through the centres of pixels, which are taken for inside",
    ),
    "contours-left-out": Kind(
        DOUBT,
        "drawing",
        "{between} of {of} contours lie between the image's slices and {outside} beyond them, left"
        " out",
    ),
    "contours-clipped": Kind(
        DOUBT, "drawing", "{share:.1%} of what {name} encloses lies outside the image's slices"
    ),
    "contours-open": Kind(
        DOUBT, "drawing", "{count} of {of} contours are points or open lines, left out"
    ),
    "contours-empty": Kind(
        DOUBT, "drawing", "{name} has {contours} contours, and no pixel's centre is inside"
    ),
    "contours-repeated": Kind(HANDLED, "drawing", "{count} contours are there twice, taken once"),
    "contours-cross": Kind(
        DOUBT,
        "drawing",
        "{pixels} pixels lie in two contours of one region that cross, taken for outside",
    ),
    "contours-missing": Kind(
        DOUBT,
        "drawing",
        "{name} has no contour on {slices} slices between its first and its last",
    ),
    "class-lost": Kind(
        DOUBT,
        "masks",
        "none shows {name}, of {voxels} voxels in the label: lost where the slices are shrunk",
    ),
    "earlier-conversion": Kind(
        DOUBT,
        "earlier conversion",
        "the case could not be converted again: its pairs are those of an earlier conversion",
    ),
}

_SUSPICIONS = {
    "brightness-order": Kind(
        DOUBT,
        "brightness",
        "{brighter} {brighter_median:.4g} is not brighter than {darker} {darker_median:.4g}, as T1"
        " shows it",
    ),
    "brightness-too-dark": Kind(
        DOUBT,
        "brightness",
        "{tissue} {median:.4g}{unit} is darker than the tissue around it, {around:.4g}{unit}",
    ),
    "brightness-too-bright": Kind(
        DOUBT,
        "brightness",
        "{tissue} {median:.4g}{unit} is brighter than the tissue around it, {around:.4g}{unit}",
    ),
    "brightness-blood": Kind(
        DOUBT,
        "brightness",
        "blood has a median of {median:.4g} HU (middle half {low:.4g} to {high:.4g}), outside"
        " {least} to {most}",
    ),
    "brightness-air": Kind(
        DOUBT, "brightness", "air has a median of {median:.4g} HU, not below {most}"
    ),
    "contact-csf": Kind(
        DOUBT,
        "contact",
        "csf borders on white_matter {white} times and on grey_matter {grey} times, where the"
        " cortex should lie between",
    ),
    "contact-grey-white": Kind(DOUBT, "contact", "grey_matter nowhere borders on white_matter"),
    "contact-oedema": Kind(DOUBT, "contact", "oedema nowhere borders on blood"),
    "place-darkest": Kind(DOUBT, "place", "{share:.0%} of {tissue} lies at the darkest value"),
    "place-air": Kind(DOUBT, "place", "{share:.0%} of {tissue} lies in air, below {below} HU"),
    "amount-of-picture": Kind(DOUBT, "amount", "{tissue} is {share:.0%} of the picture"),
    "amount-of-lesion": Kind(DOUBT, "amount", "{ml:.0f} ml of {tissue}, more than {most}"),
    "amount-grey-white": Kind(
        DOUBT,
        "amount",
        "{ratio:.2g} times as much grey as white matter, not {least} to {most}",
    ),
    "amount-missing": Kind(DOUBT, "amount", "no {name}, which {having} of {of} cases have"),
    "amount-unlike": Kind(
        DOUBT, "amount", "{times:.2g} times the dataset's median volume of {name}"
    ),
}

KINDS: Mapping[str, Kind] = {
    **_NIFTI,
    **_DICOM_FILES,
    **_DICOM_LIKENESS,
    **_DICOM_PLACES,
    **_DICOM_VALUES,
    **_HOUNSFIELD,
    **_LABELS,
    **_SUSPICIONS,
}
"""Every code that there is."""


@dataclass(frozen=True)
class Finding:
    """One oddity: its code, its severity, its evidence in numbers, and what it is about.

    ``about`` is one of :data:`IMAGE`, :data:`LABEL` and :data:`PAIR`.
    """

    code: str
    severity: Severity
    numbers: Mapping[str, Number] = field(default_factory=dict, hash=False)
    about: str = IMAGE

    def __post_init__(self) -> None:
        if self.code not in KINDS:
            raise ValueError(f"expected a code of a finding, got {self.code!r}")

    def __str__(self) -> str:
        return text(self)

    @property
    def heading(self) -> str:
        """What kind of oddity it is, in a few words."""
        return KINDS[self.code].heading

    @property
    def sentence(self) -> str:
        """What is odd, with its numbers, without the heading."""
        return KINDS[self.code].sentence.format(**self.numbers)


def finding(code: str, about: str = IMAGE, /, **numbers: Any) -> Finding:
    """The finding of ``code`` with the severity of its kind; numbers rounded to 6 digits.

    More would differ between machines in the last bit, and findings stand in the manifest.

    >>> str(finding("number-gaps", first=1, last=9, slices=5))
    'numbers with gaps: InstanceNumber runs from 1 to 9 in 5 slices, are some missing?'
    """
    plain = {name: _rounded(value) for name, value in numbers.items()}
    return Finding(code, KINDS[code].severity, plain, about)


def _rounded(value: Any) -> Number:
    plain: Number = value.item() if hasattr(value, "item") else value  # NumPy's
    return float(f"{plain:.6g}") if isinstance(plain, float) else plain


def text(one: Finding) -> str:
    """A finding in words: "heading: sentence", with "label: " in front if a label is meant."""
    in_front = (LABEL if one.about == LABEL else "", one.heading)
    return ": ".join([*filter(None, in_front), one.sentence])


def texts(several: Iterable[Finding], *severities: Severity) -> str:
    """Those of ``severities`` (all, if none is given) in words, joined by "; "."""
    return "; ".join(text(one) for one in several if not severities or one.severity in severities)


def to_json(several: Iterable[Finding]) -> str:
    """Findings as a JSON list, each of them once; "" for none."""
    records = [
        {
            "code": one.code,
            "severity": one.severity.value,
            "about": one.about,
            "numbers": {name: _stored(value) for name, value in one.numbers.items()},
        }
        for one in dict.fromkeys(several)
    ]
    return json.dumps(records, allow_nan=False) if records else ""


def from_json(content: str) -> tuple[Finding, ...]:
    """The findings that :func:`to_json` wrote. Raises ValueError for anything else."""
    try:
        return tuple(
            Finding(
                one["code"],
                Severity(one["severity"]),
                {name: _loaded(value) for name, value in one["numbers"].items()},
                one["about"],
            )
            for one in json.loads(content or "[]")
        )
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"no list of findings: {type(error).__name__} {error}") from None


def _stored(value: Number) -> Number:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _loaded(value: Number) -> Number:
    return float(value) if value in _NOT_FINITE else value
