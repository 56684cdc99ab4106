"""FlexUNet: a U-Net whose depth, filters, kernels and dilation are parameters.

Level i = 0..L-1 has base_filters * 2^i filters, a kernel of base_kernels - 2i (not
below 3) and a dilation of dilation - i (not below 1); the last level is the bridge.
A decoder level mirrors its encoder level.
"""

from __future__ import annotations

import math

import keras
from keras import layers

from model.normalization import BatchNormalization
from model.params import Network

_GROUPS = 8  # of group normalisation, or as many as divide the filters


def flexunet(network: Network, classes: int) -> keras.Model:
    """Pictures (B, px, px, channels) in 0..255 -> class probabilities (B, px, px, classes).

    The head is float32 whatever the dtype policy. ``network`` is checked when it is
    built: ``image_px`` is a multiple of 2^(num_layers - 1).
    """
    pictures = keras.Input((network.image_px, network.image_px, network.inputs), name="picture")
    x = layers.Rescaling(1 / 255, name="unit_range")(pictures)

    # encoder
    skips = []
    for level in range(network.num_layers - 1):
        x = _block(x, network, level, f"encoder_{level}")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down_{level}")(x)

    # bridge
    x = _block(x, network, network.num_layers - 1, "bridge")

    # decoder
    for level in reversed(range(network.num_layers - 1)):
        x = layers.Conv2DTranspose(_filters(network, level), 2, strides=2, name=f"up_{level}")(x)
        x = layers.Concatenate(name=f"joint_{level}")([x, skips[level]])
        x = _block(x, network, level, f"decoder_{level}")

    # head
    x = layers.Conv2D(classes, 1, name="head")(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(pictures, probabilities, name="flexunet")


def _block(x: keras.KerasTensor, network: Network, level: int, name: str) -> keras.KerasTensor:
    """Convolution, dropout, convolution; each convolution activated, then normalised."""
    for half in range(2):
        x = layers.Conv2D(
            _filters(network, level),
            max(network.base_kernels - 2 * level, 3),
            padding="same",
            dilation_rate=max(network.dilation - level, 1),
            activation=network.activation,
            kernel_initializer="he_normal",
            name=f"{name}_conv_{half}",
        )(x)
        x = _normalised(x, network.normalization, f"{name}_norm_{half}")
        if half == 0:
            x = layers.Dropout(network.dropout_rate * level, name=f"{name}_dropout")(x)
    return x


def _normalised(x: keras.KerasTensor, how: str, name: str) -> keras.KerasTensor:
    """By the batch (Ioffe & Szegedy 2015), by groups of filters of one picture (Wu & He 2018) or
    by each filter of one picture (Ulyanov et al. 2016)."""
    if how == "batch":
        return BatchNormalization(momentum=0.9, name=name)(x)
    if how == "group":
        groups = math.gcd(_GROUPS, x.shape[-1])
        return layers.GroupNormalization(groups, name=name)(x)
    if how == "instance":
        return layers.GroupNormalization(groups=-1, name=name)(x)
    return x


def _filters(network: Network, level: int) -> int:
    return int(network.base_filters * 2**level)
