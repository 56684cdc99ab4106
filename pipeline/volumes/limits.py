"""Refuse what is too large to be read, by its header, before any memory is allocated for it.

A file of a megabyte can demand gigabytes: compressed zeros, or a header with a wrong number.
The limits are parameters (:class:`pipeline.params.limits.Limits`); their defaults fit a
workstation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from datasets_spec.contract import Problem
from pipeline.params.limits import Limits


def require_voxels(shape: Sequence[int], limits: Limits, where: object) -> None:
    """Raises :class:`Problem` if a volume of ``shape`` has more voxels than ``limits`` allow."""
    count = math.prod(int(side) for side in shape)
    if count > limits.voxels:
        raise _problem("voxels", limits.voxels, shape, count, where)


def require_pixels(shape: Sequence[int], limits: Limits, where: object) -> None:
    """Raises :class:`Problem` if a picture of ``shape`` has more pixels than ``limits`` allow."""
    count = math.prod(int(side) for side in shape)
    if count > limits.pixels:
        raise _problem("pixels", limits.pixels, shape, count, where)


def _problem(unit: str, most: int, shape: Sequence[int], count: int, where: object) -> Problem:
    sides = " x ".join(str(int(side)) for side in shape)
    return Problem(
        f"expected at most {most:,} {unit}, got {sides} = {count:,}",
        where=where,
        remedy=f"Is its header right? If so, and there is memory for it, raise limits.{unit} in"
        " the parameter file.",
    )
