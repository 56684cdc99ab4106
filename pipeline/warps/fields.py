"""The formulas of the spatial steps: random fields, lenses, affine maps and flips, as warps.

Lengths are in pixels; shares are of the picture's width unless stated otherwise. Random
fields are drawn and smoothed on a grid that is coarser by a power of two (at most half
of the Gaussian's sigma). Uniform noise of 4 bits under weights of 10 bits along each axis
fits float32's 24 bits: sums are exact, as good as normally distributed, and their strength
is computed from these weights.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.warps.warp import Affine, KnotGrid, Shape

_WEIGHT_BITS = 10
_COARSEST = 16  # px
_NOISE_SD = math.sqrt((16**2 - 1) / 3)  # of the odd numbers -15 to 15


def elastic(rng: np.random.Generator, shape: Shape, sd_px: float, sigma_px: float) -> KnotGrid:
    """A random smooth field (Simard et al., ICDAR 2003): uniform noise under a Gaussian.

    ``sd_px`` is the standard deviation of the displacement along each axis and ``sigma_px``
    the Gaussian's. Simard's alpha on uniform(-1, 1) noise is
    sd_px * sqrt(3) * 2 * sigma_px * sqrt(pi).
    """
    smoother = _smoother(sigma_px)
    smooth = _smooth_noise(rng, shape, smoother, 2, around=0)
    displacements = np.multiply(smooth, sd_px / smoother.sd, dtype=np.float64)
    return KnotGrid.of(displacements, smoother.cell)


def distorted(rng: np.random.Generator, shape: Shape, ratio: float, sigma_px: float) -> KnotGrid:
    """A random curl-free field: the slope of one smooth noise picture along x and y.

    The largest displacement is ``ratio`` times the longer side; ``sigma_px`` is the
    Gaussian's under which the noise becomes smooth.
    """
    smoother = _smoother(sigma_px)
    hills = _smooth_noise(rng, shape, smoother, 1, around=1).astype(np.float64)
    slope = np.stack(
        [hills[1:-1, 2:] - hills[1:-1, :-2], hills[2:, 1:-1] - hills[:-2, 1:-1]], axis=-1
    )
    largest = math.sqrt(float((slope**2).sum(axis=-1).max()))
    return KnotGrid.of(slope * (ratio * max(shape) / largest), smoother.cell)


@lru_cache(maxsize=16)
def barrel(shape: Shape, centre: tuple[float, float], radius: float, amount: float) -> KnotGrid:
    """A bulge (``amount`` above 0, barrel) or a pinch (below 0, pincushion); it never folds.

    ``centre`` is (x, y) as shares of width and height; ``radius`` is a share of the
    width, R. At distance rho < R from the centre the source lies at rho * f with
    f = sin(pi rho / 2R)^amount. The field is shared; do not write into it.
    """
    height, width = shape
    reach = width * radius
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    offset = np.stack([x - width * centre[0], y - height * centre[1]], axis=-1)
    rho = np.hypot(offset[..., 0], offset[..., 1])
    inside = (rho < reach) & (rho > 0)
    factor = np.ones(shape)
    factor[inside] = np.sin(np.pi * rho[inside] / (2 * reach)) ** amount
    return KnotGrid.of(offset * (factor - 1)[..., None], 1)


def flip(shape: Shape, axis: str) -> Affine:
    """A mirror: horizontal changes left and right, vertical up and down. Exact."""
    return Affine.of((-1, 0, 0, 1) if axis == "horizontal" else (1, 0, 0, -1), shape)


def rotate(shape: Shape, degrees: float) -> Affine:
    """A turn about the picture's middle, counter-clockwise as seen. Right angles are exact."""
    cosine, sine = (f(math.radians(degrees)) for f in (math.cos, math.sin))
    return Affine.of((cosine, -sine, sine, cosine), shape)


def affine(
    shape: Shape,
    degrees: float,
    scale: tuple[float, float],
    shear: tuple[float, float],
    shift: tuple[float, float],
) -> Affine:
    """Lengths times ``scale`` (x, y), then both leans ``shear`` at once, a turn, and a move.

    All but the move are about the picture's middle, as by :func:`shrink`, :func:`shear` and
    :func:`rotate`; ``shift`` is (right, down) in shares of width and height.
    """
    cosine, sine = (f(math.radians(degrees)) for f in (math.cos, math.sin))
    (wide, high), (across, along) = scale, shear
    xx, xy = (cosine + across * sine) / wide, (across * cosine - sine) / wide
    yx, yy = (along * cosine + sine) / high, (cosine - along * sine) / high
    right, down = shift[0] * shape[1], shift[1] * shape[0]
    back = -(xx * right + xy * down), -(yx * right + yy * down)
    return Affine.of((xx, xy, yx, yy), shape, back)


def shrink(shape: Shape, ratio: float) -> Affine:
    """All lengths times ``ratio``, about the picture's middle."""
    return Affine.of((1 / ratio, 0, 0, 1 / ratio), shape)


def shear(shape: Shape, ratio: float, axis: str) -> Affine:
    """A lean: horizontally, what is h px above the middle moves ``ratio`` * h px to the right;

    vertically, what is w px left of the middle moves ``ratio`` * w px down.
    """
    return Affine.of((1, ratio, 0, 1) if axis == "horizontal" else (1, 0, ratio, 1), shape)


class _Smoother(NamedTuple):
    """A Gaussian on the coarse grid, and what it leaves of the noise after the enlargement."""

    cell: int  # px
    weights: NDArray[np.float64]
    sd: float


@lru_cache(maxsize=32)
def _smoother(sigma_px: float) -> _Smoother:
    cell = 1
    while cell * 4 <= sigma_px and cell < _COARSEST:
        cell *= 2
    sigma = sigma_px / cell
    reach = math.ceil(4 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights = np.rint(weights / weights.sum() * 2**_WEIGHT_BITS) / 2**_WEIGHT_BITS
    power = float((weights**2).sum())  # of the variance, per axis
    alike = float((weights[1:] * weights[:-1]).sum()) / power  # correlation of neighbouring knots
    share = (np.arange(cell) + 0.5) / cell if cell > 1 else np.zeros(1)
    # the variance at a pixel between two knots, the mean over the pixels of a cell, per axis
    between = float((1 - 2 * share * (1 - share) * (1 - alike)).mean())
    return _Smoother(cell, weights, _NOISE_SD * power * between)


def _smooth_noise(
    rng: np.random.Generator, shape: Shape, smoother: _Smoother, count: int, around: int
) -> NDArray[np.float32]:
    """``count`` smooth noise pictures at the knots of a picture and ``around`` more knots.

    The margin under the Gaussian is cut off, so that the border moves like the middle.
    """
    reach = len(smoother.weights) // 2
    height, width = ((side - 1) // smoother.cell + 2 + 2 * (around + reach) for side in shape)
    raw = np.frombuffer(rng.bytes(height * width * count), np.uint8)
    noise = ((raw & 30).astype(np.float32) - 15).reshape(height, width, count)
    smooth: Any = cv2.sepFilter2D(noise, cv2.CV_32F, smoother.weights, smoother.weights)
    return np.asarray(smooth[reach:-reach, reach:-reach], np.float32)
