"""The values of one DICOM header's tags, with a note of every one that makes no sense."""

from __future__ import annotations

import math
from typing import Any

import pydicom
from pydicom.errors import BytesLengthException

_UNIMPORTANT = {
    "InstanceNumber",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "SeriesNumber",
    "SliceThickness",
    "SpacingBetweenSlices",
}
_MEASURES = {
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "SliceThickness",
    "SpacingBetweenSlices",
}
_REQUIRED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
"""What decoders would make up: without PixelRepresentation, -50 becomes 65486."""
VARYING = (
    "StackID",
    "ComplexImageComponent",
    "EchoTime",
    "EchoNumbers",
    "InversionTime",
    "DiffusionBValue",
    "DiffusionGradientOrientation",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "AcquisitionNumber",
    "ConvolutionKernel",
    "AcquisitionDateTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentTime",
)
"""By what volumes differ that lie in one series, beside ImageType."""
_MOST_NUMBER = 1e6  # in geometry and rescale: a kilometre, or a million units per step
_MOST_SHOWN = 60  # characters of a value


class Tags:
    """Reads a header; ``odd`` collects what is missing or makes no sense, in words."""

    def __init__(self, header: pydicom.Dataset) -> None:
        self._header = header
        self.odd: list[str] = []

    def numbers(self, tag: str, count: int) -> tuple[float, ...] | None:
        """The values of a tag, None where it is absent; odd ones are noted if they matter."""
        try:
            value = self._header.get(tag)
            if value is None or value == "":
                return None
            values = tuple(map(float, [value] if count == 1 else value))
        except (BytesLengthException, OverflowError, TypeError, ValueError):
            values = ()
        if len(values) == count and all(
            math.isfinite(one) and (abs(one) <= _MOST_NUMBER or tag not in _MEASURES)
            for one in values
        ):
            return values
        if tag not in _UNIMPORTANT:
            self.odd.append(f"{tag} {_short(self._header.get_item(tag).value)}")
        return None

    def number(self, tag: str, default: float) -> float:
        """The one value of a tag."""
        values = self.numbers(tag, 1)
        return default if values is None else values[0]

    def whole(self, tag: str, default: int, least: int = 1) -> int:
        """The one value of a tag that is a whole number of ``least`` or more."""
        values = self.numbers(tag, 1)
        if values is None:
            if tag in _REQUIRED and not any(words.startswith(tag) for words in self.odd):
                self.odd.append(f"no {tag}")
            return default
        if values[0] < least or values[0] % 1:
            self.odd.append(f"{tag} {values[0]:g}")
            return default
        return int(values[0])

    def text(self, tag: str) -> str:
        """The text of a tag, fit for a terminal; "" where it is absent."""
        return printable(self._header.get(tag) or "")

    def words(self, tag: str) -> tuple[str, ...]:
        """The words of a tag in capitals, one or several."""
        value = self._header.get(tag) or []
        return tuple(
            printable(one).upper() for one in ([value] if isinstance(value, str) else value)
        )

    def varying(self) -> tuple[tuple[str, str], ...]:
        """Those of :data:`VARYING` that have a value, as text."""
        values = ((tag, _joined(self._header.get(tag))) for tag in VARYING)
        return tuple((tag, value) for tag, value in values if value)

    def has(self, tag: str) -> bool:
        """Whether a tag is there and not empty."""
        return bool(self._header.get(tag))


def printable(value: object) -> str:
    """A header's text, which may hold anything, fit for a terminal and a page."""
    return "".join(sign if sign.isprintable() else "?" for sign in str(value))


def _joined(value: Any) -> str:
    """One value or several as text; "" for none."""
    if value is None or isinstance(value, str):
        return printable(value or "").strip()
    try:
        return "\\".join(printable(one).strip() for one in value)
    except TypeError:
        return printable(value).strip()


def _short(value: Any) -> str:
    shown = printable(value.decode("ascii", "replace") if isinstance(value, bytes) else value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
