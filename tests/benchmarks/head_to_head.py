"""Ours and nnU-Net v2 side by side: same patients, folds, machine and time.

    python -m tests.benchmarks.head_to_head WORK --raw RAW --peer PYTHON --minutes 30

Writes head_to_head.md beside this. RAW holds ``Task04_Hippocampus``; PYTHON is that of an
environment of its own (requirements-prediction.txt), in which
:mod:`tests.benchmarks.head_to_head_peer` runs. The folds are ours, and nnU-Net's
``splits_final.json`` has what each of ours trains with (its train and valid) and tests. Each system
has ``--minutes`` of the clock to train a fold, with all processors to itself; what is made once for
all folds is reported beside. Ours (:mod:`tests.benchmarks.head_to_head_ours`) are the dataset's
hand-made ``preset``, and ``planned``: what ``python -m model plan`` makes of the data, with its
members and ensemble.

All predictions are label maps on the scans' own grid, read from files and scored by one function. A
system and fold that is in WORK is not done again; one that was stopped resumes (ours) or starts
over (nnU-Net's). ``--folds 0 --only nnunet_2d`` does one of them; ``--patients 12 --minutes 1``
shows that all of it works. The table is of the folds that all systems in it have. Not a part of the
tests.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

import datasets_spec
from model.compare import Difference, differences
from model.scoring import scores
from model.scoring.bootstrap import Resamples, interval
from model.scoring.per_case import read
from pipeline import paths
from tests.benchmarks import head_to_head_ours as ours
from tests.benchmarks.head_to_head_ours import DATASET, FOLDS, Done

TABLE = Path(__file__).with_suffix(".md")
OURS = ("preset", "planned")
THEIRS = {"nnunet_2d": "2d", "nnunet_3d": "3d_fullres"}
NAMES = {
    "preset": "ours, preset",
    "planned": "ours, planned: own network",
    "planned_ensemble": "ours, planned: ensemble",
    "nnunet_2d": "nnU-Net v2, 2-D",
    "nnunet_3d": "nnU-Net v2, 3-D full resolution",
}
PUBLISHED = {  # five folds of all 260 patients, 1,000 epochs, a GPU
    "nnU-Net, 2-D, published": (0.885, 0.867),
    "nnU-Net, 3-D full resolution, published": (0.899, 0.882),
}
_NNUNET = (
    " nnU-Net's epochs are shortened and its learning rate falls over this time; all else of it is"
    " its default. It is made for a GPU: its steps are large, and where it has taken few of them"
    " (below), its row says what a machine without one gets in the time, not what it can do."
)
_PEER = Path(__file__).with_name("head_to_head_peer.py")
_THEIR_NAME = "Dataset004_Hippocampus"
_HEAD = ("patient", "case", "rater", "class", "dice", "nsd", "lesion_f1", "truth", "fold")
_PACKAGES = """
from importlib.metadata import version
print(", ".join(f"{name} {version(name)}" for name in ("nnunetv2", "torch")))
"""


@dataclass(frozen=True)
class Peer:
    """nnU-Net in its environment, with folders of its own."""

    python: str
    home: Path

    def call(self, *arguments: object) -> None:
        """Run a command of the peer's script."""
        variables = {f"nnUNet_{one}": str(self.home / one) for one in ("raw", "preprocessed")}
        variables["nnUNet_results"] = str(self.home / "results")
        variables["nnUNet_def_n_proc"] = str(os.cpu_count() or 1)  # 8, however few processors
        subprocess.run(
            [self.python, str(_PEER), *map(str, arguments)],
            env={**os.environ, **variables},
            check=True,
        )

    def prepare(self, raw: Path, splits: Sequence[dict[str, list[str]]]) -> None:
        """Its raw folder of the same patients, its plans, its preprocessing, and our folds."""
        done = self.home / "prepared.json"
        if not done.is_file():
            source, target = raw / "Task04_Hippocampus", self.home / "raw" / _THEIR_NAME
            for part, suffix in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
                (target / part).mkdir(parents=True, exist_ok=True)
                for file in (source / part).glob("*.nii.gz"):
                    link = target / part / file.name.replace(".nii.gz", suffix)
                    link.unlink(missing_ok=True)
                    link.symlink_to(file.resolve())
            facts = {
                "channel_names": {"0": "MRI"},
                "labels": {one.name: one.id for one in _labels()},
                "numTraining": len(list((target / "labelsTr").iterdir())),
                "file_ending": ".nii.gz",
            }
            (target / "dataset.json").write_text(json.dumps(facts), "utf-8")
            start = time.monotonic()
            self.call("prepare")
            done.write_text(json.dumps({"seconds": time.monotonic() - start}), "utf-8")
        file = self.home / "preprocessed" / _THEIR_NAME / "splits_final.json"
        file.write_text(json.dumps(splits), "utf-8")

    def done(self, system: str, fold: int) -> Done | None:
        """Predictions and time of a fold, where it is done."""
        named = f"Timed__nnUNetPlans__{THEIRS[system]}"
        place = self.home / "results" / _THEIR_NAME / named / f"fold_{fold}"
        if not (place / "timing.json").is_file():
            return None
        timing = json.loads((place / "timing.json").read_text("utf-8"))
        words = f"{timing['weights']:,} weights, patch {timing['patch']}, batch {timing['batch']},"
        return Done(
            place / "validation",
            timing["train_s"],
            timing["predict_s"],
            f"{words} {timing['iterations']:,} steps",
        )


