"""The project's own steps, by their names in params.yaml: arguments and their checks.

:mod:`pipeline.warps.chains` makes chains of them; :mod:`pipeline.warps.fields` and
:mod:`pipeline.warps.tones` have the formulas. A number in the place of a range stands for itself
alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from pipeline.volumes.arrays import Image8
from pipeline.warps import fields, tones
from pipeline.warps.step import RandomTonal, Range, Spatial, Tonal, drawn, require, within
from pipeline.warps.warp import Shape, Warp


@dataclass(frozen=True)
class Elastic(Spatial):
    """See :func:`pipeline.warps.fields.elastic`."""

    sd_px: float
    sigma_px: float
    constant: ClassVar[bool] = False

    def check(self) -> None:
        require(self.sd_px >= 0 and self.sigma_px >= 1, "sd_px >= 0 and sigma_px >= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.elastic(rng, shape, self.sd_px, self.sigma_px)


@dataclass(frozen=True)
class Distorted(Spatial):
    """See :func:`pipeline.warps.fields.distorted`."""

    ratio: float
    sigma_px: float
    constant: ClassVar[bool] = False

    def check(self) -> None:
        require(0 <= self.ratio <= 1 and self.sigma_px >= 1, "0 <= ratio <= 1 and sigma_px >= 1")

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
        require(fits, "0 < radius <= 2, -1 < amount < 4 and a centre [x, y]")
        object.__setattr__(self, "centre", tuple(map(float, self.centre)))

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.barrel(shape, self.centre, self.radius, self.amount)


@dataclass(frozen=True)
class Pincushion(Barrel):
    """A :class:`Barrel` with ``amount`` negated; ``amount`` itself is positive."""

    def check(self) -> None:
        super().check()
        require(0 <= self.amount < 1, "0 <= amount < 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.barrel(shape, self.centre, self.radius, -self.amount)


@dataclass(frozen=True)
class Flip(Spatial):
    """See :func:`pipeline.warps.fields.flip`; ``axis`` is horizontal or vertical."""

    axis: str

    def check(self) -> None:
        require(self.axis in ("horizontal", "vertical"), "the axis horizontal or vertical")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.flip(shape, self.axis)


@dataclass(frozen=True)
class Rotate(Spatial):
    """See :func:`pipeline.warps.fields.rotate`."""

    degrees: float

    def check(self) -> None:
        require(-360 <= self.degrees <= 360, "-360 <= degrees <= 360")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.rotate(shape, self.degrees)


@dataclass(frozen=True)
class RandomAffine(Spatial):
    """See :func:`pipeline.warps.fields.affine`; what is not stated stays as it is.

    All arguments are ranges. ``scale`` is of both axes; ``scale_x`` and ``scale_y`` come on top.
    """

    degrees: Range = (0.0, 0.0)
    scale: Range = (1.0, 1.0)
    scale_x: Range = (1.0, 1.0)
    scale_y: Range = (1.0, 1.0)
    shear_x: Range = (0.0, 0.0)
    shear_y: Range = (0.0, 0.0)
    shift_x: Range = (0.0, 0.0)
    shift_y: Range = (0.0, 0.0)
    constant: ClassVar[bool] = False

    def check(self) -> None:
        within("degrees", self.degrees, -360, 360)
        for axis in ("", "_x", "_y"):
            within(f"scale{axis}", getattr(self, f"scale{axis}"), 0.1, 10)
        for axis in ("_x", "_y"):
            within(f"shear{axis}", getattr(self, f"shear{axis}"), -0.9, 0.9)
            within(f"shift{axis}", getattr(self, f"shift{axis}"), -1, 1)

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        degrees, scale, wide, high, across, along, right, down = drawn(
            rng,
            self.degrees,
            self.scale,
            self.scale_x,
            self.scale_y,
            self.shear_x,
            self.shear_y,
            self.shift_x,
            self.shift_y,
        )
        scales = scale * wide, scale * high
        return fields.affine(shape, degrees, scales, (across, along), (right, down))


@dataclass(frozen=True)
class Shrink(Spatial):
    """See :func:`pipeline.warps.fields.shrink`."""

    ratio: float

    def check(self) -> None:
        require(0.1 <= self.ratio <= 1, "0.1 <= ratio <= 1")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.shrink(shape, self.ratio)


@dataclass(frozen=True)
class Shear(Spatial):
    """See :func:`pipeline.warps.fields.shear`; ``axis`` is horizontal or vertical."""

    ratio: float
    axis: str = "horizontal"

    def check(self) -> None:
        require(-2 <= self.ratio <= 2, "-2 <= ratio <= 2")
        require(self.axis in ("horizontal", "vertical"), "the axis horizontal or vertical")

    def warp(self, rng: np.random.Generator, shape: Shape) -> Warp:
        return fields.shear(shape, self.ratio, self.axis)


@dataclass(frozen=True)
class Brighten(Tonal):
    """Values times ``factor``; below 1 darkens."""

    factor: float

    def check(self) -> None:
        require(0 <= self.factor <= 255, "0 <= factor <= 255")

    def tone(self, image: Image8) -> Image8:
        values = np.clip(np.rint(np.arange(256) * self.factor), 0, 255).astype(np.uint8)
        return np.asarray(cv2.LUT(image, values), np.uint8)


@dataclass(frozen=True)
class Sharpen(Tonal):
    """``amount`` times the difference from the four neighbours (Laplacian) is added."""

    amount: float

    def check(self) -> None:
        require(0 <= self.amount <= 16, "0 <= amount <= 16")

    def tone(self, image: Image8) -> Image8:
        around = np.pad(image.astype(np.float32), 1, mode="edge")
        middle = around[1:-1, 1:-1]
        neighbours = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]
        sharp = middle + np.float32(self.amount) * (4 * middle - neighbours)
        return np.clip(np.rint(sharp), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Gamma(RandomTonal):
    """See :func:`pipeline.warps.tones.gamma`, whose exponent is drawn from the range ``gamma``."""

    gamma: Range

    def check(self) -> None:
        within("gamma", self.gamma, 0.1, 10)

    def tone(self, image: Image8, rng: np.random.Generator, scale: float) -> Image8:
        return tones.gamma(image, *drawn(rng, self.gamma))


@dataclass(frozen=True)
class Contrast(RandomTonal):
    """See :func:`pipeline.warps.tones.contrast`, of the ranges ``factor`` and ``brightness``."""

    factor: Range = (1.0, 1.0)
    brightness: Range = (0.0, 0.0)

    def check(self) -> None:
        within("factor", self.factor, 0, 10)
        within("brightness", self.brightness, -255, 255)

    def tone(self, image: Image8, rng: np.random.Generator, scale: float) -> Image8:
        return tones.contrast(image, *drawn(rng, self.factor, self.brightness))


@dataclass(frozen=True)
class Noise(RandomTonal):
    """See :func:`pipeline.warps.tones.noise`, of a standard deviation from the range ``sd``."""

    sd: Range

    def check(self) -> None:
        within("sd", self.sd, 0, 255)

    def tone(self, image: Image8, rng: np.random.Generator, scale: float) -> Image8:
        return tones.noise(image, rng, *drawn(rng, self.sd))


@dataclass(frozen=True)
class Soften(RandomTonal):
    """See :func:`pipeline.warps.tones.soften`, of a Gaussian from the range ``sigma_px``."""

    sigma_px: Range

    def check(self) -> None:
        within("sigma_px", self.sigma_px, 0, 32)

    def tone(self, image: Image8, rng: np.random.Generator, scale: float) -> Image8:
        [sigma_px] = drawn(rng, self.sigma_px)
        return tones.soften(image, sigma_px * scale)


@dataclass(frozen=True)
class Coarsen(RandomTonal):
    """See :func:`pipeline.warps.tones.coarsen`, of cells with a side from the range ``cell_px``."""

    cell_px: Range

    def check(self) -> None:
        within("cell_px", self.cell_px, 1, 128)

    def tone(self, image: Image8, rng: np.random.Generator, scale: float) -> Image8:
        [cell_px] = drawn(rng, self.cell_px)
        return tones.coarsen(image, cell_px * scale)


OURS: dict[str, type[Spatial] | type[Tonal] | type[RandomTonal]] = {
    kind.__name__: kind
    for kind in (
        Elastic, Distorted, Barrel, Pincushion, Flip, Rotate, RandomAffine, Shrink, Shear, Brighten,
        Sharpen, Gamma, Contrast, Noise, Soften, Coarsen,
    )
}  # fmt: skip
