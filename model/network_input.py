"""Pictures and class ids at the network's size: what it is shown while it learns and afterwards."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from model.params import Network


def picture_at(image: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """A grey picture (H, H) at (px, px): area averaging when it shrinks, linear when it grows."""
    if len(image) == px:
        return image
    how = cv2.INTER_AREA if px < len(image) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (px, px), interpolation=how), np.uint8)


def labels_at(ids: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Class ids (H, H) at (px, px): the id under each pixel's centre."""
    index = ((np.arange(px) + 0.5) * len(ids) / px).astype(np.intp)
    return ids[np.ix_(index, index)]


def model_input(pictures: Sequence[NDArray[np.uint8]], network: Network) -> NDArray[np.uint8]:
    """Square grey pictures of any size -> (B, px, px, channels) uint8."""
    batch = np.stack([picture_at(picture, network.image_px) for picture in pictures])
    return np.repeat(batch[..., None], network.channels, axis=-1)
