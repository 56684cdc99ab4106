"""compare: two runs on the same test cases, class by class: paired differences with intervals.

A side may be a run, a member, an ensemble, a cross-validation (whose cases are of all patients), or
several of these, such as the same training with three seeds: a case that several of them scored
counts with the mean of its scores.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from datasets_spec.contract import Problem
from model.scoring.bootstrap import FEW, RESAMPLES, Resamples, interval, mean_over
from model.scoring.per_case import SCORES, Key, Rows, parts_of, require_same_truth, together, value

_TRAININGS = 2  # of each side, to tell how far they scatter
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Difference:
    """``b - a`` of one class: mean over cases, 95 % interval over patients, cases better in b."""

    name: str
    score: str
    a: float
    b: float
    low: float
    high: float
    cases: int
    better: int

    @property
    def mean(self) -> float:
        """How much better b is."""
        return self.b - self.a

    @property
    def clear(self) -> bool:
        """Whether the interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def compare(run_a: Path | Sequence[Path], run_b: Path | Sequence[Path]) -> None:
    """Report what side B does better or worse than side A on the cases that both scored.

    Raises :class:`Problem` for a folder without scores, and for sides that share no case or differ
    in its truth.
    """
    a, b = (_Side.read([one] if isinstance(one, Path) else one) for one in (run_a, run_b))
    shared = [key for key in a.rows if key in b.rows]
    if not shared:
        raise Problem(
            "expected runs that scored the same cases and classes, got none in common",
            where=f"{a.name} and {b.name}",
            remedy="Compare runs of one dataset and one split, or two cross-validations.",
        )
    require_same_truth(a.rows, b.rows, shared, f"{a.name} and {b.name}")
    _report(a, b)


@dataclass(frozen=True)
class _Side:
    """One or several folders, what they scored together, and the folds that tested each case."""

    tables: Mapping[Path, Rows]
    rows: Rows
    folds: Mapping[tuple[str, str], frozenset[str]]

    @classmethod
    def read(cls, folders: Sequence[Path]) -> _Side:
        """Raises :class:`Problem` for a folder without scores, and where truths differ."""
        rows: Rows = {}
        tables, folds = {}, defaultdict(set)
        for folder in folders:
            parts = parts_of(folder)
            tables[folder] = together(list(parts.values()), str(folder))
            for fold, part in parts.items():
                for case, rater, _ in part:
                    folds[case, rater].add(fold)
        rows = together(list(tables.values()), " and ".join(map(str, folders)))
        return cls(tables, rows, {case: frozenset(those) for case, those in folds.items()})

    @property
    def name(self) -> str:
        """Its folders, as they were given."""
        return " + ".join(map(str, self.tables))

    @property
    def folded(self) -> bool:
        """Whether every case is of a fold."""
        return all("" not in those for those in self.folds.values())


def _report(a: _Side, b: _Side) -> None:
    """The table of differences, with how it came about."""
    shared = [key for key in a.rows if key in b.rows]
    patients = len({a.rows[key]["patient"] for key in shared})
    cases = len({key[:2] for key in shared})
    _LOG.info(
        "A %s, B %s: B - A, paired over %d test cases of %d patients;",
        a.name,
        b.name,
        cases,
        patients,
    )
    few = "; too few patients for an interval to be trusted" * (patients < FEW)
    _LOG.info("95 %% intervals of %d bootstrap resamples of patients%s", RESAMPLES, few)
    left = len({key[:2] for key in {*a.rows, *b.rows}}) - cases
    if left:
        _LOG.info("%d cases are in one run only and left out", left)
    for name, side in (("A", a), ("B", b)):
        _report_folders(name, side)
    _LOG.info("%24s %-9s %7s %7s   %-22s  better in B", "", "score", "A", "B", "B - A")
    for one in differences(a.rows, b.rows):
        _LOG.info("%s", _line(one, one.name))
    if a.folded and b.folded:
        _report_folds(a, b)
    _report_trainings(a, b, shared)
    _LOG.info(
        "A class that is in neither truth nor prediction counts as 1 here: to invent it costs."
    )


def _line(one: Difference, name: str) -> str:
    gain = f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
    mark = "" if one.clear else "  no clear difference"
    return (
        f"{name:24} {one.score:9} {one.a:7.4f} {one.b:7.4f}   {gain}"
        f"  {one.better} of {one.cases}{mark}"
    )


def _report_folders(name: str, side: _Side) -> None:
    """Of several folders, the mean Dice of each: how much chance there is in a training."""
    if len(side.tables) == 1:
        return
    found = {folder: differences(rows, rows)[0].a for folder, rows in side.tables.items()}
    _LOG.info(
        "%s is %d folders, of mean Dice %s: %.4f to %.4f",
        name,
        len(found),
        ", ".join(f"{mean:.4f}" for mean in found.values()),
        min(found.values()),
        max(found.values()),
    )


