"""What labels of every fifth slice alone are worth: python -m tests.benchmarks.ignore.

Writes ignore.md beside this. It trains twice on the same real patients, which it needs in
data/raw/msd_hippocampus, with the same number of steps: once with all labels, and once as if
nobody had annotated any but every fifth slice of the patients of train and valid. Test has all
labels in both. It takes the preset with half of the filters and no normalisation,
for a few minutes of training. Runs that lie in ``--work`` are not trained again.
Not a part of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import yaml

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import Case
from model import params
from model.compare import differences
from model.evaluate import evaluate
from model.scoring.per_case import read
from model.train import train
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest
from pipeline.runtime import messages
from pipeline.split import split
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
DATASET = "msd_hippocampus"
EVERY, FIRST = 5, 2
ARMS = {"all slices": False, "every fifth slice": True}
_TEST, _VALID, _OF = range(3), range(3, 5), 20  # of so many patients, in turn


def _adapter(adapter: Adapter, sparse: bool) -> Adapter:
    """The hippocampus with a stated split, annotated as the arm wants it."""

    def cases(raw: Path) -> Iterator[Case]:
        for number, case in enumerate(adapter.cases(raw)):
            assert isinstance(case, Case)
            assert isinstance(case.image, Path)
            place = number % _OF
            where = "test" if place in _TEST else "valid" if place in _VALID else "train"
            depth = nib.load(case.image).shape[2]
            slices = tuple(range(FIRST, depth, EVERY)) if sparse and where != "test" else None
            yield replace(case, split=where, annotated_slices=slices)

    return replace(adapter, cases=cases)


def _settings(folder: Path, epochs: int, steps: int) -> params.Params:
    content = yaml.safe_load((PROJECT / "params.yaml").read_text("utf-8"))
    entry: dict[str, Any] = content["presets"][DATASET]
    entry["train"] |= {"epochs": epochs, "steps_per_epoch": steps, "precision": "float32"}
    entry["train"]["network"] |= {"normalization": "none", "base_filters": 8}
    content["datasets"] = {DATASET: entry}
    (folder / paths.PARAMS).write_text(yaml.safe_dump(content), "utf-8")
    return params.load(DATASET, folder / paths.PARAMS)


def _arm(work: Path, raw: Path, sparse: bool, epochs: int, steps: int) -> Path:
    """The folder in which one arm was converted, trained and scored."""
    place = (work / ("sparse" if sparse else "full")).resolve()
    if (place / paths.run(DATASET) / paths.SCORES).is_file():
        return place
    (place / paths.raw(DATASET)).parent.mkdir(parents=True, exist_ok=True)
    (place / paths.raw(DATASET)).unlink(missing_ok=True)
    (place / paths.raw(DATASET)).symlink_to(raw.resolve())
    before, load = Path.cwd(), datasets_spec.load
    datasets_spec.load = lambda name: _adapter(load(name), sparse)
    os.chdir(place)
    try:
        settings = _settings(place, epochs, steps)
        convert(DATASET, settings, 1)
        augment(DATASET, settings, 1)
        split(DATASET, settings)
        train(DATASET, settings)
        evaluate(DATASET, settings)
    finally:
        os.chdir(before)
        datasets_spec.load = load
    return place


def _row(name: str, place: Path, full: float) -> str:
    found = json.loads((place / paths.run(DATASET) / paths.SCORES).read_text("utf-8"))
    scores = found["model"]
    plain = found.get("before_postprocessing", scores)["mean_foreground"]["dice"]
    pairs = [pair for pair in manifest.read(place / paths.dataset(DATASET)) if not pair.parent]
    drawn = sum(pair.split == "train" and not pair.unannotated for pair in pairs)
    dice = scores["mean_foreground"]["dice"]
    classes = [f"{one['dice']['mean']:.3f}" for one in scores["classes"].values()]
    nsd = scores["mean_foreground"]["nsd"]["mean"]
    return (
        f"| {name} | {drawn:,} | {dice['mean']:.4f} [{dice['low']:.3f}, {dice['high']:.3f}]"
        f" | {plain['mean']:.4f} | {' | '.join(classes)} | {nsd:.3f}"
        f" | {100 * dice['mean'] / full:.1f} % |"
    )


def main() -> None:
    """Train, score and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, default=paths.raw(DATASET))
    parser.add_argument("--work", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    with messages.on_terminal():
        places = {
            name: _arm(options.work, options.raw, sparse, options.epochs, options.steps)
            for name, sparse in ARMS.items()
        }
    runs = [place / paths.run(DATASET) for place in places.values()]
    scores = json.loads((runs[0] / paths.SCORES).read_text("utf-8"))
    full = scores["model"]["mean_foreground"]["dice"]["mean"]
    named = ("mean of classes", "dice")
    gain = next(one for one in differences(*map(read, runs)) if (one.name, one.score) == named)
    lines = [
        "# Every fifth slice annotated",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()}). Written"
        f" by `python -m tests.benchmarks.ignore --epochs {options.epochs} --steps"
        f" {options.steps}`: the hippocampus preset with half of its filters and"
        f" without normalisation, the same patients and {options.epochs * options.steps:,} steps"
        " of 32 pictures in both rows. In the second, nobody annotated any but every fifth slice"
        f" of the patients of train and valid; the {scores['test_patients']} test patients have all"
        " labels in both.",
        "",
        "| annotated | slices of train | mean Dice [95 % over patients] | before post-processing"
        " | anterior | posterior | NSD | share of the full Dice |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(name, place, full) for name, place in places.items()),
        "",
        f"Paired over the test patients, every fifth slice less all slices: {gain.mean:+.4f}"
        f" [{gain.low:+.4f}, {gain.high:+.4f}]; better in {gain.better} of {gain.cases}. The"
        " interval knows nothing of the chance in a training, of which each row is one; and one of"
        " a few minutes is limited by its length more than by its labels.",
    ]
    TABLE.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
