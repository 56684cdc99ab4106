"""The network: exact parameter counts of the reference projects, shapes, schedules, backends."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers

from model.flexunet import flexunet
from model.params import Network, presets
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

SMALL = Network(
    image_px=16,
    channels=1,
    base_filters=2,
    base_kernels=3,
    num_layers=3,
    dilation=1,
    dropout_rate=0.1,
    activation="relu",
    normalization="none",
)
# what the reference projects publish: kernel, dilation, dropout, classes and weights
REFERENCE_PROJECTS = {
    "phe_sich_ct_ids": (9, 1, 0.03, 2, 124_996_866),
    "aisd": (9, 3, 0.05, 2, 124_996_866),
    "teknofest_2021_stroke": (9, 1, 0.04, 3, 124_996_883),
    "mbh_seg25": (7, 1, 0.05, 6, 124_557_126),
    "full_head_t1w": (11, 1, 0.05, 7, 126_809_303),
}


@pytest.fixture
def without_weights() -> Iterator[None]:
    """Models are built without values for their weights: 125 million of them cost nothing."""
    with keras.StatelessScope(initialize_variables=False):
        yield
    keras.utils.clear_session()  # or the next scope to end would draw all the values after all


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    """A dtype policy for the length of a test."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", REFERENCE_PROJECTS)
@pytest.mark.usefixtures("without_weights")
def test_reference_projects_have_their_number_of_weights(name: str) -> None:
    kernels, dilation, dropout, classes, weights = REFERENCE_PROJECTS[name]
    network = Network(512, 3, 16, kernels, 8, dilation, dropout, "relu", "none")
    model = flexunet(network, classes)
    assert model.count_params() == weights
    assert model.output_shape == (None, 512, 512, classes)


@pytest.mark.parametrize("name", REFERENCE_PROJECTS)
def test_presets_are_the_networks_of_the_reference_projects(name: str) -> None:
    kernels, dilation, dropout, _, _ = REFERENCE_PROJECTS[name]
    wanted = Network(512, 3, 16, kernels, 8, dilation, dropout, "relu", "none")
    assert presets(PROJECT / "params.yaml")[name].train.network == wanted


@pytest.mark.parametrize("px", [8, 24])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [2, 5])
def test_pictures_become_probabilities_of_their_size(px: int, channels: int, classes: int) -> None:
    model = flexunet(replace(SMALL, image_px=px, channels=channels), classes)
    pictures = np.random.default_rng(0).integers(0, 256, (2, px, px, channels), np.uint8)
    probabilities = np.asarray(model.predict_on_batch(pictures))
    assert probabilities.shape == (2, px, px, classes)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "policy", ["float32", "mixed_bfloat16", "mixed_float16", "bfloat16"], indirect=True
)
def test_head_is_float32_under_every_policy(policy: str) -> None:
    model = flexunet(SMALL, 3)
    assert model.layers[-1].compute_dtype == "float32"
    assert model.layers[-2].compute_dtype == policy.removeprefix("mixed_")
    pictures = np.full((1, 16, 16, 1), 200, np.uint8)
    probabilities = np.asarray(model.predict_on_batch(pictures))
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("base", "wanted"), [(3, [3, 3, 3, 3]), (7, [7, 5, 3, 3]), (11, [11, 9, 7, 5])]
)
def test_kernels_shrink_by_two_a_level_and_not_below_three(base: int, wanted: list[int]) -> None:
    model = flexunet(replace(SMALL, num_layers=4, base_kernels=base), 2)
    assert [layer.kernel_size for layer in _blocks(model)] == _down_and_up([(k, k) for k in wanted])


@pytest.mark.parametrize(
    ("base", "wanted"), [(1, [1, 1, 1, 1]), (3, [3, 2, 1, 1]), (5, [5, 4, 3, 2])]
)
def test_dilation_shrinks_by_one_a_level_and_not_below_one(base: int, wanted: list[int]) -> None:
    model = flexunet(replace(SMALL, num_layers=4, dilation=base), 2)
    got = [layer.dilation_rate for layer in _blocks(model)]
    assert got == _down_and_up([(d, d) for d in wanted])


def test_filters_double_a_level() -> None:
    model = flexunet(replace(SMALL, num_layers=4), 2)
    assert [layer.filters for layer in _blocks(model)] == _down_and_up([2, 4, 8, 16])
    up = [layer for layer in model.layers if isinstance(layer, layers.Conv2DTranspose)]
    assert [(layer.filters, layer.activation.__name__) for layer in up] == [
        (filters, "linear") for filters in (8, 4, 2)
    ]


def test_dropout_grows_with_the_level() -> None:
    model = flexunet(replace(SMALL, num_layers=4), 2)
    rates = [layer.rate for layer in model.layers if isinstance(layer, layers.Dropout)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.2, 0.1, 0])


@pytest.mark.parametrize("num_layers", [2, 3, 5])
def test_picture_is_halved_once_less_than_there_are_levels(num_layers: int) -> None:
    model = flexunet(replace(SMALL, num_layers=num_layers), 2)
    smallest = min(layer.output.shape[1] for layer in model.layers)
    assert smallest == 16 // 2 ** (num_layers - 1)


def test_up_sampled_pictures_meet_the_encoder_of_their_level() -> None:
    model = flexunet(replace(SMALL, num_layers=3), 2)
    joints = [layer for layer in model.layers if isinstance(layer, layers.Concatenate)]
    shapes = [[tensor.shape[1:] for tensor in joint.input] for joint in joints]
    assert shapes == [[(8, 8, 4)] * 2, [(16, 16, 2)] * 2]
    for joint in joints:
        up, skip = (tensor._keras_history.operation for tensor in joint.input)
        assert isinstance(up, layers.Conv2DTranspose)
        assert isinstance(skip, layers.Conv2D)


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_normalization_follows_every_convolution_of_a_block(normalization: str) -> None:
    model = flexunet(replace(SMALL, normalization=normalization), 2)
    kinds = [type(layer).__name__ for layer in model.layers]
    followers = [
        kinds[place + 1] for place, layer in enumerate(model.layers) if layer in _blocks(model)
    ]
    normalised = [name == "BatchNormalization" for name in followers]
    assert len(followers) == 10
    assert normalised == [normalization == "batch"] * 10
    assert kinds.count("BatchNormalization") == sum(normalised)


