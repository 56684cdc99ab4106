"""Jobs on the workers of a Dask cluster, which see the same folder and would make the same bytes.

A worker is given work once it has shown both; one that has not is named and left out, also one
that comes later or is started again. A worker that is lost costs nothing but time: Dask gives its
jobs to others. A job that kills its workers is tried alone at the end, and named if it does so
again. What was given up on finishes no file any more (:func:`pipeline.runtime.files.writing_as`).
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from distributed import (
    Client,
    Future,
    KilledWorker,
    Reschedule,
    Status,
    Worker,
    get_worker,
    wait,
)
from distributed.client import AllExit, FuturesCancelledError

from datasets_spec.contract import Problem
from pipeline.runtime import allocator, files, fingerprints, outcomes, sameness
from pipeline.runtime.outcomes import Outcome
from pipeline.runtime.sameness import Installed

_LOG = logging.getLogger(__name__)
J = TypeVar("J")
R = TypeVar("R")
_AHEAD = 3
"""Jobs submitted per worker: enough to keep it busy, few enough to lose little with it."""
_LEAD = 64
"""Outcomes per worker that may wait for that of a slow job before them."""
_LOOK_S, _CONNECT_S, _ANSWER_S = 1.0, 10.0, 30.0
_PROOF, _STALE_S = ".unfinished-cluster-", 86_400.0
_UNREAD = "deserialization of the task graph"
_NOISY = ("distributed", "distributed.client", "tornado", "tornado.application")
WAIT_S = 600.0
"""How long a run waits for a worker when there is none."""
_START = "Start one: dask scheduler, and workers: dask worker ADDRESS --nworkers 8 --nthreads 1."


def run(task: Callable[[J], R], jobs: Sequence[J], address: str) -> Iterator[Outcome[J, R]]:
    """One outcome per job, in order.

    Raises :class:`Problem` where there is no scheduler at ``address``, where it is lost on the way,
    and where no worker that fits comes within :data:`WAIT_S`.
    """
    if not jobs:
        return
    with _quiet(), _connected(address) as client, _crew(client, address) as crew:
        yield from _Run(client, crew, task, jobs).outcomes()


@dataclass(frozen=True)
class _Answer:
    """Why a worker takes no jobs, "" if it does, and whether it ``lasts`` until it is restarted."""

    why_not: str
    lasts: bool


class _Crew:
    """The workers that may be given work: those that have the resource of this code and folder.

    Others are asked every :data:`_ANSWER_S` whether they can have it.
    """

    def __init__(self, client: Any, address: str, proof: Path) -> None:
        self._client, self.address = client, address
        self.proof = proof
        own = fingerprints.fingerprint(asdict(sameness.installed()), proof.parent)
        self.resource = f"flexunet-{own[:16]}"
        self._asked: dict[str, float] = {}
        self._answers: dict[str, _Answer] = {}
        self._some_at = time.monotonic()
        self._waits = False

    def look(self) -> int:
        """How many workers fit now; asks the others, and names those that do not fit.

        Raises :class:`Problem` if the scheduler is lost, or there has been no worker for long.
        """
        try:
            here = self._client.scheduler_info()["workers"]
        except (OSError, TimeoutError, ValueError, RuntimeError):
            raise self.lost() from None
        if not self.reachable:
            raise self.lost()
        self.proof.touch()
        now = time.monotonic()
        others = [one for one in here if here[one]["resources"].get(self.resource, 0) < 1]
        for worker in others:
            if now - self._asked.get(worker, -_ANSWER_S) >= _ANSWER_S:
                self._asked[worker] = now
                threading.Thread(target=self._ask, args=(worker,), daemon=True).start()
        if len(here) > len(others):
            self._some_at, self._waits = now, False
        else:
            self._wait(others, now - self._some_at)
        return len(here) - len(others)

    @property
    def reachable(self) -> bool:
        """Whether the scheduler answers."""
        return bool(self._client.status == "running")

    def lost(self) -> Problem:
        """What to report when the scheduler no longer answers."""
        return Problem(
            "expected the cluster's scheduler, lost it",
            where=self.address,
            remedy="Start it again and run again: what was finished is kept.",
        )

    def _ask(self, worker: str) -> None:
        question = sameness.installed(), self.proof, self.resource
        try:
            found = self._client.run(_enrol, *question, workers=[worker], on_error="return")
            answer = found[worker]
        except Exception as error:  # it is gone, or cannot read the question
            answer = error
        if isinstance(answer, BaseException):
            missing = ModuleNotFoundError.__name__ in repr(answer)
            words = "the project is not installed there" if missing else type(answer).__name__
            answer = _Answer(f"{words}: {answer}", lasts=missing)
        if answer.why_not and answer != self._answers.get(worker):
            _LOG.warning("warning: the worker %s is left out: %s", worker, answer.why_not)
        self._answers[worker] = answer

    def _wait(self, others: Sequence[str], for_s: float) -> None:
        """Say that there is no worker; raises :class:`Problem` once it is no use to wait."""
        if for_s > _ANSWER_S / 6 and not self._waits:
            self._waits = True
            _LOG.info("waits for workers of %s; there are %d", self.address, len(others))
        answers = {worker: self._answers.get(worker, _Answer("", False)) for worker in others}
        if for_s < WAIT_S and not (others and all(one.lasts for one in answers.values())):
            return
        reasons = [f"{worker}: {one.why_not}" for worker, one in answers.items() if one.why_not]
        raise Problem(
            f"expected workers that give the same results, got {len(others)} that do not"
            + (f" ({reasons[0]})" if reasons else ""),
            where=self.address,
            remedy="On every machine, install this version of the project and restart its workers"
            " after a change: dask worker ADDRESS --nthreads 1."
            if others
            else _START,
        )


class _Run(Generic[J, R]):
    """Jobs of one task: those that are left, under way, suspected of killing workers, and done."""

    def __init__(self, client: Any, crew: _Crew, task: Callable[[J], R], jobs: Sequence[J]) -> None:
        self._client, self._crew, self._jobs = client, crew, jobs
        self._task = pickle.dumps(task)  # Dask's scheduler would open what it is sent
        self._left = deque(range(len(jobs)))
        self._under_way: dict[int, Future[Any]] = {}
        self._suspects: deque[int] = deque()
        self._alone: int | None = None
        self._patience_s: dict[int, float] = {}  # where a result did not come at once
        self._done: dict[int, Outcome[J, R]] = {}

    def outcomes(self) -> Iterator[Outcome[J, R]]:
        """One outcome per job, in order."""
        try:
            looked, fit = time.monotonic(), self._crew.look()
            for index in range(len(self._jobs)):
                while index not in self._done:
                    if fit:
                        self._submit(index, fit)
                    self._await()
                    if time.monotonic() - looked > _LOOK_S:
                        looked, fit = time.monotonic(), self._crew.look()
                yield self._done.pop(index)
        finally:
            with suppress(Exception):  # the scheduler may be gone
                self._client.cancel(list(self._under_way.values()), force=True)

    def _submit(self, index: int, fit: int) -> None:
        """As many jobs as keep the workers busy; a suspect by itself, once all others are back."""
        if self._suspects:
            if not self._under_way:
                self._alone = self._suspects.popleft()
                self._start(self._alone)
            return
        if self._alone in self._under_way:
            return
        while (
            self._left
            and len(self._under_way) < _AHEAD * fit
            and self._left[0] - index < _LEAD * fit
        ):
            self._start(self._left.popleft())

    def _start(self, index: int) -> None:
        self._under_way[index] = self._client.submit(
            _work,
            self._crew.proof,
            self._crew.resource,
            self._task,
            pickle.dumps(self._jobs[index]),
            key=f"job-{uuid.uuid4().hex}",
            resources={self._crew.resource: 1},
            pure=False,
        )

    def _await(self) -> None:
        """Collect what is done, or wait a while for something to be."""
        with suppress(TimeoutError, FuturesCancelledError):
            if self._under_way:
                with self._client.as_current():
                    wait(list(self._under_way.values()), _LOOK_S, "FIRST_COMPLETED")
            else:
                time.sleep(_LOOK_S)
        for index, future in list(self._under_way.items()):
            if future.status == "pending":
                continue
            if future.status not in ("finished", "error"):
                if not self._crew.reachable:
                    raise self._crew.lost()
                if future.status == "cancelled":  # lost with its worker
                    self._start(index)
                continue
            try:
                outcome = self._outcome(index, future)
            except TimeoutError:  # the worker that has it does not answer: another may do it again
                self._patience_s[index] = 2 * self._patience_s.get(index, _LOOK_S)
                continue
            del self._under_way[index]
            if outcome is None:
                self._suspects.append(index)
            else:
                self._done[index] = outcome

    def _outcome(self, index: int, future: Future[Any]) -> Outcome[J, R] | None:
        """None of a job whose workers died with it and others."""
        try:
            result, error = future.result(self._patience_s.get(index, _LOOK_S))
        except TimeoutError:
            raise
        except KilledWorker:
            if index != self._alone:
                return None
            return outcomes.died(self._jobs[index], "Give the workers more: --memory-limit.")
        except Exception as failed:  # what could not be sent there or back
            if _UNREAD in str(failed):
                raise Problem(
                    f"expected a scheduler that knows this project, got: {failed.__cause__}",
                    where=self._crew.address,
                    remedy="Start it where the project is installed, with the same Dask.",
                ) from None
            result, error = None, failed
        return Outcome(self._jobs[index], result, error)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        reason = " ".join(str(error).split()) or "no answer"
        raise Problem(
            f"expected a Dask scheduler, got: {reason}", where=address, remedy=_START
        ) from None
    try:
        yield client
    finally:
        with suppress(Exception):  # where the scheduler is gone
            client.close(2)


@contextmanager
def _crew(client: Any, address: str) -> Iterator[_Crew]:
    """With a file in the working folder while it lasts, by which workers recognise the folder."""
    for one in Path.cwd().glob(f"{_PROOF}*"):
        if _left_behind(one):
            one.unlink(missing_ok=True)
    proof = Path.cwd() / f"{_PROOF}{uuid.uuid4().hex}"
    proof.write_text(f"{os.getpid()} {socket.gethostname()}", "utf-8")
    try:
        yield _Crew(client, address, proof)
    finally:
        proof.unlink(missing_ok=True)


def _left_behind(proof: Path) -> bool:
    """Whether the run whose proof it is was killed: on this machine, or a day ago on another."""
    try:
        number, _, host = proof.read_text("utf-8").partition(" ")
        if host == socket.gethostname():
            os.kill(int(number), 0)
        return time.time() - proof.stat().st_mtime > _STALE_S
    except ProcessLookupError:
        return True
    except (OSError, ValueError):  # it is gone, another user's, or half written
        return False


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask tells of every lost connection with a traceback; what matters, this module reports."""
    theirs = [logging.getLogger(name) for name in _NOISY]
    before = [one.level for one in theirs]
    logging.getLogger("asyncio").addFilter(_not_of_gathering)
    try:
        for one in theirs:
            one.setLevel(logging.CRITICAL)
        yield
    finally:
        for one, level in zip(theirs, before, strict=True):
            one.setLevel(level)


