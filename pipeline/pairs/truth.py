"""A case's class ids on the source's own grid: written by convert, read by evaluate.

How they are stored is in :mod:`pipeline.pairs.kept_volume`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.pairs import kept_volume, truth_record
from pipeline.pairs.case_folder import CaseFolder
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth_record import TruthRecord
from pipeline.params.limits import Limits
from pipeline.runtime import files
from pipeline.volumes import volume
from pipeline.volumes.volume import Grid, Ml, Volume

Ids = NDArray[np.uint8]
_ARRAY = "ids"  # in an .npz


def write(
    folder: Path,
    case: str,
    image: Volume,
    source: Path | None,
    labels: Mapping[str, Ids],
    drawn: Mapping[str, Ids],
    kind: str,
    parts: tuple[str, ...],
) -> tuple[str, str]:
    """Keep the class ids (X, Y, Z) in RAS+ of a case, ``labels`` being those that pairs show.

    ``drawn`` holds those of every rater of the raw data; of one rater alone they are the labels.
    ``source`` is the file of ``image`` where it is NIfTI or MGZ; ``kind`` and ``parts`` are those
    of :class:`TruthRecord`. All names are the outputs'. Returns the record's name, relative to
    ``folder``, and its sha256, for the manifest.
    """
    raters = drawn if len(drawn) > 1 else {}
    places = image.uneven.places.tolist() if image.uneven else []
    thicknesses = image.uneven.thicknesses.tolist() if image.uneven else []
    digests = {}
    for rater, ids in {**raters, **labels}.items():
        name = truth_record.volume_name(rater, image.uneven is not None)
        file = folder / truth_record.KEPT.of_case(case) / name
        digests[name] = kept_volume.write(file, _ARRAY, ids, image, source)
    record = TruthRecord(
        kind, parts, tuple(raters), digests, tuple(map(tuple, places)), tuple(thicknesses)
    )
    return truth_record.write(folder, case, record)


@dataclass(frozen=True)
class KeptTruth:
    """What convert kept of the case that some pairs show; ``within`` keeps ``folder`` there."""

    record: TruthRecord
    folder: Path
    grid: Grid
    plane: str
    limits: Limits
    within: CaseFolder

    @classmethod
    def of(cls, converted: Path, pair: Pair, limits: Limits = Limits()) -> KeptTruth:
        """The truth of a pair of the dataset in ``converted``.

        Raises :class:`Problem` if it is not there as the pair's row states it.
        """
        within = CaseFolder(converted, pair)
        record = truth_record.read(within.path, pair.truth, pair.truth_digest)
        grid = Grid(pair.source_shape, np.reshape(pair.affine, (4, 4)))
        folder = (within.path / pair.truth).parent
        return cls(record, folder, grid, pair.plane, limits, within)

    @property
    def voxel_ml(self) -> Ml:
        """As :attr:`pipeline.volumes.volume.Volume.voxel_ml` of the source."""
        return volume.voxel_ml(self.grid, self.record.thicknesses_mm)

    def file(self, rater: str) -> Path:
        """The volume of a rater ("": the only one, or several fused).

        A NIfTI has the source's header. Raises :class:`Problem` if it is not the file that convert
        wrote.
        """
        name = truth_record.volume_name(rater, self.record.uneven)
        file = self.folder / name
        if not files.holds(file, self.record.digests.get(name)):
            raise truth_record.KEPT.changed(file, self.folder.parent.parent.name)
        return file

    def stack(self, rater: str) -> Ids:
        """Class ids (N, rows, columns) of a rater: the slices that the pairs are made of."""
        own = kept_volume.read(self.file(rater), _ARRAY, self.limits)
        return volume.slices(self.grid.to_ras(own), self.plane)
