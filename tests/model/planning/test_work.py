"""What is counted of a network before it is built is what it has once it is built."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model import inspect, params
from model.flexunet import flexunet
from model.params import Network
from model.planning import work
from tests.conftest import PROJECT

pytestmark = pytest.mark.slow

USUAL = params.load("virtual_mni152", PROJECT / "params.yaml").train.network


@pytest.mark.parametrize(
    "network",
    [
        USUAL,
        replace(USUAL, image_px=64, num_layers=4, base_filters=16, channels=3),
        replace(USUAL, image_px=64, num_layers=3, base_kernels=7, dilation=2),
    ],
)
def test_computation_is_that_of_the_built_network(network: Network) -> None:
    built = inspect.levels(flexunet(network, 4), network)
    assert work.gflop(network, 4) == pytest.approx(sum(row.gflop for row in built))
