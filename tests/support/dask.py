"""A Dask cluster of this machine's own processes, as a user would start one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import PROJECT

_QUICK = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s",  # five minutes, usually
}
_DASK = [sys.executable, "-m", "dask"]


@dataclass
class Started:
    """The scheduler, its address, and the workers with their nannies."""

    place: Path
    scheduler: subprocess.Popen[bytes]
    address: str
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add(self, *options: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start one more worker, of one thread unless ``options`` want others."""
        threads = [] if "--nthreads" in options else ["--nthreads", "1"]
        command = [*_DASK, "worker", self.address, "--no-dashboard", *threads, *options]
        with (self.place / f"worker-{len(self.workers)}.log").open("wb") as log:
            found = subprocess.Popen(
                [*command, "--local-directory", str(self.place / "scratch")],
                env=_environment() | dict(env or {}),
                cwd=self.place,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(found)
        return found


@contextmanager
def cluster(
    place: Path, workers: int = 0, *options: str, knows: Path = PROJECT
) -> Iterator[Started]:
    """A scheduler and so many workers, with logs in ``place``; all are gone after the block.

    ``knows``: where the scheduler finds the project's code.
    """
    place.mkdir(parents=True, exist_ok=True)
    file = place / "scheduler.json"
    with (place / "scheduler.log").open("wb") as log:
        scheduler = subprocess.Popen(
            [
                *(*_DASK, "scheduler", "--host", "127.0.0.1", "--port", "0"),
                *("--no-dashboard", "--scheduler-file", str(file)),
            ],
            env=_environment() | {"PYTHONPATH": str(knows)},
            cwd=place,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started = Started(place, scheduler, "")
    try:
        started.address = _address(file, scheduler)
        for _ in range(workers):
            started.add(*options)
        yield started
    finally:
        for one in (*started.workers, scheduler):
            end(one)


def end(one: subprocess.Popen[bytes]) -> None:
    """Kill a program with everything that it started."""
    with suppress(ProcessLookupError):
        os.killpg(one.pid, signal.SIGKILL)
    one.wait(30)


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT), **_QUICK}


def _address(file: Path, scheduler: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        if file.exists() and file.stat().st_size:
            try:
                return str(json.loads(file.read_text("utf-8"))["address"])
            except ValueError:
                pass  # half written
        assert scheduler.poll() is None, "the scheduler ended"
        time.sleep(0.1)
    raise AssertionError("the scheduler does not start")
