"""All scored cases -> how far a network's probabilities and its doubt may be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from model.scoring.bootstrap import Resamples, mean_over
from model.scoring.certainty import Likelihood, Sureness, rank_correlation, ranked
from model.scoring.scores import Calibration
from model.scoring.summary import Scored, between, in_words, number

_LEAST_CASES = 3  # to be ranked
Floats = NDArray[np.float64]


def calibration(
    scored: Sequence[Scored],
    resamples: Resamples,
    temperatures: Sequence[float],
    label_map: LabelMap,
) -> dict[str, Any]:
    """The errors of calibration with their intervals, and the bins behind them.

    ``before`` holds the same of the network's own probabilities, none where all of these were used
    as they are. ``temperatures``: by class, background first; none where they are not the same for
    all cases, or there are none.
    """
    patients = [one.patient for one in scored]

    def of(present: Sequence[Calibration], sure: Sequence[Sureness]) -> dict[str, Any]:
        return {
            **_errors(patients, present, resamples),
            "near": _errors(patients, [one.near for one in sure], resamples),
            "nll": _likelihood(patients, [one.likelihood for one in sure], resamples),
        }

    found = of([one.calibrated for one in scored], [one.certainty.calibrated for one in scored])
    before = None
    if any(one.certainty.changed for one in scored):
        before = of([one.calibration for one in scored], [one.certainty.before for one in scored])
    names = [label.name for label in label_map]
    named = dict(zip(names, temperatures, strict=True)) if temperatures else None
    return {**found, "temperatures": named, "before": before}


def uncertainty(scored: Sequence[Scored], resamples: Resamples) -> dict[str, Any]:
    """How well a pixel's doubt marks errors, and a case's expected Dice its Dice.

    ``before``: see :func:`calibration`.
    """
    found = _doubt(scored, [one.certainty.calibrated for one in scored], resamples)
    if not any(one.certainty.changed for one in scored):
        return {**found, "before": None}
    return {**found, "before": _doubt(scored, [one.certainty.before for one in scored], resamples)}


def _doubt(
    scored: Sequence[Scored], sure: Sequence[Sureness], resamples: Resamples
) -> dict[str, Any]:
    patients = [one.patient for one in scored]
    wrong, right = (np.stack([getattr(one, name) for one in sure]) for name in ("wrong", "right"))
    whole = ranked(wrong.sum(axis=0), right.sum(axis=0))
    drawn = ranked(resamples.totals(patients, wrong), resamples.totals(patients, right))
    pixels = float(wrong.sum() + right.sum())
    return {
        "errors": number(float(wrong.sum()) / pixels if pixels else math.nan),
        "auroc": between(float(whole[0]), drawn[0]),
        "average_precision": between(float(whole[1]), drawn[1]),
        **_cases(scored, sure, resamples),
    }


def _cases(
    scored: Sequence[Scored], sure: Sequence[Sureness], resamples: Resamples
) -> dict[str, Any]:
    """The rank correlation of expected Dice and Dice, and how far one is from the other."""
    expected = mean_over([one.expected.dice for one in sure])
    dice = np.array([one.dice for one in scored])
    known = np.flatnonzero(np.isfinite(expected) & np.isfinite(dice)).tolist()
    pairs = expected[known], dice[known]
    apart = pairs[0] - pairs[1]
    place = {patient: at for at, patient in enumerate(resamples.patients)}
    of_case = [place[scored[at].patient] for at in known]
    times = np.concatenate([np.ones((1, len(known))), resamples.times[:, of_case]])
    enough = len(known) >= _LEAST_CASES
    found = rank_correlation(*pairs, times) if enough else np.full(1, math.nan)
    return {
        "cases": len(known),
        "spearman": between(float(found[0]), found[1:]),
        "expected_less_dice": number(float(apart.mean()) if known else None),
    }


def table(found: Mapping[str, Any]) -> tuple[tuple[str, ...], list[tuple[object, ...]]]:
    """Head and rows of calibration.csv: the bins of the pixels near what was predicted.

    With those of the network's own probabilities in the columns ``_before``, by the same bins.
    """
    columns = ("confidence", "right", "pixels")
    sides = [found, found["before"] or found]
    by_bin = [{one["bin"]: one for one in side["near"]["bins"]} for side in sides]
    rows: list[tuple[object, ...]] = [
        tuple(side.get(place, {}).get(name, "") for side in by_bin for name in columns)
        for place in sorted(by_bin[0].keys() | by_bin[1].keys())
    ]
    return (*columns, *(f"{name}_before" for name in columns)), rows


def sentence(found: Mapping[str, Any]) -> str:
    """Calibration and uncertainty in short, for a terminal."""
    calibrated, doubt = found["calibration"], found["uncertainty"]
    before = calibrated["before"]
    was = f" (before calibration {in_words(before['near']['ece'])})" if before else ""
    return (
        f"ECE near the prediction {in_words(calibrated['near']['ece'])}{was}; entropy marks errors"
        f" with AUROC {in_words(doubt['auroc'])}; expected Dice ranks {doubt['cases']} cases with"
        f" Spearman {in_words(doubt['spearman'], 2)}"
    )


def _errors(
    patients: Sequence[str], each: Sequence[Calibration], resamples: Resamples
) -> dict[str, Any]:
    """The pooled expected calibration error with its interval, and the bins behind it."""
    whole = sum(each, Calibration.none())
    pixels, confidence, right = (
        resamples.totals(patients, np.stack([getattr(one, part) for one in each]))
        for part in ("pixels", "confidence", "right")
    )
    drawn = np.array(
        [Calibration(*bins).ece for bins in zip(pixels, confidence, right, strict=True)]
    )
    bins = [
        {
            "confidence": number(sums / count),
            "right": number(hits / count),
            "pixels": int(count),
            "bin": at,
        }
        for at, (count, sums, hits) in enumerate(
            zip(whole.pixels, whole.confidence, whole.right, strict=True)
        )
        if count
    ]
    return {"ece": between(whole.ece, drawn), "bins": bins}


def _likelihood(
    patients: Sequence[str], each: Sequence[Likelihood], resamples: Resamples
) -> dict[str, Any]:
    sums = np.array([[one.cost, one.voxels] for one in each])
    totals = np.concatenate([sums.sum(axis=0)[None], resamples.totals(patients, sums)])
    costs, voxels = totals.T
    means: Floats = np.divide(costs, voxels, out=np.full(len(totals), np.nan), where=voxels > 0)
    return between(float(means[0]), means[1:])
