"""Any scan -> :class:`~pipeline.volumes.volume.Volume`: the one reader that chooses by its kind."""

from __future__ import annotations

from datasets_spec.contract import Picture, paths_of, volume_of
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes import nifti, slices
from pipeline.volumes.dicom import assemble
from pipeline.volumes.volume import Volume


def read_image(
    picture: Picture, limits: Limits = Limits(), tolerances: Tolerances = USUAL
) -> Volume:
    """An image of any kind (a file, a folder with a DICOM series, slices) as a volume.

    Raises :class:`Problem` for one that cannot be read, is larger than ``limits`` allow, or holds
    several volumes of which none is named; ``tolerances`` are those of DICOM series.
    """
    if isinstance(picture, tuple):
        return slices.images(picture, limits)
    [scan], key = paths_of(picture), volume_of(picture)
    if scan.is_dir():
        return assemble.read_series(scan, limits, key, tolerances)
    return nifti.read(scan, limits, key)


def has_own_grey(picture: Picture) -> bool:
    """Whether the pictures were windowed by their publisher: slices keep their values."""
    return isinstance(picture, tuple)
