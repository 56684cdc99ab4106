"""The truth of a case: raw labels of one or several raters -> class ids, one way or another.

``convert.raters`` decides what several raters become: ``majority`` (the class that most
raters chose, background where no class has more than the others), ``staple`` (Warfield et
al., IEEE TMI 23, 2004, in SimpleITK's multi-label form), ``each`` (a pair per rater), or
the name of one rater.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Picture, Problem
from pipeline import dicom, probes, stack, volume
from pipeline.params import FUSIONS, Limits
from pipeline.volume import Grid, Volume

AUTO = "auto"
Ids = NDArray[np.uint8]
LOST = 0.1
"""A class may lose this share of its volume by resampling; above, image and label do not show
the same part of a head."""
_SAMPLING = 8.0
"""Nearest neighbour alone may cost a class of n voxels (of the coarser grid) this many times the
root of n more: in 1,900 ellipsoids on straight, turned and sheared grids it cost up to 7.3."""


@dataclass(frozen=True)
class Truth:
    """Class ids (X, Y, Z) in RAS+ by rater ("": one rater, or several fused), and their story.

    ``agreement``: mean Dice over all pairs of raters, per class id, NaN where
    neither has the class; nothing for a single rater. ``snapped``: pixels whose colour was
    moved to a class. ``findings``: what is doubtful in the labels' headers, and whether they
    were resampled.
    """

    ids: Mapping[str, Ids]
    raters: int
    agreement: tuple[float, ...]
    table: str
    evidence: str
    snapped: int
    findings: tuple[str, ...] = ()


def read_image(picture: Picture, limits: Limits = Limits()) -> Volume:
    """An image of any kind (a file, a folder with a DICOM series, slices) as a volume.

    Raises :class:`Problem` for one that cannot be read, or is larger than ``limits`` allow.
    """
    if not isinstance(picture, Path):
        return stack.images(picture, limits)
    if picture.is_dir():
        return dicom.read_series(picture, limits=limits)
    return volume.read(picture, limits)


def has_own_grey(picture: Picture) -> bool:
    """Whether the pictures were windowed by their publisher: slices keep their values."""
    return not isinstance(picture, Path)


def truth(
    dataset: Dataset,
    image: Volume,
    labels: Mapping[str, Picture],
    raters: str,
    table: str = AUTO,
    evidence: str = "",
    limits: Limits = Limits(),
) -> Truth:
    """Read, decode and fuse the labels of one case.

    ``table`` names the label table where the dataset declares several; ``auto`` lets the
    probe decide by ``image``. Raises :class:`Problem` for a label that cannot be read, lies
    on another grid or holds undeclared values, that resampling takes more than :data:`LOST`
    from, or that is larger than ``limits`` allow, and for a rater that is not there.
    """
    read = drawn(dataset, image, labels, table, evidence, limits)
    classes = len(dataset.label_map)
    agreement = _agreement(list(read.ids.values()), classes)
    return Truth(
        fused(read.ids, raters, classes),
        len(labels),
        agreement,
        read.table,
        read.evidence,
        read.snapped,
        read.findings,
    )


@dataclass(frozen=True)
class Drawn:
    """Class ids (X, Y, Z) in RAS+ of every rater, and their story as in :class:`Truth`."""

    ids: Mapping[str, Ids]
    table: str
    evidence: str
    snapped: int
    findings: tuple[str, ...]


def drawn(
    dataset: Dataset,
    image: Volume,
    labels: Mapping[str, Picture],
    table: str = AUTO,
    evidence: str = "",
    limits: Limits = Limits(),
) -> Drawn:
    """Read and decode what each rater drew in one case, one after the other.

    Of ``image``, the voxels are looked at only where ``table`` is ``auto``. Raises as
    :func:`truth` does.
    """
    table = table if dataset.tables else ""
    snapped = 0
    findings: list[str] = []
    ids: dict[str, Ids] = {}
    for rater, picture in labels.items():
        where = picture if isinstance(picture, Path) else picture[0].parent
        raw, moved = read_raw(dataset, picture, limits)
        if (image.instances or image.uids) and not isinstance(picture, Path):
            raw = _beside(image, raw, where)
        stored = raw
        if dataset.resample_labels and not volume.same_grid(image.grid, raw.grid):
            raw = _resampled(raw, image.grid, where)
        volume.require_same_grid(image.grid, raw.grid, where)
        class_of = dict(dataset.label_map.class_of)
        if dataset.coding == "colours":
            class_of = _colours(dataset)
        if dataset.tables:
            if table == AUTO:
                verdict = probes.require_sure(probes.probe(dataset, image.array, raw.array), where)
                table, evidence = verdict.table, verdict.evidence
            class_of = dict(class_of_table(dataset, table))
        ids[rater] = volume.class_ids(raw, class_of, where).array
        told = list(raw.findings)
        if raw is not stored:
            before = volume.class_ids(stored, class_of, where)
            told[-1] += _volumes(dataset, before, Volume(ids[rater], image.grid), where)
            del before
        findings += [f"label: {one}" for one in told if one not in image.findings]
        del raw, stored  # else they would stand in memory beside the next
        snapped += moved
    return Drawn(ids, table, evidence, snapped, tuple(dict.fromkeys(findings)))


def read_raw(
    dataset: Dataset,
    picture: Picture,
    limits: Limits = Limits(),
) -> tuple[Volume, int]:
    """Raw label values of one rater, and the number of pixels whose colour was snapped."""
    if dataset.coding == "colours" and not isinstance(picture, Path):
        known = _colours(dataset) if not dataset.tables else {}
        for table in dataset.tables:
            known |= table.class_of
        snapped = stack.colours(picture, known, dataset.snap_distance, limits)
        return snapped.volume, snapped.pixels
    where = picture if isinstance(picture, Path) else picture[0].parent
    if isinstance(picture, Path):
        raw = read_image(picture, limits)
    else:
        raw = stack.values(picture, limits)
    return (stack.binary(raw, where) if dataset.coding == "binary" else raw), 0


def _resampled(raw: Volume, grid: Grid, where: Path) -> Volume:
    """A label on the image's grid. Raises :class:`Problem` if all that it drew lies outside."""
    moved = volume.resampled(raw, grid)
    if raw.array.any() and not moved.array.any():
        raise Problem(
            "expected a label that overlaps its image, got one whose drawing lies outside it"
            " or between its voxels",
            where=where,
            remedy="Do both belong to one patient and one scan? Correct the header that is wrong.",
        )
    return moved


