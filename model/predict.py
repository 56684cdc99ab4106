"""A trained network on pictures: probabilities, and class ids at the pictures' own size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from model.batches import model_input
from pipeline.params import Network


def probabilities(
    model: keras.Model, pictures: Sequence[NDArray[np.uint8]], network: Network
) -> NDArray[np.float32]:
    """Grey pictures -> (B, px, px, classes) float32 at the network's size."""
    predicted = model.predict_on_batch(model_input(pictures, network))
    return np.asarray(predicted, np.float32)


def class_ids(probability: NDArray[np.float32], px: int) -> NDArray[np.uint8]:
    """Probabilities (n, n, classes) of one picture -> the likeliest class ids (px, px).

    The probabilities, not the ids, are enlarged (linearly), which keeps outlines smooth.
    """
    if len(probability) != px:
        enlarged: Any = cv2.resize(probability, (px, px), interpolation=cv2.INTER_LINEAR)
        probability = enlarged
    ids: NDArray[np.uint8] = probability.argmax(axis=-1).astype(np.uint8)
    return ids
