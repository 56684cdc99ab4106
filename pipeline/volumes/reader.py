"""Any scan -> :class:`~pipeline.volumes.volume.Volume`: the one reader that chooses by its kind."""

from __future__ import annotations

from pathlib import Path

from datasets_spec.contract import Picture
from pipeline.params.limits import Limits
from pipeline.volumes import nifti, slices
from pipeline.volumes.dicom import assemble
from pipeline.volumes.volume import Volume


def read_image(picture: Picture, limits: Limits = Limits()) -> Volume:
    """An image of any kind (a file, a folder with a DICOM series, slices) as a volume.

    Raises :class:`Problem` for one that cannot be read, or is larger than ``limits`` allow.
    """
    if not isinstance(picture, Path):
        return slices.images(picture, limits)
    if picture.is_dir():
        return assemble.read_series(picture, limits=limits)
    return nifti.read(picture, limits)


def has_own_grey(picture: Picture) -> bool:
    """Whether the pictures were windowed by their publisher: slices keep their values."""
    return not isinstance(picture, Path)
