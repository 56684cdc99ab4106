"""An RTSTRUCT -> class ids on the slices of the image that it was drawn on.

A contour belongs to the slice to which it refers, or else to the nearest, if all its points lie
within half of that slice's thickness. Of a region's contours that a slice gets in several planes,
because they were drawn closer than the slices are, the nearest plane is taken. The contours of one
region in one plane are drawn together by the even-odd rule (:mod:`pipeline.labels.filling`), so
inner ones are holes, whether they are CLOSED_PLANAR or CLOSEDPLANAR_XOR. Points and open lines
enclose nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, LabelMap, Problem
from pipeline.labels import scanlines, segment_names
from pipeline.labels.filling import filled, single, through_centres
from pipeline.labels.planes import Planes, to_ras
from pipeline.labels.resample import LOST
from pipeline.labels.sheet import Sheet
from pipeline.labels.slabs import blank
from pipeline.params.dicom import USUAL
from pipeline.volumes.dicom.structures import Contour, Region
from pipeline.volumes.findings import LABEL, Finding, finding
from pipeline.volumes.volume import Volume

_DIGITS = 6  # of a pixel's place
Points = NDArray[np.float64]


@dataclass
class _Counts:
    """What became of the contours of all regions that are drawn, and of their classes."""

    contours: int = 0
    open: int = 0
    repeated: int = 0
    between: int = 0
    outside: int = 0
    strangers: int = 0
    crossed: int = 0
    drawn: int = 0
    centred: bool = False
    stated: Counter[int] = field(default_factory=Counter)
    left_out: Counter[int] = field(default_factory=Counter)
    of_class: Counter[int] = field(default_factory=Counter)
    shown: Counter[int] = field(default_factory=Counter)
    clipped: Counter[int] = field(default_factory=Counter)
    slices: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


def onto(dataset: Dataset, regions: Sequence[Region], image: Volume, where: object) -> Volume:
    """The class ids of a structure set on an image's grid, and what is odd about it.

    Raises :class:`Problem` for unknown regions, for overlapping classes, and where a class loses
    more than :data:`~pipeline.labels.resample.LOST`: of its contours because they are on no slice
    (unless the dataset allows labels on other grids), or of what they enclose because it lies
    outside.
    """
    class_of, found = _classes(dataset.label_map, regions, where)
    wanted = [region for region in regions if class_of.get(region.number)]
    planes = _planes(image, wanted)
    sheet, counts = Sheet(blank(image.grid.from_ras(image.array))), _Counts()
    outlines = [
        (class_of[region.number], index, _polygons(contours, planes, index))
        for region in wanted
        for index, contours in _by_slice(region, class_of[region.number], image, planes, counts)
    ]
    counts.centred = through_centres([one for _, _, polygons in outlines for one in polygons])
    for class_id, index, polygons in outlines:
        scanlines.require_within_reach(polygons, where)
        if len(polygons) > 1:
            polygons, repeated, crossed = single(polygons, planes.shape)
            counts.repeated, counts.crossed = counts.repeated + repeated, counts.crossed + crossed
        mask, beyond = filled(polygons, planes.shape, counts.centred)
        counts.shown[class_id] += int(mask.sum())
        counts.clipped[class_id] += beyond
        counts.slices[class_id].add(index)
        sheet.draw(planes.slice_of(sheet.ids, index), mask, class_id)
    doubts = (*found, *_of_counts(dataset, counts, where), *sheet.overlaps(dataset, where))
    return Volume(image.grid.to_ras(sheet.ids), image.grid, findings=doubts)


def classes(dataset: Dataset, regions: Sequence[Region], where: object) -> frozenset[int]:
    """The class ids that a structure set draws. Raises :class:`Problem` for unknown regions."""
    closed = [region for region in regions if any(one.encloses for one in region.contours)]
    class_of, _ = _classes(dataset.label_map, closed, where)
    return frozenset(class_of.values()) - {0}


def _classes(
    label_map: LabelMap, regions: Sequence[Region], where: object
) -> tuple[dict[int, int], tuple[Finding, ...]]:
    """Number of a region that draws something -> class id, 0 where it is left out.

    Points and open lines of no class, such as an isocentre, are nobody's drawing.
    """
    names = {
        one.number: one.name
        for one in regions
        if any(each.encloses for each in one.contours)
        or (one.contours and segment_names.is_class(label_map, one.name))
    }
    return segment_names.classes_of(label_map, names, where, {})


def _planes(image: Volume, regions: Sequence[Region]) -> Planes:
    """The slices that contours lie in: those of the axis across which they reach least."""
    closed = [one.points for region in regions for one in region.contours if one.encloses]
    if image.uids or image.uneven is not None or not closed:
        return Planes.of(image, 2)
    candidates = [Planes.of(image, axis) for axis in (2, 1, 0)]
    reach = [
        sum(float(np.ptp(to_ras(points) @ planes.normal)) for points in closed)
        for planes in candidates
    ]
    return candidates[int(np.argmin(np.round(reach, 3)))]


def _by_slice(
    region: Region, class_id: int, image: Volume, planes: Planes, counts: _Counts
) -> Iterator[tuple[int, list[Points]]]:
    """The closed contours of a region that each slice shows, as points (N, 3) in RAS+."""
    known = Counter(image.uids)
    slice_of = {uid: index for index, uid in enumerate(image.uids) if known[uid] == 1}
    there: dict[int, list[tuple[float, Points]]] = defaultdict(list)
    counts.contours += len(region.contours)
    counts.stated[class_id] += len(region.contours)
    for contour in region.contours:
        if not contour.encloses:
            counts.open += 1
            continue
        counts.of_class[class_id] += 1
        points = to_ras(contour.points)
        counts.strangers += bool(slice_of and contour.sources) and not (
            slice_of.keys() & {*contour.sources}
        )
        index = _slice_of(contour, points, planes, slice_of)
        off = points @ planes.normal - planes.depths[index]
        if float(np.abs(off).max()) <= planes.thicknesses[index] / 2 + USUAL.same_place_mm / 2:
            there[index].append((float(off.mean()), points))
        else:
            counts.outside += 1
            counts.left_out[class_id] += 1
    for index, contours in sorted(there.items()):
        nearest = min((off for off, _ in contours), key=abs)
        plane = [points for off, points in contours if abs(off - nearest) <= USUAL.same_place_mm]
        counts.between += len(contours) - len(plane)
        counts.left_out[class_id] += len(contours) - len(plane)
        counts.drawn += len(plane)
        yield index, plane


def _slice_of(contour: Contour, points: Points, planes: Planes, slice_of: Mapping[str, int]) -> int:
    """The slice to which a contour refers, or else the one nearest to it."""
    named = {slice_of[uid] for uid in contour.sources if uid in slice_of}
    if len(named) == 1:
        return named.pop()
    return planes.nearest(float((points @ planes.normal).mean()))


def _polygons(contours: Sequence[Points], planes: Planes, index: int) -> list[Points]:
    """Contours in pixels of a slice; rounded, so that the last bits of a machine's arithmetic move
    no centre across an outline."""
    return [planes.pixels(points, index).round(_DIGITS) + 0.0 for points in contours]


def _of_counts(dataset: Dataset, counts: _Counts, where: object) -> Iterator[Finding]:
    """What is odd about contours. Raises :class:`Problem` where too much of a class is lost."""
    names = [label.name for label in dataset.label_map]
    for class_id, left_out in counts.left_out.items():
        of = counts.of_class[class_id]
        if left_out > LOST * of and not (dataset.resample_labels and left_out < of):
            raise Problem(
                f"expected contours on the image's slices, got {left_out} of {of} of"
                f" {names[class_id]} between or beyond them",
                where=where,
                remedy="Do both belong to one patient and one scan? If they do, let the adapter"
                " state resample_labels: then a slice shows the nearest contours within half of"
                " its thickness.",
            )
    if counts.drawn:
        slices = len(set().union(*counts.slices.values()))
        yield finding("contours-rasterised", LABEL, contours=counts.drawn, slices=slices)
    if counts.centred:
        yield finding("contours-centred", LABEL)
    if counts.open:
        yield finding("contours-open", LABEL, count=counts.open, of=counts.contours)
    if counts.strangers:
        numbers = {"frames": counts.strangers, "of": counts.contours}
        yield finding("frames-by-position", LABEL, **numbers)
    if counts.repeated:
        yield finding("contours-repeated", LABEL, count=counts.repeated)
    if counts.between or counts.outside:
        of = sum(counts.of_class.values())
        numbers = {"between": counts.between, "outside": counts.outside, "of": of}
        yield finding("contours-left-out", LABEL, **numbers)
    if counts.crossed:
        yield finding("contours-cross", LABEL, pixels=counts.crossed)
    yield from _of_classes(names, counts, where)


def _of_classes(names: Sequence[str], counts: _Counts, where: object) -> Iterator[Finding]:
    """What each class lost outside of the slices, and slices without a contour in its midst."""
    for class_id, contours in sorted(counts.stated.items()):
        if not counts.shown[class_id]:
            numbers = {"name": names[class_id], "contours": contours}
            yield finding("contours-empty", LABEL, **numbers)
    for class_id, slices in sorted(counts.slices.items()):
        beyond = counts.clipped[class_id]
        share = beyond / max(beyond + counts.shown[class_id], 1)
        if share > LOST:
            raise Problem(
                f"expected contours within the image's slices, got {share:.1%} of what"
                f" {names[class_id]} encloses outside of them",
                where=where,
                remedy="Do both belong to one patient and one scan?",
            )
        if beyond:
            yield finding("contours-clipped", LABEL, name=names[class_id], share=share)
        missing = max(slices) - min(slices) + 1 - len(slices)
        if missing:
            yield finding("contours-missing", LABEL, name=names[class_id], slices=missing)
