"""Small DICOM series for the tests of what predict writes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom

from datasets_spec.contract import TISSUES, Label, LabelMap
from pipeline.virtual import dicom_writer
from pipeline.volumes.dicom import header
from pipeline.volumes.dicom.header import Instance

SHAPE = (5, 21, 17)  # slices, rows, columns: a frame's bits do not fill bytes
Change = Callable[[pydicom.Dataset, int], None]


def label_map(classes: int = 5) -> LabelMap:
    """Background and so many classes, some of them tissues."""
    labels = [Label(0, "background", (0, 0, 0), "everything else")]
    for number in range(1, classes + 1):
        tissue = TISSUES[number] if number < len(TISSUES) else ""
        colour = (number, 255 - number, (40 * number) % 256)
        labels.append(Label(number, f"class_{number}", colour, "what it means", tissue=tissue))
    return LabelMap(tuple(labels))


def masks(shape: tuple[int, int, int] = SHAPE, classes: int = 5) -> np.ndarray:
    """Class ids of noise; the slice in the middle is background alone."""
    ids = np.random.default_rng(1).integers(0, classes + 1, shape).astype(np.uint8)
    if len(ids) > 2:
        ids[len(ids) // 2] = 0
    return ids


def write(
    folder: Path,
    change: Change = lambda _header, _number: None,
    shape: tuple[int, int, int] = SHAPE,
    tilt: float = 0.0,
    compressed: bool = False,
) -> Sequence[Instance]:
    """The slices of a CT series of a virtual patient, lowest first, after ``change`` to each."""
    made = dicom_writer.WrittenSeries("series", "patient", 1, False, compressed=compressed)
    frame = dicom_writer.Frame.around((0.0, 0.0, 0.0), shape, 0.7, 5.0, tilt)
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    dicom_writer.write(folder, made, frame, values)
    for file in sorted(folder.rglob("*.dcm")):
        dataset = pydicom.dcmread(file)
        change(dataset, int(dataset.InstanceNumber) - 1)
        dataset.save_as(file)
    return read(folder)


def read(folder: Path) -> Sequence[Instance]:
    """The instances below a folder, lowest first."""
    read = [header.read(file) for file in sorted(folder.rglob("*")) if file.is_file()]
    slices = [one for one in read if isinstance(one, Instance)]
    assert len(slices) == len(read) > 0
    return sorted(slices, key=lambda one: one.position[2] if one.position else 0)
