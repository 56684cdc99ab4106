"""A DICOM SEG -> class ids on the grid of the image that it was drawn on.

Each frame is put onto the slice that it lies on: the one to which it refers, where the image is the
series that was drawn on, else by its place. So series of a tilted gantry or of uneven spacing need
no grid of the SEG. Its rows and columns may run along the image's in any order and direction, and
be fewer, but they have to be the same pixels. Missing frames are background.

A SEG whose frames lie elsewhere has a grid of its own (:func:`on_own_grid`), which can be
resampled.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Problem
from pipeline.labels import segment_names
from pipeline.labels.planes import Planes, to_ras
from pipeline.labels.sheet import Sheet
from pipeline.labels.slabs import blank
from pipeline.params.dicom import USUAL
from pipeline.params.limits import Limits
from pipeline.volumes.dicom.segmentation import FRACTIONAL, LABELMAP, Frame, Segmentation
from pipeline.volumes.findings import LABEL, Finding, finding
from pipeline.volumes.limits import require_voxels
from pipeline.volumes.volume import Grid, Volume, column_lengths

Mask = NDArray[np.bool_]
Vector = NDArray[np.float64]
_TURNED = 1e-3  # by which directions differ that are one: 0.12 mm at 120 mm from the centre


class Elsewhere(Exception):
    """A frame that is none of the image's slices, and why."""


@dataclass(frozen=True)
class _Place:
    """Where a frame belongs: a slice, and the pixels along its two axes of the frame's columns and
    rows, ``turned`` if the columns run along the second axis."""

    index: int
    one: NDArray[np.intp]
    other: NDArray[np.intp]
    turned: bool


def onto(dataset: Dataset, seg: Segmentation, image: Volume) -> Volume:
    """The class ids of a SEG on an image's grid, and what is odd about it.

    Raises :class:`Problem` for unknown segments and overlapping classes, and :class:`Elsewhere`
    where a frame is none of the image's slices.
    """
    axes = (2, 1, 0) if image.uneven is None else (2,)  # across uneven slices, no pixels are even
    planes = [Planes.of(image, axis) for axis in axes]
    known = Counter(image.uids)
    slice_of = {uid: index for index, uid in enumerate(image.uids) if known[uid] == 1}
    places = [_place(seg, frame, planes, slice_of) for frame in seg.frames]
    sheet = Sheet(blank(image.grid.from_ras(image.array)))
    doubts: list[Finding] = []
    for number, class_id, mask in _masks(dataset, seg, doubts):
        plane, place = places[number]
        view = plane.slice_of(sheet.ids, place.index)
        inside = view[np.ix_(place.one, place.other)]
        sheet.draw(inside, mask if place.turned else mask.T, class_id)
        view[np.ix_(place.one, place.other)] = inside
    strangers = sum(
        bool(one.sources) and not slice_of.keys() & {*one.sources} for one in seg.frames
    )
    if slice_of and strangers:
        doubts.append(finding("frames-by-position", LABEL, frames=strangers, of=len(seg.frames)))
    found = (*doubts, *sheet.overlaps(dataset, seg.file))
    return Volume(image.grid.to_ras(sheet.ids), image.grid, findings=found)


def on_own_grid(dataset: Dataset, seg: Segmentation, limits: Limits) -> Volume:
    """The class ids of a SEG on the grid that its own frames make, with empty slices where it has
    no frame.

    Raises :class:`Problem` for unknown segments, overlapping classes, and frames that make no grid.
    """
    grid, index = _own_grid(seg)
    require_voxels(grid.shape, limits, seg.file)
    sheet = Sheet(np.zeros(grid.shape[::-1], np.uint8))
    doubts: list[Finding] = []
    for number, class_id, mask in _masks(dataset, seg, doubts):
        sheet.draw(sheet.ids[index[number]], mask, class_id)
    found = (*doubts, *sheet.overlaps(dataset, seg.file))
    return Volume(grid.to_ras(sheet.ids.transpose(2, 1, 0)), grid, findings=found)


def classes(dataset: Dataset, seg: Segmentation) -> frozenset[int]:
    """The class ids that a SEG draws anywhere. Raises :class:`Problem` for unknown segments."""
    return frozenset(class_id for _, class_id, mask in _masks(dataset, seg, []) if mask.any())


def _masks(
    dataset: Dataset, seg: Segmentation, doubts: list[Finding]
) -> Iterator[tuple[int, int, Mask]]:
    """The number of a frame, a class id, and where the frame draws it (rows, columns); again and
    again. What is odd is added to ``doubts``."""
    names = {one.number: one.label for one in seg.segments}
    kinds = {one.number: one.kind for one in seg.segments}
    drawing = dict.fromkeys(frame.segment for frame in seg.frames)
    shown = names if seg.kind == LABELMAP else {n: names[n] for n in drawing if n in names}
    shown = {number: name for number, name in shown.items() if number or seg.kind != LABELMAP}
    class_of, ignored = segment_names.classes_of(dataset.label_map, shown, seg.file, kinds)
    doubts += ignored
    least = 1.0
    if seg.kind == FRACTIONAL:
        least = max(1.0, math.ceil(dataset.fraction * seg.highest - 1e-9))
        doubts.append(finding("fractional", LABEL, threshold=dataset.fraction))
    for number, (frame, pixels) in enumerate(zip(seg.frames, seg.pixels(), strict=True)):
        values = [frame.segment]
        if seg.kind == LABELMAP:
            values = np.unique(pixels[pixels > 0]).tolist()
        for value in values:
            if value not in class_of:
                raise Problem(
                    f"expected pixels of segments that the file describes, got segment {value}",
                    where=seg.file,
                    remedy="It may be damaged; export it again.",
                )
            if class_of[value]:
                mask = pixels == value if seg.kind == LABELMAP else pixels >= least
                yield number, class_of[value], mask


