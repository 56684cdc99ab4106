"""How many planted label errors an audit finds, and whether cleanlab ranks alike.

    python -m tests.benchmarks.planted WORK --raw RAW

Writes planted.md beside this. RAW holds ``Task04_Hippocampus``. A copy of its labels is damaged:
``--share`` of the labelled slices, in turn by a swap of the two classes, a shift by three pixels,
no label at all, and one of two structures left out. Five folds are trained on the damaged labels,
``--steps`` of 32 pictures each, and ``python -m pipeline audit`` ranks the slices. A slice counts
as damaged where the pipeline's mask of it is another than that of the undamaged labels.

cleanlab's segmentation score is computed by cleanlab (AGPL, so it is not among the project's
packages; requirements-planted.txt) from the probabilities that ``predict`` writes of the same
networks. What lies in WORK is not done again. Not a part of the tests.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from numpy.typing import NDArray
from scipy import stats

from model.folds.workplace import environment
from pipeline import paths
from pipeline.audits import worklist
from pipeline.pairs import manifest
from tests.conftest import PROJECT

TABLE = Path(__file__).with_suffix(".md")
DATASET, FOLDS = "msd_hippocampus", 5
_TASK = "Task04_Hippocampus"
_PLANTS = "plants.csv"
_LEAST = 20  # labelled voxels of a slice that is damaged
_SHIFT = 3  # pixels
_FIRST = (0.02, 0.05, 0.1, 0.2)  # parts of the ranking
_EPOCHS = 5
Labels = NDArray[np.uint8]
Slice = tuple[str, int]
"""A case, and the index of its slice from 0."""


def _swapped(labels: Labels, rng: np.random.Generator) -> Labels:
    return np.array([0, 2, 1], np.uint8)[labels]


def _shifted(labels: Labels, rng: np.random.Generator) -> Labels:
    axis, way = int(rng.integers(2)), int(rng.choice([-_SHIFT, _SHIFT]))
    moved = np.roll(labels, way, axis)
    edge: list[Any] = [slice(None), slice(None)]
    edge[axis] = slice(0, way) if way > 0 else slice(way, None)
    moved[tuple(edge)] = 0
    return moved


def _dropped(labels: Labels, rng: np.random.Generator) -> Labels:
    return np.zeros_like(labels)


def _without_one(labels: Labels, rng: np.random.Generator) -> Labels:
    """Without one of its classes, the only one or one of two."""
    out = int(rng.choice(np.unique(labels[labels > 0])))
    return np.where(labels == out, 0, labels).astype(np.uint8)


KINDS: Mapping[str, Callable[[Labels, np.random.Generator], Labels]] = {
    "classes swapped": _swapped,
    f"shifted by {_SHIFT} px": _shifted,
    "slice dropped": _dropped,
    "structure missing": _without_one,
}


def plant(
    volumes: Mapping[str, Labels], share: float, seed: int
) -> Iterator[tuple[str, int, str, Labels]]:
    """Which slices (last axis) of which volumes are damaged how, and what they then are.

    Raises ValueError where a kind would leave a slice as it is.
    """
    rng = np.random.default_rng(seed)
    labelled = [
        (name, index)
        for name, volume in sorted(volumes.items())
        for index in range(volume.shape[2])
        if np.count_nonzero(volume[..., index]) >= _LEAST
    ]
    count = round(share * len(labelled))
    for number, place in enumerate(rng.choice(len(labelled), count, replace=False)):
        name, index = labelled[place]
        kind = list(KINDS)[number % len(KINDS)]
        was = volumes[name][..., index]
        damaged = KINDS[kind](was, rng)
        if np.array_equal(damaged, was):
            raise ValueError(f"{kind} leaves slice {index} of {name} as it is")
        yield name, index, kind, damaged


def prepare(work: Path, raw: Path, share: float, seed: int, patients: int) -> None:
    """``work/clean`` and ``work/planted``: working folders with raw data of their own; once."""
    if (work / _PLANTS).is_file():
        return
    shutil.rmtree(work, ignore_errors=True)
    labels = sorted((raw / _TASK / "labelsTr").glob("hippocampus_*.nii.gz"))[: patients or None]
    scans = {file.name: nib.load(file) for file in labels}
    volumes = {name: np.asarray(scan.dataobj).astype(np.uint8) for name, scan in scans.items()}
    plants = list(plant(volumes, share, seed))
    damaged = {name: volume.copy() for name, volume in volumes.items()}
    for name, index, _, of_slice in plants:
        damaged[name][..., index] = of_slice
    for system, by_name in (("clean", volumes), ("planted", damaged)):
        place = work / system / paths.raw(DATASET) / _TASK
        for part in ("imagesTr", "labelsTr"):
            (place / part).mkdir(parents=True)
        for name, volume in by_name.items():
            (place / "imagesTr" / name).symlink_to((raw / _TASK / "imagesTr" / name).resolve())
            of = scans[name]
            nib.save(nib.Nifti1Image(volume, of.affine, of.header), place / "labelsTr" / name)
    with (work / _PLANTS).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerows(
            (name.removesuffix(".nii.gz"), index, kind) for name, index, kind, _ in plants
        )


def run(work: Path, steps: int) -> None:
    """Convert both, train and score the folds of the damaged one, and audit it."""
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    entry = content.pop("presets")[DATASET]
    entry["train"] |= {
        "epochs": _EPOCHS,
        "steps_per_epoch": steps // _EPOCHS,
        "early_stopping_patience": _EPOCHS,
    }
    content |= {"datasets": {DATASET: entry}, "members": {}, "ensembles": {}}
    for system in ("clean", "planted"):
        (work / system / paths.PARAMS).write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
        _call(work / system, "pipeline", "convert", DATASET)
    place = work / "planted"
    _call(place, "pipeline", "augment", DATASET)
    _call(place, "pipeline", "split", DATASET)
    _call(place, "model", "crossvalidate", DATASET, "--folds", str(FOLDS))
    start = time.monotonic()
    _call(place, "pipeline", "audit", DATASET)
    (work / "audit.json").write_text(json.dumps({"seconds": time.monotonic() - start}), "utf-8")


def _call(place: Path, floor: str, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", floor, *arguments], cwd=place, env=environment(), check=True
    )


def damaged_slices(work: Path) -> dict[Slice, str]:
    """Every slice whose mask the damage changed, and its kind."""
    masks = {
        system: {
            (pair.case, pair.slice_index): (work / system / paths.converted(DATASET) / pair.mask)
            for pair in manifest.read(work / system / paths.converted(DATASET))
        }
        for system in ("clean", "planted")
    }
    changed = [
        key
        for key, file in masks["clean"].items()
        if file.read_bytes() != masks["planted"][key].read_bytes()
    ]
    found = defaultdict(list)
    for case, index in sorted(changed):
        found[case].append(index)
    kinds: dict[Slice, str] = {}
    planted = defaultdict(list)
    with (work / _PLANTS).open(newline="", encoding="utf-8") as stream:
        for case, index, kind in csv.reader(stream):
            planted[case].append((int(index), kind))
    for case, ours in planted.items():
        ours.sort()
        where = found[case]
        if [index for index, _ in ours] != where:
            raise ValueError(f"{case}: planted {ours}, but the masks differ at {where}")
        kinds |= {(case, index): kind for index, kind in ours}
    return kinds


def ranking(work: Path) -> list[Slice]:
    """As the audit ranks them; what it does not list comes after, in the order of the manifest."""
    place = work / "planted"
    rows = worklist.read(place / paths.run(DATASET) / paths.AUDIT)
    listed = [(row["case"], int(row["slice"]) - 1) for row in rows]
    every = [
        (pair.case, pair.slice_index) for pair in manifest.read(place / paths.converted(DATASET))
    ]
    seen = set(listed)
    return listed + [one for one in every if one not in seen]


def soft_minima(work: Path) -> dict[Slice, float]:
    """The soft minimum of every slice in ``doubts.csv``."""
    file = work / "planted" / paths.folds(DATASET) / paths.DOUBTS
    with file.open(newline="", encoding="utf-8") as stream:
        return {
            (row["case"], int(row["slice"]) - 1): float(row["soft_minimum"])
            for row in csv.DictReader(stream)
        }


def probabilities(work: Path) -> Iterator[tuple[str, NDArray[np.float32], Labels]]:
    """Of every case, by the network that had not seen it: (classes, slices, rows, columns)."""
    place = work / "planted"
    for fold in range(FOLDS):
        folder = place / paths.fold(DATASET, fold)
        pairs = manifest.read(folder / paths.dataset(DATASET))
        cases = sorted({pair.case for pair in pairs if pair.split == "test"})
        asked = work / "asked" / f"fold_{fold}"
        if not asked.is_dir():
            scans = [
                str((place / paths.raw(DATASET) / _TASK / "imagesTr" / f"{case}.nii.gz").resolve())
                for case in cases
            ]
            network = str((folder / paths.run(DATASET)).resolve())
            output = ("--output", str(asked.resolve()), "--probabilities", "--no-page")
            _call(place, "model", "predict", network, *scans, *output)
        for case in cases:
            maps = [np.asarray(nib.load(file).dataobj, np.float32) for file in _maps(asked, case)]
            maps.insert(0, 1 - np.sum(maps, axis=0))  # predict writes none of the background
            labels = nib.load(place / paths.raw(DATASET) / _TASK / "labelsTr" / f"{case}.nii.gz")
            truth = np.asarray(labels.dataobj).astype(np.uint8)
            yield case, np.moveaxis(np.stack(maps), -1, 1), np.moveaxis(truth, -1, 0)


def _maps(folder: Path, case: str) -> list[Path]:
    """The probability maps of a case, in the order of the foreground classes."""
    names = ("anterior", "posterior")
    found = {name: list(folder.rglob(f"{case}*{name}*.nii.gz")) for name in names}
    if any(len(files) != 1 for files in found.values()):
        raise ValueError(f"expected a map of each foreground class of {case}, found {found}")
    return [found[name][0] for name in names]


def peer(work: Path) -> dict[Slice, float]:
    """cleanlab's label quality of every slice; low is bad. Empty without cleanlab."""
    try:
        from cleanlab.segmentation import rank
    except ImportError:
        return {}
    scores: dict[Slice, float] = {}
    for case, p, truth in probabilities(work):
        each = np.moveaxis(p, 1, 0)
        each = each / each.sum(axis=1, keepdims=True)
        found, _ = rank.get_label_quality_scores(truth.astype(int), each, verbose=False)
        scores |= {(case, index): float(score) for index, score in enumerate(found)}
    return scores


