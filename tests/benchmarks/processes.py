"""Run a program and watch what it and all its processes take (Linux)."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PROJECT

_SAMPLED_S = 0.2


@dataclass(frozen=True)
class Run:
    """Exit status, seconds by the clock and of all processors, and the most MiB that all processes
    together were seen to take: the peak of a program of one process by itself is a little higher.
    """

    status: int
    clock: float
    processors: float
    memory: float


def run(command: Sequence[str | Path], folder: Path = PROJECT) -> Run:
    """Run a program of the project in a folder, without what it prints."""
    quiet, environment = subprocess.DEVNULL, {**os.environ, "PYTHONPATH": str(PROJECT)}
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=quiet, stderr=quiet)
    most, over = [0.0], threading.Event()
    watch = threading.Thread(target=_watch, args=(process.pid, most, over))
    watch.start()
    _, status, used = os.wait4(process.pid, 0)
    clock = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    over.set()
    watch.join()
    cpu = used.ru_utime + used.ru_stime
    return Run(process.returncode, clock, cpu, most[0])


def _watch(root: int, most: list[float], over: threading.Event) -> None:
    while not over.wait(_SAMPLED_S):
        most[0] = max(most[0], sum(map(_share, _tree(root))) / 1024)


def _tree(root: int) -> list[int]:
    """A process and all below it."""
    found = [root]
    for pid in found:
        for thread in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += map(int, thread.read_text().split())
            except OSError:
                continue
    return found


def _share(pid: int) -> int:
    """KiB of a process's memory; what several share is divided by their number."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
