"""RTSTRUCT files, the series that they are drawn on, and the outlines of masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import contourpy
import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from pipeline.params.limits import Limits
from pipeline.volumes.dicom import assemble
from pipeline.volumes.dicom import series as dicom_series
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.volume import Volume


@dataclass(frozen=True)
class Outline:
    """Points (N, 3) in mm, LPS+, their geometric type, and the instance that they refer to."""

    points: np.ndarray
    kind: str = "CLOSED_PLANAR"
    uid: str = ""


def volume_of(slices: Sequence[Instance]) -> Volume:
    """The volume of a series, whose slices may have no one spacing."""
    return assemble.read(dicom_series.judged("", slices, Limits()))


def traced(mask: np.ndarray) -> list[np.ndarray]:
    """The outlines (row, column) of a mask, half way between what is inside and what is not."""
    padded = np.pad(mask.astype(float), 1)
    return [
        line[:-1, ::-1] - 1  # closed lines repeat their first point
        for line in contourpy.contour_generator(z=padded).lines(0.5)
    ]


def on_slice(one: Instance, outline: np.ndarray) -> np.ndarray:
    """Points (row, column) of a slice in mm, LPS+, as its header places them."""
    axes = np.array(one.orientation).reshape(2, 3)
    down, across = one.spacing
    return (
        np.array(one.position) + outline[:, 1:] * across * axes[0] + outline[:, :1] * down * axes[1]
    )


def outlines_of(
    slices: Sequence[Instance], mask: np.ndarray, referring: bool = True
) -> list[Outline]:
    """What a mask (N, rows, columns) looks like as contours on the slices of a series."""
    return [
        Outline(on_slice(one, outline), uid=one.uid if referring else "")
        for one, drawn in zip(slices, mask, strict=True)
        for outline in traced(drawn)
    ]


def write(file: Path, regions: Mapping[str, Iterable[Outline]], digits: int = 4) -> Path:
    """Write regions, by name, as an RTSTRUCT whose coordinates have so many digits."""
    header = pydicom.Dataset()
    header.SOPClassUID = RTStructureSetStorage
    header.SOPInstanceUID = generate_uid(entropy_srcs=[str(file)])
    header.Modality = "RTSTRUCT"
    header.StructureSetROISequence, header.ROIContourSequence = [], []
    for number, (name, outlines) in enumerate(regions.items(), start=1):
        region, drawn = pydicom.Dataset(), pydicom.Dataset()
        region.ROINumber, region.ROIName = number, name
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = [_contour(one, digits) for one in outlines]
        header.StructureSetROISequence.append(region)
        header.ROIContourSequence.append(drawn)
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    file.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(file, enforce_file_format=True)
    return file


def _contour(one: Outline, digits: int) -> pydicom.Dataset:
    contour = pydicom.Dataset()
    contour.ContourGeometricType = one.kind
    contour.NumberOfContourPoints = len(one.points)
    contour.ContourData = [f"{value:.{digits}f}" for value in one.points.ravel()]
    if one.uid:
        image = pydicom.Dataset()
        image.ReferencedSOPInstanceUID = one.uid
        contour.ContourImageSequence = [image]
    return contour
