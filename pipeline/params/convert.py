"""The section ``convert``: scans to square pictures."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.values import expect

FUSIONS = ("majority", "staple", "each")
"""Values of ``convert.raters`` other than the name of a rater (pipeline/labels/fusion.py)."""


@dataclass(frozen=True)
class Convert:
    """Scans to square pictures."""

    image_px: int
    """Width and height of every picture, in pixels."""
    mr_percentiles: tuple[float, float]
    """The percentiles of an MR volume that are shown as black and as white."""
    raters: str
    """What becomes of several raters: `majority`, `staple`, `each` (a pair for every rater), or one
    rater's name."""
    label_table: str
    """`auto`, or the name of one of the tables of a dataset whose sources contradict each other."""
    dicom: Tolerances = USUAL
    """How far a DICOM series may be off; what is left out has its usual value."""

    def __post_init__(self) -> None:
        expect(16 <= self.image_px <= 4096, "image_px", "16 to 4096", self.image_px)
        low, high = self.mr_percentiles
        expect(0 <= low < high <= 100, "mr_percentiles", "0 <= low < high <= 100", [low, high])
