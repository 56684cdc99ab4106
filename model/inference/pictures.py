"""A network and pictures -> class probabilities and class ids at the pictures' own size.

The epochs' pictures of train, evaluate and predict all ask the network here, so that what is
looked at, what is scored and what is delivered are one and the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from model.network_input import model_input
from model.params import Network

_WHOLE_BYTES = 2**28  # enlarged probabilities up to here at once, larger ones in strips
_STRIP_BYTES = 2**24

Probabilities = NDArray[np.float32]


def probabilities(
    model: keras.Model, pictures: Sequence[NDArray[np.uint8]], network: Network
) -> Probabilities:
    """Square grey pictures of any size -> (B, px, px, classes) float32 at the network's size."""
    predicted = model.predict_on_batch(model_input(pictures, network))
    return np.asarray(predicted, np.float32)


def class_ids(probability: Probabilities, px: int) -> NDArray[np.uint8]:
    """Probabilities (n, n, classes) of one picture -> the likeliest class ids (px, px).

    The probabilities, not the ids, are enlarged (linearly), which keeps outlines smooth.
    """
    ids: NDArray[np.uint8] = _enlarged(probability, px).argmax(axis=-1).astype(np.uint8)
    return ids


def squared(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) -> (n, n), n the longer side, black around it."""
    (top, bottom), (left, right) = _margins(picture.shape)
    return np.pad(picture, ((top, bottom), (left, right)))


def strips(
    probability: Probabilities, shape: tuple[int, int]
) -> Iterator[tuple[slice, Probabilities]]:
    """Probabilities (px, px, classes) of a :func:`squared` picture -> those of its own rows.

    Yields rows and (rows, W, classes) until all of ``shape`` (H, W) is covered. Large ones are
    enlarged (linearly, pixel centres on pixel centres) along the rows first, and along the columns
    as they are asked for.
    """
    (height, width), side, classes = shape, max(shape), probability.shape[-1]
    (top, _), (left, _) = _margins(shape)
    if 4 * classes * side**2 <= _WHOLE_BYTES:
        yield (
            slice(0, height),
            _enlarged(probability, side)[top : top + height, left : left + width],
        )
        return
    px = len(probability)
    wide: Any = cv2.resize(probability, (side, px), interpolation=cv2.INTER_LINEAR)
    wide = wide.reshape(px, side, classes)[:, left : left + width]
    step = max(1, _STRIP_BYTES // (4 * classes * width))
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        place = (np.arange(rows.start, rows.stop) + top + 0.5) * px / side - 0.5
        above = np.floor(place)
        share = (place - above).astype(np.float32)[:, None, None]
        first, second = (np.clip(above + more, 0, px - 1).astype(np.intp) for more in (0, 1))
        yield rows, wide[first] * (1 - share) + wide[second] * share


def _enlarged(probability: Probabilities, px: int) -> Probabilities:
    if len(probability) == px:
        return probability
    enlarged: Any = cv2.resize(probability, (px, px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)


def _margins(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    return [((max(shape) - n) // 2, max(shape) - n - (max(shape) - n) // 2) for n in shape]
