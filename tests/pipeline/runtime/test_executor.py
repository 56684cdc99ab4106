"""One task over many jobs: the same outcomes in the same order, and a bad job costs only itself."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from datasets_spec.contract import Problem
from pipeline.runtime import executor
from tests.conftest import PROJECT

some_workers = pytest.mark.parametrize("workers", [1, 3])


class Particular(Exception):
    """An error that cannot be pickled back: it takes more than it hands to Exception."""

    def __init__(self, what, where):
        super().__init__(f"{what} at {where}")


def square(job):
    return job * job


def slow_at_first(job):
    time.sleep(0.3 if job == 0 else 0)
    return job, os.getpid()


def slow_but_first(job):
    time.sleep(600 if job else 0)
    return job


def troubled(job):
    if job == 1:
        raise ValueError("no such voxel")
    if job == 3:
        raise Problem("expected a scan, found none", where="case3", remedy="Look for it.")
    return job


def unpicklable(job):
    if job == 1:
        raise Particular("no such voxel", "case1")
    return job


def exits(job):
    if job == 1:
        os._exit(3)
    return job


def is_killed(job):
    if job == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def described(outcomes):
    return [(outcome.job, outcome.result, repr(outcome.error)) for outcome in outcomes]


@some_workers
def test_results_come_in_the_order_of_the_jobs(workers):
    jobs = list(range(20))[::-1]
    outcomes = list(executor.run(square, jobs, workers, "square"))
    assert [outcome.job for outcome in outcomes] == jobs
    assert [outcome.result for outcome in outcomes] == [job * job for job in jobs]
    assert {outcome.error for outcome in outcomes} == {None}


@pytest.mark.slow
def test_a_slow_job_does_not_lose_its_place():
    outcomes = list(executor.run(slow_at_first, range(6), 3, "wait"))
    assert [outcome.result[0] for outcome in outcomes] == list(range(6))
    assert os.getpid() not in {outcome.result[1] for outcome in outcomes}


def test_one_worker_works_in_this_process():
    assert [o.result[1] for o in executor.run(slow_at_first, [1, 2], 1, "wait")] == [
        os.getpid()
    ] * 2


@some_workers
def test_a_job_that_raises_does_not_stop_the_others(workers):
    outcomes = list(executor.run(troubled, range(5), workers, "try"))
    assert [outcome.result for outcome in outcomes] == [0, None, 2, None, 4]
    first, second = outcomes[1].error, outcomes[3].error
    assert (type(first), str(first)) == (ValueError, "no such voxel")
    assert isinstance(second, Problem)
    assert (second.what, second.where) == ("expected a scan, found none", "case3")


@pytest.mark.slow
def test_outcomes_do_not_depend_on_the_number_of_workers():
    alone = described(executor.run(troubled, range(5), 1, "try"))
    assert alone == described(executor.run(troubled, range(5), 3, "try"))


@pytest.mark.slow
@pytest.mark.parametrize("dies", [exits, is_killed])
def test_a_worker_that_dies_costs_only_its_own_job(dies):
    outcomes = list(executor.run(dies, range(4), 3, "die"))
    assert [outcome.job for outcome in outcomes] == [0, 1, 2, 3]
    assert [outcome.result for outcome in outcomes] == [0, None, 2, 3]
    (error,) = [outcome.error for outcome in outcomes if outcome.error]
    assert isinstance(error, Problem)
    assert "died" in str(error)
    assert "memory" in str(error)


def beat(folder):
    """Work for a minute, with a heartbeat."""
    for _ in range(1200):
        (folder / str(os.getpid())).touch()
        time.sleep(0.05)


_PARENT = """
import pathlib, sys
from pipeline.runtime import executor
from tests.pipeline.runtime.test_executor import beat
folder = pathlib.Path(sys.argv[1])
if __name__ == "__main__":
    list(executor.run(beat, [folder, folder], 2, "beat"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_began_them(tmp_path, how):
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], cwd=PROJECT)
    soon = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < soon:
        time.sleep(0.05)
    assert len(list(tmp_path.iterdir())) == 2
    parent.send_signal(how)
    parent.wait(10)
    while (last := max(file.stat().st_mtime for file in tmp_path.iterdir())) > time.time() - 1:
        assert time.monotonic() < soon, f"a worker still beats at {last}"
        time.sleep(0.1)


def take_ten_minutes(job):
    time.sleep(600)
    return job


_STOPPED = """
import sys
from pipeline.runtime import executor
from pipeline.__main__ import guarded
from tests.pipeline.runtime.test_executor import take_ten_minutes
def work():
    print("begins", flush=True)
    list(executor.run(take_ten_minutes, range(9), 2, "wait"))
if __name__ == "__main__":
    sys.exit(guarded(work, debug=False))
"""


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.6, 1.0, 2.0, 4.0])
def test_ctrl_c_ends_workers_at_once_and_without_a_traceback(tmp_path, after_s):
    """Also while they start; the terminal sends it to all of them."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _STOPPED],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout.readline() == "begins\n"
    time.sleep(after_s)
    os.killpg(parent.pid, signal.SIGINT)
    _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 130
    assert errors == "error: stopped before the end; what was finished is kept\n"


def test_workers_end_when_nobody_asks_for_more_outcomes():
    outcomes = executor.run(slow_but_first, range(9), 2, "wait")
    assert next(outcomes).result == 0
    begin = time.monotonic()
    outcomes.close()
    while multiprocessing.active_children():
        assert time.monotonic() - begin < 60
        time.sleep(0.1)


def test_an_error_that_cannot_travel_keeps_its_text():
    outcomes = list(executor.run(unpicklable, range(3), 2, "try"))
    assert [outcome.result for outcome in outcomes] == [0, None, 2]
    assert "no such voxel at case1" in str(outcomes[1].error)


@some_workers
def test_no_jobs_give_no_outcomes(workers):
    assert list(executor.run(square, [], workers, "square")) == []


def test_a_job_is_begun_only_when_the_one_before_is_taken():
    begun = []
    outcomes = executor.run(begun.append, ["a", "b"], 1, "begin")
    assert begun == []
    next(outcomes)
    assert begun == ["a"]


def test_there_is_a_worker_for_every_processor_that_may_be_used():
    assert 1 <= executor.default_workers() <= (os.cpu_count() or 1)
