"""Several processes train one network as one would; so do two devices of one."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from model.train import train
from model.training import checkpoint, devices
from pipeline import paths
from tests.conftest import PROJECT, Refused
from tests.support import cohort

pytestmark = pytest.mark.slow

RUN = paths.run(cohort.DATASET)
HAS_JAX = importlib.util.find_spec("jax") is not None
WITH_JAX = pytest.mark.skipif(not HAS_JAX, reason="jax is not installed")
COUNTS = (2, 1, 2, 4, 1)  # processes, epoch by epoch
EPOCHS = len(COUNTS)
ENDS_S = 20.0  # after one was killed; less than a second, on an idle machine


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _start(folder: Path, *options: str, **more: str) -> subprocess.Popen[str]:
    absent = folder.parent / "absent"  # Keras would import TensorFlow, which takes seconds
    absent.mkdir(exist_ok=True)
    (absent / "tensorflow.py").write_text("raise ImportError\n", "utf-8")
    known = [str(absent), str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", "model", "train", cohort.DATASET, *options],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(known),
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(folder.parent / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            **more,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _trained(folder: Path, epochs: int, processes: int) -> str:
    """Train there until so many epochs are done, by one command; returns what it printed."""
    _set_epochs(folder, epochs)
    return _ended([_start(folder, "--processes", str(processes))])


def _trained_by_hand(folder: Path, epochs: int) -> str:
    """The same by two processes, each of which was started by itself, as on two machines."""
    _set_epochs(folder, epochs)
    cluster = {
        "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{_free_port()},127.0.0.1:1",
        "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    }
    numbers = [{"KERAS_DISTRIBUTION_PROCESS_ID": str(number)} for number in range(2)]
    return _ended([_start(folder, **cluster, **number) for number in numbers])


def _ended(started: Sequence[subprocess.Popen[str]]) -> str:
    printed = []
    for one in started:
        try:
            out, err = one.communicate(timeout=400)
        finally:
            one.kill()
        assert one.returncode == 0, out + err
        printed.append(out)
    return printed[0]


def _set_epochs(folder: Path, epochs: int) -> None:
    file = folder / paths.PARAMS
    content = yaml.safe_load(file.read_text("utf-8"))
    content["train"]["epochs"] = epochs
    file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")


def _history(folder: Path) -> list[dict[str, str]]:
    with (folder / RUN / paths.HISTORY).open(newline="") as stream:
        return list(csv.DictReader(stream))


def _numbers(folder: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    """All that the last epoch left: weights, averages of the normalisation, the optimizer."""
    found: list[np.ndarray] = []  # type: ignore[type-arg]
    with zipfile.ZipFile(folder / checkpoint.folder(RUN) / "last.keras") as archive:
        for name in sorted(archive.namelist()):
            content = io.BytesIO(archive.read(name))
            if name.endswith(".npy"):
                found.append(np.load(content))
            elif name.endswith(".h5"):
                with h5py.File(content) as weights:
                    weights.visititems(
                        lambda _, one: (
                            found.append(one[()]) if isinstance(one, h5py.Dataset) else None
                        )
                    )
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs, and parameters of a small network with dropout and normalisation.

    Of valid's six pairs, two are left over by batches of four.
    """
    folder = tmp_path_factory.mktemp("processes") / "prepared"
    folder.mkdir()
    small = {"num_layers": 2, "base_filters": 2, "dropout_rate": 0.2, "normalization": "batch"}
    knobs = {f"train.network.{name}": value for name, value in small.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cohort.prepare(**knobs, **{"train.foreground_oversampling": 0.33})
    return folder


@pytest.fixture
def place(prepared: Path, request: pytest.FixtureRequest) -> Path:
    """A copy of the prepared folder."""
    folder = prepared.with_name(re.sub(r"\W", "_", request.node.name))
    shutil.copytree(prepared, folder)
    return folder


@pytest.fixture(scope="module")
def alone(prepared: Path) -> Path:
    """What one process makes of it, at once."""
    folder = prepared.with_name("alone")
    shutil.copytree(prepared, folder)
    assert "; starts\n" in _trained(folder, EPOCHS, 1)
    return folder


def _assert_like(folder: Path, other: Path) -> None:
    """The same history within 1e-3 of each score, the same weights, the same pictures' names."""
    together, by_itself = _history(folder), _history(other)
    assert len(together) == len(by_itself) == EPOCHS
    for a, b in zip(together, by_itself, strict=True):
        assert list(a) == list(b)
        for name in a:
            assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3, abs=1e-4), name
    ours, theirs = _numbers(folder), _numbers(other)
    assert len(ours) == len(theirs) > 20
    for one, same in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-2, atol=1e-4)
    drawn = [sorted((one / RUN).glob("epoch_change_infer/*/*.png")) for one in (folder, other)]
    names = [
        [file.relative_to(one) for file in files]
        for files, one in zip(drawn, (folder, other), strict=True)
    ]
    assert names[0] == names[1] != []
    assert (folder / RUN / paths.MODEL).is_file()