def _not_of_gathering(record: logging.LogRecord) -> bool:
    """Dask leaves the end of a result's wait to the garbage collector, which would report it."""
    return not (record.exc_info and record.exc_info[0] is AllExit)


async def _enrol(installed: Installed, proof: Path, resource: str, dask_worker: Worker) -> _Answer:
    """On a worker: take jobs of this code and folder, or return why it cannot."""
    if unlike := sameness.difference(installed, sameness.installed()):
        return _Answer(unlike, lasts=True)
    if dask_worker.state.nthreads != 1:
        why_not = f"it has {dask_worker.state.nthreads} threads; start it with --nthreads 1"
        return _Answer(why_not, lasts=True)
    if not proof.is_file():
        return _Answer(f"it does not see the folder {proof.parent}", lasts=False)
    allocator.keep_as_usual()
    await dask_worker.set_resources(**{resource: 1})
    if dask_worker.status is Status.running:  # Dask gives jobs that wait to workers that wake up
        dask_worker.status = Status.paused
        dask_worker.status = Status.running
    return _Answer("", lasts=False)


def _work(proof: Path, resource: str, task: bytes, job: bytes) -> tuple[Any, Exception | None]:
    """On a worker: the result of a job, or what it raised; ``task`` and ``job`` are pickled.

    One that no longer sees the folder gives its job back, and takes none until it is asked again.
    """
    worker = get_worker()
    key = worker.get_current_task()
    if not proof.is_file():
        worker.loop.add_callback(worker.set_resources, **{resource: 0})
        time.sleep(_LOOK_S)  # until the scheduler knows
        raise Reschedule
    os.chdir(proof.parent)
    with suppress(ModuleNotFoundError):
        import cv2

        cv2.setNumThreads(1)
    with files.writing_as(f"{uuid.uuid4().hex[:8]}-", lambda: _wanted(worker, key)):
        try:
            return outcomes.portable(pickle.loads(task), pickle.loads(job)), None  # noqa: S301  # ours
        except Exception as error:
            return None, error


def _wanted(worker: Any, key: Any) -> bool:
    """Whether the scheduler still waits for a job of this worker."""
    state = worker.state.tasks.get(key)
    return (
        worker.status.name in ("running", "paused")
        and not worker.batched_stream.closed()
        and state is not None
        and state.state == "executing"
    )
