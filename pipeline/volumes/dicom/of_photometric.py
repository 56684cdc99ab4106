"""Rules about MONOCHROME1: pictures whose low values are to be shown as bright.

The interpretation says how values are displayed, after they were rescaled (PS3.3, C.7.6.3.1.2). A
CT's rescaled values are HU whatever is shown as bright, so that they stay as they are if air and
tissue lie in their places, and are inverted if they do so only then. All other values have no
unit: the stored ones are counted from the other end of what BitsStored holds, so that bright is
high as in every other picture, and are rescaled then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from pipeline.volumes import hounsfield
from pipeline.volumes.dicom import rules
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule


@dataclass(frozen=True)
class Inversion:
    """What became of a MONOCHROME1 series: whether its values were inverted."""

    done: bool


PHOTOMETRIC: tuple[SeriesRule[Inversion], ...] = (
    SeriesRule(
        code="inverted-photometric",
        asks="PhotometricInterpretation is MONOCHROME2",
        reason="in MONOCHROME1 low values are bright, so stored values are counted from the other"
        " end; of a CT only if air and tissue then lie where HU put them",
        check=lambda one: Evidence({}) if one.done else None,
    ),
    SeriesRule(
        code="inverted-display",
        asks="the same of a CT",
        reason="its values are HU, as air and tissue show: MONOCHROME1 is about display",
        check=lambda one: None if one.done else Evidence({}),
    ),
)


def settle(
    pixels: NDArray[np.float32], slices: tuple[Instance, ...]
) -> tuple[tuple[Instance, ...], list[Match]]:
    """Invert ``pixels`` (N, rows, columns) of MONOCHROME1 in place, if they have to be.

    Returns the slices as they are now. Raises :class:`Problem` for a CT whose values are HU
    neither way.
    """
    first = slices[0]
    if first.photometric != "MONOCHROME1":
        return slices, []
    is_ct = first.modality == "CT"
    if is_ct and hounsfield.judge(pixels).kind == hounsfield.RIGHT:
        return slices, rules.every(PHOTOMETRIC, Inversion(False))
    inverted = tuple(replace(one, inverted=True) for one in slices)
    for one, picture in zip(inverted, pixels, strict=True):
        # what a stored value and its opposite become has one sum
        np.subtract(one.scale[1] + one.rescale[1], picture, out=picture)
    if is_ct and hounsfield.judge(pixels).kind != hounsfield.RIGHT:
        raise Problem(
            "expected a CT in MONOCHROME1 whose air and tissue show if its values are to be"
            " inverted, got values that cannot be confirmed as HU either way",
            where=first.file.parent,
            remedy="Export it as MONOCHROME2.",
        )
    return inverted, rules.every(PHOTOMETRIC, Inversion(True))