def _labels() -> Any:
    return datasets_spec.load(DATASET).dataset.label_map


def _rows(patient: str, fold: int, truth_file: Path, predicted_file: Path) -> list[tuple[Any, ...]]:
    """The scores of a patient's classes, from label maps on one grid."""
    drawn = nib.load(truth_file)
    truth, predicted = (
        np.ascontiguousarray(np.asarray(nib.load(file).dataobj).T.astype(np.uint8))
        for file in (truth_file, predicted_file)
    )
    steps = np.asarray(drawn.affine, np.float64)[:3, [2, 1, 0]]
    found = scores.score(truth, predicted, len(_labels()), steps, False, 1.0)
    return [
        (
            *(patient, patient, "", label.name),
            *("" if np.isnan(value) else f"{value:.6f}" for value in (one.dice, one.nsd)),
            "" if np.isnan(one.lesions.f1) else f"{one.lesions.f1:.6f}",
            *(one.overlap.truth, fold),
        )
        for label, one in zip(_labels().foreground, found, strict=True)
    ]


def _scored(work: Path, system: str, of_folds: dict[int, Done], splits: Any) -> Path:
    """A folder with the scores of all patients of these folds."""
    folder = work / "scores" / system
    folder.mkdir(parents=True, exist_ok=True)
    truths = work / "raw" / "Task04_Hippocampus" / "labelsTr"
    rows = [
        row
        for fold, done in sorted(of_folds.items())
        for patient in splits[fold]["val"]
        for row in _rows(
            patient, fold, truths / f"{patient}.nii.gz", done.masks / f"{patient}.nii.gz"
        )
    ]
    with (folder / paths.PER_CASE).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([_HEAD, *rows])
    return folder


def _mean(folder: Path, name: str, score: str = "dice") -> Difference:
    """The mean of a score with its interval: a difference from nothing."""
    rows = read(folder)
    one = next(one for one in differences(rows, rows) if (one.name, one.score) == (name, score))
    cases: dict[str, list[float]] = {}
    for (case, _, label), row in rows.items():
        if name in (label, "mean of classes"):
            cases.setdefault(case, []).append(float(row[score] or 1.0))
    patients, values = list(cases), np.array([statistics.mean(each) for each in cases.values()])
    low, high = interval(Resamples.drawn(patients, "means").means(patients, values)) or (0.0, 0.0)
    return Difference(name, score, one.a, one.a, low, high, len(values), 0)


def _line(system: str, folder: Path, best: Path | None, of_folds: dict[int, Done]) -> str:
    mean, nsd = _mean(folder, "mean of classes"), _mean(folder, "mean of classes", "nsd")
    classes = [f"{_mean(folder, label.name).a:.4f}" for label in _labels().foreground]
    rows = read(folder).values()
    worst = min(
        statistics.mean(float(row["dice"] or 1) for row in rows if row["patient"] == patient)
        for patient in {row["patient"] for row in rows}
    )
    gain = ""
    if best is not None:
        found = differences(read(folder), read(best))
        one = next(one for one in found if (one.name, one.score) == ("mean of classes", "dice"))
        gain = f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}], {one.better} of {one.cases}"
    train, predict = (
        statistics.mean(getattr(done, name) for done in of_folds.values())
        for name in ("train_s", "predict_s")
    )
    return (
        f"| {NAMES[system]} | {train / 60:.1f} | {predict:.0f} | {mean.a:.4f}"
        f" [{mean.low:.4f}, {mean.high:.4f}] | {' | '.join(classes)} | {worst:.2f} | {nsd.a:.3f}"
        f" | {gain} |"
    )


