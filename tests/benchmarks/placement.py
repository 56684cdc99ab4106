"""How well balanced and how stable splits are, beside scikit-learn's group-aware splitter.

``python -m tests.benchmarks.placement`` places random cohorts of 30 to 300 patients with and
without one patient, and writes ``placement.md`` beside this file.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import sklearn
from sklearn.model_selection import StratifiedGroupKFold

from datasets_spec.contract import SPLITS
from model import params
from pipeline import paths
from pipeline.pairs.manifest import Pair
from pipeline.params.split import Split
from pipeline.runtime import keys
from pipeline.splits import placement
from tests.conftest import PROJECT
from tests.support.cohort import random_patients

COHORTS = 100
_SHARES = (0.7, 0.15, 0.15)
_ENOUGH = 10  # patients that show a class, for its balance to mean something
Splitter = Callable[[Sequence[Pair]], placement.Placement]


def main() -> None:
    """Measure every splitter, print the table and write it down."""
    settings = params.load("virtual_mni152", PROJECT / paths.PARAMS).split
    by_slices = replace(settings, share_of="slices")
    fold = replace(settings, folds=5, fold=3)  # whose shares are others, so "shares" says little
    splitters: dict[str, Splitter] = {
        "ours": lambda pairs: placement.assign("any", pairs, settings),
        "ours, `share_of: slices`": lambda pairs: placement.assign("any", pairs, by_slices),
        "ours, fold 3 of 5 (tested share .20)": lambda pairs: placement.assign("any", pairs, fold),
        "by hash alone": partial(_by_hash, settings),
        "StratifiedGroupKFold, 20 folds dealt 14 : 3 : 3": _by_sklearn,
    }
    lines = [
        f"{COHORTS} random cohorts of 30 to 300 patients of 1 to 60 slices, 1 to 6 classes that",
        "3 to 95 % of the patients show; shares .70 : .15 : .15;"
        f" scikit-learn {sklearn.__version__}.",
        "",
        "- moved: patients whose place changes when one patient is added, mean and most",
        "- classes: difference between a split and the cohort in the share of patients that show a",
        f"  class, in points, mean and 95th percentile (of classes that {_ENOUGH} patients show)",
        "- pixels: factor between a split and the cohort in a class's share of pixels, median and",
        "  90th percentile (of the same classes)",
        "- shares: largest difference from the wanted share, in patients and in slices",
        "",
        "| | moved | classes | pixels | shares |",
        "|---|---|---|---|---|",
        *(f"| {name} | {tally.row()} |" for name, tally in _measured(splitters).items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    Path(__file__).with_suffix(".md").write_text(f"# Placing patients\n\n{text}", "utf-8")


@dataclass
class Tally:
    """What one splitter did to all cohorts."""

    moved: list[int] = field(default_factory=list)
    classes: list[float] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    patients_off: list[float] = field(default_factory=list)
    slices_off: list[float] = field(default_factory=list)

    def row(self) -> str:
        return (
            f"{np.mean(self.moved):.1f}, {max(self.moved)}"
            f" | {100 * np.mean(self.classes):.1f}, {100 * np.percentile(self.classes, 95):.1f}"
            f" | {np.median(self.factors):.2f}, {np.percentile(self.factors, 90):.1f}"
            f" | {max(self.patients_off):.1f}, {max(self.slices_off):.0f}"
        )


def _measured(splitters: Mapping[str, Splitter]) -> dict[str, Tally]:
    tallies = {name: Tally() for name in splitters}
    for seed in range(COHORTS):
        rng = np.random.default_rng([seed, COHORTS])
        count = int(rng.integers(30, 301))
        rows = random_patients(seed, count + 1)
        new = f"p{int(rng.integers(count + 1)):04d}"
        old = [pair for pair in rows if pair.patient != new]
        theirs: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for pair in rows:
            theirs[pair.patient].append(pair.class_pixels)
        for name, splitter in splitters.items():
            before, after = splitter(old), splitter(rows)
            moved = sum(split != after[patient] for patient, split in before.items())
            tallies[name].moved.append(moved)
            _balance(tallies[name], theirs, after)
    return tallies


def _balance(
    tally: Tally, theirs: Mapping[str, Sequence[tuple[int, ...]]], place: placement.Placement
) -> None:
    pixels = np.array([np.sum(slices, axis=0) for slices in theirs.values()])
    slices = np.array([len(slices) for slices in theirs.values()])
    shown = pixels[:, 1:] > 0
    telling = shown.sum(axis=0) >= _ENOUGH
    whole = pixels.sum(axis=0) / pixels.sum()
    for split, share in zip(SPLITS, _SHARES, strict=True):
        here = np.array([place[patient] == split for patient in theirs])
        tally.classes += np.abs(shown[here].mean(axis=0) - shown.mean(axis=0))[telling].tolist()
        part = np.maximum(pixels[here].sum(axis=0) / pixels[here].sum(), 1e-9)
        ratio = part[1:][telling] / whole[1:][telling]
        tally.factors += np.exp(np.abs(np.log(ratio))).tolist()
        tally.patients_off.append(abs(here.sum() - share * len(here)))
        tally.slices_off.append(abs(slices[here].sum() - share * slices.sum()))


def _by_hash(settings: Split, pairs: Sequence[Pair]) -> placement.Placement:
    names = sorted(
        {pair.patient for pair in pairs}, key=lambda name: keys.key(settings.seed, "any", name)
    )
    tested = round(settings.shares.test * len(names))
    valid = tested + round(settings.shares.valid * len(names))
    parts = {"test": names[:tested], "valid": names[tested:valid], "train": names[valid:]}
    return {name: split for split, members in parts.items() for name in members}


def _by_sklearn(pairs: Sequence[Pair]) -> placement.Placement:
    shown = [str([bool(count) for count in pair.class_pixels[1:]]) for pair in pairs]
    groups = [pair.patient for pair in pairs]
    place = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of strata with fewer members than folds
        folds = StratifiedGroupKFold(20, shuffle=True, random_state=0).split(shown, shown, groups)
        for number, (_, members) in enumerate(folds):
            split = "test" if number < 3 else "valid" if number < 6 else "train"
            place |= {groups[member]: split for member in members}
    return place


if __name__ == "__main__":
    main()
