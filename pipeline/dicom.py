"""One DICOM series -> a volume. pydicom reads headers, SimpleITK decodes pixels.

What would make a wrong volume is refused by name: several series, localizers, multi-frame
files, missing geometry, mixed orientations or sizes, duplicate positions, gaps. A tilted
gantry gives a sheared affine, so every slice keeps its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError

from datasets_spec.contract import Problem
from pipeline.volume import Grid, Volume

_TAGS = [
    "SeriesInstanceUID",
    "InstanceNumber",
    "ImageType",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
]
_SAME_DIRECTION = 1e-3
_OFF_LINE_MM = 0.1  # how far a slice may lie from where even spacing puts it
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class _Slice:
    file: Path
    series: str
    instance: int
    localizer: bool
    frames: int
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    spacing: tuple[float, float] | None
    shape: tuple[int, int]


def read_series(folder: Path) -> Volume:
    """The one series below ``folder``, in HU or the scanner's values, RAS+.

    ``instances`` of the volume says where each file, in the order of InstanceNumber, lies.
    Raises :class:`Problem` for whatever the module's first lines name.
    """
    slices = _headers(folder)
    _refuse(slices, folder)
    first = slices[0]
    assert first.orientation is not None
    assert first.spacing is not None
    across, down = first.orientation[:3], first.orientation[3:]
    normal = np.cross(across, down)
    depth = [float(np.dot(_position(one), normal)) for one in slices]
    order = np.argsort(depth, kind="stable")
    ordered = [slices[index] for index in order]
    step = _step(ordered, folder, normal)
    affine = np.eye(4)
    affine[:3, 0] = across * first.spacing[1]
    affine[:3, 1] = down * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = _position(ordered[0])
    pixels = np.stack([_pixels(one) for one in ordered])
    grid = Grid((first.shape[1], first.shape[0], len(ordered)), _LPS_TO_RAS @ affine)
    rank = np.argsort(order, kind="stable")
    by_instance = sorted(range(len(slices)), key=lambda index: slices[index].instance)
    return Volume(
        grid.to_ras(pixels.transpose(2, 1, 0)),
        grid,
        tuple(int(rank[index]) for index in by_instance),
    )


def _headers(folder: Path) -> list[_Slice]:
    slices = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if file.name.startswith(".") or file.name == "DICOMDIR":
            continue
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
        except (InvalidDicomError, OSError, EOFError) as error:
            if file.suffix.lower() in (".dcm", ""):
                raise Problem(
                    f"expected a DICOM file, got one that cannot be read ({error})",
                    where=file,
                    remedy="It may be damaged; download or unpack it again.",
                ) from None
            continue  # a text or a picture beside the series
        slices.append(_slice(file, header))
    if not slices:
        raise Problem("expected DICOM files, found none", where=folder)
    return slices


def _slice(file: Path, header: pydicom.Dataset) -> _Slice:
    def numbers(tag: str) -> NDArray[np.float64] | None:
        value = header.get(tag)
        return None if value is None else np.array([float(part) for part in value])

    spacing = numbers("PixelSpacing")
    return _Slice(
        file=file,
        series=str(header.get("SeriesInstanceUID", "")),
        instance=int(header.get("InstanceNumber") or 0),
        localizer="LOCALIZER" in [str(part).upper() for part in header.get("ImageType", [])],
        frames=int(header.get("NumberOfFrames") or 1),
        position=numbers("ImagePositionPatient"),
        orientation=numbers("ImageOrientationPatient"),
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        shape=(int(header.get("Rows", 0)), int(header.get("Columns", 0))),
    )


def _refuse(slices: Sequence[_Slice], folder: Path) -> None:
    """Raises :class:`Problem` for files that cannot be the slices of one volume."""
    series = Counter(one.series for one in slices)
    if len(series) > 1:
        told = ", ".join(f"{uid} with {count} files" for uid, count in series.most_common(3))
        raise Problem(
            f"expected one series, got {len(series)} ({told})",
            where=folder,
            remedy="Keep one series per folder.",
        )
    for one in slices:
        if one.localizer:
            raise Problem("expected slices, got a localizer", where=one.file, remedy="Remove it.")
        if one.frames > 1:
            raise Problem(
                f"expected one slice per file, got {one.frames} frames",
                where=one.file,
                remedy="Convert the multi-frame file to single slices.",
            )
        if one.position is None or one.orientation is None or one.spacing is None:
            raise Problem(
                "expected ImagePositionPatient, ImageOrientationPatient and PixelSpacing,"
                " found not all of them",
                where=one.file,
                remedy="Without them a slice has no place; take the original export.",
            )
    first = slices[0]
    for one in slices:
        assert one.orientation is not None
        assert first.orientation is not None
        if one.shape != first.shape or one.spacing != first.spacing:
            raise Problem(
                f"expected slices of {first.shape} pixels of {first.spacing} mm, got {one.shape}"
                f" of {one.spacing}",
                where=one.file,
            )
        if np.abs(one.orientation - first.orientation).max() > _SAME_DIRECTION:
            raise Problem(
                f"expected the orientation {first.orientation.tolist()},"
                f" got {one.orientation.tolist()}",
                where=one.file,
            )


def _step(
    ordered: Sequence[_Slice], folder: Path, normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The vector in mm from one slice to the next, the same between all of them."""
    if len(ordered) == 1:
        return normal
    positions = np.stack([_position(one) for one in ordered])
    steps = np.diff(positions, axis=0)
    along = steps @ normal
    if along.min() < _OFF_LINE_MM:
        at = int(along.argmin())
        raise Problem(
            f"expected one slice per position, got {ordered[at].file.name} and"
            f" {ordered[at + 1].file.name} at the same",
            where=folder,
            remedy="Remove the duplicate.",
        )
    step: NDArray[np.float64] = np.median(steps, axis=0)
    expected = positions[0] + np.arange(len(ordered))[:, None] * step
    if np.abs(positions - expected).max() > _OFF_LINE_MM * max(1, len(ordered) / 10):
        at = int(np.abs(steps - step).max(axis=1).argmax())
        raise Problem(
            f"expected even spacing, got steps from {along.min():.3g} to {along.max():.3g} mm,"
            f" the odd one between {ordered[at].file.name} and {ordered[at + 1].file.name}",
            where=folder,
            remedy="Is a slice missing? Take the complete series.",
        )
    mean: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(ordered) - 1)
    return mean


def _pixels(one: _Slice) -> NDArray[np.float32]:
    """Rescaled pixels (rows, columns) of one file."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(one.file))
    reader.SetImageIO("GDCMImageIO")
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise Problem(
            f"expected pixels that SimpleITK can decode, got {str(error).splitlines()[-1]}",
            where=one.file,
            remedy="The file may be damaged or its compression unknown; export it again.",
        ) from None
    pixels = sitk.GetArrayFromImage(image)
    return np.asarray(pixels.reshape(one.shape), np.float32)


def _position(one: _Slice) -> NDArray[np.float64]:
    assert one.position is not None
    return one.position
