"""The masks of a DICOM series as pictures, one for each source instance, under its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from pipeline.pairs import png
from pipeline.volumes import volume
from pipeline.volumes.volume import Grid


def write(
    folder: Path,
    ids: NDArray[np.uint8],
    grid: Grid,
    names: Sequence[str],
    label_map: LabelMap,
) -> None:
    """Write ``<name>.png`` (rows, columns), as the instance stores them, for each instance.

    ``ids``: (X, Y, Z) in RAS+ order. ``names``: the SOPInstanceUIDs along the third axis of
    ``grid`` (:attr:`~pipeline.volumes.volume.Volume.uids`), or what stands for them; without any,
    nothing is written.
    """
    for name, mask in volume.per_instance(ids, grid, names).items():
        png.write_mask(folder / f"{name}.png", mask, label_map)
