"""A healthy head in Hounsfield units, at points of the MNI152 template (mm, RAS+).

The template contains only the brain. Skull and scalp are modelled around the brain's hull, and
below it the orbits, the nose, the petrous bones and the mastoid cells. Borders are blurred over
about a millimetre, as by a scanner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates

from pipeline.virtual import head
from pipeline.virtual.head import Floats

# HU
_AIR, _FAT, _EYE, _SOFT, _FALX = -1000.0, -80.0, 10.0, 40.0, 48.0
_CELL_AIR, _CELL_WALL = -800.0, 400.0
_DIPLOE, _COMPACT = 750.0, 1300.0

_HULL_MM = 2.0  # voxel side of the grid on which the hull is found
_MARGIN_MM = 40.0  # of that grid around the template
_CLOSED_MM = 12.0  # fissures up to twice this wide lie inside the hull
_BASE_MM = -18.0  # below this height the head keeps its outline: face and neck
_FALX_MM = 12.0  # the falx stands above this height
_CELL_MM = 4.0


@dataclass(frozen=True)
class Intensities:
    """The brain tissues of one patient, in HU."""

    csf: float
    grey: float
    white: float


@dataclass(frozen=True)
class Head:
    """HU at the points, and the shares (0..1) of bone, brain tissue and white matter there."""

    hu: Floats
    bone: Floats
    tissue: Floats
    white: Floats


def healthy(
    rng: np.random.Generator, points: Floats, local: Floats, intensities: Intensities
) -> Head:
    """The head at ``points`` (3, slices, rows, columns) of the template.

    ``local`` are the same points relative to the middle of the scan, for the random fields.
    """
    gap, thickness, scalp = rng.uniform((1.5, 5.0, 5.0), (3.0, 7.5, 8.0))
    skull = thickness + 0.8 * head.smooth(rng, local)
    cells = head.grains(rng, local, _CELL_MM) > 0
    grey, white, brain = (_sampled(share, points) for share in _shares())

    inside = depth(points) + gap  # mm below the inner table
    fluid = _share(inside)
    bone = _share(inside + skull) * (1 - fluid)
    across = np.clip(-inside / skull, 0, 1)  # from the inner table (0) to the outer (1)
    bone_hu = _COMPACT + (_DIPLOE - _COMPACT) * 4 * across * (1 - across)

    outline = depth(np.stack([*points[:2], np.maximum(points[2], _BASE_MM)]))
    hu = _over(np.full_like(fluid, _AIR), _SOFT, _share(outline + gap + skull + scalp))
    hu = _over(hu, *_nose(points, cells))
    for side in (-1, 1):
        hu = _orbit(hu, points, side)
        hu = _over(hu, *_mastoid(points, cells, side))
    hu = _over(hu, intensities.csf, fluid)
    falx = np.clip(1.5 - np.abs(points[0]), 0, 1) * _share(inside - gap - 2) * (white < 0.3)
    hu = _over(hu, _FALX, falx * _share(points[2] - _FALX_MM))
    mixed = intensities.csf + grey * (intensities.grey - intensities.csf)
    hu = _over(hu, mixed + white * (intensities.white - intensities.csf), brain)
    petrous = np.maximum(_petrous(points, -1), _petrous(points, 1)) * (grey + white < 0.4)
    hu = _over(_over(hu, bone_hu, bone), _COMPACT, petrous)
    return Head(hu, np.maximum(bone, petrous), (grey + white) * brain, white * brain)


def depth(points: Floats) -> Floats:
    """The depth of the points below the brain's hull in mm; negative outside."""
    distance, origin = _hull()
    return _interpolated(distance, (points - _column(origin)) / _HULL_MM, "nearest")


@lru_cache(maxsize=1)
def deep_tissue() -> NDArray[np.intp]:
    """Voxels (n, 3) of the template that a haemorrhage may begin in: deep, above the tentorium."""
    template = head.maps()
    found = np.argwhere((template.grey + template.white > 0.9) & (template.t1 > 0))
    points = millimetres(found.T[:, None, None].astype(np.float64))
    depths = depth(points)
    height = points[2]
    fits = (depths > 22) & (depths < 42) & (height > -5) & (height < 45)
    fits &= np.abs(points[0]) > 12  # beside the ventricles
    chosen: NDArray[np.intp] = found[fits.ravel()]
    return chosen


