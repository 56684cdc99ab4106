"""FlexUNet: a U-Net whose depth, filters, kernels and dilation are parameters.

Level i = 0..L-1 has base_filters * 2^i filters, a kernel of base_kernels - 2i (not
below 3) and a dilation of dilation - i (not below 1); the last level is the bridge.
A decoder level mirrors its encoder level.
"""

from __future__ import annotations

import keras
from keras import layers

from pipeline.params import Network


def flexunet(network: Network, classes: int) -> keras.Model:
    """Pictures (B, px, px, channels) in 0..255 -> class probabilities (B, px, px, classes).

    The head is float32 whatever the dtype policy. ``network`` is checked when it is
    built: ``image_px`` is a multiple of 2^(num_layers - 1).
    """
    pictures = keras.Input((network.image_px, network.image_px, network.channels), name="picture")
    x = layers.Rescaling(1 / 255)(pictures)

    # encoder
    skips = []
    for level in range(network.num_layers - 1):
        x = _block(x, network, level)
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)

    # bridge
    x = _block(x, network, network.num_layers - 1)

    # decoder
    for level in reversed(range(network.num_layers - 1)):
        x = layers.Conv2DTranspose(_filters(network, level), 2, strides=2)(x)
        x = layers.Concatenate()([x, skips[level]])
        x = _block(x, network, level)

    # head
    x = layers.Conv2D(classes, 1)(x)
    probabilities = layers.Softmax(dtype="float32", name="probabilities")(x)
    return keras.Model(pictures, probabilities, name="flexunet")


def _block(x: keras.KerasTensor, network: Network, level: int) -> keras.KerasTensor:
    """Convolution, dropout, convolution; each convolution activated, then normalised."""
    for half in range(2):
        x = layers.Conv2D(
            _filters(network, level),
            max(network.base_kernels - 2 * level, 3),
            padding="same",
            dilation_rate=max(network.dilation - level, 1),
            activation=network.activation,
            kernel_initializer="he_normal",
        )(x)
        if network.normalization == "batch":
            x = layers.BatchNormalization(momentum=0.9)(x)
        if half == 0:
            x = layers.Dropout(network.dropout_rate * level)(x)
    return x


def _filters(network: Network, level: int) -> int:
    return int(network.base_filters * 2**level)
