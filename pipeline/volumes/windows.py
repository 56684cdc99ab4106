"""Which intensities of a scan become black and white."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def window_of(
    array: NDArray[Any],
    own_grey: bool,
    bounds: tuple[float, float] | None,
    percentiles: tuple[float, float],
) -> tuple[float, float]:
    """The values of a scan (any shape) that become 0 and 255.

    ``own_grey``: pictures that their publisher windowed keep their values, if these fit 8 bits.
    Otherwise a CT has the window ``bounds`` in HU, and everything else ``percentiles`` of its own.

    >>> window_of(np.array([0, 200]), True, None, (0.5, 99.5))
    (0.0, 255.0)
    >>> window_of(np.array([-1000, 40]), False, (0.0, 80.0), (0.5, 99.5))
    (0.0, 80.0)
    """
    if own_grey and array.min() >= 0 and array.max() <= 255:
        return 0.0, 255.0
    if bounds and not own_grey:
        return bounds
    low, high = np.percentile(array, percentiles)
    return float(low), float(high)
