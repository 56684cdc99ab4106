"""What is fastest is measured, and a format of less precision must earn its place."""

from __future__ import annotations

from dataclasses import replace

import keras
import pytest

from model.flexunet import flexunet
from model.params import Network, Train, load
from model.training import precision
from model.training.devices import Share
from tests.conftest import PROJECT
from tests.support import cohort

pytestmark = pytest.mark.slow

WANTED = load(cohort.DATASET, PROJECT / "params.yaml").train


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        ({"float32": 1.0, "bfloat16": 0.5}, "bfloat16"),
        ({"float32": 1.0, "bfloat16": 0.95}, "float32"),
        ({"float32": 1.0, "bfloat16": 2.0}, "float32"),
        ({"float32": 1.0, "bfloat16": 0.5, "float16": 0.48}, "bfloat16"),
        ({"float32": 1.0, "bfloat16": 1.2, "float16": 0.4}, "float16"),
    ],
)
def test_a_format_of_less_precision_must_be_clearly_faster(
    seconds: dict[str, float], wanted: str
) -> None:
    assert precision.fastest(seconds) == wanted


def test_auto_probes_and_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    network = replace(WANTED.network, image_px=32, base_filters=2)
    before = keras.config.dtype_policy().name
    found = precision.chosen(replace(WANTED, network=network, batch_pairs=2), 3, Share())
    assert found in ("float32", "bfloat16")
    output = capsys.readouterr().out
    assert output.startswith(f"precision {found}: ")
    assert "float32 " in output
    assert "bfloat16 " in output
    assert keras.config.dtype_policy().name == before


def test_the_very_network_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its two finest levels alone gave another result than the whole."""
    networks: list[Network] = []

    def noted(network: Network, classes: int) -> keras.Model:
        networks.append(network)
        return flexunet(network, classes)

    monkeypatch.setattr(precision, "flexunet", noted)
    wanted = replace(WANTED.network, image_px=16, base_filters=2, normalization="group")
    precision.probe(replace(WANTED, network=wanted, batch_pairs=1), 2)
    assert set(networks) == {wanted}


def test_float16_is_not_tried_without_a_gpu() -> None:
    if precision.on_gpu():
        pytest.skip("there is one")
    small = replace(WANTED, network=replace(WANTED.network, image_px=16), batch_pairs=1)
    assert set(precision.probe(small, 2)) == {"float32", "bfloat16"}


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_what_is_asked_for_is_not_probed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "probe", lambda *_: pytest.fail("probed"))
    assert precision.chosen(replace(WANTED, precision=name), 3, Share()) == name


def test_mirrored_devices_are_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "probe", lambda *_: pytest.fail("probed"))
    assert precision.chosen(WANTED, 3, Share(0, 1, 2, strategy=object())) == "float32"


@pytest.mark.parametrize("number", [0, 1])
def test_of_several_processes_one_probes_its_part_for_all(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    probed: list[int] = []

    def probe(wanted: Train, _: int) -> dict[str, float]:
        probed.append(wanted.batch_pairs)
        return {"float32": 1.0, "bfloat16": 0.1}

    monkeypatch.setattr(precision, "probe", probe)
    monkeypatch.setattr(Share, "of_leader", lambda self, text: text if self.leads else "heard")
    share = Share(number, 2, 2)
    wanted = replace(WANTED, batch_pairs=8)
    assert precision.chosen(wanted, 3, share) == ["bfloat16", "heard"][number]
    assert probed == [[4], []][number]


@pytest.mark.parametrize(
    ("wanted", "backend", "gpu", "jit"),
    [
        ("auto", "tensorflow", False, False),
        ("auto", "tensorflow", True, True),
        ("auto", "jax", False, True),
        ("auto", "torch", True, False),
        ("always", "tensorflow", False, True),
        ("never", "jax", True, False),
    ],
)
def test_xla_is_used_where_it_is_not_known_to_be_slower(
    wanted: str, backend: str, gpu: bool, jit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: backend)
    monkeypatch.setattr(precision, "on_gpu", lambda: gpu)
    assert precision.jit(wanted) == jit
