"""How far a DICOM series may be off before a rule matches, each with its reason."""

from __future__ import annotations

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
