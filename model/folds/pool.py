"""The scores of all folds as one: every patient counts once, by the network that did not see them.

What is pooled are the scored cases themselves, as evaluate kept them, and they pass through what
evaluate calls, so that a pooled number means what that of a run means. An ensemble is pooled on its
own, with what each of its networks adds.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import datasets_spec
from datasets_spec.contract import LabelMap, Problem
from model.folds.workplace import Fold
from model.params import Params
from model.scoring import one_by_one, pictures, results, scored_json, summary
from model.scoring.bootstrap import Resamples
from model.scoring.case_views import Views
from model.scoring.one_by_one import OneByOne
from model.scoring.pictures import Shown
from model.scoring.summary import Scored, number
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs import pictures as pairs_pictures
from pipeline.runtime import files, tables

_OF_EACH = ("ece", "reference", "members")
"""Definitions that a run and an ensemble have in words of their own."""


def pool(dataset: str, folds: Sequence[Fold], settings: Params) -> dict[Path, dict[str, Any]]:
    """Fill ``runs/<dataset>/folds`` from folds that are done; returns the results of each part.

    Raises :class:`Problem` where the folds did not test every patient once, or (with an official
    test list) the same patients in each.
    """
    official = _official(folds)
    found = {}
    for part in _parts(folds):
        target = paths.folds(dataset) / part
        target.mkdir(parents=True, exist_ok=True)
        for name in paths.SCORED:
            (target / name).unlink(missing_ok=True)
        found[part] = _pooled(dataset, folds, part, target, settings, official)
    if Path(paths.ENSEMBLE) not in found:  # there was one, of other parameters
        shutil.rmtree(paths.folds(dataset) / paths.ENSEMBLE, ignore_errors=True)
    return found


def _pooled(
    dataset: str,
    folds: Sequence[Fold],
    part: Path,
    target: Path,
    settings: Params,
    official: bool,
) -> dict[str, Any]:
    label_map, wanted = datasets_spec.load(dataset).dataset.label_map, settings.evaluate
    stated = [_stated(one.run / part / paths.SCORES) for one in folds]
    scored = [case for one in folds for case in _scored(one, part)]
    shown = _shown(folds, part, target, scored, wanted.worst_cases, label_map)
    if not official:  # else each case is tested by every fold, and scrolled there
        _view(dataset, folds, part, target, scored, wanted.viewed_cases)
    converted_with = stated[0]["parameters"]["convert"]
    whole = results.results(dataset, scored, {}, shown, label_map, wanted, converted_with)
    if any("before_postprocessing" in one for one in stated):
        drawn = Resamples.drawn([one.patient for one in scored], wanted.seed, dataset)
        rows = summary.rows(scored, label_map, drawn)
        whole["before_postprocessing"] = rows["before_postprocessing"]
    whole["definitions"]["folds"] = (
        f"{len(folds)} networks on the same official test list, which count alike"
        if official
        else f"{len(folds)} folds: every patient is tested once, by the network that was trained"
        " without them"
    )
    whole["definitions"] |= {
        name: stated[0]["definitions"][name]
        for name in _OF_EACH
        if name in stated[0]["definitions"]
    }
    whole["folds"] = _by_fold(folds, stated)
    each_fold = [one.run / part / paths.MEMBERS_TABLE for one in folds]
    if all(map(Path.is_file, each_fold)):
        each = _networks(each_fold, label_map)
        whole["members"] = each.summary(wanted.seed, dataset)
        tables.write(target / paths.MEMBERS_TABLE, one_by_one.HEAD, list(each.lines()))
    results.write(target, scored, whole, label_map)
    metrics = results.metrics(whole) | {"folds": whole["folds"]["spread"]}
    _write(target / paths.METRICS, json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    tables.write(target / paths.FOLDS_TABLE, *_table(whole["folds"]["each"]))
    return whole


def _parts(folds: Sequence[Fold]) -> list[Path]:
    """What was scored on its own in every fold, the dataset's own network first."""
    having = [
        {file.parent.relative_to(one.run) for file in one.run.rglob(paths.CASES)} for one in folds
    ]
    return sorted(set.intersection(*having))


def _scored(fold: Fold, part: Path) -> Iterator[Scored]:
    """The cases that a fold scored, with its number, and its name on their pictures."""
    file = fold.run / part / paths.CASES
    with _reading(file):
        cases = scored_json.read(json.loads(file.read_text("utf-8")))
    for one in cases:
        fold_of = str(fold.number)
        yield replace(one, fold=fold_of, shown=_prefix(fold_of) + one.shown)


def _stated(file: Path) -> dict[str, Any]:
    """What the scores of one fold say, with all that is taken from them."""
    with _reading(file):
        content: dict[str, Any] = json.loads(file.read_text("utf-8"))
        _ = content["parameters"]["convert"], content["definitions"].keys()
        _one_fold(0, content)
    return content


