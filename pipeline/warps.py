"""Displacement fields: drawn once from a pair's key, then applied to image and label alike.

A field (H, W, 2) float32 holds, per picture pixel, how far (x, y) in pixels to look
for its source: ``result[p] = picture[p + field[p]]``. Images are sampled linearly,
labels take the nearest pixel; what lies outside the picture is 0 (air, background).

:mod:`pipeline.transforms` makes albumentations transforms of them.

Same bytes on every machine: fields are quantised right after they are drawn and are
enlarged by powers of two, so that every later sum of them is exact in float32 and
no processor's rounding can move a pixel.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Field = NDArray[np.float32]
_QUANTUM = 2.0**-8  # px


def key(*parts: object) -> int:
    """A 63-bit seed that stands for ``parts``; independent of order of work and machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def elastic(
    rng: np.random.Generator, shape: tuple[int, int], sd_px: float, sigma_px: float
) -> Field:
    """A random smooth field (Simard et al., ICDAR 2003): uniform noise under a Gaussian.

    ``sd_px`` is the standard deviation of the displacement along each axis, and
    ``sigma_px`` the Gaussian's, both in pixels. The noise is drawn and smoothed on a
    grid coarser by a power of two (at most half of ``sigma_px``), with a margin that is cut
    off so that the border moves like the middle, and enlarged linearly.
    """
    cell = 1
    while cell * 4 <= sigma_px and cell < 16:
        cell *= 2
    sigma = sigma_px / cell
    height, width = (-(-side // cell) + 1 for side in shape)
    margin = int(np.ceil(4 * sigma))  # where SciPy's Gaussian ends
    noise = rng.uniform(-1, 1, (2, height + 2 * margin, width + 2 * margin))
    smooth = gaussian_filter(noise, (0, sigma, sigma))[:, margin:-margin, margin:-margin]
    # uniform(-1, 1) has sd 1/sqrt(3); a 2-D Gaussian of sigma s leaves 1 / (2 s sqrt(pi)) of it
    coarse = _quantised(smooth * (sd_px * np.sqrt(3) * 2 * sigma * np.sqrt(np.pi)))
    fine = [
        cv2.resize(part, (width * cell, height * cell), interpolation=cv2.INTER_LINEAR)
        for part in coarse
    ]
    return np.stack([part[: shape[0], : shape[1]] for part in fine], axis=-1)


@lru_cache(maxsize=32)
def barrel(
    shape: tuple[int, int], centre: tuple[float, float], radius: float, amount: float
) -> Field:
    """A bulge (``amount`` above 0, barrel) or a pinch (below 0, pincushion).

    ``centre`` is (x, y) as shares of width and height; ``radius`` is a share of the
    width, R. At distance rho < R from the centre the source lies at rho * f with
    f = sin(pi rho / 2R)^amount. The field is constant and shared; do not write into it.
    """
    height, width = shape
    reach = width * radius
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    offset = np.stack([x - width * centre[0], y - height * centre[1]], axis=-1)
    rho = np.hypot(offset[..., 0], offset[..., 1])
    inside = (rho < reach) & (rho > 0)
    factor = np.ones(shape)
    factor[inside] = np.sin(np.pi * rho[inside] / (2 * reach)) ** amount
    return _quantised(offset * (factor - 1)[..., None])


def bend_image(picture: NDArray[np.uint8], field: Field) -> NDArray[np.uint8]:
    """An image (H, W) or (H, W, channels) uint8 through ``field``, linearly."""
    maps = cv2.convertMaps(*_sources(field), cv2.CV_16SC2)
    bent: Any = cv2.remap(picture, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(bent, np.uint8)


def bend_label(ids: NDArray[np.uint8], field: Field) -> NDArray[np.uint8]:
    """Class ids (H, W) uint8 through ``field``: the nearest pixel's id."""
    # without nninterpolation the fixed-point maps are truncated and labels move half a pixel
    maps = cv2.convertMaps(*_sources(field), cv2.CV_16SC2, nninterpolation=True)
    bent: Any = cv2.remap(ids, *maps, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(bent, np.uint8)


def _sources(field: Field) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    height, width = field.shape[:2]
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    return field[..., 0] + x, field[..., 1] + y


def _quantised(field: NDArray[np.float64]) -> Field:
    return (np.rint(field / _QUANTUM) * _QUANTUM).astype(np.float32)
