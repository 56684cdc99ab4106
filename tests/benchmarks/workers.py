"""What one, two and four workers take, as processes and on a Dask cluster of this machine.

    python -m tests.benchmarks.workers WORK [--workers 1 2 4]

In the folder WORK it fetches the virtual CT patients and runs ``convert``, ``augment``, ``split``
and ``check`` on them as programs, anew for each number of workers and each way, and writes
workers.md beside this. Seconds are those of the clock, the start of the program and, of a cluster,
the sending of its jobs included, the start of the cluster not; ``efficiency`` is the time of one
worker over that of so many, a processor each: with more workers than processors it is judged by
these. Bytes moved are those that passed the loopback network meanwhile. Every way has to give the
same bytes. Linux alone; not a part of the tests.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from distributed import Client

from pipeline import paths
from pipeline.runtime import executor
from tests.benchmarks import processes
from tests.conftest import PROJECT
from tests.support import dask

TABLE = Path(__file__).with_suffix(".md")
DATASET = "virtual_ncct"
STAGES = ("convert", "augment", "split", "check")
PROCESSES, CLUSTER = "processes", "Dask"


@dataclass(frozen=True)
class Figures:
    """What a stage took, and the digest of all that lies below ``data`` afterwards."""

    way: str
    workers: int
    stage: str
    seconds: float
    moved: int
    digest: str


def main() -> None:
    """Run every way, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    options = parser.parse_args()
    work = options.work.resolve()
    _prepare(work)
    found = [
        one
        for workers in options.workers
        for way in (PROCESSES, CLUSTER)
        for one in _measured(work, way, workers)
    ]
    TABLE.write_text("\n".join(_table(found)) + "\n", "utf-8")
    print(TABLE.read_text("utf-8"))


def _prepare(work: Path) -> None:
    """The raw data, once, and parameters by which variants are made."""
    values = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    values |= {"datasets": {DATASET: None}, "members": {}, "ensembles": {}}
    work.mkdir(parents=True, exist_ok=True)
    (work / paths.PARAMS).write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    if not (work / paths.raw(DATASET)).is_dir():
        _run(work, "fetch", DATASET)


def _measured(work: Path, way: str, workers: int) -> list[Figures]:
    """All stages, one after the other, from raw data alone."""
    for made in (paths.converted, paths.augmented, paths.dataset):
        shutil.rmtree(work / made(DATASET), ignore_errors=True)
    found = []
    with ExitStack() as running:
        how = ["--workers", str(workers)]
        if way == CLUSTER:
            shutil.rmtree(work / "cluster", ignore_errors=True)
            cluster = running.enter_context(dask.cluster(work / "cluster", workers))
            with Client(cluster.address) as client:
                client.wait_for_workers(workers)
            how = ["--cluster", cluster.address]
        for stage in STAGES:
            what = str(paths.dataset(DATASET)) if stage == "check" else DATASET
            before = _loopback()
            seconds = _run(work, stage, what, *how)
            moved = _loopback() - before
            found.append(Figures(way, workers, stage, seconds, moved, _digest(work)))
            print(found[-1], flush=True)
    return found


def _run(work: Path, *words: str) -> float:
    """The seconds that a command of the pipeline takes."""
    run = processes.run([sys.executable, "-m", "pipeline", *words], work)
    if run.status:
        raise SystemExit(f"{' '.join(words)} ended with {run.status}, in {work}")
    return run.clock


def _loopback() -> int:
    """Bytes that the loopback device has received."""
    for line in Path("/proc/net/dev").read_text("utf-8").splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[0])
    raise SystemExit("expected a loopback device in /proc/net/dev")


def _digest(work: Path) -> str:
    """Of the names and bytes of all that the stages made."""
    whole = hashlib.sha256()
    for made in (paths.converted, paths.augmented, paths.dataset):
        for file in paths.files_below(work / made(DATASET)):
            if file.suffix != ".lock":
                whole.update(file.relative_to(work).as_posix().encode())
                whole.update(hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()


def _table(found: Sequence[Figures]) -> list[str]:
    cores = executor.default_workers()
    one_worker = {(one.way, one.stage): one.seconds for one in found if one.workers == 1}
    last = {one.digest for one in found if one.stage == STAGES[-1]}
    same = "All ways gave the same bytes" if len(last) == 1 else f"DIFFERENT BYTES: {len(last)}"
    lines = [
        "# Workers",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {cores} processors ({platform.machine()}), Python"
        f" {platform.python_version()}. Written by `python -m tests.benchmarks.workers`: the"
        " patients of `virtual_ncct` with two variants of each pair. Seconds by the clock, the"
        " program's start included; efficiency is the time of one worker over that of so many, by"
        " processors in use; moved is what passed the loopback network."
        f" {same}: sha256 {', '.join(one[:16] for one in sorted(last))}.",
        "",
        "| stage | by | workers | seconds | efficiency | moved |",
        "|---|---|---|---|---|---|",
    ]
    for one in sorted(found, key=lambda one: (STAGES.index(one.stage), one.way, one.workers)):
        alone = one_worker.get((one.way, one.stage))
        share = f"{alone / one.seconds / min(one.workers, cores):.0%}" if alone else ""
        lines.append(
            f"| {one.stage} | {one.way} | {one.workers} | {one.seconds:.1f} | {share}"
            f" | {one.moved / 1e6:.1f} MB |"
        )
    return lines


if __name__ == "__main__":
    main()
