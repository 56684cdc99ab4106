"""From pictures to probabilities, and from probabilities to class ids at any size."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from model.flexunet import flexunet
from model.predict import class_ids, probabilities
from pipeline.params import Network

PX = 16
NETWORK = Network(PX, 1, 2, 3, 2, 1, 0.0, "relu", "none")


def _random(seed: int, side: int, classes: int) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).random((side, side, classes)).astype(np.float32)
    return values / values.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_ids_at_the_same_size_are_the_likeliest_classes(classes: int) -> None:
    probability = _random(1, PX, classes)
    ids = class_ids(probability, PX)
    assert ids.dtype == np.uint8
    for row, col in np.ndindex(PX, PX):
        assert probability[row, col, ids[row, col]] == probability[row, col].max()


@pytest.mark.parametrize("px", [8, PX, 40, 512])
@pytest.mark.parametrize("label", [0, 2])
def test_constant_map_stays_constant_at_every_size(label: int, px: int) -> None:
    probability = np.full((PX, PX, 3), 0.2, np.float32)
    probability[..., label] = 0.6
    np.testing.assert_array_equal(class_ids(probability, px), np.full((px, px), label, np.uint8))


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_enlarging_holds_for_many_classes(classes: int) -> None:
    ids = np.arange(classes).repeat(2 * classes).reshape(classes, -1)[:, :classes]
    probability = np.eye(classes, dtype=np.float32)[ids]
    enlarged = class_ids(probability, 8 * classes)
    np.testing.assert_array_equal(enlarged, ids.repeat(8, 0).repeat(8, 1))


def test_an_outline_is_smoothed_by_enlarging_probabilities() -> None:
    """A straight edge at any angle stays straight to half a pixel of the small map."""
    slope = (np.add(*np.indices((PX, PX)) * np.array([1, 0.5])[:, None, None]) - 11.5) / 8
    inside = np.clip(0.5 + slope, 0, 1).astype(np.float32)
    enlarged = class_ids(np.stack([1 - inside, inside], axis=-1), 8 * PX)
    row, col = (np.indices(enlarged.shape) + 0.5) / 8 - 0.5
    np.testing.assert_array_equal(enlarged[8:-8, 8:-8], (row + col / 2 > 11.5)[8:-8, 8:-8])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, PX, 40])
def test_pictures_of_any_size_become_probabilities(side: int, channels: int) -> None:
    network = replace(NETWORK, channels=channels)
    model = flexunet(network, 3)
    pictures = [np.full((side, side), value, np.uint8) for value in (0, 90, 255)]
    predicted = probabilities(model, pictures, network)
    assert predicted.shape == (3, PX, PX, 3)
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted.sum(axis=-1), 1, rtol=1e-5)


def test_a_grey_picture_fills_every_channel_of_the_network() -> None:
    seen = keras.Input((PX, PX, 3))
    echo = keras.Model(seen, layers.Rescaling(1.0)(seen))
    picture = np.random.default_rng(0).integers(0, 256, (PX, PX)).astype(np.uint8)
    predicted = probabilities(echo, [picture], replace(NETWORK, channels=3))
    np.testing.assert_array_equal(predicted[0], np.stack([picture] * 3, axis=-1))


def test_prediction_of_a_picture_does_not_depend_on_its_neighbours() -> None:
    model = flexunet(replace(NETWORK, normalization="batch", dropout_rate=0.5), 3)
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (PX, PX)).astype(np.uint8) for _ in range(4)]
    together = probabilities(model, pictures, NETWORK)
    alone = np.concatenate([probabilities(model, [picture], NETWORK) for picture in pictures])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)
