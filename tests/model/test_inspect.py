"""The network described before training, against the published figures and against gradients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from model.__main__ import main
from model.flexunet import flexunet
from model.inspect import levels, receptive_field
from model.params import Network, presets
from pipeline import paths
from tests.conftest import PROJECT
from tests.model.test_flexunet import REFERENCE_PROJECTS, without_weights  # noqa: F401  # a fixture
from tests.support import cohort

pytestmark = pytest.mark.slow

GFLOP = {
    "phe_sich_ct_ids": 115.7,
    "aisd": 115.7,
    "teknofest_2021_stroke": 115.7,
    "mbh_seg25": 73.6,
    "full_head_t1w": 181.7,
}


@pytest.mark.parametrize("name", GFLOP)
@pytest.mark.usefixtures("without_weights")
def test_work_and_weights_of_the_reference_projects_are_as_published(name: str) -> None:
    network = presets(PROJECT / "params.yaml")[name].train.network
    *_, classes, weights = REFERENCE_PROJECTS[name]
    table = levels(flexunet(network, classes), network)
    assert len(table) == 8
    assert sum(row.gflop for row in table) == pytest.approx(GFLOP[name], abs=0.05)
    assert sum(row.weights for row in table) == weights


@pytest.mark.parametrize("normalization", ["none", "batch", "group"])
def test_every_weight_belongs_to_a_level(normalization: str) -> None:
    network = Network(32, 3, 4, 5, 4, 2, 0.1, "relu", normalization)
    model = flexunet(network, 3)
    assert sum(row.weights for row in levels(model, network)) == model.count_params()


@pytest.mark.parametrize(
    ("kernels", "dilation", "num_layers"), [(3, 1, 2), (5, 1, 2), (3, 2, 2), (3, 1, 3), (5, 2, 3)]
)
def test_a_pixel_sees_as_far_as_reported(kernels: int, dilation: int, num_layers: int) -> None:
    """With all weights 1 nothing cancels: every pixel that is seen changes the sum."""
    network = Network(96, 1, 1, kernels, num_layers, dilation, 0.0, "relu", "none")
    model = flexunet(network, 2)
    linear = keras.Model(model.input, model.get_layer("head").input)
    linear.set_weights([np.ones_like(weight) for weight in linear.get_weights()])
    blank = np.asarray(linear.predict_on_batch(np.zeros((1, 96, 96, 1), np.uint8)))
    widest = 0
    step = 2 ** (num_layers - 1)
    for centre in range(48, 48 + step):
        picture = np.zeros((96, 96, 96, 1), np.uint8)
        picture[np.arange(96), 48, np.arange(96)] = 255  # one pixel of row 48 in each
        changed = np.asarray(linear.predict_on_batch(picture)) - blank
        widest = max(widest, np.count_nonzero(changed[:, 48, centre, 0] > 0.1))
    assert receptive_field(network) - step < widest <= receptive_field(network)


def test_command_reports_and_draws(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cohort.write_params()
    assert main(["inspect", cohort.DATASET]) == 0
    output = capsys.readouterr().out
    assert "parameters" in output
    assert "GFLOP forwards" in output
    assert "bridge" in output
    with Image.open(paths.run(cohort.DATASET) / "network.png") as picture:
        assert min(picture.size) > 200
        assert len(set(picture.convert("L").tobytes())) > 10


def test_what_the_labels_of_train_obey_is_listed(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.write_params()
    card = paths.dataset(cohort.DATASET) / paths.CARD
    card.parent.mkdir(parents=True)
    rule = {"kind": "divided", "classes": [2, 3], "normal": [0.0, 1.0, 0.0], "free": False}
    card.write_text(json.dumps({"label_rules": {"rules": [rule]}}), "utf-8")
    assert main(["inspect", cohort.DATASET]) == 0
    words = "the labels of train obey: grey_matter and white_matter are divided by a coronal plane"
    assert words in capsys.readouterr().out


def test_small_networks_have_digits_and_see_the_whole_picture(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.write_params(**{"train.network.base_filters": 1, "train.network.num_layers": 5})
    assert main(["inspect", cohort.DATASET]) == 0
    *table, total = capsys.readouterr().out.splitlines()
    assert float(table[-1].split()[-1]) > 0
    assert "MFLOP" in table[1]
    assert " 0.00" in total.split("parameters")[1].split("GFLOP")[0]
    assert "a pixel sees the whole picture" in total
    cohort.write_params(**{"train.network.num_layers": 2})
    assert main(["inspect", cohort.DATASET]) == 0
    assert "a pixel sees 18 x 18 pixels" in capsys.readouterr().out


def test_deeper_networks_see_further() -> None:
    network = Network(64, 1, 2, 3, 2, 1, 0.0, "relu", "none")
    reaches = [receptive_field(replace(network, num_layers=number)) for number in (2, 3, 4, 5)]
    assert reaches == sorted(set(reaches))