def millimetres(index: Floats) -> Floats:
    """Voxel indices (3, ...) of the template -> mm: its affine only shifts."""
    return index + _column(head.maps().affine[:3, 3])


def _nose(points: Floats, cells: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    inside = _ellipsoid(points, (0, 46, -46), (15, 30, 22))
    return np.where(cells, _CELL_AIR, _CELL_WALL), _share(inside)


def _mastoid(points: Floats, cells: NDArray[np.bool_], side: int) -> tuple[Floats, Floats]:
    inside = _ellipsoid(points, (side * 55, -38, -46), (12, 16, 18))
    return np.where(cells, _CELL_AIR, 2 * _CELL_WALL), _share(inside)


def _petrous(points: Floats, side: int) -> Floats:
    # its ridge runs from the ear forwards to the middle
    x, y, z = points
    turned = np.stack([0.87 * x - side * 0.5 * y, side * 0.5 * x + 0.87 * y, z])
    return _share(_ellipsoid(turned, (side * 46, -6, -42), (22, 8, 9)))


def _orbit(hu: Floats, points: Floats, side: int) -> Floats:
    """An eye in a ball of fat, in a wall of bone that is open to the front."""
    centre = _column((side * 32, 52, -38))
    reach = np.sqrt(((points - centre) ** 2).sum(axis=0))
    behind = _share(centre[1] + 8 - points[1])
    hu = _over(hu, _CELL_WALL * 2, _share(22 - reach) * behind)
    hu = _over(hu, _FAT, _share(20 - reach) * behind)
    eye = np.sqrt(((points - centre - _column((0, 6, 0))) ** 2).sum(axis=0))
    return _over(_over(hu, _SOFT, _share(13 - eye)), _EYE, _share(11.5 - eye))


def _ellipsoid(points: Floats, centre: Sequence[float], radii: Sequence[float]) -> Floats:
    """About how many mm the points lie inside an ellipsoid; negative outside."""
    reach = np.sqrt((((points - _column(centre)) / _column(radii)) ** 2).sum(axis=0))
    inside: Floats = (1 - reach) * min(radii)
    return inside


def _share(inside_mm: Floats) -> Floats:
    """The share of a blurred voxel that lies inside a border."""
    return np.clip(inside_mm + 0.5, 0, 1)


def _over(hu: Floats, other: Floats | float, share: Floats) -> Floats:
    return hu + (other - hu) * share


def _column(values: Sequence[float] | Floats) -> Floats:
    return np.asarray(values, np.float64)[:, None, None, None]


def _sampled(share: Floats, points: Floats) -> Floats:
    offset = _column(head.maps().affine[:3, 3])
    return _interpolated(share, points - offset, "constant")


def _interpolated(array: Floats, index: Floats, mode: str) -> Floats:
    values: Floats = map_coordinates(array, index, order=1, mode=mode)
    return values


@lru_cache(maxsize=1)
def _shares() -> tuple[Floats, Floats, Floats]:
    """Shares of grey matter, of white matter, and of the brain, whose remainder is fluid."""
    template = head.maps()
    brain = gaussian_filter((template.t1 > 0).astype(np.float64), 0.7)
    return template.grey, template.white, brain


@lru_cache(maxsize=1)
def _hull() -> tuple[Floats, Floats]:
    """Depth below the closed hull in mm on a coarse grid, and the position of its first voxel."""
    template = head.maps()
    step, margin = round(_HULL_MM), round(_MARGIN_MM / _HULL_MM)
    brain = np.pad(template.t1[::step, ::step, ::step] > 0, margin)
    grown = distance_transform_edt(~brain) * _HULL_MM <= _CLOSED_MM
    closed = distance_transform_edt(grown) * _HULL_MM > _CLOSED_MM
    signed = distance_transform_edt(closed) - distance_transform_edt(~closed)
    smooth = gaussian_filter(signed * _HULL_MM, 3.0 / _HULL_MM)
    return smooth, template.affine[:3, 3] - margin * _HULL_MM