@pytest.mark.parametrize("activation", ["relu", "elu", "gelu"])
def test_blocks_are_activated_as_asked(activation: str) -> None:
    model = flexunet(replace(SMALL, activation=activation), 2)
    assert {layer.activation.__name__ for layer in _blocks(model)} == {activation}


def test_brightness_reaches_the_network_between_zero_and_one() -> None:
    model = flexunet(SMALL, 2)
    scaled = keras.Model(model.input, model.layers[1].output)
    white = np.full((1, 16, 16, 1), 255, np.uint8)
    np.testing.assert_allclose(np.asarray(scaled.predict_on_batch(white)), 1, rtol=1e-6)


@pytest.mark.parametrize("normalization", ["group", "instance"])
@pytest.mark.parametrize("filters", [2, 3, 8])
def test_normalization_of_one_picture_leaves_mean_zero(normalization: str, filters: int) -> None:
    network = replace(SMALL, normalization=normalization, base_filters=filters)
    model = flexunet(network, 2)
    norms = [one for one in model.layers if isinstance(one, layers.GroupNormalization)]
    assert len(norms) == 10
    first = keras.Model(model.input, norms[0].output)
    picture = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 1), np.uint8)
    found = np.asarray(first.predict_on_batch(picture))
    axes = (1, 2) if normalization == "instance" else (1, 2, 3)
    np.testing.assert_allclose(found.mean(axis=axes), 0, atol=1e-4)


_ONE_STEP = """
import dataclasses
import keras, numpy as np
from datasets_spec import load as dataset
from model.flexunet import flexunet
from model.training.losses import loss_of
from model.training.metrics import Scores
from model.params import LOSSES, Network, load

keras.utils.set_random_seed(1)
label_map = dataset("virtual_ncct").dataset.label_map
network = Network(16, 3, 2, 3, 2, 1, 0.1, "relu", "batch")
model = flexunet(network, 3)
ids = np.random.default_rng(1).integers(0, 3, (2, 16, 16)).astype(np.uint8)
pictures = np.repeat(ids[..., None] * np.uint8(120), 3, axis=-1)
train = load("virtual_ncct").train
for name in LOSSES:
    loss = loss_of(dataclasses.replace(train, loss=name), [5, 3, 2])
    model.compile("adam", loss, metrics=[Scores(label_map)])
    before = [np.array(weight) for weight in model.get_weights()]
    logs = model.train_on_batch(pictures, ids, return_dict=True)
    moved = sum(not np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert np.isfinite(logs["loss"]) and moved >= len(model.trainable_weights), name
    assert 0 <= logs["foreground_dice"] <= 1 and 0 <= logs["dice_coef_multiclass"] <= 1
assert np.allclose(np.asarray(model.predict_on_batch(pictures)).sum(axis=-1), 1, atol=1e-5)
print("trained with", keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_step_trains_on_every_backend(backend: str) -> None:
    assert _said_on(backend, _ONE_STEP)[-1] == f"trained with {backend}"


_TWO_EPOCHS = """
import keras, numpy as np
from datasets_spec import load as dataset
from model.flexunet import flexunet
from model.training.losses import dice_ce
from model.training.metrics import Scores
from model.training.fit import fit_epoch
from model.params import Network

network = Network(32, 1, 4, 3, 3, 1, 0.0, "relu", "batch")
model = flexunet(network, 3)
rng = np.random.default_rng(1)
model.set_weights([  # kernels anew, all else is 0 or 1 from the start
    w if w.ndim == 1 else rng.normal(0, (2 / w[..., 0].size) ** 0.5, w.shape)
    for w in model.get_weights()
])
label_map = dataset("virtual_ncct").dataset.label_map

class Drawn(keras.utils.PyDataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        ids = np.random.default_rng(index).integers(0, 3, (2, 8, 8)).astype(np.uint8)
        ids = ids.repeat(4, 1).repeat(4, 2)
        return ids[..., None] * np.uint8(100), ids

model.compile(keras.optimizers.Adam(0.01), dice_ce, metrics=[Scores(label_map)])
for epoch in range(2):
    logs = fit_epoch(model, Drawn(), epoch, [])
    print(logs["loss"], logs["foreground_dice"])
"""
TWO_EPOCHS = [(2.09853, 0.31570), (1.53657, 0.46888)]  # what TensorFlow gave


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_every_backend_trains_alike_from_the_same_weights(backend: str) -> None:
    got = [[float(value) for value in line.split()] for line in _said_on(backend, _TWO_EPOCHS)[-2:]]
    np.testing.assert_allclose(got, TWO_EPOCHS, rtol=4e-3)


def _said_on(backend: str, script: str) -> list[str]:
    """The lines that a script prints with this backend; skips the test where there is none."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _blocks(model: keras.Model) -> list[layers.Conv2D]:
    """The convolutions of all blocks, from the picture to the head: two a block."""
    return [layer for layer in model.layers if isinstance(layer, layers.Conv2D)][:-1]


def _down_and_up(levels: Sequence[object]) -> list[object]:
    """One value per level -> one per convolution: encoder and bridge, then the decoder."""
    blocks = [*levels, *reversed(levels[:-1])]
    return [value for value in blocks for _ in range(2)]
