"""What a dataset of a million pairs costs, stage by stage, and what ten million would.

    python -m tests.benchmarks.scale --work FOLDER [--cases 100 400 1600 12500]

In FOLDER it draws virtual patients (50 slices of 32 x 32 pixels, one variant each), smaller cohorts
first, and runs ``convert``, ``augment``, ``split`` and ``check`` on them as programs, with shards;
then one epoch of training pictures is read. Of each it takes seconds by the clock and of all
processors, the peak memory of all its processes together, and files and bytes that are new. A line
(seconds = a + b pairs) is fitted to all cohorts but the largest, which then checks it, for each
stage. The tables go to ``scale.md`` beside this file. What lies in FOLDER is used again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml

from pipeline import paths
from pipeline.pairs import packing
from pipeline.runtime import executor
from tests.benchmarks import processes
from tests.benchmarks.growth import PX, SMALL, _draw_small
from tests.conftest import PROJECT

CASES = (100, 400, 1600, 12_500)
TABLE = Path(__file__).with_suffix(".md")
TEN_MILLION = 10_000_000
_STAGES = ("convert", "augment", "split", "check", "feed")
_READ = """
import sys
from pathlib import Path
import numpy as np
import datasets_spec
from pipeline import paths
from pipeline.pairs import manifest, pictures

name = sys.argv[1]
folder, labels = paths.dataset(name), datasets_spec.load(name).dataset.label_map
rows = [pair for pair in manifest.read(folder) if pair.split == "train"]
for at in np.random.default_rng(0).permutation(len(rows)):
    pictures.image(folder, rows[at])
    pictures.mask(folder, rows[at], labels)
"""
# examples of list prices in dollars, of November 2026: put in your own
_PROCESSOR_HOUR, _GB_MONTH, _PUT, _GET = 0.04, 0.023, 5e-6, 4e-7


@dataclass(frozen=True)
class Figures:
    """What a stage took for so many ``pairs`` of its own, the loads of its processes together."""

    cases: int
    stage: str
    pairs: int
    clock: float
    processors: float
    memory: float
    files: int
    mb: float


@dataclass(frozen=True)
class Line:
    """Seconds of processors by pairs: ``first`` + ``each`` x pairs."""

    first: float
    each: float

    @classmethod
    def of(cls, rows: Sequence[Figures]) -> Line:
        """The line of least relative error through what was measured."""
        pairs = np.array([one.pairs for one in rows], float)
        spent = np.array([one.processors for one in rows])
        system = np.stack([1 / spent, pairs / spent], axis=1)
        first, each = np.linalg.lstsq(system, np.ones(len(rows)), rcond=None)[0]
        return cls(float(first), float(each))

    def at(self, pairs: int) -> float:
        return self.first + self.each * pairs


def main() -> None:
    """Measure what is not measured yet, and write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", type=int, nargs="+", default=CASES)
    parser.add_argument("--workers", type=int, default=executor.default_workers())
    parser.add_argument("--table", type=Path, default=TABLE)
    options = parser.parse_args()
    measured = [
        one
        for cases in sorted(options.cases)
        for one in _cohort(options.work.resolve() / str(cases), cases, options.workers)
    ]
    options.table.write_text("\n".join(_tables(measured, options.workers)) + "\n", "utf-8")
    print(options.table.read_text("utf-8"))


def _cohort(place: Path, cases: int, workers: int) -> Iterator[Figures]:
    """The figures of a cohort, measured or from an earlier run."""
    record = place / "figures.json"
    known = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    place.mkdir(parents=True, exist_ok=True)
    before = Path.cwd()
    os.chdir(place)
    try:
        _prepare(cases, workers)
        for stage in _STAGES:
            if stage not in known:
                known[stage] = asdict(_measured(stage, cases, workers))
                record.write_text(json.dumps(known, indent=1), "utf-8")
            yield Figures(**known[stage])
    finally:
        os.chdir(before)


def _prepare(cases: int, workers: int) -> None:
    values = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    for name in ("presets", "members", "ensembles"):
        values.pop(name, None)
    values["datasets"] = {SMALL: None}
    count = packing.count_of("auto", cases, from_cases=1)
    values["convert"] |= {"image_px": PX, "shards": count}
    bent = [{"Barrel": {"radius": 0.3, "amount": 0.3, "centre": [0.5, 0.5]}}]
    values["augment"] |= {"variants": {"bent": bent}, "empty_slices": True}
    values["split"]["empty_slices"] = {"train": 1.0, "valid": 1.0, "test": 1.0}
    paths.PARAMS.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    raw = paths.raw(SMALL)
    missing = [number for number in range(cases) if not (raw / f"sub-{number:06d}").is_dir()]
    for _ in executor.results(partial(_draw, raw), missing, workers, f"draw {cases} cases"):
        pass