def _networks(files: Sequence[Path], label_map: LabelMap) -> OneByOne:
    """What each network of an ensemble got right, over all folds."""
    each = OneByOne(label_map)
    for file in files:
        with _reading(file):
            each.read(file)
    return each


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """What a file of nonsense leads to, as a :class:`Problem` that names the file."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Problem(
            f"expected what evaluate wrote, got {type(error).__name__}: {error}",
            where=file,
            remedy="Delete it, and run the same command again.",
        ) from None


def _official(folds: Sequence[Fold]) -> bool:
    """Whether every fold tests the same patients; else, that every patient is tested once."""
    tested: dict[str, list[int]] = defaultdict(list)
    everyone: set[str] = set()
    for one in folds:
        pairs = [pair for pair in manifest.read(one.pairs) if not pair.parent]
        everyone |= {pair.patient for pair in pairs}
        for patient in {pair.patient for pair in pairs if pair.split == "test"}:
            tested[patient].append(one.number)
    if all(len(numbers) == len(folds) for numbers in tested.values()):
        return True
    wrong = sorted(patient for patient in everyone if len(tested.get(patient, ())) != 1)
    if wrong:
        raise Problem(
            f"expected folds that test every patient once, got {len(wrong)} patients that are"
            f" tested another number of times, such as {wrong[0]}",
            where=folds[0].place.parent,
            remedy="Delete the folder and run again.",
        )
    return False


def _shown(
    folds: Sequence[Fold],
    part: Path,
    target: Path,
    scored: Sequence[Scored],
    count: int,
    label_map: LabelMap,
) -> Shown:
    """Cases of all folds that are shown, with their pictures beside the pooled scores.

    Each fold kept its best and as many of its worst, so those of all are among them; the median is
    the nearest that is.
    """
    predictions = target / paths.PREDICTIONS
    shutil.rmtree(predictions, ignore_errors=True)
    of_number = {str(one.number): one for one in folds}
    for one in scored:
        own = of_number[one.fold].run / part / paths.PREDICTIONS / paths.EXAMPLES
        if (own / f"{_own_name(one)}.png").is_file():
            there = predictions / paths.EXAMPLES / f"{one.shown}.png"
            pairs_pictures.put(own / f"{_own_name(one)}.png", there)
    shown = pictures.keep_shown(predictions, scored, count)
    rows = {
        number: {pair.id: pair for pair in manifest.read(of_number[number].pairs)}
        for number in {one.fold for one in shown.all()}
    }
    for one in shown.all():
        pair = rows[one.fold][_own_name(one)]
        image, *_, mask = pairs_pictures.files(of_number[one.fold].pairs, pair)
        for kind, file in ((paths.IMAGES, image), (paths.MASKS, mask)):
            pairs_pictures.put(file, predictions / "test" / kind / f"{one.shown}.png")
    pictures.draw_overlays(predictions, label_map)
    return shown


def _view(
    dataset: str,
    folds: Sequence[Fold],
    part: Path,
    target: Path,
    scored: Sequence[Scored],
    most: int,
) -> None:
    """Put the cases of all folds where one page scrolls them: each as its own fold tested it."""
    views = Views(target / paths.PREDICTIONS, most)
    of_number = {str(one.number): one for one in folds}
    for one in scored:
        if views.take(of_number[one.fold].run / part / paths.PREDICTIONS, one):
            views.add([one])
    views.write_index(f"{dataset}: test cases of all folds")


def _own_name(one: Scored) -> str:
    """The name of its picture in its fold."""
    return one.shown.removeprefix(_prefix(one.fold))


def _prefix(fold: str) -> str:
    return f"fold_{fold}_"


def _by_fold(folds: Sequence[Fold], stated: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each fold's own scores in short, and how far their means are apart."""
    each = [_one_fold(one.number, found) for one, found in zip(folds, stated, strict=True)]
    means = np.array([one["dice"] for one in each if one["dice"] is not None])
    spread = {
        "mean": number(float(means.mean())) if means.size else None,
        "sd": number(float(means.std(ddof=1))) if means.size > 1 else None,
        "lowest": number(float(means.min())) if means.size else None,
        "highest": number(float(means.max())) if means.size else None,
    }
    return {"each": each, "spread": spread}


def _one_fold(number: int, found: Mapping[str, Any]) -> dict[str, Any]:
    dice, classes = found["model"]["mean_foreground"]["dice"], found["model"]["classes"]
    return {
        "fold": number,
        "patients": found["test_patients"],
        "cases": found["test_cases"],
        **{"dice": dice["mean"], "low": dice["low"], "high": dice["high"]},
        "classes": {name: of_class["dice"]["mean"] for name, of_class in classes.items()},
    }


def _table(each: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Head and rows: fold, patients, cases, Dice with interval, Dice of each class."""
    plain = [name for name in each[0] if name != "classes"]
    head = [*plain, *(f"dice_{name}" for name in each[0]["classes"])]
    return head, [[*(one[name] for name in plain), *one["classes"].values()] for one in each]


def _write(file: Path, text: str) -> None:
    with files.replacing(file) as unfinished:
        unfinished.write_text(text, "utf-8")
