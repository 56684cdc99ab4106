"""What was drawn, in numbers: the rows of ``volumes.csv``, per scan, class and component.

Each scan and class has a row of kind ``class``, one of kind ``component`` for each of its largest
:data:`MOST_LISTED` connected regions, largest first, and one of kind ``rest`` that sums those that
are not listed. Voxels of a scan are connected by faces, edges and corners (26 neighbours), pixels
of a picture likewise (8).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Label, LabelMap
from model.regions import Regions, regions, slabs
from pipeline.runtime import files
from pipeline.volumes import volume
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
)
"""``scan``, ``class``: names. ``kind``: class, component or rest. ``component``: its number, 1 the
largest. ``ml``: millilitres; empty for pictures, which state no size. ``voxels``: of a picture,
its pixels. ``x_mm``, ``y_mm``, ``z_mm``: the centre of mass in the scan's world, millimetres, RAS+
(right, anterior and superior are positive). ``row``, ``column``: the centre of mass in the slice
as it is shown, counted from 1 at the upper left. ``first_slice``, ``last_slice``: counted from 1,
as in the viewer. ``slices``: how many are touched. ``components``: how many a row stands for."""

Row = dict[str, str | int | float | None]
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def measured(
    scan: str,
    ids: NDArray[np.uint8],
    label_map: LabelMap,
    grid: Grid | None = None,
    plane: str = "axial",
) -> list[Row]:
    """The rows of one scan: class ids (N, rows, columns) uint8, slices of ``grid`` in ``plane``.

    Without ``grid`` the slices are pictures: components end with their slice, and ml and mm are
    None. Values are rounded to 1e-6 ml, 1e-3 mm and 1e-2 pixels. Memory goes with
    the outline of a class, not with its voxels (see :mod:`model.regions`).
    """
    to_mm = None if grid is None else world(grid, plane)
    rows: list[Row] = []
    for label in label_map.foreground:
        masks = (slab == label.id for slab in slabs(ids))
        found = regions(masks, corners=True, planar=grid is None)
        rows += ({"scan": scan, **row} for row in _of_class(label, found, to_mm))
    return rows


def world(grid: Grid, plane: str) -> NDArray[np.float64]:
    """The affine (4, 4) from (slice, row, column) in ``plane``, each from 0, to mm in RAS+."""
    corner = []
    for axis, count in enumerate(grid.shape):  # the grid's own index of the first slice's corner
        along = np.arange(count).reshape([-1 if one == axis else 1 for one in range(3)])
        own = grid.to_ras(np.broadcast_to(along, grid.shape))
        corner.append(int(volume.slices(own, plane)[0, 0, 0]))
    affine = np.eye(4)
    affine[:3, :3] = grid.steps(plane)
    affine[:3, 3] = (grid.affine @ [*corner, 1])[:3]
    return affine


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
        table.writerows({name: _plain(row[name]) for name in COLUMNS} for row in rows)


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _of_class(label: Label, found: Regions, to_mm: NDArray[np.float64] | None) -> Iterator[Row]:
    """The row of a class, those of its components, and of the rest."""
    order = np.argsort(-found.sizes, kind="stable")
    touched = np.unique(found.runs.places()[0])
    whole = int(found.sizes.sum())
    centre = found.sizes @ found.centres / whole if whole else None
    yield {
        **_row(label, "class", whole, to_mm, centre),
        **_slices(touched),
        "components": found.count,
    }
    for number, one in enumerate(order[:MOST_LISTED], 1):
        first, last = found.spans[one]
        yield {
            **_row(label, "component", int(found.sizes[one]), to_mm, found.centres[one]),
            **_slices(range(first, last + 1)),  # a component is in every slice between
            "component": number,
            "components": 1,
        }
    rest = order[MOST_LISTED:]
    if len(rest):
        yield {
            **_row(label, "rest", int(found.sizes[rest].sum()), to_mm, None),
            "components": len(rest),
        }


def _row(
    label: Label,
    kind: str,
    voxels: int,
    to_mm: NDArray[np.float64] | None,
    centre: NDArray[np.float64] | None,
) -> Row:
    """A row but for its scan, slices and numbers; ``centre`` is (slice, row, column) from 0."""
    row: Row = dict.fromkeys(COLUMNS[1:])
    row |= {"class": label.name, "kind": kind, "voxels": voxels}
    if to_mm is not None:
        row["ml"] = round(voxels * abs(float(np.linalg.det(to_mm[:3, :3]))) / 1000, 6)
    if centre is not None:
        row |= {
            name: round(float(at) + 1, 2)
            for name, at in zip(("row", "column"), centre[1:], strict=True)
        }
        if to_mm is not None:
            place = (to_mm @ np.append(centre, 1))[:3]
            row |= {
                f"{name}_mm": round(float(at), 3) + 0.0
                for name, at in zip("xyz", place, strict=True)
            }
    return row


def _slices(touched: Sequence[int] | NDArray[np.integer[Any]]) -> Row:
    if not len(touched):
        return {"slices": 0}
    return {
        "first_slice": int(touched[0]) + 1,
        "last_slice": int(touched[-1]) + 1,
        "slices": len(touched),
    }
