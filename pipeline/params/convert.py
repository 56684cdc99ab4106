"""The section ``convert``: scans to square pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from datasets_spec.contract import MOST_CHANNELS, is_slug
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.values import expect

FUSIONS = ("majority", "staple", "union", "agreed", "each")
"""Values of ``convert.raters`` other than the name of a rater (pipeline/labels/fusion.py)."""

MOST_SHARDS = 99_999
"""Whose numbers have five digits."""
WINDOWS: Mapping[str, tuple[float, float]] = {
    "brain": (40.0, 80.0),
    "blood": (80.0, 200.0),
    "bone": (600.0, 2800.0),
}
"""Level and width in HU of the windows that need none stated; `blood` is the subdural window."""


@dataclass(frozen=True)
class Convert:
    """Scans to square pictures."""

    image_px: int
    """Width and height of every picture, in pixels."""
    mr_percentiles: tuple[float, float]
    """The percentiles of an MR volume that are shown as black and as white."""
    raters: str
    """What becomes of several raters: `majority`, `staple`, `union` (all that any rater drew),
    `agreed` (where they disagree, nobody annotated), `each` (a pair for every rater), or one
    rater's name. Of two raters, `majority` and `staple` keep what both drew alike."""
    label_table: str
    """`auto`, or the name of one of the tables of a dataset whose sources contradict each other."""
    windows: dict[str, Any] = field(default_factory=dict)
    """Of CT: several windows, each a channel of the pictures: a name and its [level, width] in HU;
    `brain`, `blood` and `bone` need none. Empty: the dataset's own window, in grey."""
    shards: int | str = "auto"
    """How many shards hold the pairs of a dataset, each those of some cases; 0: every picture is a
    file of its own. `auto`: none below 2,000 cases, else one for about 64 cases."""
    store: str = ""
    """A URL below which the shards lie, such as s3://bucket/brains; empty: in the project's folder.
    """
    dicom: Tolerances = USUAL
    """How far a DICOM series may be off; what is left out has its usual value."""

    def __post_init__(self) -> None:
        expect(16 <= self.image_px <= 4096, "image_px", "16 to 4096", self.image_px)
        low, high = self.mr_percentiles
        expect(0 <= low < high <= 100, "mr_percentiles", "0 <= low < high <= 100", [low, high])
        expect(
            len(self.windows) != 1 and len(self.windows) <= MOST_CHANNELS,
            "windows",
            f"none, or 2 to {MOST_CHANNELS}",
            self.windows,
        )
        for name, value in self.windows.items():
            _window(name, value)
        number = isinstance(self.shards, int) and 0 <= self.shards <= MOST_SHARDS
        expect(
            number or self.shards == "auto", "shards", f"auto, or 0 to {MOST_SHARDS:,}", self.shards
        )
        expect(not self.store or self.shards != 0, "shards", "some where there is a store", 0)
        expect("://" in self.store or not self.store, "store", "a URL, or nothing", self.store)

    @property
    def deciding(self) -> dict[str, Any]:
        """What pixels follow from: not how they are kept."""
        kept = ("shards", "store")
        return {name: value for name, value in asdict(self).items() if name not in kept}

    @property
    def in_hu(self) -> dict[str, tuple[float, float]]:
        """Level and width in HU of each of the windows, in their order."""
        return {name: _window(name, value) for name, value in self.windows.items()}


def _window(name: str, value: object) -> tuple[float, float]:
    """Level and width in HU."""
    expect(is_slug(name), "windows", "names of letters, digits, '.', '+', '-' and '_'", name)
    if value is None:
        expect(name in WINDOWS, "windows", f"[level, width] of {name}", value)
        return WINDOWS[name]
    numbers = value if isinstance(value, list | tuple) else ()
    fits = len(numbers) == 2 and all(type(one) in (int, float) for one in numbers)
    expect(fits and numbers[1] > 0, "windows", f"[level, width above 0] of {name}, in HU", value)
    return float(numbers[0]), float(numbers[1])
