"""What a network costs before it is built: computation, weights and memory, from its shape."""

from __future__ import annotations

from collections.abc import Iterator

from model.params import Network

_BYTES = 4
_KEPT = 3
"""Copies of what every convolution gives while it is trained: its value, activated and normalised,
and the gradient."""


def gflop(network: Network, classes: int) -> float:
    """Multiplications and additions of one picture's convolutions, forwards, in thousand millions.

    As :mod:`model.inspect` counts them of a built network: every weight once for each pixel.
    """
    return sum(2 * px * px * weights for px, _, weights in _convolutions(network, classes)) / 1e9


def weights(network: Network, classes: int) -> int:
    """The weights of all convolutions, without biases and normalisation."""
    return sum(weights for _, _, weights in _convolutions(network, classes))


def values(network: Network, classes: int) -> float:
    """Numbers that the convolutions of one picture give, in millions: what memory has to carry."""
    return sum(px * px * filters for px, filters, _ in _convolutions(network, classes)) / 1e6


def training_gb(network: Network, batch: int, classes: int) -> float:
    """About how much memory a training step takes: what all convolutions give, and the weights with
    their gradients and Adam's two means, in 2^30 bytes."""
    shown = 1e6 * values(network, classes)
    held = batch * shown * _KEPT + 4 * weights(network, classes)
    return held * _BYTES / 2**30


def _convolutions(network: Network, classes: int) -> Iterator[tuple[int, int, int]]:
    """Side of the pictures, filters and weights of every convolution of FlexUNet."""
    last = network.num_layers - 1
    for level in range(network.num_layers):
        px, filters = network.image_px // 2**level, network.base_filters * 2**level
        kernel = max(network.base_kernels - 2 * level, 3) ** 2
        yield px, filters, kernel * filters * (filters // 2 if level else network.inputs)
        yield px, filters, kernel * filters * filters
        if level < last:
            yield px // 2, 4 * filters, 4 * filters * 2 * filters  # up: four pixels from each
            yield px, filters, kernel * filters * 2 * filters
            yield px, filters, kernel * filters * filters
    yield network.image_px, classes, network.base_filters * classes
