"""What a DICOM SEG takes from the headers of its source, and nothing else of them.

The standard's mandatory modules demand the attributes of :data:`DEMANDED`: who the patient is,
which study this is, and whose coordinates these are. Those of type 2 may be empty, and are where a
source lacks them or holds a date, a time or a sex that is none.
"""

from __future__ import annotations

import math
import re
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
from pydicom import uid as uids
from pydicom.errors import BytesLengthException

from datasets_spec.contract import Problem
from pipeline.volumes.dicom import geometry, packed
from pipeline.volumes.dicom.geometry import Line
from pipeline.volumes.dicom.header import Instance

PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
FRAME_OF_REFERENCE = ("FrameOfReferenceUID", "PositionReferenceIndicator")
DEMANDED = (*PATIENT, *STUDY, *FRAME_OF_REFERENCE)
"""Types 1 and 2 of the modules Patient, General Study and Frame of Reference (PS3.3, C.7)."""
_UIDS = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_MOMENTS = ("Study", "Series", "Acquisition", "Content")
_WITHOUT_DATE = ("19000101", "000000")
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_TAGS = [
    *DEMANDED,
    *_UIDS,
    *(f"{moment}{part}" for moment in _MOMENTS for part in ("Date", "Time")),
    *_LOSSY,
    "SpecificCharacterSet",
    "SliceThickness",
]
_METHODS = {
    uids.JPEGBaseline8Bit: "ISO_10918_1",
    uids.JPEGExtended12Bit: "ISO_10918_1",
    uids.JPEGLSNearLossless: "ISO_14495_1",
    uids.JPEG2000: "ISO_15444_1",
    uids.HTJ2K: "ISO_15444_15",
}
"""The standard's names of lossy methods (PS3.3, C.7.6.1.1.5.1), by transfer syntax."""
_UID = re.compile(r"[0-9.]{1,64}")
_UNREADABLE = (
    AttributeError,
    BytesLengthException,
    LookupError,
    NotImplementedError,
    TypeError,
    ValueError,
    struct.error,
)
_LEAST_PIXELS = 8  # highdicom packs eight to a byte, and mixes up smaller frames
_OUTPUT = "The other files of the masks, which need none, are written anyway."


@dataclass(frozen=True)
class SourceHeaders:
    """What is taken from a series of N slices.

    ``identity``: value by attribute of :data:`DEMANDED`, "" where there is none. ``classes``: the
    SOP class of each slice. ``moment``: (date, time) for the content. ``lossy``: what the standard
    demands where a slice has been compressed with a loss. ``thickness`` in mm.
    """

    series: str
    identity: dict[str, str]
    classes: tuple[str, ...]
    moment: tuple[str, str]
    lossy: dict[str, Any]
    thickness: float


def read(slices: Sequence[Instance]) -> SourceHeaders:
    """The headers of a series' slices.

    Raises :class:`Problem` where a slice is no single picture with a place, or lacks a UID that a
    reference to it needs, or where the slices are of several studies, series or frames of
    reference.
    """
    of_file = {file: _header(file) for file in dict.fromkeys(one.file for one in slices)}
    headers = [of_file[one.file] for one in slices]
    _require_places(slices)
    _require_own_uids(slices)
    uids = {name: _common_uid(name, headers, slices) for name in _UIDS[1:]}
    classes = tuple(map(_class_of, headers))
    for one, uid in zip(slices, classes, strict=True):
        _require_uid(uid, "SOPClassUID", one.file)
    first = headers[0]
    identity = {name: _valid(name, _text(first, name)) for name in DEMANDED} | {
        name: uid for name, uid in uids.items() if name in DEMANDED
    }
    return SourceHeaders(
        series=uids["SeriesInstanceUID"],
        identity=identity,
        classes=classes,
        moment=_moment(first),
        lossy=_lossy(slices, headers),
        thickness=_thickness(headers, slices),
    )


def _header(file: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reader has reported what is odd
        with packed.opened(file) as stream:
            return pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=_TAGS, force=True)


def _class_of(header: pydicom.Dataset) -> str:
    meta = getattr(header, "file_meta", pydicom.Dataset())  # which a bare file lacks
    return _text(header, "SOPClassUID") or _text(meta, "MediaStorageSOPClassUID")


def _require_places(slices: Sequence[Instance]) -> None:
    for one in slices:
        placeless = None in (one.position, one.orientation, one.spacing)
        if (
            (one.frame is None and one.frames != 1)
            or placeless
            or math.prod(one.shape) < _LEAST_PIXELS
        ):
            raise Problem(
                f"expected one picture of {_LEAST_PIXELS} pixels or more with position, orientation"
                " and spacing, to refer to it in a DICOM SEG",
                where=one.file,
                remedy=_OUTPUT,
            )


