"""A network in a Keras archive, rebuilt by our own code: nothing of the file's description runs.

The file may come from anyone. The network is that of its provenance, and only the weights are the
file's.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from model import number_format
from model.flexunet import flexunet
from model.inference import stated
from model.params import Network
from pipeline.params.values import shown
from pipeline.runtime import modelfile

_PLAIN = (bool, int, float, str)


def keras_network(file: Path) -> tuple[keras.Model, dict[str, Any]]:
    """The network of a model file, uncompiled, in float32, and the file's provenance.

    It computes in float32 whatever it was trained in, so that it answers as its ONNX file does.
    Raises :class:`Problem` if the file is missing or damaged, or is not what the pipeline writes
    of the network in its provenance.
    """
    origin = modelfile.read(file)
    network, classes = stated.network(origin, file)
    return built(file, network, classes, "float32"), origin


def runner(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Pictures (B, px, px, channels) uint8 -> probabilities (B, px, px, classes) float32."""

    def run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(model.predict_on_batch(pictures), np.float32)

    return run


def built(file: Path, network: Network, classes: int, form: str) -> keras.Model:
    """The network with the weights of the file, uncompiled, in the number format ``form``.

    The network is built by our code from parameters, and of the file's description, which Keras
    would bring to life as whatever classes it names, only its layers' plain values are compared.
    Raises :class:`Problem` if the file has other layers or no such weights.
    """
    before = keras.config.dtype_policy()
    number_format.use(form)
    try:
        model = flexunet(network, classes)
    finally:
        keras.config.set_dtype_policy(before)
    ours = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    try:
        theirs = _architecture(modelfile.member(file, modelfile.CONFIG))
    except (AttributeError, KeyError, TypeError, ValueError):
        theirs = []
    for our, their in itertools.zip_longest(_architecture(ours), theirs):
        if not our or not their or any(our[key] != their[key] for key in our.keys() & their):
            name = shown((our or their)["name"])
            raise modelfile.unfit(
                file, f"expected the FlexUNet of its parameters, got another layer {name}"
            )
    try:
        model.load_weights(file)
    except Exception as error:  # of a strange file, Keras and h5py raise all kinds
        raise modelfile.unfit(
            file, f"expected the weights of its network, got {str(error)[:200]}"
        ) from error
    strange = [one.path for one in model.weights if not np.isfinite(_array(one)).all()]
    if strange:
        raise modelfile.unfit(file, f"expected weights that are numbers, got NaN in {strange[0]}")
    return model


def arrays(model: keras.Model) -> dict[str, NDArray[np.float32]]:
    """The weights of a network, named and turned as in :mod:`model.inference.onnx_graph`.

    Keras' kernels (rows, columns, in, out) become (out, in, rows, columns); those of transposed
    convolutions, (rows, columns, out, in), become (in, out, rows, columns).
    """
    named = {}
    for layer in model.layers:
        for weight in layer.weights:
            values = _array(weight)
            named[f"{layer.name}.{weight.name}"] = (
                values.transpose(3, 2, 0, 1) if values.ndim == 4 else values
            )
    return named


def _architecture(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Of every layer its class, name and plain values."""
    return [
        {key: value for key, value in one["config"].items() if isinstance(value, _PLAIN)}
        | {"class": one["class_name"], "name": one["name"]}
        for one in content["config"]["layers"]
    ]


def _array(weight: Any) -> NDArray[np.float32]:
    return np.asarray(keras.ops.convert_to_numpy(weight), np.float32)
