"""Run one task over many jobs, wherever the workers are; same order, same results.

They may be this process, several of this machine, or a Dask cluster. A job that raises does not
stop the others, and a worker that dies (out of memory, for example) costs only the job that
killed it, which is named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from tqdm import tqdm

from pipeline.runtime import outcomes, processes
from pipeline.runtime.outcomes import Outcome

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True)
class Cluster:
    """The workers of a Dask scheduler, such as that at tcp://scheduler:8786."""

    address: str


Workers = int | Cluster
"""Who does the work: so many processes of this machine, or a cluster."""


def run(
    task: Callable[[J], R], jobs: Sequence[J], workers: Workers, title: str, unit: str = "case"
) -> Iterator[Outcome[J, R]]:
    """Yield one outcome per job, in the order of ``jobs``.

    ``task`` and the jobs must be picklable, unless ``workers`` is 1: then this process does it all.
    A progress bar with rate and time left is shown on a terminal. Raises :class:`Problem` where a
    cluster cannot be reached, or has no worker that would give the same results.
    """
    found = _outcomes(task, jobs, workers)
    yield from tqdm(found, title, total=len(jobs), unit=unit, disable=None, leave=False)


def results(
    task: Callable[[J], R], jobs: Sequence[J], workers: Workers, title: str, unit: str = "case"
) -> Iterator[tuple[J, R]]:
    """Every job with its result, as :func:`run`; raises what the first job that fails raised."""
    for outcome in run(task, jobs, workers, title, unit):
        if outcome.error is not None:
            raise outcome.error
        yield outcome.job, cast("R", outcome.result)


def default_workers() -> int:
    """One worker per processor that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _outcomes(
    task: Callable[[J], R], jobs: Sequence[J], workers: Workers
) -> Iterator[Outcome[J, R]]:
    if isinstance(workers, Cluster):
        from pipeline.runtime import cluster  # here: an extra brings Dask

        return cluster.run(task, jobs, workers.address)
    if min(workers, len(jobs)) > 1:
        return processes.run(task, jobs, min(workers, len(jobs)))
    return (outcomes.of(task, job) for job in jobs)
