"""What channels are worth: python -m tests.benchmarks.channels --work FOLDER --raw data/raw.

Writes channels.md beside this. Two questions, each answered over the folds of all patients, with
the same short training of the same small network for every row:

- ``windows``: the virtual CT cohort in three windows (brain, blood, bone) against its one window.
- ``sequences``: the virtual T1w cohort with noise, beside a second sequence in which CSF is dark
  and grey matter bright, as in FLAIR, made of its tissue labels. What does a model of both lose
  where one is missing at prediction, with and without ``train.channel_dropout``, and what has a
  model of T1w alone?

Dice is that of a class over all voxels of a case in its source's grid, without post-processing,
and its mean over the classes. Folds that lie in ``--work`` are not trained again. The patients are
virtual: the table shows that the machine works, and nothing about clinical use. Not a part of the
tests.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from scipy import ndimage

import datasets_spec
from datasets_spec.contract import LabelMap
from model import params
from model.inference.member import Member
from model.scoring import answers
from model.scoring.bootstrap import Resamples, interval
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest
from pipeline.split import split
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
CT, MR, BOTH = "virtual_ncct", "virtual_mni152", "virtual_two_sequences"
SEQUENCES = ("t1w", "flair")
WINDOWS = {"brain": None, "blood": None, "bone": None}
NOISE = 0.15  # standard deviation, as a share of the brightest tissue
FLAIR = (0.3, 0.2, 0.9, 0.6)  # of outside, CSF, grey and white matter, before noise
EVERY = 4  # slices of the template that are kept
ADAPTER = f'''"""Two sequences of the virtual T1w cohort, in its layout."""

from dataclasses import replace
from pathlib import Path

from datasets_spec import {MR}
from datasets_spec.contract import Case

DATASET = replace({MR}.DATASET, channels={SEQUENCES!r})


def cases(raw: Path):
    for folder in sorted(raw.iterdir()):
        images = {{name: folder / f"{{name}}.nii.gz" for name in DATASET.channels}}
        yield Case(folder.name, folder.name, images, {{"": folder / "label.nii.gz"}})
'''
ALONE = ADAPTER.replace(f", channels={SEQUENCES!r}", "").replace(
    'images = {name: folder / f"{name}.nii.gz" for name in DATASET.channels}',
    'images = folder / "t1w.nii.gz"',
)
PARTS = {"windows": (3, 8), "sequences": (3, 12)}
"""Folds and epochs of each question."""
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "one window": (CT, {}),
    "three windows": (CT, {"convert.windows": WINDOWS}),
    "both sequences": (BOTH, {}),
    "both, channel_dropout 0.3": (BOTH, {"train.channel_dropout": 0.3}),
    "T1w alone": ("virtual_t1w_alone", {}),
}
SHORT = {
    "convert.image_px": 256,
    "train.network.image_px": 96,
    "train.steps_per_epoch": 24,
    "train.learning_rate": 0.003,
    "train.early_stopping_patience": 99,
    "train.epoch_change_pictures": 0,
    "train.postprocess": False,
    "train.mirrors": "never",
    "train.precision": "float32",
}
Scores = dict[str, dict[str, list[float]]]
"""What is missing at prediction -> patient -> Dice of each foreground class."""


def _part(row: str) -> str:
    return "windows" if ROWS[row][0] == CT else "sequences"


def _prepare(row: str, fold: int, options: argparse.Namespace) -> params.Params:
    """The pairs of a row in the working folder, split for a fold."""
    dataset, changes = ROWS[row]
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    entry = content["datasets"].get(dataset) or {"augment": {"variants": {}}}
    entry.pop("train", None)
    content["datasets"] = {dataset: entry}
    folds, epochs = PARTS[_part(row)]
    wanted = {**SHORT, "train.epochs": epochs, "split.folds": folds}
    for name, value in {**wanted, "split.fold": fold, **changes}.items():
        *sections, leaf = name.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[leaf] = value
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
    settings = params.load(dataset)
    source = options.raw / CT if dataset == CT else options.work / "sequences"
    if not paths.raw(dataset).exists():
        paths.raw(dataset).parent.mkdir(parents=True)
        paths.raw(dataset).symlink_to(source.resolve())
    for stage in (convert, augment):
        stage(dataset, settings, 1)
    split(dataset, settings)
    return settings


def _scores(member: Member, dataset: str, missing: int | None) -> dict[str, list[float]]:
    """Patient -> Dice of each class of the test split, without the channel ``missing``."""

    def run(pictures: Any) -> Any:
        seen = pictures.copy()
        seen[..., missing] = 0
        return member.run(seen)

    asked = member if missing is None else replace(member, run=run)
    pairs, labels = manifest.read(paths.dataset(dataset)), member.facts.label_map
    limits = params.load(dataset).limits
    found: dict[str, list[float]] = {}
    for drawings in answers.cases(pairs, "test", dataset):
        answer = answers.answer(asked, drawings, labels, limits)
        found[drawings[0][0].patient] = _dice(answer.beside[0].truth, answer.predicted, labels)
    return found


def _dice(truth: Any, predicted: Any, labels: LabelMap) -> list[float]:
    every = []
    for label in labels.foreground:
        one, other = truth == label.id, predicted == label.id
        both = np.count_nonzero(one) + np.count_nonzero(other)
        every.append(2 * np.count_nonzero(one & other) / both if both else float("nan"))
    return every


def _fold(row: str, fold: int, options: argparse.Namespace) -> Scores:
    """Train and score one fold, or read what was scored before."""
    slug = row.replace(" ", "_").replace(",", "")
    kept = options.work / "scores" / f"{slug}_{fold}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text("utf-8")))
    start = time.monotonic()
    place = options.work / slug
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    settings, dataset = _prepare(row, fold, options), ROWS[row][0]
    from model.train import train

    train(dataset, settings)
    member = Member.of(paths.run(dataset) / paths.MODEL)
    scores = {"": _scores(member, dataset, None)}
    for at, name in enumerate(member.facts.sequences):
        scores[name] = _scores(member, dataset, at)
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(scores), "utf-8")
    print(f"{row}, fold {fold}: {time.monotonic() - start:.0f} s", flush=True)
    return scores


def _make_sequences(raw: Path, target: Path) -> None:
    """Every few slices of the virtual T1w cohort with noise, beside a second sequence."""
    for folder in sorted(raw.glob("sub-*")):
        here = target / folder.name
        if (here / "label.nii.gz").is_file():
            continue
        here.mkdir(parents=True, exist_ok=True)
        t1w, label = (
            nib.as_closest_canonical(nib.load(folder / f"{folder.name}_{part}.nii"))
            for part in ("T1w", "dseg")
        )
        ids = np.asarray(label.dataobj)[..., ::EVERY]
        values = np.asarray(t1w.dataobj, np.float32)[..., ::EVERY]
        affine = t1w.affine @ np.diag([1, 1, EVERY, 1])
        rng = np.random.default_rng(int(folder.name[-2:]))
        brightest = float(np.percentile(values[ids == 3], 50))
        outside = np.clip(values / brightest, 0, 1) * FLAIR[0]
        second = np.where(ids == 0, outside, np.array(FLAIR)[ids])
        second = ndimage.gaussian_filter(second, (0.7, 0.7, 0)) * brightest
        for name, clean in zip(SEQUENCES, (values, second), strict=True):
            noisy = clean + rng.normal(0, NOISE * brightest, clean.shape)
            image = nib.Nifti1Image(np.clip(noisy, 0, None).astype(np.int16), affine)
            nib.save(image, here / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(ids.astype(np.uint8), affine), here / "label.nii.gz")


def _means(scores: Sequence[Scores], missing: str) -> dict[str, float]:
    """Patient -> mean Dice over the classes."""
    every = {name: values for one in scores for name, values in one[missing].items()}
    return {name: float(np.nanmean(values)) for name, values in every.items()}


def _difference(one: Mapping[str, float], other: Mapping[str, float], *key: object) -> str:
    """The mean of ``one`` minus ``other`` over the patients of both, with its interval."""
    patients = sorted(one.keys() & other.keys())
    apart = np.array([one[name] - other[name] for name in patients])
    drawn = Resamples.drawn(patients, *key).means(patients, apart)
    ends = interval(drawn)
    assert ends is not None
    return f"{apart.mean():+.4f} [{ends[0]:+.4f}, {ends[1]:+.4f}]"


def _line(name: str, scores: Sequence[Scores], missing: str, labels: LabelMap) -> str:
    means = _means(scores, missing)
    every = np.array([values for one in scores for values in one[missing].values()])
    classes = " | ".join(f"{value:.4f}" for value in np.nanmean(every, axis=0))
    spread = np.std(list(means.values()), ddof=1)
    mean = np.mean(list(means.values()))
    assert len(labels.foreground) == every.shape[1]
    return f"| {name} | {len(means)} | {mean:.4f} ± {spread:.4f} | {classes} |"


def _table(results: Mapping[str, Sequence[Scores]]) -> str:
    rows = {name: scores for name, scores in results.items() if scores}
    lines = [
        "# Channels: what windows and sequences are worth",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}. Written by"
        " `python -m tests.benchmarks.channels`: virtual patients, each tested once (k folds), the"
        f" same training for every row of a table: {SHORT['train.steps_per_epoch']} batches of 16"
        f" an epoch, pictures of {SHORT['train.network.image_px']} px. Dice of a class over a"
        " case's voxels in the source's grid, without post-processing; mean ± sd over patients;"
        " differences are paired, with the 95 % interval of their mean over patients. One training"
        " for each fold: what another seed would change is not in the intervals.",
    ]
    for part in PARTS:
        there = [name for name in rows if _part(name) == part]
        if not there:
            continue
        labels = datasets_spec.load(ROWS[there[0]][0]).dataset.label_map
        heads = [label.name for label in labels.foreground]
        folds, epochs = PARTS[part]
        done = f"{len(rows[there[0]])} of {folds} folds, {epochs} epochs"
        lines += ["", f"## {part}: {done}", "", f"| | patients | mean Dice | {' | '.join(heads)} |"]
        lines += [f"|---|---|---|{'---|' * len(heads)}"]
        for name in there:
            for missing in rows[name][0]:
                lack = f", without {missing} at prediction" if missing else ""
                lines.append(_line(name + lack, rows[name], missing, labels))
        lines += ["", *_differences({name: rows[name] for name in there})]
    return "\n".join(lines) + "\n"


def _differences(rows: Mapping[str, Sequence[Scores]]) -> list[str]:
    """What stands against what, in sentences."""
    (first, base), *others = rows.items()
    whole = _means(base, "")
    found = []
    for name, scores in others:
        apart = _difference(_means(scores, ""), whole, name)
        found.append(f"- {name} minus {first}: {apart}")
    for name, scores in rows.items():
        for missing in filter(None, scores[0]):
            apart = _difference(_means(scores, missing), _means(scores, ""), name, missing)
            found.append(f"- {name}, {missing} missing at prediction, minus with all: {apart}")
    return found


def main() -> None:
    """Train, score and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raw", type=Path, default=Path("data/raw"))
    parser.add_argument("--work", type=Path, required=True, help="folder of all runs")
    options = parser.parse_args()
    options.raw, options.work = options.raw.resolve(), options.work.resolve()
    adapters = options.work / "adapters"
    adapters.mkdir(parents=True, exist_ok=True)
    (adapters / f"{BOTH}.py").write_text(ADAPTER, "utf-8")
    (adapters / "virtual_t1w_alone.py").write_text(ALONE, "utf-8")
    datasets_spec.__path__.append(str(adapters))
    _make_sequences(options.raw / MR, options.work / "sequences")
    results: dict[str, list[Scores]] = {name: [] for name in ROWS}
    for fold in range(max(folds for folds, _ in PARTS.values())):
        for name in ROWS:
            if fold < PARTS[_part(name)][0]:
                results[name].append(_fold(name, fold, options))
                TABLE.write_text(_table(results), "utf-8")


if __name__ == "__main__":
    main()
