"""Rules about padding: what becomes of voxels that hold no measured value."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule

AIR_HU = -1000
"""CT padding at or below air is left as it is: every window clips it."""


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
        """Whether it lies outside the real values."""
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
        reason="it cannot be distinguished from them, and is kept",
        check=lambda one: None if one.apart or one.in_air else one.evidence(),
    ),
)


def of_padding(padding: Padding) -> list[Match]:
    """What becomes of padding: exactly one of three."""
    return rules.every(PADDING, padding)
