"""Batch normalisation that is fast on a processor: one kernel instead of a dozen passes."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops


class BatchNormalization(layers.BatchNormalization):  # type: ignore[misc]  # untyped library
    """Keras' layer, whose training step TensorFlow computes by its fused kernel.

    Keras makes a copy of a bfloat16 picture in float32 and passes over it once for each of mean,
    variance, scale and shift, and again for their gradients: on a processor that took as long as
    the convolutions. The kernel reads and writes the computation's own format, and sums in
    float32. What it gives, running averages included, is what Keras gives but for rounding.
    Other backends, and a network in use, take Keras' own path.

    A file names Keras' class, so that it can be loaded without this project.
    """

    __module__ = "keras.layers"

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Pictures (B, H, W, C) normalised by the batch; in use, by the running averages."""
        fused = keras.backend.backend() == "tensorflow" and len(inputs.shape) == 4
        if not (training and self.trainable and fused):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow

        outputs, mean, variance, *_ = tensorflow.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[],
            variance=[],
            epsilon=self.epsilon,
            is_training=True,
        )
        count = ops.cast(ops.size(inputs) / inputs.shape[-1], "float32")
        variance *= (count - 1) / count  # the kernel's is that of a sample, Keras' of the batch
        for average, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + now * (1 - self.momentum))
        return outputs
