"""What raters drew -> class ids: reading, decoding and checking the raw values of labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, Dataset, Picture, Problem, paths_of, scan_of
from pipeline.labels import by_slice, drawings, grids, pictures, tables
from pipeline.labels.resample import volume_changes
from pipeline.labels.slabs import blank, slabs
from pipeline.labels.tables import AUTO, class_of_table
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import objects
from pipeline.volumes.findings import LABEL, Finding
from pipeline.volumes.reader import read_image
from pipeline.volumes.volume import Volume

Ids = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawn:
    """Class ids (X, Y, Z) in RAS+ of every rater, and what :class:`Truth` records of them."""

    ids: Mapping[str, Ids]
    table: str
    evidence: str
    snapped: int
    findings: tuple[Finding, ...]


def drawn(
    dataset: Dataset,
    image: Volume,
    labels: Mapping[str, Picture],
    table: str = AUTO,
    evidence: str = "",
    limits: Limits = Limits(),
    tolerances: Tolerances = USUAL,
) -> Drawn:
    """Read and decode what each rater drew in one case, one after the other.

    Of ``image``, the voxels are looked at only where ``table`` is ``auto``. Raises as
    :func:`truth` does.
    """
    table = table if dataset.tables else ""
    snapped = 0
    findings: list[Finding] = []
    ids: dict[str, Ids] = {}
    for rater, picture in labels.items():
        drawing = objects.drawing(picture)
        if drawing is not None:
            read = drawings.class_ids(dataset, drawing, image, limits)
            ids[rater] = read.array
            findings += read.findings
            continue
        where = scan_of(picture) or paths_of(picture)[0].parent
        raw, moved = read_raw(dataset, picture, limits, tolerances)
        if (image.instances or image.uids) and scan_of(picture) is None:
            raw = _beside(image, raw, where)
        stored, resampled = raw, False
        if image.uneven or raw.uneven:
            raw = stored = by_slice.laid(raw, image, where)
        else:
            raw, resampled = grids.on_grid(dataset, stored, image.grid, where)
        if dataset.tables and table == AUTO:
            verdict = tables.require_sure(tables.probe(dataset, image.array, raw.array), where)
            table, evidence = verdict.table, verdict.evidence
        class_of = _class_of(dataset, table)
        ids[rater] = class_ids(raw, class_of, where).array
        findings += [one for one in raw.findings if one not in image.findings]
        if resampled:
            before, after = class_ids(stored, class_of, where), Volume(ids[rater], image.grid)
            findings += volume_changes(dataset, before, after, where)
            del before, after
        del raw, stored  # else they would stand in memory beside the next
        snapped += moved
    of_labels = dict.fromkeys(replace(one, about=LABEL) for one in findings)
    return Drawn(ids, table, evidence, snapped, tuple(of_labels))


def _class_of(dataset: Dataset, table: str) -> dict[int, int]:
    """Raw value -> class id, as the label map, its colours or the label table have it."""
    if dataset.tables:
        known = dict(class_of_table(dataset, table))
    elif dataset.coding == "colours":
        known = _colours(dataset)
    else:
        known = dict(dataset.label_map.class_of)
    return known | dict.fromkeys(dataset.ignored_values, IGNORED)


def read_raw(
    dataset: Dataset,
    picture: Picture,
    limits: Limits = Limits(),
    tolerances: Tolerances = USUAL,
) -> tuple[Volume, int]:
    """Raw label values of one rater, and the number of pixels whose colour was snapped."""
    if dataset.coding == "colours" and isinstance(picture, tuple):
        known = _colours(dataset) if not dataset.tables else {}
        for table in dataset.tables:
            known |= table.class_of
        known |= dict.fromkeys(dataset.ignored_values, IGNORED)
        snapped = pictures.colours(picture, known, dataset.snap_distance, limits)
        return snapped.volume, snapped.pixels
    where = scan_of(picture) or paths_of(picture)[0].parent
    if isinstance(picture, tuple):
        raw = pictures.values(picture, limits)
    else:
        raw = read_image(picture, limits, tolerances)
    return (pictures.binary(raw, where) if dataset.coding == "binary" else raw), 0


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
    return Volume(image.grid.to_ras(placed), image.grid, uneven=image.uneven)


def _colours(dataset: Dataset) -> dict[int, int]:
    return pictures.packed_colours({label.id: label.colour for label in dataset.label_map})


_COUNTABLE = 1 << 16  # integers that span less are looked up, which is quicker than sorting
INTEGER = 1e-6
"""A float label counts as an integer within this distance."""


def class_ids(label: Volume, declared: Mapping[int, int], where: object) -> Volume:
    """Raw label values -> class ids uint8; ``declared``: raw value -> class id.

    Raises :class:`Problem` for a value that is no integer or not declared, with
    the count.
    """
    ids = blank(label.array)
    wrong = []
    for raw, out in slabs(label.array, ids):
        if raw.any() or declared.get(0) != 0:
            decoded, strange = _of_values(raw, declared)
            if strange.any():
                wrong.append(raw[strange].min())
            elif decoded.any():
                out[:] = decoded
    if not wrong:
        return Volume(ids, label.grid)
    value = min(wrong)
    count = sum(int(np.count_nonzero(raw == value)) for (raw,) in slabs(label.array))
    if abs(float(value) - np.rint(float(value))) > INTEGER:
        raise Problem(
            f"expected integers as labels, got {value.item()!r} in {count} voxels",
            where=where,
            remedy="Is it a probability map, or was it resampled with interpolation?",
        )
    raise Problem(
        f"expected the label values {sorted(declared)}, got {int(np.rint(value))} in"
        f" {count} voxels",
        where=where,
        remedy="Declare the value in the dataset's label map, or in ignored_values if it marks what"
        " nobody annotated, or correct the file.",
    )


def _of_values(
    raw: NDArray[Any], declared: Mapping[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The class ids of raw values, and where these are no integers or not declared."""
    with np.errstate(invalid="ignore"):  # what is beyond 64 bits is not declared either
        whole = np.rint(raw).astype(np.int64) if raw.dtype.kind == "f" else raw
    low = int(whole.min())
    if int(whole.max()) - low < _COUNTABLE:
        place = whole.astype(np.uint16) - np.uint16(low % _COUNTABLE)  # wraps round, and back
        values = range(low, low + int(place.max()) + 1)
    else:
        distinct, place = np.unique(whole, return_inverse=True)
        values = distinct.tolist()
    ids = np.array([declared.get(value, 0) for value in values], np.uint8)
    strange = np.array([value not in declared for value in values])[place]
    if raw.dtype.kind == "f":
        strange |= np.abs(raw - whole) > INTEGER
    return ids[place], strange
