"""The Dice that a mask's own probabilities lead one to expect, without any truth.

2 sum of p over the mask / (voxels of the mask + sum of p): were every probability right, the truth
would on average have as many voxels as p sums to, and the mask would hit as many as p sums to in it
(Li et al., MICCAI 2022). So it is as good as the probabilities are calibrated. Scans with the
lowest are to be looked at first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.inference.sampling import Probabilities


@dataclass
class Expected:
    """Sums over a scan, by class id: voxels of the mask, of p in it, and of p."""

    voxels: NDArray[np.float64]
    inside: NDArray[np.float64]
    total: NDArray[np.float64]

    @classmethod
    def none(cls, classes: int) -> Expected:
        """Of no voxels."""
        return cls(np.zeros(classes), np.zeros(classes), np.zeros(classes))

    def add(self, probability: Probabilities, ids: NDArray[np.uint8]) -> None:
        """Add p (classes, ...) and the mask (...) that follows from them."""
        for label, p in enumerate(probability):
            of_mask = ids == label
            self.voxels[label] += np.count_nonzero(of_mask)
            self.inside[label] += p[of_mask].sum(dtype=np.float64)
            self.total[label] += p.sum(dtype=np.float64)

    @property
    def dice(self) -> list[float]:
        """Of each foreground class; NaN of one that the mask does not have."""
        whole = self.voxels + self.total
        twice = 2 * self.inside
        both = zip(twice[1:], whole[1:], self.voxels[1:], strict=True)
        return [float(part / all_) if voxels else math.nan for part, all_, voxels in both]