@WITH_JAX
def test_a_training_resumes_in_any_number_of_processes(place: Path, alone: Path) -> None:
    for epoch, count in enumerate(COUNTS, 1):
        printed = _trained(place, epoch, count)
        assert (f"resumes after epoch {epoch - 1}" if epoch > 1 else "; starts") in printed
        assert len(re.findall("kept epoch", printed)) == 1
    _assert_like(place, alone)


@WITH_JAX
def test_processes_that_are_started_by_hand_train_as_one(place: Path, alone: Path) -> None:
    _trained_by_hand(place, EPOCHS)
    _assert_like(place, alone)


def _running() -> dict[int, int]:
    """The processes of this machine that train as one of several, each with its parent."""
    asked = ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="]
    listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    return {
        int(row[0]): int(row[1]) for row in rows if row[2][0] != "Z" and "spawn_main" in row[-1]
    }


@contextmanager
def _under_way(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """One command with two processes, amid its second epoch or later; none is left afterwards."""
    _set_epochs(folder, 500)
    command = _start(folder, "--processes", "2")
    assert command.stdout
    try:
        for line in command.stdout:
            if "epoch 1:" in line:
                break
        parts = [pid for pid, parent in _running().items() if parent == command.pid]
        assert len(parts) == 2
        yield command, parts
    finally:
        command.kill()
        command.communicate()
    patience = time.monotonic() + ENDS_S
    while (left := _running().keys() & set(parts)) and time.monotonic() < patience:
        time.sleep(0.1)
    for one in left:
        os.kill(one, signal.SIGKILL)
    assert not left


@WITH_JAX
def test_a_process_that_is_killed_ends_the_command_which_resumes(place: Path) -> None:
    with _under_way(place) as (command, parts):
        begun = time.monotonic()
        os.kill(max(parts), signal.SIGKILL)
        _, err = command.communicate(timeout=ENDS_S)
        assert time.monotonic() - begun < ENDS_S
    assert command.returncode == 2
    [line] = [one for one in err.splitlines() if one.startswith("error: ")]
    assert re.search(r"process [01] of 2 was killed \(SIGKILL\)", line)
    assert "The same command resumes" in line
    finished = len(_history(place))
    assert f"resumes after epoch {finished}" in _trained(place, finished + 1, 1)


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


def test_a_process_that_would_train_from_something_else_is_refused(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    theirs = '{"code": "a", "numpy": "2.4.6", "checkpoint": 0}'
    monkeypatch.setattr(devices.Share, "of_leader", lambda *_: theirs)
    share = devices.Share(1, 2, 2)
    share.require_same({"code": "a", "numpy": "2.4.6", "checkpoint": 0})
    problem = refused(lambda: share.require_same({"code": "a", "numpy": "2.4.5", "checkpoint": 3}))
    assert "a different checkpoint, numpy in process 1" in problem.what
