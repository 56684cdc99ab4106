"""What was drawn, in numbers: the rows of ``volumes.csv``, per scan, class and component.

Each scan and class has a row of kind ``class``, one of kind ``component`` for each of its largest
:data:`MOST_LISTED` connected regions, largest first, and one of kind ``rest`` that sums those that
are not listed. Voxels of a scan are connected by faces, edges and corners (26 neighbours), pixels
of a picture likewise (8).

Slices without one spacing are connected as any others, also across a gap. Their voxels are as thick
as :attr:`~pipeline.volumes.uneven.Uneven.thicknesses` states, and weigh in centres accordingly.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Label, LabelMap
from model.regions import Regions, regions, slabs
from pipeline.runtime import files
from pipeline.volumes.uneven import Uneven
from pipeline.volumes.volume import Grid

MOST_LISTED = 200
"""Components of one class and scan with a row of their own: thousands are noise."""
COLUMNS = (
    "scan",
    "class",
    "kind",
    "component",
    "ml",
    "voxels",
    "x_mm",
    "y_mm",
    "z_mm",
    "row",
    "column",
    "first_slice",
    "last_slice",
    "slices",
    "components",
    "absent",
    "expected_dice",
)
"""``scan``, ``class``: names. ``kind``: class, component or rest. ``component``: its number, 1 the
largest. ``ml``: millilitres; empty for pictures, which state no size. ``voxels``: of a picture,
its pixels. ``x_mm``, ``y_mm``, ``z_mm``: the centre of mass in the scan's world, millimetres, RAS+
(right, anterior and superior are positive). ``row``, ``column``: the centre of mass in the slice
as it is shown, counted from 1 at the upper left. ``first_slice``, ``last_slice``: counted from 1,
as in the viewer. ``slices``: how many are touched. ``components``: how many a row stands for.
``absent``: the sequences that the case lacks, joined by ",", of a model that sees several.
``expected_dice``: of a class that was drawn, :mod:`model.inference.expected`, before
post-processing."""

Row = dict[str, str | int | float | None]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def measured(
    scan: str,
    ids: NDArray[np.uint8],
    label_map: LabelMap,
    grid: Grid | None = None,
    plane: str = "axial",
    uneven: Uneven | None = None,
) -> list[Row]:
    """The rows of one scan: class ids (N, rows, columns) uint8, slices of ``grid`` in ``plane``.

    ``uneven``: the places of slices without one spacing, whose own plane ``plane`` is. Without
    ``grid`` the slices are pictures: components end with their slice, and ml and mm are None.
    Values are rounded to 1e-6 ml, 1e-3 mm and 1e-2 pixels. Memory goes with the outline of a
    class, not with its voxels (see :mod:`model.regions`).
    """
    space = None if grid is None else _Space.of(grid, plane, uneven)
    rows: list[Row] = []
    for label in label_map.foreground:
        masks = (slab == label.id for slab in slabs(ids))
        found = regions(masks, corners=True, planar=grid is None)
        rows += ({"scan": scan, **row} for row in _of_class(label, _Found.of(found, space)))
    return rows


def with_expected(rows: Iterable[Row], label_map: LabelMap, dice: Sequence[float]) -> None:
    """Give the rows of the classes that were drawn the Dice to be expected, by foreground class."""
    names = (label.name for label in label_map.foreground)
    by_class = dict(zip(names, dice, strict=True))
    for row in rows:
        if row["kind"] == "class" and row["voxels"]:
            expected = by_class[str(row["class"])]
            row["expected_dice"] = None if math.isnan(expected) else round(expected, 4)


def write_csv(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write ``volumes.csv``, completely or not at all.

    A name that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    with (
        files.replacing(file) as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as stream,
    ):
        table = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows({name: _plain(row.get(name, "")) for name in COLUMNS} for row in rows)


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


@dataclass(frozen=True)
class _Space:
    """Where voxels lie, and how large they are.

    ``to_mm``: :meth:`~pipeline.volumes.volume.Grid.world`. Of slices without one spacing, in the
    order in which they are shown: ``weights`` (N,), how much thicker they are than ``to_mm``
    states, and ``shifts`` (N, 3), by how many mm they lie elsewhere.
    """

    to_mm: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    shifts: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, grid: Grid, plane: str, uneven: Uneven | None) -> _Space:
        to_mm = grid.world(plane)
        if uneven is None:
            return cls(to_mm)
        weights = grid.in_order(uneven.thicknesses / uneven.steps.mean())
        return cls(to_mm, weights, grid.in_order(uneven.shifts(grid.affine)))


@dataclass(frozen=True)
class _Found:
    """Regions, as many even voxels as they weigh (count,), and their centres (count, 3).

    ``centres``: slice, row and column from 0. ``shifts`` (count, 3): how many mm these lie from
    where ``to_mm`` (4, 4) puts them, which is None for pictures.
    """

    regions: Regions
    to_mm: NDArray[np.float64] | None
    weights: NDArray[np.float64] | NDArray[np.int64]
    centres: NDArray[np.float64]
    shifts: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, found: Regions, space: _Space | None) -> _Found:
        if space is None:
            return cls(found, None, found.sizes, found.centres)
        if space.weights is None or space.shifts is None:
            return cls(found, space.to_mm, found.sizes, found.centres)
        index, row, column = found.runs.places()
        lengths = found.runs.lengths()
        heavy = lengths * space.weights[index]
        weights = np.bincount(found.of_run, heavy, found.count)
        places = (index, row, column + (lengths - 1) / 2, *space.shifts[index].T)
        means = [np.bincount(found.of_run, heavy * one, found.count) / weights for one in places]
        return cls(found, space.to_mm, weights, np.stack(means[:3], 1), np.stack(means[3:], 1))

    def size(self, which: Any) -> Row:
        """Voxels and ml of some regions together."""
        row: Row = {"voxels": int(self.regions.sizes[which].sum())}
        if self.to_mm is not None:
            one_ml = abs(float(np.linalg.det(self.to_mm[:3, :3])))
            row["ml"] = round(float(self.weights[which].sum()) * one_ml / 1000, 6)
        return row

    def centre(self, which: int | None) -> Row:
        """The centre of one region, or of all."""
        row: Row = {
            name: round(float(at) + 1, 2)
            for name, at in zip(("row", "column"), self._mean(self.centres, which)[1:], strict=True)
        }
        if self.to_mm is not None:
            place = (self.to_mm @ np.append(self._mean(self.centres, which), 1))[:3]
            if self.shifts is not None:
                place += self._mean(self.shifts, which)
            row |= {
                f"{name}_mm": round(float(at), 3) + 0.0
                for name, at in zip("xyz", place, strict=True)
            }
        return row

    def _mean(self, of: NDArray[np.float64], which: int | None) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = (
            self.weights @ of / self.weights.sum() if which is None else of[which]
        )
        return mean


def _of_class(label: Label, found: _Found) -> Iterator[Row]:
    """The row of a class, those of its components, and of the rest."""
    order = np.argsort(-found.weights, kind="stable")
    empty: Row = {**dict.fromkeys(COLUMNS[1:]), "class": label.name}
    yield {
        **empty,
        "kind": "class",
        **found.size(slice(None)),
        **(found.centre(None) if len(order) else {}),
        **_slices(np.unique(found.regions.runs.places()[0])),
        "components": len(order),
    }
    for number, one in enumerate(order[:MOST_LISTED].tolist(), 1):
        first, last = found.regions.spans[one]
        yield {
            **empty,
            "kind": "component",
            **found.size(one),
            **found.centre(one),
            **_slices(range(first, last + 1)),  # a component is in every slice between
            "component": number,
            "components": 1,
        }
    rest = order[MOST_LISTED:]
    if len(rest):
        yield {**empty, "kind": "rest", **found.size(rest), "components": len(rest)}


def _slices(touched: Sequence[int] | NDArray[np.integer[Any]]) -> Row:
    if not len(touched):
        return {"slices": 0}
    return {
        "first_slice": int(touched[0]) + 1,
        "last_slice": int(touched[-1]) + 1,
        "slices": len(touched),
    }
