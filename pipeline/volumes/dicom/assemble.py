"""One DICOM series -> a volume. :mod:`pipeline.volumes.dicom.series` judges it first.

A tilted gantry gives a sheared affine, so every slice keeps its place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes import hounsfield
from pipeline.volumes.dicom import geometry, of_photometric, series
from pipeline.volumes.dicom import pixels as dicom_pixels
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.of_padding import Padding, of_padding
from pipeline.volumes.dicom.rules import Match
from pipeline.volumes.dicom.series import Series
from pipeline.volumes.limits import require_voxels
from pipeline.volumes.uneven import Uneven
from pipeline.volumes.volume import Grid, Volume

_MODALITY_OF = {
    "CT Image Storage": "CT",
    "Enhanced CT Image Storage": "CT",
    "Enhanced MR Image Storage": "MR",
    "Legacy Converted Enhanced CT Image Storage": "CT",
    "Legacy Converted Enhanced MR Image Storage": "MR",
    "MR Image Storage": "MR",
    "Positron Emission Tomography Image Storage": "PT",
}
"""What a picture is whose Modality was emptied, by the name of its SOP class."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_series(
    folder: Path, limits: Limits = Limits(), key: str = "", tolerances: Tolerances = USUAL
) -> Volume:
    """The one volume below ``folder``, in HU or the scanner's values, RAS+.

    ``key``: which one, where a series holds several. Raises :class:`Problem` for whatever
    :mod:`pipeline.volumes.dicom.checks` refuses, for more voxels than ``limits`` allow, and for
    pixels that cannot be decoded.
    """
    chosen = series.only_volume(folder, limits=limits, key=key, tolerances=tolerances)
    return read(chosen, limits=limits)


def read(chosen: Series, *, limits: Limits = Limits()) -> Volume:
    """The volume of a series of which no rule refuses anything.

    One whose slices have no one spacing comes with their places.
    """
    slices = chosen.slices
    where = os.path.commonpath([one.file.parent for one in slices])
    require_voxels((*slices[0].shape, len(slices)), limits, where)
    modality = slices[0].modality or _MODALITY_OF.get(slices[0].kind, "")
    pixels = np.empty((len(slices), *slices[0].shape), np.float32)
    for index, picture in dicom_pixels.each(slices):
        pixels[index] = picture
    slices, photometric = of_photometric.settle(pixels, slices)
    padding = _settle_padding(pixels, slices)
    grid = Grid((slices[0].shape[1], slices[0].shape[0], len(slices)), _affine(slices))
    numbers = [one.number for one in slices]
    numbered = len(set(numbers)) == len(numbers) and None not in numbers
    known = [one.name for one in slices]
    named = len(set(known)) == len(known) and "" not in known
    order = np.argsort([number or 0 for number in numbers]).tolist() if numbered else ()
    read = Volume(
        grid.to_ras(pixels.transpose(2, 1, 0)),
        grid,
        instances=tuple(order),
        findings=tuple(match.finding for match in (*chosen.matches, *photometric, *padding)),
        uids=tuple(known) if named else (),
        modality=modality,
        unscaled=modality == "CT" and not all(one.rescaled for one in slices),
        uneven=_uneven(slices) if chosen.uneven else None,
    )
    if read.unscaled and not hounsfield.is_drawing(read.array):
        hounsfield.judged(read, where)  # else 1024 HU would be lost without a word
    return read


def _uneven(slices: Sequence[Instance]) -> Uneven:
    turn = _LPS_TO_RAS[:3, :3]
    places = np.stack([geometry.position_of(one) for one in slices])
    return Uneven(places @ turn, geometry.normal_of(slices[0]) @ turn)


def _affine(slices: Sequence[Instance]) -> NDArray[np.float64]:
    """Voxel index (column, row, slice) to mm, RAS+."""
    first = slices[0]
    assert first.orientation is not None
    assert first.spacing is not None
    affine = np.eye(4)
    affine[:3, 0] = np.array(first.orientation[:3]) * first.spacing[1]
    affine[:3, 1] = np.array(first.orientation[3:]) * first.spacing[0]
    start, end = geometry.position_of(first), geometry.position_of(slices[-1])
    affine[:3, 2] = (
        (end - start) / (len(slices) - 1)
        if len(slices) > 1
        else geometry.normal_of(first) * (first.thickness or 1.0)
    )
    affine[:3, 3] = start
    turned: NDArray[np.float64] = _LPS_TO_RAS @ affine
    return turned


def _settle_padding(pixels: NDArray[np.float32], slices: Sequence[Instance]) -> list[Match]:
    """Give padding outside the range of the real values (N, rows, columns) the lowest of these.

    So it spoils no percentile of an MR and is black in a CT, even where a scanner wrote it as
    a large unsigned number. Padding within the real values cannot be distinguished from them.
    """
    padded = 0
    bounds: set[tuple[float, float]] = set()
    least, most = math.inf, -math.inf
    for one, values in zip(slices, pixels, strict=True):
        here = _padded(values, one)
        if here.any():
            padded += int(here.sum())
            bounds.add(_padding_of(one))
        if not here.all():
            real = values[~here]
            least, most = min(least, float(real.min())), max(most, float(real.max()))
    if padded in (0, pixels.size):
        return []
    padding = Padding(
        share=padded / pixels.size,
        low=min(low for low, _ in bounds),
        high=max(high for _, high in bounds),
        least=least,
        most=most,
        modality=slices[0].modality,
    )
    if padding.apart and not padding.in_air:
        for one, values in zip(slices, pixels, strict=True):
            values[_padded(values, one)] = padding.least
    return of_padding(padding)


def _padding_of(one: Instance) -> tuple[float, float]:
    """The least and the greatest value, rescaled, that is padding; no number if none is."""
    if one.padding is None:
        return math.nan, math.nan
    slope, intercept = one.scale
    ends = np.array([limit * slope + intercept for limit in one.padding], np.float32)
    return float(ends.min()), float(ends.max())


def _padded(values: NDArray[np.float32], one: Instance) -> NDArray[np.bool_]:
    """Which pixels of a slice (rows, columns) are padding."""
    low, high = _padding_of(one)
    padded: NDArray[np.bool_] = (values >= low) & (values <= high)
    return padded
