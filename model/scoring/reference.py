"""The metrics that the reference projects publish, in NumPy; for comparison with theirs alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice_coef_multiclass(
    ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The reference projects' metric of each picture (B,), from ids (B, H, W) and p (B, H, W, C).

    (2 sum(y p) + 1) / (sum(y) + sum(p) + 1) with sums over H, W and *all classes,
    background included*: soft pixel accuracy, printed for comparison only.
    """
    hit = np.take_along_axis(probabilities, ids[..., None].astype(np.intp), axis=-1)
    both = hit.sum(axis=(1, 2, 3), dtype=np.float64)
    total = ids[0].size + probabilities.sum(axis=(1, 2, 3), dtype=np.float64)
    scores: NDArray[np.float64] = (2 * both + 1) / (total + 1)
    return scores


def cross_entropy(
    ids: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The reference projects' loss of each picture (B,), from ids (B, H, W) and p (B, H, W, C).

    Mean over the pixels of -ln p of the true class, p kept above Keras' epsilon of 1e-7.
    """
    hit = np.take_along_axis(probabilities, ids[..., None].astype(np.intp), axis=-1)
    known = np.clip(hit.astype(np.float64), 1e-7, 1 - 1e-7)
    losses: NDArray[np.float64] = -np.log(known).mean(axis=(1, 2, 3))
    return losses


METRICS = {"dice_coef_multiclass": dice_coef_multiclass, "cross_entropy": cross_entropy}
"""By the names under which their means stand in the results."""
