"""Enhanced multi-frame files for tests: the slices of a classic series in one file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)

from tests.pipeline.volumes.dicom.test_assemble import Change as ClassicChange
from tests.pipeline.volumes.dicom.test_assemble import nothing as unchanged
from tests.pipeline.volumes.dicom.test_assemble import write_series

Groups = pydicom.Dataset
Change = Callable[[Groups, int], None]
MORE = 1000
"""By how much a frame is brighter than the one before it at its place."""
_OF_FRAMES = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
    "InstanceNumber",
)


def nothing(_groups: Groups, _frame: int) -> None:
    """Change nothing."""


def group(groups: Groups, sequence: str, **values: object) -> None:
    """State values of a frame in a functional group."""
    items = groups.get(sequence) or [Groups()]
    for name, value in values.items():
        setattr(items[0], name, value)
    setattr(groups, sequence, pydicom.Sequence(items))


def write(
    file: Path,
    order: Sequence[int] = range(5),
    change: Change = nothing,
    shared: bool = False,
    modality: str = "CT",
    syntax: str = ExplicitVRLittleEndian,
    count: int = 5,
    base: ClassicChange = unchanged,
) -> None:
    """The series of ``write_series`` as one file, whose frame n shows slice ``order[n]``.

    A slice that is shown again is brighter by :data:`MORE` each time. ``base`` changes the
    slices, ``change`` the functional groups of each frame. ``shared``: what is the same for all
    frames stands in the shared groups.
    """
    classic = file.parent / f"{file.name}-classic"
    write_series(classic, count=count, change=base)
    slices = sorted(
        map(pydicom.dcmread, classic.iterdir()), key=lambda one: one.ImagePositionPatient[2]
    )
    for one in classic.iterdir():
        one.unlink()
    classic.rmdir()
    header, values = slices[0], [one.pixel_array for one in slices]
    common, frames = Groups(), []
    for frame, number in enumerate(order):
        own, one = Groups(), slices[number]
        group(own, "PlanePositionSequence", ImagePositionPatient=one.ImagePositionPatient)
        same = common if shared else own
        group(same, "PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
        group(same, "PixelMeasuresSequence", PixelSpacing=[0.5, 0.4], SliceThickness=5)
        rescale = {tag: one[tag].value for tag in ("RescaleSlope", "RescaleIntercept")}
        group(same, "PixelValueTransformationSequence", **rescale)
        index = [1, number + 1, 1 + list(order[:frame]).count(number)]
        place = {"InStackPositionNumber": number + 1, "DimensionIndexValues": index}
        group(own, "FrameContentSequence", StackID="1", **place)
        change(own, frame)
        frames.append(own)
    for tag in _OF_FRAMES:
        delattr(header, tag)
    header.Modality, header.StudyInstanceUID = modality, generate_uid(entropy_srcs=["study"])
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame"])
    header.SOPClassUID = EnhancedCTImageStorage if modality == "CT" else EnhancedMRImageStorage
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID
    header.NumberOfFrames = len(frames)
    header.SharedFunctionalGroupsSequence = pydicom.Sequence([common])
    header.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    header.PixelData = b"".join(
        (values[number] + MORE * list(order)[:frame].count(number)).astype(np.int16).tobytes()
        for frame, number in enumerate(order)
    )
    if syntax == RLELossless:
        header.compress(RLELossless)
    elif syntax == DeflatedExplicitVRLittleEndian:
        header.file_meta.TransferSyntaxUID = syntax
    file.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(file, enforce_file_format=True)
