"""Processes that train together are started together and end together, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from datasets_spec.contract import Problem
from model.__main__ import main
from model.training import launch
from tests.conftest import PROJECT, Refused
from tests.support import cohort
from tests.support.together import LONG_S, NUMBER, dies, ends_well, fails

STOPPED = "stopped before the end; what was finished is kept"


def _alive(folder: Path) -> list[str]:
    """Which of the processes that noted themselves there are left."""
    found = []
    for file in folder.iterdir():
        try:
            os.kill(int(file.read_text("utf-8")), 0)
        except ProcessLookupError:
            continue
        found.append(file.name)
    return found


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Runs a task in processes, and sees that none is left."""
    monkeypatch.setattr(launch, "require_jax", lambda: None)
    monkeypatch.setattr(launch, "_gpus", lambda: 0)

    def run(task: Callable[..., None], *given: object, count: int = 2) -> None:
        begun = time.monotonic()
        try:
            launch.run(partial(task, tmp_path, *given), count, "aisd", 4)
        finally:
            assert len([*tmp_path.iterdir()]) == count
            assert _alive(tmp_path) == []
            assert time.monotonic() - begun < LONG_S / 2

    return run


def test_each_process_is_numbered(started: Callable[..., None]) -> None:
    started(ends_well, count=4)


@pytest.mark.parametrize("number", ["0", "1"])
def test_what_one_raises_ends_all(
    number: str, started: Callable[..., None], refused: Refused
) -> None:
    problem = refused(lambda: started(fails, number, Problem("expected a, got b", where="there")))
    assert problem.where == "there"
    assert problem.what == {"0": "", "1": "process 1 of 2: "}[number] + "expected a, got b"


def test_a_mistake_of_ours_keeps_its_traceback(started: Callable[..., None]) -> None:
    with pytest.raises(RuntimeError, match="a mistake") as raised:
        started(fails, "1", RuntimeError("a mistake"))
    assert "in fails" in "".join(raised.value.__notes__)


@pytest.mark.parametrize("number", ["0", "1"])
def test_one_that_is_killed_ends_all_and_is_named(
    number: str, started: Callable[..., None], refused: Refused
) -> None:
    problem = refused(lambda: started(dies, number, signal.SIGKILL))
    assert f"process {number} of 2 was killed (SIGKILL)" in problem.what
    assert problem.where == "train aisd"
    assert "resumes after the last complete epoch" in problem.remedy


def test_one_that_stops_by_itself_shows_what_it_printed(
    started: Callable[..., None], refused: Refused, caplog: pytest.LogCaptureFixture
) -> None:
    problem = refused(lambda: started(dies, "1", signal.SIGABRT))
    assert "process 1 of 2 was killed (SIGABRT)" in problem.what
    assert caplog.messages == ["what 1 saw"]


@pytest.mark.parametrize(
    "by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name
)
def test_no_process_outlives_the_one_that_started_it(by: signal.Signals, tmp_path: Path) -> None:
    command = subprocess.Popen(
        [sys.executable, "-m", "tests.support.together", str(tmp_path)],
        cwd=PROJECT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while len([file for file in tmp_path.iterdir() if file.read_text("utf-8")]) < 2:
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(by)
    _, err = command.communicate(timeout=LONG_S / 2)
    assert command.returncode == (-by if by == signal.SIGKILL else 130)
    assert err == ("" if by == signal.SIGKILL else f"error: {STOPPED}\n")
    patience = time.monotonic() + LONG_S / 2
    while _alive(tmp_path) and time.monotonic() < patience:
        time.sleep(0.05)
    assert _alive(tmp_path) == []


def test_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launch, "_gpus", lambda: 0)
    monkeypatch.setattr(launch, "_processors", lambda: 9)
    for count, threads in ((2, "4"), (4, "2"), (16, "1")):
        told = launch._environments(count)
        assert [one["NPROC"] for one in told] == [threads] * count
        assert [one["OMP_NUM_THREADS"] for one in told] == [threads] * count
        assert [one[NUMBER] for one in told] == [str(number) for number in range(count)]
        assert len({one["KERAS_DISTRIBUTION_JOB_ADDRESSES"] for one in told}) == 1
        assert all(one["JAX_COORDINATOR_BIND_ADDRESS"].startswith("127.0.0.1:") for one in told)


