"""compare: two runs on the same test cases, class by class: paired differences with intervals."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets_spec.contract import Problem
from model.scoring.bootstrap import FEW, RESAMPLES, Resamples, interval, mean_over
from pipeline import paths
from pipeline.runtime.files import require_regular

_SCORES = ("dice", "nsd", "lesion_f1")
_NAMES = ("patient", "case", "rater", "class", "truth")
_ALL_IGNORED = f"{1:.6f}"
_LOG = logging.getLogger(__name__)
_Key = tuple[str, str, str]  # case, rater, class
_Rows = dict[_Key, dict[str, str]]


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


def compare(run_a: Path, run_b: Path) -> None:
    """Report what run B does better or worse than run A on the cases that both scored."""
    a, b = _read(run_a), _read(run_b)
    shared = [key for key in a if key in b]
    if not shared:
        raise Problem(
            "expected runs that scored the same cases and classes, got none in common",
            where=f"{run_a} and {run_b}",
            remedy="Compare two runs of one dataset and one split.",
        )
    other = [key for key in shared if a[key]["truth"] != b[key]["truth"]]
    if other:
        case, _, name = other[0]
        raise Problem(
            f"expected the same truth in both runs, got {a[other[0]]['truth']} and"
            f" {b[other[0]]['truth']} voxels of {name} in {case}",
            where=f"{run_a} and {run_b}",
            remedy="Evaluate both runs anew on the same data.",
        )
    _report(run_a, run_b, a, b)


def _report(run_a: Path, run_b: Path, a: _Rows, b: _Rows) -> None:
    """The table of differences, with how it came about."""
    shared = [key for key in a if key in b]
    patients = len({a[key]["patient"] for key in shared})
    cases = len({key[:2] for key in shared})
    _LOG.info(
        "A %s, B %s: B - A, paired over %d test cases of %d patients;",
        run_a,
        run_b,
        cases,
        patients,
    )
    few = "; too few patients for an interval to be trusted" * (patients < FEW)
    _LOG.info("95 %% intervals of %d bootstrap resamples of patients%s", RESAMPLES, few)
    left = len({key[:2] for key in {*a, *b}}) - cases
    if left:
        _LOG.info("%d cases are in one run only and left out", left)
    _LOG.info("%24s %-9s %7s %7s   %-22s  better in B", "", "score", "A", "B", "B - A")
    for one in differences(a, b):
        gain = f"{one.mean:+.4f} [{one.low:+.4f}, {one.high:+.4f}]"
        mark = "" if one.clear else "  no clear difference"
        _LOG.info(
            f"{one.name:24} {one.score:9} {one.a:7.4f} {one.b:7.4f}   {gain}"
            f"  {one.better} of {one.cases}{mark}"
        )
    _LOG.info(
        "A class that is in neither truth nor prediction counts as 1 here: to invent it costs."
    )


def differences(a: _Rows, b: _Rows) -> list[Difference]:
    """Every score of every class, and of the mean over the classes, on what both runs have."""
    names = list(dict.fromkeys(name for _, _, name in a if any(key[2] == name for key in b)))
    cases = sorted({key[:2] for key in a} & {key[:2] for key in b})
    compared = []
    for score in _SCORES:
        having = [case for case in cases if _has(a[*case, names[0]], score)]
        if not having:
            continue
        patients = [a[*case, names[0]]["patient"] for case in having]
        resamples = Resamples.drawn(patients, "compare")
        both = np.array(
            [
                [[_value(run[*case, name], score) for name in names] for run in (a, b)]
                for case in having
            ]
        )  # (cases, runs, classes)
        columns = {"mean of classes": mean_over(both)} if len(names) > 1 else {}
        columns |= {name: both[:, :, at] for at, name in enumerate(names)}
        for name, values in columns.items():
            gains = values[:, 1] - values[:, 0]
            low, high = interval(resamples.means(patients, gains)) or (math.nan, math.nan)
            of_a, of_b = mean_over(values.T)
            compared.append(
                Difference(name, score, of_a, of_b, low, high, len(having), int((gains > 0).sum()))
            )
    return compared


def _has(row: dict[str, str], score: str) -> bool:
    """Whether a case can have a score: slices without one spacing have no distances."""
    return score != "nsd" or row.get("spacing") != "uneven"


def _value(row: dict[str, str], score: str) -> float:
    """A score, 1 of a class that is nowhere, and NaN where it cannot be told: not annotated."""
    if row[score]:
        return float(row[score])
    unknown = row["dice"] or row.get("ignored_share") == _ALL_IGNORED
    return math.nan if unknown else 1.0


def _read(run: Path) -> _Rows:
    file = run / paths.PER_CASE
    if not file.is_file():
        raise Problem(
            "expected the scores of a run, found none",
            where=file,
            remedy="Name a run's folder, such as runs/msd_hippocampus, after: python -m model"
            " evaluate",
        )
    try:
        with require_regular(file).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        _require_numbers(rows)
    except (ValueError, csv.Error) as error:
        raise Problem(
            f"expected a table of scores, got {error}",
            where=file,
            remedy="Was it changed by hand, or by an earlier version? Evaluate the run again.",
        ) from None
    return {(row["case"], row["rater"], row["class"]): row for row in rows}


def _require_numbers(rows: Sequence[dict[str, str]]) -> None:
    """Raise ValueError unless every row has its names and numbers, and a case every class once."""
    if not rows:
        raise ValueError("no row")
    for row in rows:
        missing = [name for name in (*_NAMES, *_SCORES) if row.get(name) is None]
        if missing:
            raise ValueError(f"a row without {missing[0]}")
        case = f"{row['class']} in {row['case']}"
        if not row["truth"].isdecimal():
            raise ValueError(f"{row['truth'][:20]!r} voxels of {case}")
        for score in _SCORES:
            if row[score] and not 0 <= _number(row[score]) <= 1:
                raise ValueError(f"{score} {row[score][:20]!r} of {case}, not 0 to 1")
    keys = [(row["case"], row["rater"], row["class"]) for row in rows]
    cases, classes = {key[:2] for key in keys}, {key[2] for key in keys}
    if len(set(keys)) < len(keys) or len(keys) != len(cases) * len(classes):
        raise ValueError("a case that has not every class once")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
