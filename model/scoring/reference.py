"""The metrics that the reference projects publish, in NumPy; for comparison with theirs alone."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED


def dice_coef_multiclass(
    ids: NDArray[np.uint8], probabilities: NDArray[np.float32], unlabelled: Collection[int] = ()
) -> NDArray[np.float64]:
    """The reference projects' metric of each picture (B,), from ids (B, H, W) and p (B, H, W, C).

    (2 sum(y p) + 1) / (sum(y) + sum(p) + 1) with sums over H, W and *all classes,
    background included*: soft pixel accuracy, printed for comparison only. Over the pixels that
    somebody annotated, NaN of none; where background may be of a class of ``unlabelled``, p is that
    of all of them.
    """
    if unlabelled or ids.max(initial=0) == IGNORED:
        known = (ids != IGNORED).astype(np.float64)
        both = (_hit(ids, probabilities, unlabelled) * known).sum(axis=(1, 2))
        pixels = known.sum(axis=(1, 2))
        total = pixels + (probabilities.sum(axis=-1, dtype=np.float64) * known).sum(axis=(1, 2))
        return np.where(pixels > 0, (2 * both + 1) / (total + 1), np.nan)
    hit = np.take_along_axis(probabilities, ids[..., None].astype(np.intp), axis=-1)
    both = hit.sum(axis=(1, 2, 3), dtype=np.float64)
    total = ids[0].size + probabilities.sum(axis=(1, 2, 3), dtype=np.float64)
    scores: NDArray[np.float64] = (2 * both + 1) / (total + 1)
    return scores


def cross_entropy(
    ids: NDArray[np.uint8], probabilities: NDArray[np.float32], unlabelled: Collection[int] = ()
) -> NDArray[np.float64]:
    """The reference projects' loss of each picture (B,), from ids (B, H, W) and p (B, H, W, C).

    Mean over the pixels of -ln p of the true class, p kept above Keras' epsilon of 1e-7. What
    nobody annotated is as in :func:`dice_coef_multiclass`.
    """
    if unlabelled or ids.max(initial=0) == IGNORED:
        likely = np.clip(_hit(ids, probabilities, unlabelled), 1e-7, 1 - 1e-7)
        annotated, costs = ids != IGNORED, -np.log(likely)
        pixels = annotated.sum(axis=(1, 2))
        mean = (costs * annotated).sum(axis=(1, 2)) / np.maximum(pixels, 1)
        return np.where(pixels > 0, mean, np.nan)
    hit = np.take_along_axis(probabilities, ids[..., None].astype(np.intp), axis=-1)
    known = np.clip(hit.astype(np.float64), 1e-7, 1 - 1e-7)
    losses: NDArray[np.float64] = -np.log(known).mean(axis=(1, 2, 3))
    return losses


def _hit(
    ids: NDArray[np.uint8], probabilities: NDArray[np.float32], unlabelled: Collection[int]
) -> NDArray[np.float64]:
    """p of what each pixel may be, (B, H, W); of what nobody annotated, that of background."""
    of_class = np.where(ids == IGNORED, 0, ids).astype(np.intp)
    hit = np.take_along_axis(probabilities, of_class[..., None], axis=-1)[..., 0].astype(np.float64)
    more = probabilities[..., list(unlabelled)].sum(axis=-1, dtype=np.float64)
    return np.where(of_class == 0, hit + more, hit)


METRICS = {"dice_coef_multiclass": dice_coef_multiclass, "cross_entropy": cross_entropy}
"""By the names under which their means stand in the results."""