def _write(work: Path, peer: Peer, minutes: float, splits: Any, table: Path) -> None:
    """A table of the folds that every system that has any has, and one of those that have more."""
    found = ours.done(work) | {
        system: {fold: one for fold in range(FOLDS) if (one := peer.done(system, fold))}
        for system in THEIRS
    }
    found = {system: of_folds for system, of_folds in found.items() if of_folds}
    most = max(map(len, found.values()))
    more = {system: of_folds for system, of_folds in found.items() if len(of_folds) == most}
    parts = dict.fromkeys(_of_common(work, some, splits) for some in (found, more))
    tables = [table for table in parts if table]
    if not tables:
        print("no fold is done by every system yet: no table")
        return
    versions, theirs = "", []
    if THEIRS.keys() & found.keys():
        command = [peer.python, "-c", _PACKAGES]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
        versions = f", {said.stdout.strip()}"
        theirs = [
            f"- nnU-Net's plans and preprocessing, once for all folds: {_prepared(peer):.0f} s."
        ]
    text = [
        "# Head to head with nnU-Net v2",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({platform.machine()})"
        f"{versions}. Written by `python -m tests.benchmarks.head_to_head --minutes {minutes:g}`:"
        " hippocampus patients, each tested once; the folds are the same for all, and each system"
        f" trains a fold for {minutes:g} minutes of the clock on the processors alone."
        f"{_NNUNET if theirs else ''} `training`: minutes a fold, measured; `testing`: seconds a"
        " fold. Dice and NSD (1 mm): mean over patients in the scan's own grid, by one function for"
        " all, 95 % over patients; `difference`: our best less this row, paired, and in how many"
        " patients it is better.",
        "",
        *tables,
        "Published: five folds of all 260 patients, 1,000 epochs on a GPU, as published with the"
        " challenge's data; not run here.",
        "",
        *[f"- {NAMES[name]}: {next(iter(of.values())).words}." for name, of in found.items()],
        *ours.once(work),
        *theirs,
    ]
    table.write_text("\n".join(text) + "\n", "utf-8")
    print("\n".join(tables))


def _of_common(work: Path, found: dict[str, dict[int, Done]], splits: Any) -> str:
    """The table of the folds that all these systems have; empty where there is none."""
    common = sorted(set.intersection(*(set(of_folds) for of_folds in found.values())))
    if not common:
        return ""
    found = {name: {at: of[at] for at in common} for name, of in found.items()}
    folders = {name: _scored(work, name, of, splits) for name, of in found.items()}
    best = next((name for name in ("planned_ensemble", *OURS) if name in found), None)
    lines = [
        _line(name, folders[name], folders[best] if best and name != best else None, of)
        for name, of in found.items()
    ]
    published = [
        f"| {name} | | | {statistics.mean(values):.3f} | {' | '.join(f'{v:.3f}' for v in values)}"
        " | | | |"
        for name, values in PUBLISHED.items()
    ]
    patients = sum(len(splits[fold]["val"]) for fold in common)
    foreground = " | ".join(label.name for label in _labels().foreground)
    table = [
        f"## {patients} patients of fold {', '.join(map(str, common))} of {FOLDS}",
        "",
        f"| | training | testing | mean Dice | {foreground} | worst patient | NSD | difference |",
        "|---|---|---|---|" + "---|" * len(_labels().foreground) + "---|---|---|",
        *lines,
        *published,
        "",
    ]
    return "\n".join(table)


def _prepared(peer: Peer) -> float:
    file = peer.home / "prepared.json"
    return float(json.loads(file.read_text("utf-8"))["seconds"]) if file.is_file() else 0.0


def main() -> None:
    """Do what is not done yet, fold by fold, and write the table after each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path, help="folder of all runs")
    parser.add_argument("--raw", type=Path, default=paths.raw(DATASET))
    parser.add_argument("--peer", default="", help="a Python that has nnU-Net v2")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    parser.add_argument("--only", nargs="+", choices=(*OURS, *THEIRS), default=[*OURS, *THEIRS])
    parser.add_argument("--table", type=Path, default=TABLE)
    parser.add_argument("--patients", type=int, default=0, help="only so many, to try it")
    options = parser.parse_args()
    work = options.work.resolve()
    ours.choose_patients(work, options.raw.resolve(), options.patients)
    for system in (one for one in OURS if one in options.only):
        ours.prepare(work, system, options.minutes)
    splits = ours.splits(work)
    peer = Peer(options.peer, work / "nnunet")
    if set(THEIRS) & set(options.only):
        peer.prepare(work / "raw", splits)
    for fold in options.folds:
        for system in options.only:
            print(f"fold {fold}: {system}", flush=True)
            if system in OURS:
                ours.train(work, system, fold, splits)
            elif peer.done(system, fold) is None:
                peer.call("train", THEIRS[system], fold, options.minutes)
            _write(work, peer, options.minutes, splits, options.table)


if __name__ == "__main__":
    main()
