"""The project's own steps, by their names in params.yaml: arguments and their checks.

:mod:`pipeline.warps.chains` makes chains of them; :mod:`pipeline.warps.fields` has the formulas.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from pipeline.volumes.arrays import Image8
from pipeline.warps import fields
from pipeline.warps.warp import Shape, Warp


@dataclass(frozen=True)
class Step:
    """A step of a chain. ``p``: the probability that it is applied."""

    p: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.type == "float":  # 1 and 1.0 compare as the same step
                object.__setattr__(self, field.name, float(getattr(self, field.name)))
        _require(0 <= self.p <= 1, "0 <= p <= 1")
        self.check()

    def check(self) -> None:
        """Raise ValueError for arguments that do not fit."""


class Spatial(Step):
    """Warps image and mask alike. A ``constant`` one is the same for every pair."""

    constant: ClassVar[bool] = True

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        raise NotImplementedError


class Tonal(Step):
    """Changes the image's values, and not the mask."""

    def tone(self, image: Image8) -> Image8:
        raise NotImplementedError


@dataclass(frozen=True)
class Elastic(Spatial):
    """See :func:`pipeline.warps.fields.elastic`."""

    sd_px: float
    sigma_px: float
    constant: ClassVar[bool] = False

    def check(self) -> None:
        _require(self.sd_px >= 0 and self.sigma_px >= 1, "sd_px >= 0 and sigma_px >= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.elastic(rng, shape, self.sd_px, self.sigma_px)


@dataclass(frozen=True)
class Distorted(Spatial):
    """See :func:`pipeline.warps.fields.distorted`."""

    ratio: float
    sigma_px: float
    constant: ClassVar[bool] = False

    def check(self) -> None:
        _require(0 <= self.ratio <= 1 and self.sigma_px >= 1, "0 <= ratio <= 1 and sigma_px >= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.distorted(rng, shape, self.ratio, self.sigma_px)


@dataclass(frozen=True)
class Barrel(Spatial):
    """See :func:`pipeline.warps.fields.barrel`; ``centre`` is [x, y], shares of the picture."""

    radius: float
    amount: float
    centre: tuple[float, float]

    def check(self) -> None:
        fits = 0 < self.radius <= 2 and -1 < self.amount < 4 and len(self.centre) == 2
        _require(fits, "0 < radius <= 2, -1 < amount < 4 and a centre [x, y]")
        object.__setattr__(self, "centre", tuple(map(float, self.centre)))

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.barrel(shape, self.centre, self.radius, self.amount)


@dataclass(frozen=True)
class Pincushion(Barrel):
    """A :class:`Barrel` with ``amount`` negated; ``amount`` itself is positive."""

    def check(self) -> None:
        super().check()
        _require(0 <= self.amount < 1, "0 <= amount < 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.barrel(shape, self.centre, self.radius, -self.amount)


@dataclass(frozen=True)
class Flip(Spatial):
    """See :func:`pipeline.warps.fields.flip`; ``axis`` is horizontal or vertical."""

    axis: str

    def check(self) -> None:
        _require(self.axis in ("horizontal", "vertical"), "the axis horizontal or vertical")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.flip(shape, self.axis)


@dataclass(frozen=True)
class Rotate(Spatial):
    """See :func:`pipeline.warps.fields.rotate`."""

    degrees: float

    def check(self) -> None:
        _require(-360 <= self.degrees <= 360, "-360 <= degrees <= 360")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.rotate(shape, self.degrees)


@dataclass(frozen=True)
class Shrink(Spatial):
    """See :func:`pipeline.warps.fields.shrink`."""

    ratio: float

    def check(self) -> None:
        _require(0.1 <= self.ratio <= 1, "0.1 <= ratio <= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.shrink(shape, self.ratio)


@dataclass(frozen=True)
class Shear(Spatial):
    """See :func:`pipeline.warps.fields.shear`; ``axis`` is horizontal or vertical."""

    ratio: float
    axis: str = "horizontal"

    def check(self) -> None:
        _require(-2 <= self.ratio <= 2, "-2 <= ratio <= 2")
        _require(self.axis in ("horizontal", "vertical"), "the axis horizontal or vertical")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.shear(shape, self.ratio, self.axis)


@dataclass(frozen=True)
class Brighten(Tonal):
    """Values times ``factor``; below 1 darkens."""

    factor: float

    def check(self) -> None:
        _require(0 <= self.factor <= 255, "0 <= factor <= 255")

    def tone(self, image: Image8) -> Image8:
        values = np.clip(np.rint(np.arange(256) * self.factor), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(image, values), np.uint8)


@dataclass(frozen=True)
class Sharpen(Tonal):
    """``amount`` times the difference from the four neighbours (Laplacian) is added."""

    amount: float

    def check(self) -> None:
        _require(0 <= self.amount <= 16, "0 <= amount <= 16")

    def tone(self, image: Image8) -> Image8:
        around = np.pad(image.astype(np.float32), 1, mode="edge")
        middle = around[1:-1, 1:-1]
        neighbours = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        sharp = middle + np.float32(self.amount) * (4 * middle - neighbours)
        return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


OURS: dict[str, type[Spatial] | type[Tonal]] = {
    kind.__name__: kind
    for kind in (
        Elastic, Distorted, Barrel, Pincushion, Flip, Rotate, Shrink, Shear, Brighten, Sharpen,
    )
}  # fmt: skip


def _require(fits: bool, expected: str) -> None:
    if not fits:
        raise ValueError(f"expected {expected}")
