"""Slices whose labels a network speaks against that did not learn from their patient."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_spec.contract import LabelMap, Problem
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair

_BACKGROUND = "background"
Counts = Mapping[str, int]
"""Class -> its pixels in a slice."""


@dataclass(frozen=True)
class Doubted:
    """A row of ``doubts.csv`` (:mod:`model.scoring.doubts`), and what its neighbours say to it.

    ``slice`` counts from 1, as on the pages.
    """

    patient: str
    case: str
    rater: str
    slice: int
    doubt: float
    drawn: str
    seen: str
    voxels: int
    ml: float
    confidence: float
    reason: str = ""


def evaluation(dataset: str) -> Path:
    """The folder of the best evaluation with doubts: of all folds before that of one split.

    Raises :class:`Problem` where there is none.
    """
    parts = (Path(paths.ENSEMBLE), Path())
    places = [root / part for root in (paths.folds(dataset), paths.run(dataset)) for part in parts]
    for place in places:
        if (place / paths.DOUBTS).is_file():
            return place
    raise Problem(
        "expected an evaluation of patients that a network had not seen, found none",
        where=paths.run(dataset) / paths.DOUBTS,
        remedy=f"Run: python -m model evaluate {dataset}, which asks about the patients of test, or"
        f" python -m model crossvalidate {dataset}, about all.",
    )


def ranked(file: Path, pairs: Sequence[Pair], label_map: LabelMap) -> list[Doubted]:
    """The slices of ``doubts.csv``, most doubtful first, with the reason of each.

    ``pairs`` show what is drawn on the neighbours. Raises :class:`Problem` for a file of nonsense.
    """
    try:
        rows = list(_read(file))
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        raise Problem(
            f"expected what evaluate wrote, got {type(error).__name__}: {error}",
            where=file,
            remedy="Delete it, and run evaluate or crossvalidate again.",
        ) from None
    names = [label.name for label in label_map]
    drawn = {
        (pair.case, pair.rater, pair.slice_index + 1): dict(
            zip(names, pair.class_pixels, strict=True)
        )
        for pair in pairs
        if not pair.parent
    }
    found = []
    for row in rows:
        beside = [drawn.get((row.case, row.rater, row.slice + step)) for step in (-1, 1)]
        here = drawn.get((row.case, row.rater, row.slice), {})
        words = reason(row.drawn, row.seen, here, [one for one in beside if one is not None])
        found.append(Doubted(**{**vars(row), "reason": words}))
    return sorted(found, key=lambda one: (-one.doubt, one.case, one.rater, one.slice))


def reason(drawn: str, seen: str, here: Counts, beside: Sequence[Counts]) -> str:
    """Why a slice is in doubt, in words.

    >>> reason("background", "blood", {"blood": 0}, [{"blood": 80}, {"blood": 60}])
    'blood is on both neighbours and not here'
    >>> reason("oedema", "blood", {"oedema": 50}, [])
    'drawn as oedema, seen as blood'
    """
    if _BACKGROUND not in (drawn, seen):
        return f"drawn as {drawn}, seen as {seen}"
    name = seen if drawn == _BACKGROUND else drawn
    near = sum(one.get(name, 0) > 0 for one in beside)
    if drawn == _BACKGROUND and here.get(name, 0):
        return f"more {name} is seen than is drawn"
    if drawn == _BACKGROUND:
        if beside and near == len(beside):
            which = "both neighbours" if near == 2 else "the only neighbour"
            return f"{name} is on {which} and not here"
        return f"{name} is seen and none is drawn"
    if beside and not near:
        return f"{name} is drawn here, on no neighbour, and not seen"
    return f"more {name} is drawn than is seen"


def _read(file: Path) -> Iterator[Doubted]:
    with file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            numbers = [float(row[name]) for name in ("doubt", "ml", "confidence")]
            if not all(map(math.isfinite, numbers)):
                raise ValueError(f"{numbers} of the case {row['case']}")
            doubt, ml, confidence = numbers
            yield Doubted(
                *(row["patient"], row["case"], row["rater"], int(row["slice"]), doubt),
                *(row["drawn"], row["seen"], int(row["voxels"]), ml, confidence),
            )


@dataclass(frozen=True)
class Disagreement:
    """How far the raters of a case agree on a class: their mean pairwise Dice."""

    patient: str
    case: str
    raters: int
    label: str
    dice: float


def disagreements(pairs: Sequence[Pair], label_map: LabelMap) -> list[Disagreement]:
    """The cases and classes that several raters drew, least agreement first."""
    found = []
    for slices in manifest.grouped([pair for pair in pairs if not pair.parent], "case"):
        first = slices[0]
        for label in label_map.foreground:
            dice = first.agreement[label.id] if first.agreement else math.nan
            if first.raters > 1 and not math.isnan(dice):
                known = (first.patient, first.case, first.raters)
                found.append(Disagreement(*known, label.name, dice))
    return sorted(found, key=lambda one: (one.dice, one.case, one.label))