def _place(
    seg: Segmentation, frame: Frame, planes: Sequence[Planes], slice_of: dict[str, int]
) -> tuple[Planes, _Place]:
    """The slice that a frame is, by what it refers to where that is known, else by its place.

    Raises :class:`Elsewhere` where there is none.
    """
    named = {slice_of[uid] for uid in frame.sources if uid in slice_of}
    index = named.pop() if len(named) == 1 else None
    if frame.position is None or frame.across is None or frame.down is None:
        if index is None or planes[0].shape != seg.shape[::-1]:
            raise Elsewhere("frames without a place, which refer to no slice of the image")
        columns, rows = (np.arange(side) for side in planes[0].shape)
        return planes[0], _Place(index, columns, rows, False)
    ways = np.stack([to_ras(frame.across), to_ras(frame.down)], axis=1)
    plane = next((one for one in planes if _parallel(one, ways)), None)
    if plane is None:
        raise Elsewhere("frames in other directions than the image's slices")
    return plane, _within(plane, ways, to_ras(frame.position), seg.shape, index)


def _parallel(plane: Planes, ways: Vector) -> bool:
    return bool((np.abs(plane.normal @ ways) <= _TURNED * column_lengths(ways)).all())


def _within(
    plane: Planes, ways: Vector, first: Vector, shape: tuple[int, int], index: int | None
) -> _Place:
    """The pixels of a slice that a frame of ``shape`` (rows, columns) has.

    ``index``: the slice to which it refers. Raises :class:`Elsewhere` where pixels or slice are
    others.
    """
    if index is None or plane.axis != 2:
        index = plane.nearest(float(first @ plane.normal))
    rows, columns = shape
    far = np.array([[0, 0], [columns - 1, 0], [0, rows - 1], [columns - 1, rows - 1]])
    corners = first + far @ ways.T
    steps = np.rint(np.linalg.pinv(plane.ways) @ ways)
    turned = bool(steps[0, 0] == 0)
    sides = (int(steps[1, 0]), int(steps[0, 1])) if turned else (int(steps[0, 0]), int(steps[1, 1]))
    start = np.rint(plane.pixels(first[None], index)[0])
    pixels = start + far @ steps.T
    off = float(np.sqrt(((plane.points(pixels, index) - corners) ** 2).sum(axis=1)).max())
    if set(map(abs, sides)) != {1} or np.count_nonzero(steps) != 2 or off > plane.tolerance:
        raise Elsewhere(
            f"a frame of pixels that lie up to {off:.3g} mm from those of the nearest slice"
            f" (tolerance {plane.tolerance:.3g} mm)"
        )
    if (pixels < 0).any() or (pixels > np.array(plane.shape) - 1).any():
        raise Elsewhere(f"frames of {columns} x {rows} pixels, some of which the image lacks")
    of_columns = int(start[1 if turned else 0]) + sides[0] * np.arange(columns)
    of_rows = int(start[0 if turned else 1]) + sides[1] * np.arange(rows)
    one, other = (of_rows, of_columns) if turned else (of_columns, of_rows)
    return _Place(index, one, other, turned)


def _own_grid(seg: Segmentation) -> tuple[Grid, list[int]]:
    """The grid of a SEG's own frames, and the third index of each.

    Raises :class:`Problem` where the frames have no places, no common directions or no one spacing.
    """
    first = seg.frames[0]
    if first.position is None or first.across is None or first.down is None:
        raise _no_grid(seg, "frames without a place")
    ways = np.stack([first.across, first.down], axis=1)
    positions = []
    for frame in seg.frames:
        if frame.position is None or frame.across is None or frame.down is None:
            raise _no_grid(seg, "frames without a place")
        if not np.allclose(ways, np.stack([frame.across, frame.down], axis=1), atol=_TURNED):
            raise _no_grid(seg, "frames of several directions or pixel sizes")
        positions.append(frame.position)
    normal = np.cross(ways[:, 0], ways[:, 1])
    normal /= np.linalg.norm(normal)
    step, index = _steps(seg, np.array(positions), normal)
    affine = np.eye(4)
    affine[:3, :2], affine[:3, 2] = to_ras(ways.T).T, to_ras(step)
    affine[:3, 3] = to_ras(positions[index.index(0)])
    rows, columns = seg.shape
    return Grid((columns, rows, max(index) + 1), affine), index


def _steps(seg: Segmentation, positions: Vector, normal: Vector) -> tuple[Vector, list[int]]:
    """The way from a slice to the next, (3,), and how many such steps each position is away."""
    depths = positions @ normal
    order = depths.argsort()
    apart = np.diff(depths[order])
    apart = apart[apart > USUAL.same_place_mm]
    if not len(apart):
        return normal * (seg.step or 1.0), [0] * len(positions)
    low, high = positions[order[0]], positions[order[-1]]
    least = float(apart.min())
    if (
        seg.step
        and abs(least / seg.step - round(least / seg.step)) * seg.step < USUAL.same_place_mm
    ):
        least = min(least, seg.step)  # frames of empty slices are left out
    step = (high - low) / round(float((high - low) @ normal) / least)
    index = np.rint((depths - depths[order[0]]) / float(step @ normal))
    off = positions - low - index[:, None] * step
    if float(np.sqrt((off**2).sum(axis=1)).max()) > USUAL.same_place_mm:
        raise _no_grid(seg, "frames without one spacing")
    return step, index.astype(int).tolist()


def _no_grid(seg: Segmentation, why: str) -> Problem:
    return Problem(
        f"expected frames that are slices of the image, or of a grid of their own, got {why}",
        where=seg.file,
        remedy="Draw it on the image's own slices.",
    )
