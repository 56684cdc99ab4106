"""Class ids under construction, and the voxels that two classes claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Problem
from pipeline.volumes.findings import LABEL, Finding, finding

_MANY = 5  # pairs of classes in one message


@dataclass
class Sheet:
    """Class ids in the order of a grid's own axes. The later class of the label map is drawn where
    two claim a voxel; :meth:`overlaps` decides whether that is allowed."""

    ids: NDArray[np.uint8]
    claimed: Counter[tuple[int, int]] = field(default_factory=Counter)

    def draw(self, place: NDArray[np.uint8], mask: NDArray[np.bool_], class_id: int) -> None:
        """Draw a class where ``mask`` is, in ``place``, a view of :attr:`ids` of its shape."""
        before = place[mask]
        other = before[(before != 0) & (before != class_id)]
        for one, count in zip(*np.unique(other, return_counts=True), strict=True):
            self.claimed[min(int(one), class_id), max(int(one), class_id)] += int(count)
        place[mask] = np.maximum(before, class_id)

    def overlaps(self, dataset: Dataset, where: object) -> Sequence[Finding]:
        """A finding about voxels of two classes. Raises :class:`Problem` unless ``later_wins``."""
        if not self.claimed:
            return ()
        if dataset.later_wins:
            return (finding("classes-overlap", LABEL, voxels=self.claimed.total()),)
        names = [label.name for label in dataset.label_map]
        pairs = [
            f"{count:,} of {names[one]} and {names[other]}"
            for (one, other), count in self.claimed.most_common(_MANY)
        ]
        raise Problem(
            f"expected voxels of one class each, got voxels that two classes claim:"
            f" {', '.join(pairs)}",
            where=where,
            remedy="Correct the drawing, or let the adapter state later_wins: then the class that"
            " the label map has later is drawn.",
        )
