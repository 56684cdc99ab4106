"""Jobs in processes of this machine, which end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from pipeline.runtime import outcomes
from pipeline.runtime.outcomes import Outcome

J = TypeVar("J")
R = TypeVar("R")
_AHEAD = 3  # jobs submitted per worker: enough to keep it busy, few enough to bound memory


def run(task: Callable[[J], R], jobs: Sequence[J], workers: int) -> Iterator[Outcome[J, R]]:
    """One outcome per job, in order; a job whose worker dies twice is the cause of it."""
    left = list(jobs)
    while left:
        pool, leash = _pool(workers)
        under_way: list[tuple[J, Future[R]]] = []
        try:
            while left or under_way:
                while left and len(under_way) < _AHEAD * workers:
                    under_way.append((left[0], _submitted(pool, task, left[0])))
                    del left[0]
                job, future = under_way[0]
                outcome = _finished(job, future)
                del under_way[0]
                yield outcome
        except BrokenProcessPool:
            suspects = [job for job, _ in under_way]
        except BaseException:
            leash.close()  # stopped, or the caller wants no more: do not wait for running jobs
            raise
        else:
            pool.shutdown()
            return
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        for job in suspects:
            yield _alone(task, job)


def _submitted(pool: ProcessPoolExecutor, task: Callable[[J], R], job: J) -> Future[R]:
    """Submit a job to the pool, which starts another worker for it if none is idle."""
    with without_ctrl_c():
        return pool.submit(outcomes.portable, task, job)


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """Block Ctrl-C within the block, and for good in processes that are started within it.

    The terminal sends SIGINT to all its processes, and only the parent handles it: a worker that
    is still importing cannot ignore it yet and would print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _alone(task: Callable[[J], R], job: J) -> Outcome[J, R]:
    """Run one job in a process of its own: if that dies too, this job is the cause."""
    pool, leash = _pool(1)
    with pool, leash:
        try:
            return _finished(job, _submitted(pool, task, job))
        except BrokenProcessPool:
            return outcomes.died(job, "Try --workers 1.")


def _finished(job: J, future: Future[R]) -> Outcome[J, R]:
    try:
        return Outcome(job, future.result(), None)
    except BrokenProcessPool:
        raise
    except Exception as error:
        return Outcome(job, None, error)


def _pool(workers: int) -> tuple[ProcessPoolExecutor, Connection]:
    """Workers, and a leash: when it is closed, they end at once, whatever they are doing."""
    context = multiprocessing.get_context("spawn")
    held, leash = context.Pipe(duplex=False)
    return ProcessPoolExecutor(workers, context, _start_worker, (held,)), leash


def _start_worker(held: Connection) -> None:
    """Set up a worker: one thread for OpenCV, and an end when the parent ends or asks for it."""
    with suppress(ModuleNotFoundError):
        import cv2

        cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, args=(held,), daemon=True).start()


def _end_with_parent(held: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel, held])
    os._exit(1)
