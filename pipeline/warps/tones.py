"""The formulas of the random tonal steps, of images (H, W) or (H, W, channels) uint8.

Same bytes on every machine: tables are rounded to whole grey values, random numbers are whole, and
weights of a blur are multiples of 1/256, so that its sums fit float32's 24 bits.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.volumes.arrays import Image8

_GREYS = np.arange(256, dtype=np.float64)
_WEIGHT_BITS = 8  # along each axis; beside the 8 bits of a grey value
_SIGMAS = 3  # that a blur reaches


def _quantiles() -> NDArray[np.float64]:
    """256 numbers that are, each as likely, distributed like a Gaussian of mean 0 and sd 1."""
    numbers = np.array([NormalDist().inv_cdf((rank + 0.5) / 256) for rank in range(256)])
    rounded: NDArray[np.float64] = np.rint(numbers / numbers.std() * 2**16) / 2**16
    return rounded


_NORMAL = _quantiles()


def gamma(image: Image8, gamma: float) -> Image8:
    """Values raised to ``gamma`` on a scale of 0 to 1; above 1 darkens the middle."""
    return _by_table(image, 255 * (_GREYS / 255) ** gamma)


def contrast(image: Image8, factor: float, brightness: float) -> Image8:
    """The distance from the mean times ``factor``, plus ``brightness`` in grey values.

    The mean is that of all pixels of a channel.
    """
    height, width = image.shape[:2]
    columns: Any = cv2.reduce(image.reshape(height, -1), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    means = columns.reshape(width, -1).sum(axis=0) / (height * width)
    return _by_table(image, (_GREYS[:, None] - means) * factor + means + brightness)


def noise(image: Image8, rng: np.random.Generator, sd: float) -> Image8:
    """Plus Gaussian noise of the standard deviation ``sd``, for each pixel and channel its own.

    It is drawn from 256 quantiles of the Gaussian, so none is above 2.9 ``sd``.
    """
    ranks = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
    drawn = cv2.LUT(ranks, np.rint(_NORMAL * sd).astype(np.int16))
    return _like(image, cv2.add(image, drawn.reshape(image.shape), dtype=cv2.CV_8U))


def soften(image: Image8, sigma: float) -> Image8:
    """A Gaussian blur; ``sigma`` in pixels. Beyond the border lie the border's values."""
    reach = math.ceil(_SIGMAS * sigma)
    if not reach:
        return image
    # the Gaussian's share under each pixel; all of it, since at 3 sigma 255.7 of 256 rounds up
    below = [NormalDist(0, sigma).cdf(edge - 0.5) for edge in range(-reach, reach + 2)]
    weights = np.diff(np.rint(np.array(below) * 2**_WEIGHT_BITS)) / 2**_WEIGHT_BITS
    blurred: Any = cv2.sepFilter2D(
        image, cv2.CV_32F, weights, weights, borderType=cv2.BORDER_REPLICATE
    )
    return _like(image, np.rint(blurred).astype(np.uint8))


def coarsen(image: Image8, cell: float) -> Image8:
    """As if taken with pixels ``cell`` times as wide and high: shrunk and enlarged, both linearly.

    Cells are rounded so that a whole number of them fills a side; below 1 there is nothing to do.
    """
    height, width = image.shape[:2]
    small = max(1, round(width / cell)), max(1, round(height / cell))
    if small[0] >= width and small[1] >= height:
        return image
    how = cv2.INTER_LINEAR_EXACT  # in fixed point
    coarse = cv2.resize(image, small, interpolation=how)
    return _like(image, cv2.resize(coarse, (width, height), interpolation=how))


def _by_table(image: Image8, values: NDArray[np.float64]) -> Image8:
    """Each value replaced by that of a table (256,), or of its channel in one (256, channels)."""
    table = np.rint(values).clip(0, 255).astype(np.uint8)
    return _like(image, cv2.LUT(image, table.reshape(1, 256, -1)))


def _like(image: Image8, made: Any) -> Image8:
    """OpenCV drops the axis of a single channel."""
    return np.asarray(made, np.uint8).reshape(image.shape)
