"""A prediction by the rules of its model: those of train's labels, then holes and components.

:mod:`model.scoring.obeying` and :mod:`model.scoring.postprocess` choose the rules on valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.inference.structure import obey
from model.regions import Amount, box, holes, regions, slabs, within
from pipeline.structure.label_rules import LabelRule


@dataclass(frozen=True)
class Rule:
    """What is done to one class: holes filled first, then components below a volume removed."""

    fill_holes: bool = False
    smallest_ml: float = 0.0


def apply(
    ids: NDArray[np.uint8],
    rules: Mapping[int, Rule],
    voxel_ml: Amount,
    planar: bool,
    label_rules: Sequence[LabelRule] = (),
    world: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """Class ids (N, H, W) that obey ``label_rules``, with each class id's rule in ``rules``.

    In that order. ``world``: see :func:`model.inference.structure.obey`; pictures without
    geometry, which are ``planar``, are left out of it.

    ``voxel_ml``: a voxel's volume, where slices differ that of each (N,). Only background is
    filled, and what is removed becomes background. Components hang together by sides, edges and
    corners.
    """
    changed = ids.copy() if planar else obey(ids, label_rules, world)
    for label, rule in sorted(rules.items()):
        near = box(changed, label)
        part = changed[near]  # a view; what is enclosed lies in it
        if rule.fill_holes:
            part[holes(part == label, planar) & (part == 0)] = label
        if rule.smallest_ml:
            found = regions((slab == label for slab in slabs(part)), corners=True, planar=planar)
            found.paint(part, found.amounts(within(voxel_ml, near[0])) < rule.smallest_ml, 0)
    return changed