@pytest.mark.parametrize(
    ("gpus", "count", "own"), [(2, 2, ["0", "1"]), (4, 2, ["0,1", "2,3"]), (3, 2, ["0", "1,2"])]
)
def test_gpus_are_shared_out(
    gpus: int, count: int, own: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_gpus", lambda: gpus)
    assert [one["JAX_LOCAL_DEVICE_IDS"] for one in launch._environments(count)] == own


def test_more_processes_than_gpus_are_refused(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(launch, "_gpus", lambda: 1)
    assert "each of the 1 GPUs, got 2" in refused(lambda: launch._environments(2)).what


@pytest.mark.parametrize(
    ("visible", "platforms", "plugin", "count"),
    [
        ("0,3", "", True, 2),
        ("", "", True, 0),
        ("-1", "", True, 0),
        ("0,3", "cpu", True, 0),
        ("0,3", "", False, 0),
    ],
)
def test_gpus_are_those_that_jax_would_see(
    visible: str, platforms: str, plugin: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object() if plugin else None)
    assert launch._gpus() == count


def test_a_batch_that_cannot_be_shared_out_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(launch, "require_jax", lambda: None)
    assert "3 processes, got 4" in refused(lambda: launch.run(print, 3, "aisd", 4)).what


def test_without_jax_the_extra_is_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.write_params()
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["train", cohort.DATASET, "--processes", "2"]) == 2
    assert "[jax]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "variable", "stated", "count"),
    [
        ("", "", None, 1),
        ("", "", 2, 2),
        ("", "4", 2, 4),
        ("--processes=8", "4", 2, 8),
        ("--processes=1", "4", 2, 1),
    ],
)
def test_the_number_comes_from_option_environment_or_parameters(
    option: str,
    variable: str,
    stated: int | None,
    count: int,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[int] = []
    cohort.write_params()
    if stated:
        with Path("params.yaml").open("a", encoding="utf-8") as stream:
            stream.write(f"processes: {stated}\n")
    monkeypatch.setenv("FLEXUNET_PROCESSES", variable)
    monkeypatch.setattr(launch, "run", lambda _, number, *__: called.append(number))
    monkeypatch.setattr("model.__main__.train_one", lambda *_: called.append(1))
    assert main(["train", cohort.DATASET, *filter(None, [option])]) == 0
    assert called == [count]


@pytest.mark.parametrize(
    ("variables", "option", "message"),
    [
        ({"KERAS_BACKEND": "tensorflow"}, "--processes=2", "Set KERAS_BACKEND=jax"),
        ({"FLEXUNET_PROCESSES": "0"}, "", "FLEXUNET_PROCESSES: expected a whole number"),
        ({"FLEXUNET_PROCESSES": "two"}, "", "FLEXUNET_PROCESSES: expected a whole number"),
        ({"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"}, "--processes=2", "Leave it out, or unset"),
    ],
)
def test_what_contradicts_itself_is_refused(
    variables: dict[str, str],
    option: str,
    message: str,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cohort.write_params()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["train", cohort.DATASET, *filter(None, [option])]) == 2
    assert message in capsys.readouterr().err


def test_processes_that_were_started_by_hand_train_one_dataset(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.write_params()
    content = Path("params.yaml").read_text("utf-8")
    Path("params.yaml").write_text(content.replace("datasets:", "datasets:\n  aisd:"), "utf-8")
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    assert main(["train"]) == 2
    assert "expected one dataset, got aisd" in capsys.readouterr().err


@pytest.mark.parametrize("stated", ["0", "-1", "two", "1.5"])
def test_processes_in_the_parameters_are_a_whole_number(
    stated: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.write_params()
    with Path("params.yaml").open("a", encoding="utf-8") as stream:
        stream.write(f"processes: {stated}\n")
    assert main(["train", cohort.DATASET]) == 2
    assert "processes: expected" in capsys.readouterr().err
