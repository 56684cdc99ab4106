"""Patients whose labels obey rules: a body cut into head and tail, and a core in its shell beside.

They are defined in mm in RAS+, and drawn on any grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.structure.probe import Drawing
from pipeline.volumes.volume import Grid, slices

NAMES = ("background", "head", "tail", "shell", "core")
HEAD, TAIL, SHELL, CORE = range(1, 5)
SHAPE = (17, 25, 29)
CORNER = np.array([-8.0, -12.0, -9.0])  # the centre of the first voxel, in mm
ANTERIOR = (0.0, 1.0, 0.0)
Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class Patient:
    """One patient's anatomy. ``normal``: of the plane between tail and head; ``grows``: in mm."""

    number: int
    normal: Sequence[float] = ANTERIOR
    place: float = field(default=0.0)
    grows: float = field(default=0.0)

    @classmethod
    def drawn(cls, number: int, normal: Sequence[float] = ANTERIOR) -> Patient:
        rng = np.random.default_rng(number)
        return cls(number, normal, int(rng.integers(-3, 4)) + 0.5, int(rng.integers(0, 2)))

    def at(self, points: NDArray[np.float64]) -> Ids:
        """Class ids (...) at points (..., 3) in mm."""
        x, y, z = np.moveaxis(points, -1, 0)
        ids = np.zeros(x.shape, np.uint8)
        body = (np.abs(x) < 5.5) & (np.abs(y) < 8.5 + self.grows) & (np.abs(z) < 5.5)
        ahead = points @ np.asarray(self.normal) > self.place
        ids[body] = np.where(ahead, HEAD, TAIL)[body]
        for label, side in ((SHELL, 5.5), (CORE, 3.5)):
            away = np.abs(np.stack([x, y, z - 12], axis=-1)).max(axis=-1)
            ids[away < side] = label
        return ids


def identity_grid() -> Grid:
    affine = np.eye(4)
    affine[:3, 3] = CORNER
    return Grid(SHAPE, affine)


def turned(degrees: float, axis: int = 2, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Grid:
    """A grid that is tilted about one axis, and large enough."""
    angle = np.radians(degrees)
    one, other = (at for at in range(3) if at != axis)
    affine = np.eye(4)
    affine[[one, one, other, other], [one, other, one, other]] = (
        np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
    )  # fmt: skip
    affine[:3, :3] *= spacing
    shape = tuple(int(np.ceil(40 / side)) for side in spacing)
    middle = (np.array(shape) - 1) / 2
    affine[:3, 3] = np.array([0, 0, 5]) - affine[:3, :3] @ middle
    return Grid(shape, affine)  # type: ignore[arg-type]


def reordered(grid: Grid, order: Sequence[int], flips: Sequence[bool]) -> Grid:
    """The same voxels, stored with other axes first, and from their other ends."""
    affine, shape = grid.affine.copy(), list(grid.shape)
    for axis in np.flatnonzero(flips):
        affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
        affine[:3, axis] *= -1
    affine[:, :3] = affine[:, list(order)]
    i, j, k = (shape[axis] for axis in order)
    return Grid((i, j, k), affine)


def stack(patient: Patient, grid: Grid, plane: str) -> tuple[Ids, NDArray[np.float64]]:
    """Class ids (N, rows, columns) of a patient on a grid, and the affine of these indices."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    stored = patient.at(index @ grid.affine[:3, :3].T + grid.affine[:3, 3])
    return slices(grid.to_ras(stored), plane), grid.world(plane)


def drawings(
    patients: Sequence[Patient],
    grid: Grid | None = None,
    plane: str = "axial",
    change: Callable[[int, Ids], Ids] = lambda _, ids: ids,
) -> list[Drawing]:
    """A drawing of each; ``change``: what is done to the class ids of the patient of a number."""

    def read(patient: Patient) -> tuple[Ids, NDArray[np.float64]]:
        ids, world = stack(patient, grid or identity_grid(), plane)
        return change(patient.number, ids), world

    return [Drawing(f"p{one.number}", lambda one=one: read(one)) for one in patients]