def _volumes(dataset: Dataset, before: Volume, after: Volume, where: Path) -> str:
    """What resampling made of each class's volume, in words; class ids before and after.

    Raises :class:`Problem` where a class lost more than :data:`LOST`: outside the image, or
    altogether and beyond what sampling explains.
    """
    told = []
    coarser_ml = max(before.grid.voxel_ml, after.grid.voxel_ml)
    outside = volume.outside(before, after.grid, len(dataset.label_map))
    for label in dataset.label_map.foreground:
        drawn = int(np.count_nonzero(before.array == label.id))
        left = int(np.count_nonzero(after.array == label.id)) * after.grid.voxel_ml
        if not drawn:
            continue
        ml = drawn * before.grid.voxel_ml
        beyond = int(outside[label.id]) / drawn
        words = f"{label.name} {ml:.3g} to {left:.3g} ml ({left / ml - 1:+.1%})"
        words += f", {beyond:.1%} of it outside the image" if beyond else ""
        sampling = _SAMPLING * math.sqrt(ml * coarser_ml)
        if beyond > LOST or ml - left > LOST * ml + sampling:
            raise Problem(
                f"expected classes that lose at most {LOST:.0%} by resampling, got {words}",
                where=where,
                remedy="Do both belong to one patient and one scan? Correct the header that is"
                " wrong, or cut the label to what the image shows.",
            )
        told.append(words)
    return "".join(f", {words}" for words in told)


