"""The section ``limits``: the largest volumes and pictures that are read."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.params.values import expect


@dataclass(frozen=True)
class Limits:
    """Larger input is refused before memory is allocated. No output depends on these limits."""

    voxels: int = 300_000_000
    """The largest volume that is read. A scan takes 4 bytes a voxel, each of its labels 1, and
    several times that while it is converted."""
    pixels: int = 100_000_000
    """The largest picture that is read."""

    def __post_init__(self) -> None:
        for name in ("voxels", "pixels"):
            expect(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
