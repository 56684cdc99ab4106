"""Several processes of this machine train one network: started together, ended together.

They find each other by Keras' variables (:mod:`model.training.devices`). One that fails ends all:
the others would wait for it. None outlives the process that started them, however that ends.
"""

from __future__ import annotations

import importlib.util
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline.runtime import messages, outcomes, processes

Task = Callable[[], None]
_LOG = logging.getLogger(__name__)
_END_S = 5.0  # how long a process may take to end by itself
_LAST = 2000  # characters of what a process printed that are shown when it fails
_LOOPBACK = "127.0.0.1"
_AGAIN = "The same command resumes after the last complete epoch, also with other --processes"


@dataclass(frozen=True)
class _One:
    """A process among all: what it raised comes by a pipe; what it prints, but for the first, is in
    a file."""

    number: int
    process: SpawnProcess
    raised: Connection
    printed: Path


def run(task: Task, count: int, name: str, batch_pairs: int) -> None:
    """Run ``task`` in ``count`` processes of this machine, each with its share of the processors.

    ``task`` must be picklable; it trains ``name`` in batches of ``batch_pairs``. The first process
    has this one's terminal; what another printed is shown if it fails. Raises what the first to
    fail raised, and :class:`Problem` where one was killed, or where that many cannot train.
    """
    require_jax()
    if batch_pairs % count:
        raise Problem(
            f"expected a multiple of the {count} processes, got {batch_pairs}",
            where=f"{name}: train.batch_pairs",
            remedy="Change it, or take fewer processes.",
        )
    with _started(task, count) as ones:
        failed = _waited_for(ones)
        if failed is not None:
            raise _cause(failed, count, name)


def require_jax() -> None:
    """Raise :class:`Problem` unless Keras computes with JAX, which is installed."""
    backend = os.environ.get("KERAS_BACKEND")
    if backend is None:
        import keras

        backend = keras.backend.backend()
    if backend != "jax":
        raise Problem(
            f"expected the backend jax for several processes, got {backend}",
            where="--processes",
            remedy="Set KERAS_BACKEND=jax; or train in one process: --processes 1.",
        )
    if importlib.util.find_spec("jax") is None:
        raise ModuleNotFoundError("No module named 'jax'", name="jax")


@contextmanager
def _started(task: Task, count: int) -> Iterator[list[_One]]:
    """The processes, which end with the block."""
    context = multiprocessing.get_context("spawn")
    held, leash = context.Pipe(duplex=False)  # when it is closed, they end, whatever they do
    ones: list[_One] = []
    with ExitStack() as stack:
        _track_quietly()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(_end, ones, leash)
        for number, environment in enumerate(_environments(count)):
            raised, report = context.Pipe(duplex=False)
            printed = folder / str(number)
            given = (task, environment, printed if number else None, report, held)
            process = context.Process(target=_work, args=given)
            with processes.without_ctrl_c():
                process.start()
            report.close()
            ones.append(_One(number, process, raised, printed))
        held.close()
        yield ones


def _waited_for(ones: Sequence[_One]) -> _One | None:
    """Wait until all have ended well, or one has not: the first, for others may fail of that."""
    while True:
        codes = [(one.process.exitcode, one) for one in ones]
        if failed := [(code, one) for code, one in codes if code]:
            return min(failed, key=lambda found: found[0] != -signal.SIGKILL)[1]
        under_way = [one.process.sentinel for code, one in codes if code is None]
        if not under_way:
            return None
        wait(under_way)


def _cause(one: _One, count: int, name: str) -> BaseException:
    """What to raise for a process that failed."""
    which = f"process {one.number} of {count}"
    with suppress(EOFError, OSError):
        if one.raised.poll():
            error: BaseException = one.raised.recv()
            if isinstance(error, Problem) and one.number:
                return Problem(f"{which}: {error.what}", where=error.where, remedy=error.remedy)
            return error
    status = one.process.exitcode or 0
    ended = f"was killed ({signal.Signals(-status).name})" if status < 0 else f"ended ({status})"
    if status != -signal.SIGKILL and one.printed.exists():
        _LOG.error("%s", one.printed.read_text("utf-8", "replace")[-_LAST:].rstrip())
    return Problem(
        f"expected {count} processes that train together, but {which} {ended}",
        where=f"train {name}",
        remedy=f"Was there too little memory? {_AGAIN}.",
    )


def _end(ones: Sequence[_One], leash: Connection) -> None:
    """End all that are left."""
    leash.close()
    patience = time.monotonic() + _END_S
    for one in ones:
        one.process.join(max(patience - time.monotonic(), 0))
        if one.process.exitcode is None:  # it was stopped, or has not begun
            one.process.kill()
            one.process.join()
        one.raised.close()


def _track_quietly() -> None:
    """Let Python's tracker take back what processes leave that end at once, without a warning."""
    quiet = "ignore:resource_tracker"
    sys.warnoptions.append(quiet)
    try:
        resource_tracker.ensure_running()
    finally:
        sys.warnoptions.remove(quiet)


def _environments(count: int) -> list[dict[str, str]]:
    """What each process is told: who it is, where the first is, which devices are its own."""
    with socket.socket() as free:
        free.bind((_LOOPBACK, 0))
        address = f"{_LOOPBACK}:{free.getsockname()[1]}"
    gpus = _gpus()
    if 0 < gpus < count:
        raise Problem(
            f"expected at most a process for each of the {gpus} GPUs, got {count}",
            where="--processes",
            remedy="Take fewer; or train on processors: JAX_PLATFORMS=cpu.",
        )
    threads = str(max(_processors() // count, 1))
    return [
        {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": address,
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(count),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(number),
            "JAX_COORDINATOR_BIND_ADDRESS": address,  # else all of the machine's addresses
            # also without GPUs: below SLURM, JAX would take the number of the job's task
            "JAX_LOCAL_DEVICE_IDS": ",".join(map(str, _part(gpus, number, count))) or "0",
            "NPROC": threads,  # XLA's
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        }
        for number in range(count)
    ]


def _part(things: int, number: int, count: int) -> range:
    return range(number * things // count, (number + 1) * things // count)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> int:
    """How many NVIDIA GPUs JAX would see; 0 where it computes on processors."""
    plugins = (f"jax_cuda{version}_plugin" for version in (12, 13))
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms.startswith("cpu") or not any(map(importlib.util.find_spec, plugins)):
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    try:
        asked = ["nvidia-smi", "--list-gpus"]
        listed = subprocess.run(asked, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return 0
    return len(listed.stdout.splitlines())


def _work(
    task: Task,
    environment: Mapping[str, str],
    printed: Path | None,
    report: Connection,
    held: Connection,
) -> None:
    """Do the task in a process of its own. Keras is not imported yet."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(held,), daemon=True).start()
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]  # JAX would look for the other processes there
    os.environ.update(environment)
    if printed:
        file = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, 1)
        os.dup2(file, 2)
    try:
        with messages.on_terminal():
            outcomes.portable(lambda _: task(), None)
    except Exception as error:
        if not isinstance(error, Problem):
            error.add_note("".join(traceback.format_exception(error))[-_LAST:])
        report.send(error)
        sys.stdout.flush()
        os._exit(2)  # not by JAX's own end, which would wait for the others


def _end_with_parent(held: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel, held])
    os._exit(1)
