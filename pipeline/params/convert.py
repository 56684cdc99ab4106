"""The section ``convert``: scans to square pictures."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.params.values import expect

FUSIONS = ("majority", "staple", "each")
"""Values of ``convert.raters`` other than the name of a rater (pipeline/labels/fusion.py)."""


@dataclass(frozen=True)
class Convert:
    """Scans to square pictures. ``image_px``: width and height of every picture.

    ``raters``: majority, staple, each, or one rater's name. ``label_table``: auto, or one of
    the tables of a dataset whose sources contradict each other.
    """

    image_px: int
    mr_percentiles: tuple[float, float]
    raters: str
    label_table: str

    def __post_init__(self) -> None:
        expect(16 <= self.image_px <= 4096, "image_px", "16 to 4096", self.image_px)
        low, high = self.mr_percentiles
        expect(0 <= low < high <= 100, "mr_percentiles", "0 <= low < high <= 100", [low, high])
