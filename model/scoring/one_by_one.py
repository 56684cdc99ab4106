"""What each network of an ensemble adds: all together, each alone, and all but each.

Every row is compared with all networks together on the same cases, class by class: a paired
difference with its 95 % interval over patients. All rows are before post-processing, so that they
differ in their networks alone. A class that is in neither truth nor prediction counts as a Dice of
1 here, as in ``compare``: to invent it costs.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from model.inference import fusing
from model.inference.fusing import Weights
from model.inference.sampling import Probabilities, class_ids
from model.scoring import scores
from model.scoring.bootstrap import Resamples, interval, mean_over
from model.scoring.fused import Answers, Case
from model.scoring.scores import Stack
from model.scoring.summary import number

ALL, ALONE, WITHOUT = "all", "alone", "without"
HEAD = ("patient", "case", "rater", "class", "networks", "member", "dice")
Row = tuple[str, str]
"""Which networks: :data:`ALL` and "", or :data:`ALONE` or :data:`WITHOUT` and a member's name."""


def rows_of(names: Sequence[str]) -> dict[Row, list[int]]:
    """The networks of every row, by their places among all.

    >>> rows_of(["a", "b", "c"])[("without", "b")]
    [0, 2]
    """
    every = range(len(names))
    rows: dict[Row, list[int]] = {(ALL, ""): list(every)}
    rows |= {(ALONE, name): [at] for at, name in enumerate(names)}
    if len(names) > 2:  # of two, all but one is the other alone
        rows |= {
            (WITHOUT, name): [other for other in every if other != at]
            for at, name in enumerate(names)
        }
    return rows


class OfCase:
    """One case: what every row of networks gets right of each rater's drawing."""

    def __init__(self, case: Case, names: Sequence[str], weights: Weights | None) -> None:
        self.case, self._weights = case, weights
        self._rows = rows_of(names)
        classes = len(case.members[0].facts.label_map)
        nothing = np.zeros((classes, classes))
        self._tables = {row: [nothing] * len(case.truths) for row in self._rows}

    def look(self, at: slice, answers: Answers, _: Probabilities) -> None:
        """Count some slices, as :data:`model.scoring.fused.Look` has them."""
        for row, chosen in self._rows.items():
            planes = [self.case.planes[one] for one in chosen]
            weights = fusing.of_some(self._weights, chosen)
            ids = class_ids(fusing.fused([answers[one] for one in chosen], planes, weights))
            for rater, truth in enumerate(self.case.truths):
                table = _table(truth[at], ids, answers.shape[1], self.case, at)
                self._tables[row][rater] = self._tables[row][rater] + table

    def dice(self, rater: int) -> dict[Row, list[float]]:
        """Row -> the Dice of every foreground class; NaN of one that nobody annotated."""
        unlabelled = self.case.drawings[0][0].unlabelled
        return {row: _dice(tables[rater], unlabelled) for row, tables in self._tables.items()}


@dataclass
class OneByOne:
    """All cases: a table, and what each network adds on average."""

    label_map: LabelMap
    _cases: list[tuple[str, str, str]] = field(default_factory=list)
    _dice: list[dict[Row, list[float]]] = field(default_factory=list)

    def add(self, counted: OfCase) -> None:
        """Add a case of which all slices are counted."""
        for rater, slices in enumerate(counted.case.drawings):
            first = slices[0]
            self._cases.append((first.patient, first.case, first.rater))
            self._dice.append(counted.dice(rater))

    @classmethod
    def read(cls, tables: Iterable[Path], label_map: LabelMap) -> OneByOne:
        """The cases of several tables that :meth:`lines` was written into, one after another.

        Raises ValueError or LookupError for nonsense.
        """
        found = cls(label_map)
        for file in tables:
            of_cases: dict[tuple[str, str, str], dict[Row, list[float]]] = {}
            with file.open(newline="", encoding="utf-8") as stream:
                for row in csv.DictReader(stream):
                    case = (row["patient"], row["case"], row["rater"])
                    networks = (row["networks"], row["member"])
                    dice = float(row["dice"]) if row["dice"] else math.nan
                    of_cases.setdefault(case, {}).setdefault(networks, []).append(dice)
            found._cases += of_cases
            found._dice += of_cases.values()
        return found

    def lines(self) -> Iterator[tuple[str, ...]]:
        """The rows of members.csv, as :data:`HEAD` names them."""
        for (patient, case, rater), of_rows in zip(self._cases, self._dice, strict=True):
            for (networks, member), values in of_rows.items():
                for label, dice in zip(self.label_map.foreground, values, strict=True):
                    shown = "" if math.isnan(dice) else f"{dice:.6f}"
                    yield (patient, case, rater, label.name, networks, member, shown)

    def summary(self, *key: object) -> list[dict[str, Any]]:
        """For each row the mean foreground Dice, and how much better all networks together are.

        ``key`` draws the resamples.
        """
        patients = [patient for patient, *_ in self._cases]
        resamples = Resamples.drawn(patients, *key)
        of_all = np.array([one[ALL, ""] for one in self._dice])
        return [
            {
                "networks": networks,
                "member": member,
                "dice": self._means(np.array([one[networks, member] for one in self._dice])),
                "all_gain": None
                if networks == ALL
                else self._gain(
                    of_all - np.array([one[networks, member] for one in self._dice]),
                    patients,
                    resamples,
                ),
            }
            for networks, member in self._dice[0]
        ]

    def _means(self, dice: NDArray[np.float64]) -> dict[str, float | None]:
        """Of each class, and of their mean."""
        means = {"mean": number(float(mean_over(mean_over(dice))))}
        for label, values in zip(self.label_map.foreground, dice.T, strict=True):
            means[label.name] = number(float(mean_over(values)))
        return means

    def _gain(
        self, gains: NDArray[np.float64], patients: Sequence[str], resamples: Resamples
    ) -> dict[str, Any]:
        of_cases = mean_over(gains)
        low, high = interval(resamples.means(patients, of_cases)) or (math.nan, math.nan)
        known = np.isfinite(of_cases)
        return {
            "mean": number(float(mean_over(of_cases))),
            "low": number(low),
            "high": number(high),
            "cases": int(known.sum()),
            "better": int((of_cases[known] > 0).sum()),
        }


def _table(truth: Stack, ids: Stack, classes: int, case: Case, at: slice) -> NDArray[np.float64]:
    """The confusion of some slices: of voxels or, where slices differ in thickness, of volumes."""
    unlabelled, ml = case.drawings[0][0].unlabelled, case.kept.voxel_ml
    if isinstance(ml, float):
        return scores.confusion(truth, ids, classes, unlabelled).astype(np.float64)
    total = np.zeros((classes, classes))
    for index, weight in enumerate(ml[at]):
        part = slice(index, index + 1)
        total += scores.confusion(truth[part], ids[part], classes, unlabelled) * weight
    return total


def _dice(table: NDArray[np.float64], unlabelled: Collection[int]) -> list[float]:
    """Of every foreground class; NaN of one that nobody annotated."""
    found = []
    for label, one in enumerate(scores.overlaps(table)[1:], start=1):
        nowhere = not one.truth and not one.predicted
        found.append(math.nan if label in unlabelled else 1.0 if nowhere else one.dice)
    return found
