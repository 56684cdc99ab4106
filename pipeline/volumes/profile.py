"""What a scan looks like, in numbers: its grid, its values, and how much of it is body.

The manifest states the profile of every case, a model file what those of its training scans have in
common (:mod:`model.inference.familiarity`). About a million voxels are looked at, evenly spread,
whatever the size of the scan.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from nibabel.orientations import aff2axcodes, io_orientation
from numpy.typing import NDArray

from pipeline.volumes import hounsfield
from pipeline.volumes.volume import Grid, Volume, column_lengths, to_8_bit

PERCENTILES = (0.5, 5.0, 25.0, 50.0, 75.0, 95.0, 99.5)
BINS = 32
"""Of the histogram of greys: 8 greys each."""
PLANES = ("sagittal", "coronal", "axial")
"""The plane of the slices that are counted along x, y and z."""
ANISOTROPIC = 1.15
"""A scan was taken in slices if their distance is so many times the larger side of a pixel."""
_ENOUGH_VOXELS = 1_000_000
_LEVELS = 256  # between which the body's threshold is chosen
_OUTERMOST = 0.01  # of the body lies beyond each end of its length
_LEAST_HU = -1024  # padding lies below
_DIGITS = 6

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie; three numbers are those of the axes x, y, z of RAS+.

    ``spacing`` and ``extent`` are in mm. ``plane`` is that in which the scan was taken, "" if its
    voxels are about cubes, and ``thickness`` the distance of its slices in mm, at right angles.
    ``axes`` are the source's own, such as "LPS". ``oblique`` is the largest angle between an axis
    and its direction of the body, ``shear`` how far the axes are from right angles, in degrees.
    ``body`` is the length along each axis that holds 98 % of the body, in mm.
    """

    spacing: Triple
    extent: Triple
    plane: str
    thickness: float
    axes: str
    oblique: float
    shear: float
    body: Triple


@dataclass(frozen=True)
class Profile:
    """A scan in numbers.

    ``shape``: voxels along x, y and z of RAS+. ``geometry``: None for pictures, whose pixels have
    no known size. ``modality``: what a DICOM header states, else "". ``percentiles``: the values at
    :data:`PERCENTILES`. ``below`` and ``above``: the shares at or beyond the window's ends.
    ``greys``: the shares of the windowed greys in :data:`BINS` equal bins. ``body``: the share
    above the threshold that separates dark from bright best (Otsu 1979). ``values``: how many
    different values there are. ``hu``: the verdict of :func:`pipeline.volumes.hounsfield.judge` on
    the values as those of a CT, and ``hu_shift`` how many HU they are away. ``unscaled``: a CT
    whose header does not say how stored values become HU.
    """

    shape: tuple[int, int, int]
    geometry: Geometry | None
    modality: str
    percentiles: tuple[float, ...]
    below: float
    above: float
    greys: tuple[float, ...]
    body: float
    values: int
    hu: str
    hu_shift: int
    unscaled: bool

    def to_json(self) -> str:
        """One line of JSON, which :func:`from_json` reads."""
        return json.dumps(asdict(self), allow_nan=False, separators=(",", ":"))


def of(scan: Volume, window: tuple[float, float], *, pictures: bool = False) -> Profile:
    """The profile of a scan whose values in ``window`` (low, high) are shown as 0 to 255.

    ``pictures``: the scan was read from pictures, so its grid states nothing. Numbers are rounded
    to 6 digits: more would differ between machines in the last bit, and they stand in the manifest.
    Raises :class:`Problem` for a window that :func:`~pipeline.volumes.volume.to_8_bit` refuses.
    """
    step = max(1, math.ceil((scan.array.size / _ENOUGH_VOXELS) ** (1 / 3)))
    seen = scan.array[::step, ::step, ::step].astype(np.float64)
    values = seen.ravel()
    low, high = window
    verdict = hounsfield.judge(scan.array)
    is_ct = scan.modality == "CT" or verdict.kind == hounsfield.RIGHT
    body = seen > _threshold(values.clip(_LEAST_HU) if is_ct else values)
    shown = np.minimum(to_8_bit(values, window).astype(np.int64) * BINS // 256, BINS - 1)
    return Profile(
        shape=_triple(int(side) for side in scan.array.shape),
        geometry=None if pictures else _placed(scan, _lengths(body) * step),
        modality=scan.modality,
        percentiles=_rounded(np.percentile(values, PERCENTILES)),
        below=_rounded([(values <= low).mean()])[0],
        above=_rounded([(values >= high).mean()])[0],
        greys=_rounded(np.bincount(shown, minlength=BINS) / values.size),
        body=_rounded([body.mean()])[0],
        values=len(np.unique(values)),
        hu=verdict.kind,
        hu_shift=verdict.shift,
        unscaled=scan.unscaled,
    )


def from_json(text: str) -> Profile:
    """The profile that :meth:`Profile.to_json` wrote. Raises ValueError for anything else."""
    try:
        content = json.loads(text)
        geometry = content["geometry"]
        content["geometry"] = geometry and Geometry(**_frozen(geometry))
        one = Profile(**_frozen(content))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"no profile of a scan: {type(error).__name__} {error}") from None
    if len(one.greys) != BINS or len(one.percentiles) != len(PERCENTILES):
        raise ValueError("no profile of a scan: another number of greys or percentiles")
    return one