def _report_trainings(a: _Side, b: _Side, shared: Sequence[Key]) -> None:
    """Whether the first row is more than what another seed changes; that takes several of each."""
    each = [[differences(rows, rows)[0].a for rows in _trainings(side, shared)] for side in (a, b)]
    if min(map(len, each)) < _TRAININGS:
        _LOG.info(
            "How much another seed would change is not in these intervals: give several trainings"
            " of A, and of B after --against."
        )
        return
    mean, low, high = over_trainings(*each)
    verdict = "more than chance" if low > 0 or high < 0 else "chance in training explains it"
    _LOG.info(
        "Over %d and %d trainings: %+.4f [%+.4f, %+.4f]: %s (Welch's t, 95 %%, on these patients)",
        *(len(each[0]), len(each[1]), mean, low, high, verdict),
    )


def _trainings(side: _Side, shared: Sequence[Key]) -> list[Rows]:
    """What each folder scored that scored all the cases: folds as folders are one training."""
    return [
        {key: rows[key] for key in shared}
        for rows in side.tables.values()
        if all(key in rows for key in shared)
    ]


def over_trainings(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float]:
    """``mean(b) - mean(a)`` of scores of several trainings each, with its 95 % interval.

    Welch, Biometrika 34, 1947: each side's trainings scatter as they do. Sides that do not scatter
    at all have an interval of no width.

    >>> [round(one, 3) for one in over_trainings([0.80, 0.82, 0.81], [0.84, 0.86, 0.85])]
    [0.04, 0.017, 0.063]
    """
    mean = float(np.mean(b) - np.mean(a))
    parts = [float(np.var(side, ddof=1)) / len(side) for side in (a, b)]
    if not sum(parts):
        return mean, mean, mean
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(side) - 1) for part, side in zip(parts, (a, b), strict=True)
    )
    half = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(parts))
    return mean, mean - half, mean + half


def _report_folds(a: _Side, b: _Side) -> None:
    """The first row, fold by fold; what cannot be told fold by fold, and why."""
    shared = a.folds.keys() & b.folds.keys()
    moved = sum(a.folds[case] != b.folds[case] for case in shared)
    if moved:
        _LOG.info(
            "%d of %d cases were tested in another fold of B than of A: the networks learnt from"
            " other patients, and the difference is of that too",
            moved,
            len(shared),
        )
        return
    numbers = sorted({fold for case in shared for fold in a.folds[case]}, key=_in_order)
    if any(len(a.folds[case]) > 1 for case in shared):  # an official test list, the same in all
        return
    for number in numbers:
        a_rows, b_rows = (
            {key: row for key, row in side.rows.items() if number in side.folds[key[:2]]}
            for side in (a, b)
        )
        for one in differences(a_rows, b_rows)[:1]:
            _LOG.info("%s", _line(one, f"fold {number}"))


def _in_order(fold: str) -> tuple[int, str]:
    return (int(fold) if fold.isdecimal() else 0, fold)


def differences(a: Rows, b: Rows) -> list[Difference]:
    """Every score of every class, and of the mean over the classes, on what both runs have."""
    names = list(dict.fromkeys(name for _, _, name in a if any(key[2] == name for key in b)))
    cases = sorted({key[:2] for key in a} & {key[:2] for key in b})
    compared = []
    for score in SCORES:
        having = [case for case in cases if _has(a[*case, names[0]], score)]
        if not having:
            continue
        patients = [a[*case, names[0]]["patient"] for case in having]
        resamples = Resamples.drawn(patients, "compare")
        both = np.array(
            [
                [[value(run[*case, name], score) for name in names] for run in (a, b)]
                for case in having
            ]
        )  # (cases, runs, classes)
        columns = {"mean of classes": mean_over(both)} if len(names) > 1 else {}
        columns |= {name: both[:, :, at] for at, name in enumerate(names)}
        for name, values in columns.items():
            gains = values[:, 1] - values[:, 0]
            known = int(np.isfinite(gains).sum())
            if not known:
                continue
            low, high = interval(resamples.means(patients, gains)) or (math.nan, math.nan)
            of_a, of_b = mean_over(values.T)
            compared.append(
                Difference(name, score, of_a, of_b, low, high, known, int((gains > 0).sum()))
            )
    return compared


def _has(row: dict[str, str], score: str) -> bool:
    """Whether a case can have a score: slices without one spacing have no distances."""
    return score != "nsd" or row.get("spacing") != "uneven"