def found_within(
    order: Sequence[Slice], damaged: Mapping[Slice, str], part: float
) -> dict[str, float]:
    """The share of each kind, and of all, that the first part of a ranking holds."""
    first = set(order[: round(part * len(order))])
    shares = {}
    for kind in KINDS:
        of_kind = [one for one, other in damaged.items() if other == kind]
        shares[kind] = sum(one in first for one in of_kind) / len(of_kind)
    return shares | {"all": sum(one in first for one in damaged) / len(damaged)}


def table(work: Path, share: float, steps: int) -> str:
    damaged, ours = damaged_slices(work), ranking(work)
    rankings = {"audit": ours}
    theirs = peer(work)
    if theirs:
        rankings["cleanlab"] = sorted(theirs, key=lambda one: theirs[one])
    lines = [
        "# Planted label errors, found",
        "",
        f"Made {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores of {platform.machine()}"
        f" by `python -m tests.benchmarks.planted`: {len(ours):,} slices, {len(damaged)} damaged"
        f" ({share:.0%} of those with {_LEAST} labelled voxels or more); five folds of {steps}"
        " steps, trained on the damaged labels.",
        "",
        "| ranked by | first | " + " | ".join((*KINDS, "all")) + " |",
        "|---|" + "---|" * (len(KINDS) + 2),
    ]
    for name, order in rankings.items():
        for part in _FIRST:
            shares = found_within(order, damaged, part)
            lines.append(
                f"| {name} | {part:.0%} | "
                + " | ".join(f"{shares[kind]:.0%}" for kind in (*KINDS, "all"))
                + " |"
            )
    if theirs:
        place = {one: rank for rank, one in enumerate(ours)}
        rho = stats.spearmanr([place[one] for one in theirs], list(theirs.values())).statistic
        soft = soft_minima(work)
        both = sorted(soft.keys() & theirs.keys())
        same = stats.spearmanr([soft[one] for one in both], [theirs[one] for one in both]).statistic
        lines += [
            "",
            f"Rank correlation (Spearman) with cleanlab's score: of the audit's order {rho:.3f}; of"
            f" the soft minimum in doubts.csv {same:.3f}, in the {len(both):,} slices that it has.",
        ]
    took = json.loads((work / "audit.json").read_text("utf-8"))["seconds"]
    return "\n".join([*lines, "", f"`audit` took {took:.1f} s.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--patients", type=int, default=0, help="0: all")
    options = parser.parse_args()
    prepare(options.work, options.raw, options.share, options.seed, options.patients)
    run(options.work, options.steps)
    text = table(options.work, options.share, options.steps)
    TABLE.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
