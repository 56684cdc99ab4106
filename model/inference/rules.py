"""A prediction by the rules of its model: holes filled, small components removed.

:mod:`model.scoring.postprocess` chooses the rules on valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.regions import Amount, box, holes, regions, slabs, within


@dataclass(frozen=True)
class Rule:
    """What is done to one class: holes filled first, then components below a volume removed."""

    fill_holes: bool = False
    smallest_ml: float = 0.0


def apply(
    ids: NDArray[np.uint8], rules: Mapping[int, Rule], voxel_ml: Amount, planar: bool
) -> NDArray[np.uint8]:
    """Class ids (N, H, W) with the rule of every class id in ``rules`` applied, in order.

    ``voxel_ml``: a voxel's volume, where slices differ that of each (N,). Only background is
    filled, and what is removed becomes background. Components hang together by sides, edges and
    corners.
    """
    changed = ids.copy()
    for label, rule in sorted(rules.items()):
        near = box(changed, label)
        part = changed[near]  # a view; what is enclosed lies in it
        if rule.fill_holes:
            part[holes(part == label, planar) & (part == 0)] = label
        if rule.smallest_ml:
            found = regions((slab == label for slab in slabs(part)), corners=True, planar=planar)
            found.paint(part, found.amounts(within(voxel_ml, near[0])) < rule.smallest_ml, 0)
    return changed
