"""How far trainings of other seeds are apart, and whether a run is one of them.

    python -m tests.benchmarks.seeds WORK --seeds 1 2 3
    python -m tests.benchmarks.seeds --check

The first trains and scores the enabled datasets once a seed on the pairs that lie in ``--data`` (as
``make repro`` leaves them) and writes seeds.md beside this: weights, order and dropout are drawn
anew, patients and pictures stay. The second compares the runs in ``--runs``, such as those of a
fresh ``make repro``, with that table and ends with 1 where one is outside. Two ranges are stated:
what the seeds gave, and the 95 % prediction interval of one more training (Student's t, as of
normal chance), which is wide of three and is what is checked: one training in two falls outside the
former. A seed that lies in WORK is not trained again. Not a part of the tests.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from scipy import stats

from model.folds.workplace import environment
from pipeline import paths
from pipeline.params import reader
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
_PARTS = (Path(), Path(paths.ENSEMBLE))
_MEAN = "mean of classes"
Key = tuple[str, str]
"""A run, such as virtual_ncct or virtual_ncct/ensemble, and a class."""


def numbers(runs: Path, datasets: Sequence[str]) -> Iterator[tuple[Key, float]]:
    """The Dice of every class of every run that is there."""
    for dataset in datasets:
        for part in _PARTS:
            file = runs / dataset / part / paths.METRICS
            if not file.is_file():
                continue
            found: dict[str, Any] = json.loads(file.read_text("utf-8"))
            for name, value in {_MEAN: found["mean_foreground_dice"], **found["dice"]}.items():
                if value is not None:
                    yield ((Path(dataset) / part).as_posix(), name), float(value)


def expected(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % prediction interval of one more value of a normal distribution, within 0 to 1."""
    mean, spread = statistics.mean(values), statistics.stdev(values)
    away = float(stats.t.ppf(0.975, len(values) - 1)) * spread * math.sqrt(1 + 1 / len(values))
    return max(mean - away, 0.0), min(mean + away, 1.0)


def table(found: Mapping[Key, Sequence[float]]) -> list[str]:
    """Rows of Markdown: what each seed gave, their range, and what to expect of another."""
    seeds = len(next(iter(found.values())))
    lines = [
        f"| run | class |{' seed |' * seeds} range | expected of another |",
        f"|---|---|{'---|' * seeds}---|---|",
    ]
    for (run, name), values in found.items():
        low, high = expected(values)
        each = " | ".join(f"{one:.3f}" for one in values)
        lines.append(
            f"| {run} | {name} | {each} | {min(values):.3f} to {max(values):.3f}"
            f" | {low:.3f} to {high:.3f} |"
        )
    return lines


def stated(text: str) -> dict[Key, tuple[float, float]]:
    """What :func:`table` says to expect."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) > 4 and " to " in cells[-1]:
            low, high = map(float, cells[-1].split(" to "))
            found[cells[0], cells[1]] = (low, high)
    return found


def check(runs: Path, text: str) -> list[str]:
    """What of the runs is outside the table ``text``; an error where nothing is in both."""
    wanted = stated(text)
    there = dict(numbers(runs, sorted({run.split("/")[0] for run, _ in wanted})))
    if not wanted.keys() & there.keys():
        raise SystemExit(f"nothing in {runs} is in {TABLE.name}")
    outside = []
    for key, (low, high) in wanted.items():
        if key in there and not low - 5e-4 <= there[key] <= high + 5e-4:
            outside.append(f"{' '.join(key)}: {there[key]:.3f}, expected {low:.3f} to {high:.3f}")
    return outside


def _trained(work: Path, data: Path, seed: int) -> Path:
    """The runs of a seed, in a working folder whose data are those of the project."""
    place = work / f"seed_{seed}"
    place.mkdir(parents=True, exist_ok=True)
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    content["train"]["seed"] = seed
    (place / paths.PARAMS).write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    if not (place / paths.DATA).is_symlink():
        (place / paths.DATA).symlink_to(data.resolve())
    for dataset in reader.enabled(place / paths.PARAMS):
        members = [
            ("member", name)
            for name, entry in (content.get("members") or {}).items()
            if entry["dataset"] == dataset
        ]
        ensembles = [("ensemble", dataset)] * (dataset in (content.get("ensembles") or {}))
        last = place / paths.run(dataset) / (paths.ENSEMBLE if ensembles else "") / paths.METRICS
        if last.is_file():
            continue
        for verb, name in (("train", dataset), *members, ("evaluate", dataset), *ensembles):
            command = [sys.executable, "-m", "model", verb, name]
            subprocess.run(command, cwd=place, env=environment(), check=True)
    return place / paths.RUNS


def main() -> None:
    """Train and write the table, or check runs against it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path, nargs="?", help="folder of all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[20261121, 1, 2])
    parser.add_argument("--data", type=Path, default=paths.DATA)
    parser.add_argument("--runs", type=Path, default=paths.RUNS)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.check:
        outside = check(options.runs, TABLE.read_text("utf-8"))
        print("\n".join(outside) or "every run is inside")
        raise SystemExit(1 if outside else 0)
    if options.work is None or len(options.seeds) < 2:
        parser.error("expected a folder and two seeds or more")
    datasets = reader.enabled(PROJECT / paths.PARAMS)
    found: dict[Key, list[float]] = {}
    for seed in options.seeds:
        runs = _trained(options.work.resolve(), options.data, seed)
        for key, value in numbers(runs, datasets):
            found.setdefault(key, []).append(value)
    text = [
        "# Seeds",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()}). Written"
        f" by `python -m tests.benchmarks.seeds`: the enabled datasets, trained with the seeds"
        f" {', '.join(map(str, options.seeds))} on the same pairs. Dice on test, mean over cases."
        " `expected of another`: the 95 % prediction interval of one more training, in which a"
        " fresh `make repro` is to fall (`python -m tests.benchmarks.seeds --check`).",
        "",
        *table(found),
    ]
    TABLE.write_text("\n".join(text) + "\n", "utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
