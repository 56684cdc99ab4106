"""Write slices as a DICOM CT series, one file each as scanners do, the same bytes on any machine.

Every identifier is derived from the series' name, no header has a date or a person, and file names
do not reveal the order of the slices.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

Vector = tuple[float, float, float]
_DECIMALS = 5  # a decimal string holds 16 characters


@dataclass(frozen=True)
class Frame:
    """The position of a stack of slices in mm, LPS (left, posterior, superior) as in DICOM.

    ``first`` is the centre of the first slice's first pixel, ``across`` and ``down`` are unit
    vectors along a row and a column, ``step`` is the vector from one slice to the next. A tilted
    gantry has a ``step`` that is not normal to the slices. ``at``: how many steps from the first
    each slice lies, where they are not a step apart.
    """

    first: Vector
    across: Vector
    down: Vector
    step: Vector
    pixel_mm: float
    tilt: float
    at: tuple[float, ...] = ()

    @classmethod
    def around(
        cls,
        middle: Vector,
        shape: tuple[int, int, int],
        pixel_mm: float,
        step_mm: float,
        tilt: float = 0.0,
        at: tuple[float, ...] = (),
    ) -> Frame:
        """Axial slices of ``shape`` (slices, rows, columns), the gantry tilted in degrees."""
        across, step = np.array([1.0, 0, 0]), np.array([0, 0, step_mm])
        angle = np.deg2rad(tilt)
        down = np.round([0, np.cos(angle), -np.sin(angle)], _DECIMALS)
        half = (np.array(shape) - 1) / 2
        if at:
            half[0] = at[-1] / 2
        first = middle - half[0] * step - pixel_mm * (half[1] * down + half[2] * across)
        vectors = _vector(first), _vector(across), _vector(down), _vector(step)
        return cls(*vectors, pixel_mm, tilt, at)

    def position(self, number: int) -> Vector:
        """The centre of a slice's first pixel."""
        steps = self.at[number] if self.at else number
        return _vector(np.array(self.first) + steps * np.array(self.step))

    def points(self, shape: tuple[int, int, int]) -> NDArray[np.float64]:
        """The centres (3, slices, rows, columns) of all voxels."""
        slices, rows, columns = (np.arange(count, dtype=np.float64) for count in shape)
        slices = np.array(self.at) if self.at else slices
        ways = [
            np.array(way)[:, None, None, None]
            for way in (self.first, self.step, self.down, self.across)
        ]
        points: NDArray[np.float64] = (
            ways[0]
            + ways[1] * slices[:, None, None]
            + ways[2] * (rows[:, None] * self.pixel_mm)
            + ways[3] * (columns * self.pixel_mm)
        )
        return points


@dataclass(frozen=True)
class WrittenSeries:
    """The headers of one series, apart from its geometry.

    ``name`` is unique to the series: its identifiers and file names are derived from it. Stored
    values are the real ones minus ``intercept``. With ``descending``, instance 1 is the last
    slice. ``drawn``: class ids, not HU. ``thicknesses``: of each slice in mm, where it is not the
    step.
    """

    name: str
    patient: str
    number: int
    drawn: bool
    intercept: int = 0
    compressed: bool = False
    descending: bool = False
    thicknesses: tuple[float, ...] = ()


def write(folder: Path, series: WrittenSeries, frame: Frame, values: NDArray[np.int16]) -> None:
    """Write ``values`` (slices, rows, columns) as ``<folder>/<two letters>/<name>.dcm``."""
    for number, pixels in enumerate(values):
        header = _header(series, frame, number, len(values))
        header.Rows, header.Columns = pixels.shape
        header.PixelData = (pixels - series.intercept).astype("<i2").tobytes()
        header["PixelData"].VR = "OW"
        if series.compressed:
            header.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
        name = hashlib.blake2b(header.SOPInstanceUID.encode(), digest_size=6).hexdigest()
        file = folder / name[:2] / f"{name}.dcm"
        file.parent.mkdir(parents=True, exist_ok=True)
        header.save_as(file, enforce_file_format=True)


def _header(series: WrittenSeries, frame: Frame, number: int, count: int) -> Dataset:
    header = Dataset()
    header.file_meta = _meta(_uid(series.name, number))
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID
    header.ImageType = [*(["DERIVED", "SECONDARY"] if series.drawn else _ORIGINAL), "AXIAL"]
    header.Modality = "CT"
    header.Manufacturer = "none: virtual patient"
    for empty in _EMPTY:
        setattr(header, empty, "")
    header.PatientID = series.patient
    header.PatientIdentityRemoved = "YES"
    header.DeidentificationMethod = "virtual patient, no person was scanned"
    header.SeriesDescription = "label" if series.drawn else "head"
    header.KVP = 120
    header.SliceThickness = series.thicknesses[number] if series.thicknesses else abs(frame.step[2])
    header.GantryDetectorTilt = frame.tilt
    header.PatientPosition = "HFS"
    header.StudyInstanceUID = _uid(series.patient, "study")
    header.SeriesInstanceUID = _uid(series.name, "series")
    header.FrameOfReferenceUID = _uid(series.patient, "frame of reference")
    header.SeriesNumber = series.number
    header.InstanceNumber = count - number if series.descending else number + 1
    header.ImagePositionPatient = list(frame.position(number))
    header.ImageOrientationPatient = [*frame.across, *frame.down]
    header.PixelSpacing = [frame.pixel_mm, frame.pixel_mm]
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit = 15
    header.PixelRepresentation = 1
    header.WindowCenter, header.WindowWidth = (1, 2) if series.drawn else (40, 80)
    header.RescaleIntercept, header.RescaleSlope = series.intercept, 1
    header.RescaleType = "US" if series.drawn else "HU"
    return header


_ORIGINAL = ["ORIGINAL", "PRIMARY"]
_EMPTY = (  # required to be there, allowed to be empty
    "AccessionNumber AcquisitionNumber PatientBirthDate PatientName PatientSex"
    " PositionReferenceIndicator ReferringPhysicianName StudyDate StudyID StudyTime"
).split()


def _meta(instance: UID) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = instance
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("implementation")  # else pydicom states its version
    meta.ImplementationVersionName = "VIRTUAL"
    return meta


def _uid(*parts: object) -> UID:
    return generate_uid(entropy_srcs=["flexunet virtual", *(str(part) for part in parts)])


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (round(float(value), _DECIMALS) + 0.0 for value in values)
    return x, y, z
