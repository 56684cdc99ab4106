"""``per_case.csv``, read back: what a run, or several together, scored of each case and class."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from datasets_spec.contract import Problem
from model.scoring.bootstrap import mean_over
from pipeline import paths
from pipeline.runtime.files import require_regular

SCORES = ("dice", "nsd", "lesion_f1")
_NAMES = ("patient", "case", "rater", "class", "truth")
_ALL_IGNORED = f"{1:.6f}"
Key = tuple[str, str, str]
"""Case, rater, class."""
Rows = dict[Key, dict[str, str]]


def read(run: Path) -> Rows:
    """What a folder scored; the folds of a cross-validation are together."""
    return together(list(parts_of(run).values()), str(run))


def parts_of(run: Path) -> dict[str, Rows]:
    """Fold -> what it scored, of a cross-validation; all of a run is of the fold ""."""
    file = run / paths.PER_CASE
    if not file.is_file():
        raise Problem(
            "expected the scores of a run, found none",
            where=file,
            remedy="Name a run's folder, such as runs/msd_hippocampus, after: python -m model"
            " evaluate; or runs/msd_hippocampus/folds, after: python -m model crossvalidate",
        )
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    try:
        with require_regular(file).open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                found[row.get("fold") or ""].append(row)
        _require_numbers([row for rows in found.values() for row in rows])
        for rows in found.values():
            _require_every_class(rows)
    except (ValueError, csv.Error) as error:
        raise Problem(
            f"expected a table of scores, got {error}",
            where=file,
            remedy="Was it changed by hand, or by an earlier version? Evaluate the run again.",
        ) from None
    return {
        fold: {(row["case"], row["rater"], row["class"]): row for row in rows}
        for fold, rows in found.items()
    }


def _require_numbers(rows: Sequence[dict[str, str]]) -> None:
    """Raise ValueError unless every row has its names and numbers."""
    if not rows:
        raise ValueError("no row")
    for row in rows:
        missing = [name for name in (*_NAMES, *SCORES) if row.get(name) is None]
        if missing:
            raise ValueError(f"a row without {missing[0]}")
        case = f"{row['class']} in {row['case']}"
        if not row["truth"].isdecimal():
            raise ValueError(f"{row['truth'][:20]!r} voxels of {case}")
        for score in SCORES:
            if row[score] and not 0 <= _number(row[score]) <= 1:
                raise ValueError(f"{score} {row[score][:20]!r} of {case}, not 0 to 1")


def _require_every_class(rows: Sequence[dict[str, str]]) -> None:
    """Raise ValueError unless every case has every class once."""
    keys = [(row["case"], row["rater"], row["class"]) for row in rows]
    cases, classes = {key[:2] for key in keys}, {key[2] for key in keys}
    if len(set(keys)) < len(keys) or len(keys) != len(cases) * len(classes):
        raise ValueError("a case that has not every class once")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def together(tables: Sequence[Rows], where: str) -> Rows:
    """The rows of several tables; a case that several have has the means of their scores."""
    if len(tables) == 1:
        return tables[0]
    found: dict[Key, list[dict[str, str]]] = defaultdict(list)
    for table in tables:
        require_same_truth(table, {key: rows[0] for key, rows in found.items()}, table, where)
        for key, row in table.items():
            found[key].append(row)
    return {key: rows[0] | _means(rows) for key, rows in found.items()}


def _means(rows: Sequence[dict[str, str]]) -> dict[str, str]:
    """The mean of each score of one case and class; none where no row has it."""
    means = {}
    for score in SCORES:
        known = any(row[score] for row in rows)
        mean = float(mean_over([value(row, score) for row in rows]))
        means[score] = repr(mean) if known and math.isfinite(mean) else ""
    return means


def require_same_truth(a: Rows, b: Rows, keys: Iterable[Key], where: str) -> None:
    for key in keys:
        if key in a and key in b and a[key]["truth"] != b[key]["truth"]:
            raise Problem(
                f"expected the same truth in both runs, got {a[key]['truth']} and"
                f" {b[key]['truth']} voxels of {key[2]} in {key[0]}",
                where=where,
                remedy="Evaluate both runs anew on the same data.",
            )


def value(row: dict[str, str], score: str) -> float:
    """A score, 1 of a class that is nowhere, and NaN where it cannot be told: not annotated."""
    if row[score]:
        return float(row[score])
    unknown = row["dice"] or row.get("ignored_share") == _ALL_IGNORED
    return math.nan if unknown else 1.0
