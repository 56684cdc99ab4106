"""What each part of our recipe is worth: python -m tests.benchmarks.recipes --work WORK.

Writes recipes.md beside this. It trains on real patients, the hippocampus preset's, and needs them
in data/raw/msd_hippocampus. Every row of :mod:`recipe_rows` changes one thing of another row, and
all have the same patients, the same folds and the same time: as many steps as fit into
``--minutes``, by the fastest of some steps measured before, so that a busy machine makes rows late
but not worse. Reading, drawing variants and validation run beside the steps and are not counted.
Scores are of patients in the fold that tests them, without post-processing, and each patient is
compared with itself in the other row. ``--rows`` does some rows (and those that they are compared
with). A stopped run resumes: what is done lies in ``--work``, and the table is written anew after
every row. Not a part of the tests.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np
import yaml

import datasets_spec
from model import flexunet as networks
from model import number_format, params
from model.compare import Difference, differences
from model.folds.workplace import environment
from model.params import Train
from model.scoring.per_case import read
from model.training import precision
from model.training.devices import Share
from model.training.fit import optimizer
from model.training.losses import loss_of
from model.training.metrics import Scores
from pipeline import paths
from pipeline.runtime import fingerprints
from tests.benchmarks.head_to_head_ours import choose_patients
from tests.benchmarks.recipe_rows import DATASET, Row, levers, path
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
STEPS_PER_EPOCH = 100
_STEP_FILE = "step.json"


def step_seconds(train: Train, unfused: bool) -> dict[str, Any]:
    """The number format, and the seconds of the fastest of some training steps."""
    labels = datasets_spec.load(DATASET).dataset.label_map
    form = precision.chosen(train, len(labels), Share())
    number_format.use(form)
    if unfused:
        networks.BatchNormalization = keras.layers.BatchNormalization
    rng, px = np.random.default_rng(0), train.network.image_px
    shape = (train.batch_pairs, px, px)
    pictures = rng.integers(0, 256, (*shape, train.network.inputs), np.uint8)
    ids = rng.integers(0, len(labels), shape, np.uint8)
    model = networks.flexunet(train.network, len(labels))
    loss = loss_of(train, [1] * len(labels))
    jit = precision.jit(train.jit)
    model.compile(optimizer(train), loss, metrics=[Scores(labels)], jit_compile=jit)
    spent, until = [], time.monotonic() + 10
    model.train_on_batch(pictures, ids)
    while len(spent) < 2 or time.monotonic() < until:
        start = time.perf_counter()
        model.train_on_batch(pictures, ids)
        spent.append(time.perf_counter() - start)
    return {"precision": form, "seconds": min(spent)}


def prepare(work: Path, entry: Mapping[str, Any]) -> Path:
    """A folder with the pairs that ``entry`` asks for; scans are converted once for all."""
    first = work / "converted"
    _link(work / "raw", first / paths.raw(DATASET))
    _state(first, {"augment": {"mode": "online", "variants": {}}})
    if not (first / "ready").is_file():
        _run(first, "pipeline", "convert", DATASET)
        (first / "ready").touch()
    place = work / f"pairs_{fingerprints.fingerprint(entry['augment'])[:8]}"
    for shared in (paths.raw(DATASET), paths.converted(DATASET)):
        _link(first / shared, place / shared)
    _state(place, {"augment": entry["augment"]})
    if not (place / "ready").is_file():
        _run(place, "pipeline", "augment", DATASET)
        (place / "ready").touch()
    return place


def done(work: Path, row: Row, folds: int, minutes: float) -> Path:
    """The scores of a row, all folds of it pooled; trained where they are not there yet."""
    pairs, place = prepare(work, row.entry), work / "rows" / row.name
    for shared in (paths.raw(DATASET), paths.converted(DATASET), paths.augmented(DATASET)):
        _link(pairs / shared, place / shared)
    timing = _timing(work, place, row)
    steps = max(int(60 * minutes / timing["seconds"]), 1)
    epochs = max(round(steps / STEPS_PER_EPOCH), 1)
    train = row.entry["train"] | {
        "precision": timing["precision"],
        "epochs": epochs,
        "steps_per_epoch": max(steps // epochs, 1),
    }
    _state(place, row.entry | {"train": train})
    _run(place, "model", "crossvalidate", DATASET, "--folds", str(folds))
    scores: Path = place / paths.folds(DATASET)
    (scores / "steps").write_text(str(epochs * train["steps_per_epoch"]), "utf-8")
    return scores


def _timing(work: Path, place: Path, row: Row) -> dict[str, Any]:
    """What a step of the row takes, measured once: :func:`step_seconds` in a program of its own.

    The number format that ``auto`` chooses for the first row is that of all rows with ``auto``.
    """
    file, made_from = place / _STEP_FILE, fingerprints.fingerprint(row.entry, row.unfused)
    if file.is_file():
        known: dict[str, Any] = json.loads(file.read_text("utf-8"))
        if known["made_from"] == made_from:
            return known
    train, form = row.entry["train"], work / "precision"
    free = train.get("precision", "auto") == "auto"
    if free and form.is_file():
        train = train | {"precision": form.read_text("utf-8")}
    _state(place, row.entry | {"train": train})
    call = [sys.executable, "-m", "tests.benchmarks.recipes", "--step", place / paths.PARAMS]
    call += ["--unfused"] * row.unfused
    output = subprocess.run(call, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    found = {"made_from": made_from, **json.loads(output.splitlines()[-1])}
    file.write_text(json.dumps(found), "utf-8")
    if free:
        form.write_text(found["precision"], "utf-8")
    return found


def _state(place: Path, entry: Mapping[str, Any]) -> None:
    """Let the folder's parameter file be the project's, with this entry alone."""
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    for section in ("presets", "members", "ensembles"):
        content.pop(section, None)
    content["datasets"] = {DATASET: json.loads(json.dumps(entry))}
    place.mkdir(parents=True, exist_ok=True)
    (place / paths.PARAMS).write_text(yaml.safe_dump(content), "utf-8")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.is_symlink():
        target.symlink_to(source.resolve())


def _run(place: Path, floor: str, *arguments: str) -> None:
    command = [sys.executable, "-m", floor, *arguments]
    subprocess.run(command, cwd=place, env=environment(), check=True)


def line(row: Row, runs: Mapping[str, Path]) -> str:
    """The row in Markdown."""
    run = runs[row.name]
    timing = json.loads((run.parents[2] / _STEP_FILE).read_text("utf-8"))
    best = []
    for file in sorted(run.glob(f"fold_*/{paths.run(DATASET)}/{paths.HISTORY}")):
        with file.open(newline="", encoding="utf-8") as stream:
            best.append(max(float(one["val_foreground_dice"]) for one in csv.DictReader(stream)))
    scores = _patients(run)
    mean, spread = statistics.mean(scores.values()), statistics.stdev(scores.values())
    gain = _gain(runs[row.against], run) if row.against else "|"
    return (
        f"| {row.words} | {row.against} | {1000 * timing['seconds']:,.0f} ms"
        f" | {int((run / 'steps').read_text('utf-8')):,} | {statistics.mean(best):.4f}"
        f" | {mean:.4f} ± {spread:.4f}, {min(scores.values()):.2f} | {gain} |"
    )


def _gain(before: Path, after: Path) -> str:
    """How much better a row is, patient by patient, and in how many of them."""
    found = differences(read(before), read(after))
    one: Difference = next(
        one for one in found if (one.name, one.score) == ("mean of classes", "dice")
    )
    gain = f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
    return f"{f'**{gain}**' if one.clear else gain} | {one.better} of {one.cases}"


def _patients(run: Path) -> dict[str, float]:
    """Mean Dice over the classes, of each patient."""
    found: dict[str, list[float]] = {}
    for row in read(run).values():
        found.setdefault(row["patient"], []).append(float(row["dice"] or 1.0))
    return {key: statistics.mean(values) for key, values in found.items()}


def write(file: Path, runs: Mapping[str, Path], folds: int, minutes: float) -> None:
    """The table of the rows that are done."""
    patients = len(_patients(next(iter(runs.values()))))
    lines = [
        "# Recipes: what each part of ours is worth",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()})."
        f" Written by `python -m tests.benchmarks.recipes --folds {folds} --minutes {minutes:g}`:"
        f" {patients} real hippocampus patients in {folds} folds, the same for every row, and"
        f" {minutes:g} minutes of training steps for each fold. `step`: the fastest; `valid`:"
        " foreground Dice over all its pixels, best epoch, mean of the folds; `test`: Dice of a"
        " patient in 3-D, mean of both classes: mean ± sd over patients, and the worst; `gain`:"
        " what a patient gains over the row `against`, mean and 95 % interval, in bold where it"
        " lies on one side of 0; `better`: in how many patients.",
    ]
    for title, rows in (
        ("From the reference projects' recipe to ours, each row on top of one before", path()),
        ("What each lever gains, each row a change of one thing", levers()),
    ):
        if there := [row for row in rows if row.name in runs]:
            lines += [
                "",
                f"## {title}",
                "",
                "| row | against | step | steps | valid | test | gain | better |",
                "|---|---|---|---|---|---|---|---|",
                *(f"| **{row.name}**: {line(row, runs)[2:]}" for row in there),
            ]
    file.write_text("\n".join(lines) + "\n", "utf-8")


def chosen(names: Collection[str]) -> list[Row]:
    """The rows of these names, or all, each after the one that it is compared with."""
    every = {row.name: row for row in (*levers(), *path())}
    wanted = set(names or every)
    for row in reversed(every.values()):
        if row.name in wanted and row.against:
            wanted.add(row.against)
    return [row for row in every.values() if row.name in wanted]


def main() -> None:
    """Train, score and write the table."""
    names = [row.name for row in (*path(), *levers())]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, default=paths.raw(DATASET))
    parser.add_argument("--work", type=Path, help="folder of all runs", default=Path("recipes"))
    parser.add_argument("--minutes", type=float, default=4.0, help="of steps, for each fold")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--patients", type=int, default=0, help="the first so many; 0 takes all")
    parser.add_argument("--rows", nargs="*", choices=names, default=[])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--step", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--unfused", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        found = step_seconds(params.load(DATASET, options.step).train, options.unfused)
        print(json.dumps(found))
        return
    work = options.work.resolve()
    choose_patients(work, options.raw.resolve(), options.patients)
    runs: dict[str, Path] = {}
    for row in chosen(options.rows):
        print(f"{row.name}: {row.words}", flush=True)
        runs[row.name] = done(work, row, options.folds, options.minutes)
        print(line(row, runs), flush=True)
        write(options.table, runs, options.folds, options.minutes)


if __name__ == "__main__":
    main()