def _draw(raw: Path, number: int) -> None:
    _draw_small(raw / f"sub-{number:06d}", number)


def _measured(stage: str, cases: int, workers: int) -> Figures:
    place = {"convert": paths.converted, "augment": paths.augmented}.get(stage, paths.dataset)
    folder, asked = place(SMALL), f"{workers}"
    command = [sys.executable, "-m", "pipeline", stage, SMALL, "--workers", asked]
    if stage == "check":
        command = [*command[:4], str(folder), "--workers", asked]
    elif stage == "feed":
        command = [sys.executable, "-c", _READ, SMALL]
    print(f"{cases} cases: {stage}", flush=True)
    earlier = _inodes(folder) | _inodes(paths.converted(SMALL)) | _inodes(paths.augmented(SMALL))
    run = processes.run(command, Path.cwd())
    if run.status:
        raise SystemExit(f"{' '.join(command[1:])} ended with {run.status}, in {Path.cwd()}")
    new = {inode: size for inode, size in _sizes(folder) if inode not in earlier}
    pairs = pq.read_metadata(folder / paths.MANIFEST).num_rows
    return Figures(
        cases,
        stage,
        pairs,
        run.clock,
        run.processors,
        run.memory,
        len(new),
        sum(new.values()) / 1e6,
    )


def _sizes(folder: Path) -> Iterator[tuple[int, int]]:
    """Inode and bytes of every file below."""
    for file in paths.files_below(folder) if folder.is_dir() else ():
        status = file.stat()
        yield status.st_ino, status.st_size


def _inodes(folder: Path) -> set[int]:
    return {inode for inode, _ in _sizes(folder)}


def _tables(measured: Sequence[Figures], workers: int) -> Iterator[str]:
    largest = max(one.cases for one in measured)
    lines = {
        stage: Line.of([o for o in measured if o.stage == stage and o.cases < largest])
        for stage in _STAGES
    }
    yield "# A million pairs"
    yield ""
    yield (
        f"Written by `python -m tests.benchmarks.scale`: Python {platform.python_version()},"
        f" {workers} workers on {executor.default_workers()} processors ({platform.machine()})."
        f" Virtual patients of 50 slices of {PX} x {PX} pixels, with one variant of each slice,"
        " kept in shards; `feed` reads the pairs of train in random order, in one process."
        " `pairs`: those that the stage makes or reads; memory: the peak of all processes together;"
        " files and MB: what is new on the disk, hard links not counted."
    )
    yield ""
    yield "| cases | stage | pairs | clock | processors | memory | files | MB |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in measured:
        yield (
            f"| {one.cases:,} | {one.stage} | {one.pairs:,} | {one.clock:,.0f} s"
            f" | {one.processors:,.0f} s | {one.memory:,.0f} MiB | {one.files:,} | {one.mb:,.0f} |"
        )
    yield from _model(measured, lines, largest)


def _model(measured: Sequence[Figures], lines: dict[str, Line], largest: int) -> Iterator[str]:
    yield ""
    yield "## What ten million would cost"
    yield ""
    yield (
        f"Seconds of processors are a line by pairs, fitted to the cohorts below {largest:,} cases;"
        " `measured` beside `model` is the check by the largest. Objects and bytes grow with the"
        " shards, memory with the manifest. Dollars at example prices:"
        f" {_PROCESSOR_HOUR} for the hour of a processor, {_GB_MONTH} for a GB and month,"
        f" {1000 * _PUT:g} for a thousand writes and {1000 * _GET:g} for a thousand reads."
    )
    yield ""
    head = ("stage", "start", "a pair", "model", "measured", "ten million", "objects", "GB", "$")
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for one in (one for one in measured if one.cases == largest):
        line, times = lines[one.stage], TEN_MILLION / one.pairs
        hours, objects, gb = line.at(TEN_MILLION) / 3600, one.files * times, one.mb * times / 1e3
        dollars = hours * _PROCESSOR_HOUR + objects * _PUT + gb * _GB_MONTH
        if one.stage in ("check", "feed"):
            dollars += 2 * TEN_MILLION * _GET
        yield (
            f"| {one.stage} | {line.first:.1f} s | {1000 * line.each:.2f} ms"
            f" | {line.at(one.pairs):,.0f} s | {one.processors:,.0f} s | {hours:,.1f} h"
            f" | {objects:,.0f} | {gb:,.0f} | {dollars:,.2f} |"
        )


if __name__ == "__main__":
    main()
