"""The workers of a Dask cluster: the outcomes of processes, whatever fails on the way."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasets_spec.contract import Problem
from pipeline.runtime import cluster, executor, files, sameness
from pipeline.runtime.executor import Cluster
from tests.conftest import PROJECT, Refused
from tests.pipeline.runtime.test_executor import (
    described,
    is_killed,
    square,
    troubled,
    unpicklable,
)
from tests.support import dask
from tests.support.dask import Started

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    with dask.cluster(tmp_path_factory.mktemp("dask"), 2) as one:
        yield one


@pytest.fixture(autouse=True)
def here(workplace: Path) -> Path:
    return workplace


def wait_a_little(job: int) -> int:
    time.sleep(0.3)
    return job


def write(job: tuple[Path, int]) -> str:
    """A file every fifth of a second, as a stage writes pictures."""
    folder, count = job
    for number in range(count):
        with files.replacing(folder / f"{number:03d}", durable=False) as unfinished:
            unfinished.write_text("x" * 1000, "utf-8")
            time.sleep(0.2)
    return "done"


@pytest.mark.parametrize("task", [square, troubled, unpicklable])
def test_outcomes_are_those_of_processes(started: Started, task: object) -> None:
    on_cluster = list(executor.run(task, range(8), Cluster(started.address), "try"))
    assert described(on_cluster) == described(executor.run(task, range(8), 2, "try"))


def test_workers_work_in_the_folder_of_the_client(started: Started, here: Path) -> None:
    (outcome,) = executor.run(os.path.abspath, ["a"], Cluster(started.address), "where")
    assert outcome.result == str(here / "a")
    assert list(here.iterdir()) == []


def test_no_jobs_ask_no_cluster() -> None:
    assert list(executor.run(square, [], Cluster("tcp://127.0.0.1:1"), "square")) == []


def test_a_job_that_kills_its_workers_is_named_and_the_others_are_done(started: Started) -> None:
    outcomes = list(executor.run(is_killed, range(4), Cluster(started.address), "die"))
    assert [outcome.result for outcome in outcomes] == [0, None, 2, 3]
    (error,) = [outcome.error for outcome in outcomes if outcome.error]
    assert isinstance(error, Problem)
    assert "died" in str(error)
    assert "--memory-limit" in str(error)


def test_a_worker_that_is_killed_costs_no_job(tmp_path: Path) -> None:
    with dask.cluster(tmp_path / "dask", 2) as own:
        outcomes = executor.run(wait_a_little, range(30), Cluster(own.address), "wait")
        found = [next(outcomes).result]
        dask.end(own.workers[0])
        assert [*found, *(outcome.result for outcome in outcomes)] == list(range(30))


def test_work_goes_on_with_workers_that_come_when_all_others_are_gone(tmp_path: Path) -> None:
    with dask.cluster(tmp_path / "dask", 1) as own:
        outcomes = executor.run(wait_a_little, range(10), Cluster(own.address), "wait")
        found = [next(outcomes).result]
        dask.end(own.workers[0])
        threading.Timer(2, own.add).start()
        assert [*found, *(outcome.result for outcome in outcomes)] == list(range(10))


def test_a_worker_that_hangs_costs_no_job_and_writes_nothing_later(tmp_path: Path) -> None:
    """Its place is taken once the scheduler has given up on it; then it wakes up again."""
    with dask.cluster(tmp_path / "dask", 1, "--no-nanny") as own:
        outcomes = executor.run(write, [(tmp_path / "out", 20)], Cluster(own.address), "write")
        found: list[object] = []
        waiting = threading.Thread(target=lambda: found.extend(one.result for one in outcomes))
        waiting.start()
        _until(lambda: (tmp_path / "out" / "003").exists())
        own.workers[0].send_signal(signal.SIGSTOP)
        own.add()
        waiting.join(60)
        assert found == ["done"]
        shutil.rmtree(tmp_path / "out")
        own.workers[0].send_signal(signal.SIGCONT)
        time.sleep(3)
        assert not list((tmp_path / "out").glob("[0-9]*"))


def test_a_scheduler_that_is_killed_ends_the_run_at_once(tmp_path: Path, refused: Refused) -> None:
    with dask.cluster(tmp_path / "dask", 1) as own:
        outcomes = executor.run(wait_a_little, range(100), Cluster(own.address), "wait")
        assert next(outcomes).result == 0
        dask.end(own.scheduler)
        begin = time.monotonic()
        problem = refused(lambda: list(outcomes))
        assert "lost it" in problem.what
        assert time.monotonic() - begin < 30


_CLIENT = """
import sys
from pathlib import Path
from pipeline.runtime import executor
from tests.pipeline.runtime.test_cluster import write
list(executor.run(write, [(Path(sys.argv[2]), 500)], executor.Cluster(sys.argv[1]), "write"))
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_what_a_client_leaves_behind_writes_nothing_any_more(
    started: Started, tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    client = subprocess.Popen(
        [sys.executable, "-c", _CLIENT, started.address, str(out)],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stderr=subprocess.DEVNULL,
    )
    _until(lambda: (out / "003").exists())
    client.send_signal(how)
    client.wait(30)
    time.sleep(1)
    left = sorted(out.glob("[0-9]*"))
    time.sleep(1)
    assert sorted(out.glob("[0-9]*")) == left
    (outcome,) = executor.run(square, [3], Cluster(started.address), "square")
    assert outcome.result == 9


def test_where_no_scheduler_answers_it_is_named(
    monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_S", 1.0)
    problem = refused(lambda: list(executor.run(square, [1], Cluster("tcp://127.0.0.1:1"), "x")))
    assert problem.where == "tcp://127.0.0.1:1"
    assert "dask scheduler" in problem.remedy


def test_without_a_worker_it_waits_for_a_while(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cluster, "WAIT_S", 8.0)
    caplog.set_level(logging.INFO)
    with dask.cluster(tmp_path / "dask") as own:
        problem = refused(lambda: list(executor.run(square, [1], Cluster(own.address), "x")))
    assert "got 0" in problem.what
    assert "waits for workers" in caplog.text


def test_a_worker_with_other_code_is_refused_by_name(tmp_path: Path, refused: Refused) -> None:
    for floor in ("datasets_spec", "pipeline", "model"):
        shutil.copytree(PROJECT / floor, tmp_path / "other" / floor)
    (tmp_path / "other/pipeline/warps/fields.py").write_text("changed = True\n", "utf-8")
    with dask.cluster(tmp_path / "dask") as own:
        own.add(env={"PYTHONPATH": str(tmp_path / "other")})
        begin = time.monotonic()
        problem = refused(lambda: list(executor.run(square, [1], Cluster(own.address), "x")))
    assert "its code differs in pipeline/warps/fields.py" in problem.what
    assert time.monotonic() - begin < 30


def test_a_worker_without_the_project_is_left_out_and_others_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with dask.cluster(tmp_path / "dask", 1) as own:
        own.add(env={"PYTHONPATH": str(tmp_path)})
        outcomes = list(executor.run(wait_a_little, range(12), Cluster(own.address), "wait"))
    assert [outcome.result for outcome in outcomes] == list(range(12))
    assert "the project is not installed there" in caplog.text


def test_a_worker_of_several_threads_is_refused(tmp_path: Path, refused: Refused) -> None:
    with dask.cluster(tmp_path / "dask", 1, "--nthreads", "2") as own:
        problem = refused(lambda: list(executor.run(square, [1], Cluster(own.address), "x")))
    assert "--nthreads 1" in problem.what


def test_a_scheduler_without_the_project_is_named(tmp_path: Path, refused: Refused) -> None:
    with dask.cluster(tmp_path / "dask", 1, knows=tmp_path) as own:
        problem = refused(lambda: list(executor.run(square, [1], Cluster(own.address), "x")))
    assert problem.where == own.address
    assert "No module named 'pipeline'" in problem.what


class _Elsewhere:
    """A worker of another machine."""

    class state:  # noqa: N801  # as Dask names it
        nthreads = 1


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    question = cluster._enrol(sameness.installed(), tmp_path / "proof", "r", _Elsewhere())  # type: ignore[arg-type]
    answer = asyncio.run(question)
    assert str(tmp_path) in answer.why_not
    assert not answer.lasts


def test_a_folder_that_vanishes_for_a_while_costs_no_job(
    started: Started, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_ANSWER_S", 2.0)
    outcomes = executor.run(wait_a_little, range(30), Cluster(started.address), "wait")
    found = [next(outcomes).result]
    (proof,) = here.glob(f"{cluster._PROOF}*")
    proof.rename(here / "away")

    def touch(*_: object, **__: object) -> None:
        """A share that is not there is not written to either."""

    monkeypatch.setattr(type(proof), "touch", touch)
    threading.Timer(4, lambda: (here / "away").rename(proof)).start()
    assert [*found, *(outcome.result for outcome in outcomes)] == list(range(30))


@pytest.mark.parametrize(
    ("owner", "left"),
    [
        (lambda: f"{os.getpid()} {socket.gethostname()}", True),
        (lambda: f"{2**22 + 1} {socket.gethostname()}", False),  # above any process's number
        (lambda: "17 another-machine", True),
        (lambda: "", True),  # half written
    ],
    ids=["at work", "killed", "elsewhere", "half written"],
)
def test_the_proof_of_a_run_that_was_killed_is_taken_away(
    started: Started, here: Path, owner: Callable[[], str], left: bool
) -> None:
    other = here / f"{cluster._PROOF}of-another-run"
    other.write_text(owner(), "utf-8")
    assert len(list(executor.run(square, [1], Cluster(started.address), "square"))) == 1
    assert other.exists() == left


def test_a_proof_of_yesterday_is_taken_away_wherever_it_is_from(
    started: Started, here: Path
) -> None:
    other = here / f"{cluster._PROOF}of-another-run"
    other.write_text("17 another-machine", "utf-8")
    os.utime(other, (0, time.time() - 2 * cluster._STALE_S))
    assert len(list(executor.run(square, [1], Cluster(started.address), "square"))) == 1
    assert not other.exists()


def _until(holds: object, for_s: float = 60) -> None:
    soon = time.monotonic() + for_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < soon
        time.sleep(0.05)
