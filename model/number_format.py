"""The number format that a network computes in; its weights are float32 whatever that is."""

from __future__ import annotations

import keras

FORMATS = ("float32", "bfloat16", "float16")


def use(name: str) -> None:
    """Compute in one of :data:`FORMATS` from now on."""
    keras.config.set_dtype_policy(name if name == "float32" else f"mixed_{name}")
