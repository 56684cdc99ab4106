"""The parts of virtual patients: the MNI152 maps that nilearn ships, and smooth random fields.

Maps are 1 mm, RAS+; points are in millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Floats = NDArray[np.float64]

_COARSE_MM = 8.0  # spacing of the grid on which smooth random fields are drawn
_SMOOTH_MM = 24.0


@dataclass(frozen=True)
class Maps:
    """T1 signal (0..1, 0 outside the brain), shares of grey and white matter, and the affine."""

    t1: Floats
    grey: Floats
    white: Floats
    affine: Floats


@lru_cache(maxsize=1)
def maps() -> Maps:
    """The ICBM 152 template of 2009 (Fonov et al., NeuroImage 54, 2011)."""
    from nilearn import datasets  # slow to import, and only needed here

    files = [
        load(resolution=1)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    ]
    t1, grey, white = (np.asarray(file.dataobj, np.float64) for file in files)
    return Maps(t1, grey, white, np.asarray(files[0].affine, np.float64))


def smooth(rng: np.random.Generator, millimetres: Floats) -> Floats:
    """A smooth random field of mean 0 and standard deviation about 1 at the given points."""
    noise = rng.standard_normal(_grid(millimetres, _COARSE_MM))
    coarse = gaussian_filter(noise, _SMOOTH_MM / _COARSE_MM, mode="wrap")
    return _at(millimetres, (coarse - coarse.mean()) / coarse.std(), _COARSE_MM)


def grains(rng: np.random.Generator, millimetres: Floats, side_mm: float) -> Floats:
    """A random texture, mean 0, whose grains are about ``side_mm`` wide, at the given points."""
    return _at(millimetres, rng.standard_normal(_grid(millimetres, side_mm)), side_mm)


def _grid(millimetres: Floats, side_mm: float) -> tuple[int, ...]:
    reach = np.abs(millimetres).max(axis=(1, 2, 3))
    return tuple((2 * np.ceil(reach / side_mm) + 3).astype(int))


def _at(millimetres: Floats, coarse: Floats, side_mm: float) -> Floats:
    middle = (np.array(coarse.shape) - 1)[:, None, None, None] / 2
    values: Floats = map_coordinates(coarse, millimetres / side_mm + middle, order=1)
    return values
