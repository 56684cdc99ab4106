"""The part ``dicom`` of the section ``convert``: how far a DICOM series may be off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.params.values import expect


@dataclass(frozen=True)
class Tolerances:
    """How far a DICOM series may be off before a rule matches, each with its reason."""

    PARTIAL: ClassVar[bool] = True
    """Whatever of it is left out of a parameter file has its usual value."""

    same_direction: float = 1e-3
    """Cosines that differ by less are one direction: at 120 mm from the centre, 0.12 mm."""
    same_spacing: float = 1e-4
    """Share by which pixel sides may differ. Exporters round them; over 512 pixels this moves the
    last by 0.05 of one."""
    same_place_mm: float = 0.1
    """Two slices closer than this, in mm, are at one place: no scanner's slices are as thin."""
    off_line_mm: float = 0.1
    """How far a slice may lie from where even spacing puts it, in mm: positions rounded to 0.1 mm
    pass. More is accepted with a finding, for positions that jitter."""
    off_line_step: float = 0.2
    """The same as a share of the spacing, for thin slices: a lost one leaves at least 0.5."""
    few_gaps: float = 0.25
    """Up to this share of wider steps, slices are missing; above, the spacing itself changes."""
    same_step: float = 0.1
    """How far the stated distance of slices may be from theirs, as a share: thick ones are
    rounded."""
    tilt_degrees: float = 0.5
    """Less shear, in degrees, is rounding of positions: 0.05 mm of 5 mm; gantries tilt by whole
    degrees."""

    def __post_init__(self) -> None:
        for name, most in _MOST.items():
            value = getattr(self, name)
            expect(0 < value <= most, name, f"above 0 and at most {most:g}", value)


_MOST = {
    "same_direction": 0.1,
    "same_spacing": 0.05,
    "same_place_mm": 1.0,
    "off_line_mm": 5.0,
    "off_line_step": 0.45,
    "few_gaps": 0.5,
    "same_step": 1.0,
    "tilt_degrees": 5.0,
}
"""Above, two slices could be one, or a lost slice pass."""

USUAL = Tolerances()
"""Those that hold where none are stated."""
