"""Our batch normalisation: what Keras' own gives, in training and in use, by one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

from model.normalization import BatchNormalization

pytestmark = pytest.mark.slow

tensorflow: Any = pytest.importorskip("tensorflow", reason="the fast path is TensorFlow's")
SHAPE = (4, 16, 12, 8)
ROUNDING = {"float32": 1e-5, "mixed_bfloat16": 1e-2, "mixed_float16": 2e-3}


@pytest.fixture(params=ROUNDING)
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    """A dtype policy for the length of a test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def drawn(kind: type[layers.Layer], shape: tuple[int, ...] = SHAPE) -> layers.Layer:
    """A layer that scales and shifts every filter differently."""
    layer = kind(momentum=0.9)
    layer.build(shape)
    layer.gamma.assign(np.linspace(0.5, 2, shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, shape[-1]))
    return layer


def step(layer: layers.Layer, x: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What a layer gives in a training step, its gradients, and its running averages after it."""
    slope = np.random.default_rng(1).normal(0, 1, x.shape)
    into = tensorflow.Variable(ops.cast(x, layer.compute_dtype))
    with tensorflow.GradientTape() as tape:
        y = layer(into, training=True)
        cost = ops.sum(ops.cast(y, "float32") * slope)
    assert y.dtype == layer.compute_dtype
    found = tape.gradient(cost, [into, layer.gamma.value, layer.beta.value])
    names = ("slope", "slope of gamma", "slope of beta", "output", "mean", "variance")
    values = (*found, y, layer.moving_mean, layer.moving_variance)
    return {
        name: np.asarray(ops.convert_to_numpy(ops.cast(value, "float32")))
        for name, value in zip(names, values, strict=True)
    }


@pytest.mark.parametrize("shape", [SHAPE, (1, 8, 8, 3), (2, 1, 1, 1), (1, 1, 1, 4)])
def test_a_training_step_is_that_of_keras(shape: tuple[int, ...], policy: str) -> None:
    x = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    ours, theirs = (
        step(drawn(kind, shape), x) for kind in (BatchNormalization, layers.BatchNormalization)
    )
    for name, wanted in theirs.items():
        margin = ROUNDING[policy] * max(np.abs(wanted).max(), 1)
        np.testing.assert_allclose(ours[name], wanted, rtol=0, atol=margin, err_msg=name)


def test_statistics_are_summed_in_float32_whatever_the_policy(policy: str) -> None:
    """16,384 times 1 and 3 in turn: a sum in bfloat16 would stand still at 512."""
    x = np.ones((4, 64, 64, 8), np.float32)
    x[:, ::2] = 3
    found = step(drawn(BatchNormalization, x.shape), x)
    np.testing.assert_allclose(found["mean"], 0.2, rtol=1e-5)
    np.testing.assert_allclose(found["variance"], 1.0, rtol=1e-4)


def test_a_network_in_use_answers_as_with_keras_to_the_last_bit(policy: str) -> None:
    x = np.random.default_rng(0).normal(3, 2, SHAPE).astype(np.float32)
    ours, theirs = (
        np.asarray(ops.cast(drawn(kind)(x, training=False), "float32"))
        for kind in (BatchNormalization, layers.BatchNormalization)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_a_file_names_the_class_of_keras() -> None:
    stated = keras.saving.serialize_keras_object(drawn(BatchNormalization))
    again = keras.saving.deserialize_keras_object(stated)
    assert type(again) is layers.BatchNormalization
    assert again.get_config() == drawn(BatchNormalization).get_config() | {"name": again.name}


def test_a_step_is_one_kernel_in_its_own_format_and_not_keras_passes() -> None:
    """What it is for; how fast that is on a processor is in tests/benchmarks/recipes.md."""

    def kernels(kind: type[layers.Layer]) -> set[tuple[str, str]]:
        layer = kind(dtype="mixed_bfloat16")
        layer.build((2, 8, 8, 4))

        @tensorflow.function
        def step(into: Any) -> Any:
            with tensorflow.GradientTape() as tape:
                tape.watch(into)
                y = layer(into, training=True)
            return tape.gradient(y, into)

        graph = step.get_concrete_function(
            tensorflow.TensorSpec((2, 8, 8, 4), tensorflow.bfloat16)
        ).graph
        named = {"FusedBatchNormV3", "FusedBatchNormGradV3"}
        return {
            (one.type, one.get_attr("T").name)
            for one in graph.get_operations()
            if one.type in named
        }

    assert kernels(layers.BatchNormalization) == set()
    assert kernels(BatchNormalization) == {
        ("FusedBatchNormV3", "bfloat16"),
        ("FusedBatchNormGradV3", "bfloat16"),
    }
