"""What each part of our recipe is worth: python -m tests.benchmarks.recipes.

Writes recipes.md beside this. It trains on real patients, the hippocampus preset's, and needs
them in data/raw/msd_hippocampus. Every row changes the one before it, all have the same patients
and the same time: as many steps as fit into ``--minutes``, by the fastest of some steps measured
before, so that a busy machine makes rows late but not worse. Validation is not counted. Scores
are of the test patients, without post-processing; what decides is the column of valid. Rows that
lie in ``--work`` are not trained again. Not a part of the tests.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import datasets_spec
from datasets_spec.contract import LabelMap
from model import number_format, params
from model.compare import _read, differences
from pipeline import paths
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
DATASET = "msd_hippocampus"
REFERENCE = "full_head_t1w"  # the preset of theirs that is for MR
NEVER = 1_000_000
STEPS_PER_EPOCH = 100
Change = dict[str, Any]

ROWS: list[tuple[str, Change]] = [
    ("the reference projects' settings", {}),
    (
        "a network of the pictures' own size: 64 px, 4 levels, kernels of 3, batch 32",
        {
            "network": {"image_px": 64, "channels": 1, "base_kernels": 3, "num_layers": 4},
            "batch_pairs": 32,
            "precision": "auto",
        },
    ),
    ("a learning rate of .002, no clipping", {"learning_rate": 0.002, "clipvalue": 0.0}),
    (
        "Dice + cross-entropy, foreground Dice as monitor",
        {"loss": "dice_ce", "monitor": "val_foreground_dice"},
    ),
    ("cosine schedule", {"schedule": "cosine"}),
    ("four bent variants of every pair", {"variants": True}),
]
TRIED: list[tuple[str, Change]] = [
    ("batch normalisation", {"network": {"normalization": "batch"}}),
]


def step_seconds(settings: str) -> float:
    """The fastest of some training steps."""
    from model.flexunet import flexunet, trainable
    from model.training import precision
    from model.training.devices import Share
    from model.training.fit import optimizer
    from model.training.losses import loss_of
    from model.training.metrics import Scores

    train, labels = params.load(DATASET, Path(settings)).train, _labels()
    number_format.use(precision.chosen(train, len(labels), Share()))
    rng, px = np.random.default_rng(0), train.network.image_px
    shape = (train.batch_pairs, px, px)
    pictures = rng.integers(0, 256, (*shape, train.network.channels), np.uint8)
    ids = rng.integers(0, len(labels), shape, np.uint8)
    model = trainable(flexunet(train.network, len(labels)), train.network)
    loss = loss_of(train, [1] * len(labels))
    model.compile(optimizer(train), loss, metrics=[Scores(labels)], jit_compile=False)
    spent, until = [], time.monotonic() + 10
    model.train_on_batch(pictures, ids)
    while len(spent) < 2 or time.monotonic() < until:
        start = time.perf_counter()
        model.train_on_batch(pictures, ids)
        spent.append(time.perf_counter() - start)
    return min(spent)


def _labels() -> LabelMap:
    return datasets_spec.load(DATASET).dataset.label_map


def _recipes() -> list[tuple[str, Change, int]]:
    """Name, the whole of ``train`` (and ``variants``), and the row that it is compared with."""
    ours = params.presets(PROJECT / "params.yaml")
    train = asdict(ours[REFERENCE].train)
    train |= {"early_stopping_patience": NEVER, "epoch_change_pictures": 0, "variants": False}
    found = []
    for number, (name, change) in enumerate(ROWS):
        train = _merged(train, change)
        found.append((name, train, number - 1))
    last = len(found) - 1
    found += [(name, _merged(train, change), last) for name, change in TRIED]
    return found


def _merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    return {
        key: _merged(value, new.get(key, {})) if isinstance(value, dict) else new.get(key, value)
        for key, value in old.items()
    }


def _prepare(work: Path, raw: Path, variants: bool) -> Path:
    """A folder of its own with the dataset, with or without variants."""
    place = work / ("bent" if variants else "plain")
    if (place / "ready").is_file():
        return place
    (place / "data/raw").mkdir(parents=True, exist_ok=True)
    (place / paths.raw(DATASET)).unlink(missing_ok=True)
    (place / paths.raw(DATASET)).symlink_to(raw.resolve())
    content = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
    entry = content["presets"][DATASET]
    if not variants:
        entry["augment"]["variants"] = {}
    content["datasets"] = {DATASET: entry}
    (place / "params.yaml").write_text(yaml.safe_dump(content), "utf-8")
    for verb in ("convert", "augment", "split"):
        _run(place, "pipeline", verb, DATASET)
    (place / "ready").touch()
    return place


def _run(place: Path, package: str, *arguments: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    subprocess.run(
        [sys.executable, "-m", package, *arguments], cwd=place, env=environment, check=True
    )


def _train(number: int, recipe: Change, work: Path, raw: Path, minutes: float) -> Path:
    """The run of a row, trained and scored; timing.json in it has the time of its steps."""
    kept = work / f"row_{number:02d}"
    if (kept / paths.PER_CASE).is_file():
        return kept
    place = _prepare(work, raw, recipe["variants"])
    train = {key: value for key, value in recipe.items() if key != "variants"}
    content = yaml.safe_load((place / "params.yaml").read_text("utf-8"))
    entry = content["datasets"][DATASET]
    content["evaluate"]["postprocess"] = False
    entry["train"] = train
    file = place / "row.yaml"
    file.write_text(yaml.safe_dump(content), "utf-8")
    call = [sys.executable, "-m", "tests.benchmarks.recipes", "--step", file, "--work", work]
    output = subprocess.run(call, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    seconds = float(output.splitlines()[-1])
    steps = int(60 * minutes / seconds)
    epochs = max(round(steps / STEPS_PER_EPOCH), 1) if steps > 5 * STEPS_PER_EPOCH else 1
    train |= {"epochs": epochs, "steps_per_epoch": steps // epochs}
    file.write_text(yaml.safe_dump(content), "utf-8")
    shutil.rmtree(place / paths.run(DATASET), ignore_errors=True)
    for verb in ("train", "evaluate"):
        _run(place, "model", verb, DATASET, "--params", "row.yaml")
    timing = {"step_ms": 1000 * seconds, "steps": epochs * (steps // epochs)}
    (place / paths.run(DATASET) / "timing.json").write_text(json.dumps(timing), "utf-8")
    shutil.move(place / paths.run(DATASET), kept)
    return kept


def _row(name: str, run: Path, before: Path | None) -> str:
    timing = json.loads((run / "timing.json").read_text("utf-8"))
    with (run / paths.HISTORY).open(newline="", encoding="utf-8") as stream:
        valid = max(float(row["val_foreground_dice"]) for row in csv.DictReader(stream))
    scores = _patients(run)
    gain = ""
    if before:
        old = _patients(before)
        gains = [scores[key] - old[key] for key in scores]
        found = differences(_read(before), _read(run))
        one = next(one for one in found if (one.name, one.score) == ("mean of classes", "dice"))
        gain = f"{one.mean:+.3f} ± {statistics.stdev(gains):.3f} [{one.low:+.3f}, {one.high:+.3f}]"
    mean, spread = statistics.mean(scores.values()), statistics.stdev(scores.values())
    return (
        f"| {name} | {timing['step_ms']:,.0f} ms | {timing['steps']:,} | {valid:.4f}"
        f" | {mean:.4f} ± {spread:.4f} | {gain} |"
    )


def _patients(run: Path) -> dict[str, float]:
    """Mean Dice over the classes, of each test patient."""
    found: dict[str, list[float]] = {}
    for row in _read(run).values():
        found.setdefault(row["patient"], []).append(float(row["dice"] or 1.0))
    return {key: statistics.mean(values) for key, values in found.items()}


def main() -> None:
    """Train, score and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, default=paths.raw(DATASET))
    parser.add_argument("--work", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(step_seconds(options.step))
        return
    recipes = _recipes()
    runs: list[Path] = []
    for number, (name, recipe, _) in enumerate(recipes):
        print(f"{number}: {name}", flush=True)
        runs.append(_train(number, recipe, options.work, options.raw, options.minutes))
        before = recipes[number][2]
        print(_row(name, runs[-1], runs[before] if before >= 0 else None), flush=True)
    head = [
        "| | step | steps | valid | test | gain |",
        "|---|---|---|---|---|---|",
    ]
    rows = [
        _row(name, run, runs[before] if before >= 0 else None)
        for (name, _, before), run in zip(recipes, runs, strict=True)
    ]
    lines = [
        "# Recipes: what each part of ours is worth",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()})."
        f" Written by `python -m tests.benchmarks.recipes --minutes {options.minutes:g}`: real"
        f" hippocampus patients, the same for every row, and {options.minutes:g} minutes of"
        " training steps each. `valid`: foreground Dice over all its pixels, best epoch; `test`:"
        " mean Dice of both classes, mean ± sd over patients, in 3-D; `gain`: paired, mean ± sd"
        " over patients and 95 % interval of its mean.",
        "",
        "## From the reference projects' recipe to ours, each row on top of the one before",
        "",
        *head,
        *rows[: len(ROWS)],
        "",
        "## Tried on top of the last row, one at a time",
        "",
        *head,
        *rows[len(ROWS) :],
    ]
    TABLE.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
