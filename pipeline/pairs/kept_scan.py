"""A case's scan in 8 bits on the source's own grid: written by convert, read by train and evaluate.

From it slices of any plane are drawn at any size without the raw data. Greys are rounded on this
grid, so pictures drawn from a kept scan are those that the scan itself gives where its greys are
rounded first (:class:`pipeline.pairs.channels.Views` with ``in_8_bits``), byte for byte.

How it is stored is in :mod:`pipeline.pairs.kept_volume`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pipeline.pairs import kept_volume, scan_record
from pipeline.pairs.case_folder import CaseFolder
from pipeline.pairs.channels import Images, Views
from pipeline.pairs.manifest import Pair
from pipeline.pairs.scan_record import ScanRecord
from pipeline.params.limits import Limits
from pipeline.runtime import files
from pipeline.volumes import volume
from pipeline.volumes.arrays import Image8
from pipeline.volumes.uneven import Uneven
from pipeline.volumes.volume import Grid, Volume

_ARRAY = "greys"  # in an .npz


def write(
    folder: Path, case: str, image: Volume, source: Path | None, views: Views, plane: str
) -> tuple[str, str]:
    """Keep what ``views`` in ``plane`` show of a case: every channel that it has.

    ``image`` is the first scan, whose grid is that of all, and ``source`` its file where that is
    NIfTI or MGZ. Names are the outputs'. Returns the record's name, relative to ``folder``, and its
    sha256, for the manifest.
    """
    digests = {}
    for channel, greys in _greys(views, plane):
        name = scan_record.volume_name(channel, image.uneven is not None)
        file = folder / scan_record.KEPT.of_case(case) / name
        digests[name] = kept_volume.write(file, _ARRAY, greys, image, source)
    places = image.uneven.places.tolist() if image.uneven else []
    normal = image.uneven.normal.tolist() if image.uneven else []
    record = ScanRecord(digests, tuple(map(tuple, places)), tuple(normal))
    return scan_record.write(folder, case, record)


def images(converted: Path, pair: Pair, limits: Limits = Limits()) -> Images:
    """The scan that the pairs of a case are of, values 0 to 255, or those of its channels.

    ``pair`` is one of the dataset in ``converted``. Channels that the case lacks are left out.
    Raises :class:`Problem` if the scan is not there as the pair's row states it.
    """
    within = CaseFolder(converted, pair)
    record = scan_record.read(within.path, pair.scan, pair.scan_digest)
    here = (within.path / pair.scan).parent
    grid = Grid(pair.source_shape, np.reshape(pair.affine, (4, 4)))
    uneven = Uneven(np.array(record.places_mm), np.array(record.normal)) if record.uneven else None

    def of(channel: str) -> Volume:
        file = here / scan_record.volume_name(channel, record.uneven)
        if not files.holds(file, record.digests.get(file.name)):
            raise scan_record.KEPT.changed(file, converted.name)
        return Volume(grid.to_ras(kept_volume.read(file, _ARRAY, limits)), grid, uneven=uneven)

    if not pair.channel_names:
        return of("")
    names = zip(pair.channel_names, pair.present, strict=True)
    kept: Mapping[str, Volume] = {name: of(name) for name, there in names if there}
    return kept


def _greys(views: Views, plane: str) -> Iterator[tuple[str, Image8]]:
    """The name of each channel that is there, and its greys (X, Y, Z) in RAS+ order."""
    names = [one.name for one in views.channels] or [""]
    for name, view in zip(names, views.every, strict=True):
        if view is not None:
            stack = np.empty(view.stack.shape, np.uint8)
            for index in range(len(stack)):
                stack[index] = view.in_8_bits(index)
            yield name, volume.unslice(stack, plane)