def _placed(scan: Volume, body: NDArray[np.float64]) -> Geometry:
    """The geometry of a scan; of slices without one spacing, their largest usual distance."""
    mean = _geometry(scan.grid, body)
    if scan.uneven is None:
        return mean
    affine = scan.grid.affine.copy()
    affine[:, 2] *= scan.uneven.usual / scan.uneven.steps.mean()
    usual = _geometry(replace(scan.grid, affine=affine), body)
    return replace(usual, extent=mean.extent, body=mean.body)


def _geometry(grid: Grid, body: NDArray[np.float64]) -> Geometry:
    """The geometry of a source's grid; ``body`` is its length in voxels along x, y and z."""
    sides = np.array(grid.spacing)
    steps = grid.affine[:3, :3] / column_lengths(grid.affine)
    largest = np.abs(steps).max(axis=0).clip(0, 1)
    between = [
        abs(float(steps[:, one] @ steps[:, other])) for one, other in ((0, 1), (0, 2), (1, 2))
    ]
    # in a tilted gantry the way from slice to slice is longer than their distance
    upright = sides * abs(float(np.linalg.det(steps)))
    across = int(sides.argmax())
    apart = sides[across] >= ANISOTROPIC * np.delete(sides, across).max()
    return Geometry(
        spacing=_triple(_rounded(sides)),
        extent=_triple(_rounded(sides * _by_axis(grid))),
        plane=PLANES[across] if apart else "",
        thickness=_rounded([upright[across]])[0],
        axes="".join(map(str, aff2axcodes(grid.affine))),
        oblique=_degrees(np.arccos(largest.min())),
        shear=_degrees(np.arcsin(min(1.0, max(between)))),
        body=_triple(_rounded(body * sides)),
    )


def _by_axis(grid: Grid) -> NDArray[np.float64]:
    """How many voxels a grid has along x, y and z."""
    order = np.abs(io_orientation(grid.affine)[:, 0]).argsort()
    sides: NDArray[np.float64] = np.array(grid.shape, np.float64)[order]
    return sides


def _threshold(values: NDArray[np.float64]) -> float:
    """The value that separates dark from bright best; none is above it where all are the same.

    Otsu, IEEE Trans. SMC 9, 1979: the variance between both classes is the largest.
    """
    low, high = np.percentile(values, (PERCENTILES[0], PERCENTILES[-1]))
    if high <= low:
        return float(values.max())
    counts, edges = np.histogram(values.clip(low, high), _LEVELS)
    below = np.cumsum(counts)[:-1] / values.size
    sums = np.cumsum(counts * np.arange(_LEVELS))[:-1] / values.size
    mean = float((counts * np.arange(_LEVELS)).sum()) / values.size
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean * below - sums) ** 2 / (below * (1 - below))
    return float(edges[1 + int(np.nan_to_num(between, posinf=0).argmax())])


def _lengths(body: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Along each axis, the number of voxels that hold the body but for its outermost percent."""
    lengths = []
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        held = np.cumsum(body.sum(axis=others))
        ends = np.searchsorted(held, held[-1] * np.array([_OUTERMOST, 1 - _OUTERMOST]))
        lengths.append(float(ends[1] - ends[0] + 1) if held[-1] else 0.0)
    return np.array(lengths)


def _degrees(angle: float) -> float:
    return round(math.degrees(float(angle)), 2)


def _rounded(numbers: Any) -> tuple[float, ...]:
    return tuple(float(f"{float(number):.{_DIGITS}g}") for number in numbers)


def _triple(numbers: Iterable[Any]) -> tuple[Any, Any, Any]:
    x, y, z = numbers
    return x, y, z


def _frozen(content: Mapping[str, Any]) -> dict[str, Any]:
    """Lists as tuples; raises TypeError for what is no number or text."""
    frozen = {
        key: tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }
    for value in frozen.values():
        for one in value if isinstance(value, tuple) else (value,):
            if not isinstance(one, (int, float, str, Geometry, type(None))):
                raise TypeError(f"{one!r}")
    return frozen