def _beside(image: Volume, drawn: Volume, where: Path) -> Volume:
    """Pictures drawn beside a DICOM series, on its grid: picture n belongs to instance n."""
    if not image.instances:
        raise Problem(
            "expected an InstanceNumber of its own in every slice, since picture n is drawn on"
            " instance n, got missing or repeated ones",
            where=where,
            remedy="Take the original export of the series.",
        )
    pictures = drawn.grid.from_ras(drawn.array)
    if pictures.shape != image.grid.shape:
        raise Problem(
            f"expected a picture for each of the series' {image.grid.shape[2]} slices of"
            f" {image.grid.shape[:2]} pixels, got {pictures.shape[2]} of {pictures.shape[:2]}",
            where=where,
        )
    placed = np.empty_like(pictures)
    placed[..., list(image.instances)] = pictures
    return Volume(image.grid.to_ras(placed), image.grid)


def _colours(dataset: Dataset) -> dict[int, int]:
    return stack.packed_colours({label.id: label.colour for label in dataset.label_map})


def class_of_table(dataset: Dataset, name: str) -> Mapping[int, int]:
    """Raw value -> class id in one of the dataset's label tables. Raises :class:`Problem`."""
    for table in dataset.tables:
        if table.name == name:
            return table.class_of
    names = ", ".join([AUTO, *(table.name for table in dataset.tables)])
    raise Problem(
        f"expected one of {names}, got {name!r}",
        where=f"convert.label_table of {dataset.title}",
        remedy="Correct it in the parameter file.",
    )


def fused(ids: Mapping[str, Ids], raters: str, classes: int) -> dict[str, Ids]:
    """What :data:`FUSIONS` or the name of a rater make of the class ids of several raters.

    Raises :class:`Problem` for a rater who is not there.
    """
    if raters == "each":
        return dict(ids)
    if raters not in FUSIONS:
        if raters not in ids:
            raise Problem(
                f"expected a label of {raters!r}, got those of {', '.join(ids)}",
                where="convert.raters",
            )
        return {raters: ids[raters]}
    arrays = list(ids.values())
    if len(arrays) == 1:
        return {"": arrays[0]}
    if raters == "majority":
        whole = volume.blank(arrays[0])
        for out, *votes in volume.slabs(whole, *arrays):
            if any(vote.any() for vote in votes):
                out[:] = sitk.GetArrayFromImage(
                    sitk.LabelVoting([sitk.GetImageFromArray(vote) for vote in votes], 0)
                )
        return {"": whole}
    staple = sitk.MultiLabelSTAPLE([sitk.GetImageFromArray(array) for array in arrays], classes)
    whole = sitk.GetArrayFromImage(staple).astype(np.uint8, copy=False)
    whole[whole >= classes] = 0  # STAPLE's mark for a tie
    return {"": whole}


def _agreement(ids: Sequence[Ids], classes: int) -> tuple[float, ...]:
    if len(ids) < 2:
        return ()
    pairs = list(combinations(range(len(ids)), 2))
    tables = np.zeros((len(pairs), classes, classes), np.int64)
    code = np.min_scalar_type(classes**2)
    for slab in volume.slabs(*ids):
        if not any(one.any() for one in slab):
            tables[:, 0, 0] += slab[0].size
            continue
        for table, (one, other) in zip(tables, pairs, strict=True):
            both = slab[one].astype(code) * code.type(classes) + slab[other]
            table += np.bincount(both.ravel("K"), minlength=classes**2).reshape(table.shape)
    means = []
    for class_id in range(classes):
        scores = []
        for table in tables:
            total = int(table[class_id].sum() + table[:, class_id].sum())
            if total:
                scores.append(2 * int(table[class_id, class_id]) / total)
        means.append(sum(scores) / len(scores) if scores else math.nan)
    return tuple(means)
