"""Two processes train one network together, as two machines would; so do two devices of one."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from model.train import train
from model.training import devices
from pipeline import paths
from tests.conftest import PROJECT, Refused
from tests.support import cohort

pytestmark = pytest.mark.slow

RUN = paths.run(cohort.DATASET)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _start(folder: Path, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "model", "train", cohort.DATASET],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            **more,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _history(folder: Path) -> list[dict[str, str]]:
    with (folder / RUN / paths.HISTORY).open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_two_processes_train_as_one(workplace: Path) -> None:
    knobs = {"train.network.dropout_rate": 0.0, "train.network.normalization": "none"}
    cohort.prepare(**knobs, **{"train.loss": "categorical_crossentropy"})
    alone = workplace.with_name(f"{workplace.name}-alone")
    shutil.copytree(workplace, alone)
    cluster = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{_free_port()}",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    }
    started = [
        _start(workplace, **cluster, KERAS_DISTRIBUTION_PROCESS_ID=str(number))
        for number in range(2)
    ]
    for one in started:
        out, err = one.communicate(timeout=400)
        assert one.returncode == 0, out + err
    single = _start(alone)
    out, err = single.communicate(timeout=400)
    assert single.returncode == 0, out + err
    together, by_itself = _history(workplace), _history(alone)
    assert len(together) == len(by_itself) == 2
    for a, b in zip(together, by_itself, strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=1e-3)
    assert (workplace / RUN / paths.MODEL).is_file()
    shutil.rmtree(alone)


MIRRORED = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, 2 * [tf.config.LogicalDeviceConfiguration()])
from model.training import devices
from model.train import train
from model import params
from pipeline import paths
from pipeline.runtime import messages
devices._gpus = lambda: ["CPU:0", "CPU:1"]
with messages.on_terminal():
    train(sys.argv[1], params.load(sys.argv[1], paths.PARAMS))
"""


def test_tensorflow_mirrors_the_network_on_two_devices(workplace: Path) -> None:
    """Two logical processors stand for GPUs; the same steps, so nearly the same losses.

    Keras reads ahead to build a mirrored network, so that the order of an epoch is not fixed.
    """
    steady = {"dropout_rate": 0.0, "normalization": "none"}
    knobs = {f"train.network.{name}": value for name, value in steady.items()}
    knobs["train.network.num_layers"] = 2
    settings = cohort.prepare(**knobs, **{"train.loss": "categorical_crossentropy"})
    train(cohort.DATASET, settings)
    alone = _history(workplace)
    shutil.rmtree(RUN)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "KERAS_BACKEND": "tensorflow"}
    call = [sys.executable, "-c", MIRRORED, cohort.DATASET]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for a, b in zip(_history(workplace), alone, strict=True):
        assert float(a["loss"]) == pytest.approx(float(b["loss"]), rel=0.02)
    assert (RUN / paths.MODEL).is_file()
    again = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    assert "2 epochs are done already" in again.stdout


def test_several_processes_need_jax(monkeypatch: pytest.MonkeyPatch, refused: Refused) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    assert "KERAS_BACKEND=jax" in refused(lambda: devices.join(2)).remedy


def test_a_batch_must_be_shared_out_evenly(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setattr("keras.distribution.list_devices", lambda: ["gpu:0", "gpu:1", "gpu:2"])
    assert "3 devices, got 4" in refused(lambda: devices.join(4)).what


def test_gpus_of_tensorflow_share_batches_evenly(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "tensorflow")
    monkeypatch.setattr(devices, "_gpus", lambda: ["GPU:0", "GPU:1"])
    assert "2 devices, got 3" in refused(lambda: devices.join(3)).what


def test_one_device_needs_no_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setattr("keras.distribution.list_devices", lambda: ["cpu:0"])
    assert devices.join(3) == devices.Share(0, 1, 1)