def _require_own_uids(slices: Sequence[Instance]) -> None:
    """Raises :class:`Problem` unless each slice has a SOPInstanceUID or frame of its own."""
    seen: dict[str, Path] = {}
    for one in slices:
        _require_uid(one.uid, "SOPInstanceUID", one.file)
        if one.name in seen:
            raise Problem(
                f"expected a SOPInstanceUID of its own, got that of {seen[one.name].name}, so that"
                " a DICOM SEG cannot refer to either",
                where=one.file,
                remedy=_OUTPUT,
            )
        seen[one.name] = one.file


def _common_uid(name: str, headers: Sequence[pydicom.Dataset], slices: Sequence[Instance]) -> str:
    """The one UID of this name that all headers have."""
    values = [_text(header, name) for header in headers]
    for value, one in zip(values, slices, strict=True):
        _require_uid(value, name, one.file)
        if value != values[0]:
            raise Problem(
                f"expected one {name} in the series, got another than in {slices[0].file.name}, so"
                " that one DICOM SEG cannot refer to both",
                where=one.file,
                remedy=_OUTPUT,
            )
    return values[0]


def _require_uid(value: str, name: str, file: Path) -> None:
    if not _UID.fullmatch(value):
        raise Problem(
            f"expected a {name}, which a DICOM SEG refers to, got"
            f" {'one of other characters than digits and dots' if value else 'none'}",
            where=file,
            remedy=_OUTPUT,
        )


def _text(header: pydicom.Dataset, name: str) -> str:
    """The value of an attribute as text; "" where it is absent or cannot be decoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            value = header.get(name)
            several = isinstance(value, pydicom.multival.MultiValue)
            text = "\\".join(map(str, value)) if several else str("" if value is None else value)
        except _UNREADABLE:
            return ""
    return "".join(one for one in text if one.isprintable()).strip()


def _valid(name: str, text: str) -> str:
    """``text`` where its attribute allows it, else ""."""
    if name.endswith("Date"):
        return _date(text)
    if name.endswith("Time"):
        return _time(text)
    if name.endswith("Name"):
        return text.replace("\\", " ")  # one name, where a backslash would part two
    if name == "PatientSex":
        return text.upper() if text.upper() in ("M", "F", "O") else ""
    return text


def _date(text: str) -> str:
    """A date as YYYYMMDD, from this or from the retired YYYY.MM.DD; "" for anything else."""
    digits = text.replace(".", "")
    try:
        datetime.strptime(digits, "%Y%m%d")
    except ValueError:
        return ""
    return digits if len(digits) == 8 else ""


def _time(text: str) -> str:
    """A time as HHMMSS.FFFFFF or the beginning of it; "" for anything else."""
    hour, minute, second = "([01][0-9]|2[0-3])", "[0-5][0-9]", r"([0-5][0-9]|60)(\.[0-9]{1,6})?"
    digits = text.replace(":", "")
    return digits if re.fullmatch(f"{hour}({minute}({second})?)?", digits) else ""


def _moment(header: pydicom.Dataset) -> tuple[str, str]:
    """The first date that the source states, and its time; never that of today.

    The study's date comes first because it is in the output anyway.
    """
    for moment in _MOMENTS:
        if date := _date(_text(header, f"{moment}Date")):
            return date, _time(_text(header, f"{moment}Time")) or _WITHOUT_DATE[1]
    return _WITHOUT_DATE


def _thickness(headers: Sequence[pydicom.Dataset], slices: Sequence[Instance]) -> float:
    """What the headers state, else the distance of slices, else 1 as in the volume's grid.

    Of several thicknesses it is the least: readers that lay frames out by it then find a place for
    each.
    """
    every = [_positive(_text(one, "SliceThickness")) for one in headers]
    stated = min(filter(None, every), default=None) or slices[0].thickness
    return stated or Line(tuple(geometry.ordered(slices))).step or 1.0


def _lossy(slices: Sequence[Instance], headers: Sequence[pydicom.Dataset]) -> dict[str, Any]:
    """LossyImageCompression, and its ratio and method where a slice was compressed with a loss."""
    ever, ratio, method = _LOSSY
    for one, header in zip(slices, headers, strict=True):
        if not one.lossy:
            continue
        ratios = [*map(_positive, _text(header, ratio).split("\\"))]
        own = _METHODS.get(one.syntax, "")
        methods = _text(header, method) or own
        if None in ratios:
            ratios = [_measured_ratio(one)] if own else []
        stated = {ratio: [f"{value:.6g}" for value in ratios if value], method: methods.split("\\")}
        return {ever: "01", **{name: value for name, value in stated.items() if any(value)}}
    return {ever: "00"}


def _measured_ratio(one: Instance) -> float:
    """The size of the decoded pixels by that of the file."""
    bits = math.prod(one.shape) * one.frames * one.samples * one.stored[0]
    return max(bits / 8 / one.file.stat().st_size, 1.0)


def _positive(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
