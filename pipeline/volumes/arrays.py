"""Arrays that are handed from room to room, by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image8 = NDArray[np.uint8]
"""A grey 8-bit image (H, W), or class ids of the same shape."""
Rgb8 = NDArray[np.uint8]
"""A picture in colours (H, W, 3), 8 bits each."""
