"""What a step of a chain is, and the ranges that its numbers are drawn from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.volumes.arrays import Image8
from pipeline.warps.warp import Shape, Warp

Range = tuple[float, float]
"""The least and the most of an argument, of which every number is as likely."""


@dataclass(frozen=True)
class Step:
    """A step of a chain. ``p``: the probability that it is applied."""

    p: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type == "float":  # 1 and 1.0 compare as the same step
                object.__setattr__(self, field.name, float(getattr(self, field.name)))
            elif field.type == "Range":
                object.__setattr__(self, field.name, _range(getattr(self, field.name), field.name))
        require(0 <= self.p <= 1, "0 <= p <= 1")
        self.check()

    def check(self) -> None:
        """Raise ValueError for arguments that do not fit."""


class Spatial(Step):
    """Warps image and mask alike. A ``constant`` one is the same for every pair."""

    constant: ClassVar[bool] = True

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        raise NotImplementedError


class Tonal(Step):
    """Changes the values of every channel (H, W) of an image by the same rule; not the mask."""

    def tone(self, image: Image8) -> Image8:
        raise NotImplementedError


class RandomTonal(Step):
    """Changes the image's values, and not the mask, by numbers that are drawn for each pair."""

    def tone(self, image: Image8, rng: np.random.Generator, scale: float) -> Image8:
        """An image (H, W) or (H, W, channels), whose width is ``scale`` times that of the pictures
        that lengths in pixels are stated for."""
        raise NotImplementedError


def drawn(rng: np.random.Generator, *ranges: Range) -> list[float]:
    """A number from each range."""
    shares = rng.random(len(ranges)).tolist()
    return [low + (high - low) * share for (low, high), share in zip(ranges, shares, strict=True)]


def _range(value: Any, name: str) -> Range:
    """``value``, a number or [least, most], as two numbers."""
    least, most = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    require(not isinstance(least, list | tuple), f"a number or [least, most] as {name}")
    low, high = float(least), float(most)
    require(low <= high, f"numbers [least, most] as {name}, the least first")
    return low, high


def within(name: str, range_: Range, least: float, most: float) -> None:
    """Raise ValueError unless all of a range lies from ``least`` to ``most``."""
    low, high = range_
    require(least <= low and high <= most, f"{least} <= {name} <= {most}")


def require(fits: bool, expected: str) -> None:
    """Raise ValueError where an argument does not fit."""
    if not fits:
        raise ValueError(f"expected {expected}")
