"""Scores of many cases -> those of a dataset: means, medians, spreads, intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from model.scoring.bootstrap import Resamples, interval, mean_over
from model.scoring.certainty import Certainty
from model.scoring.doubts import Doubt
from model.scoring.scores import SCORES, Calibration, ClassScores

DIGITS = 6
"""Decimals in files: finer than any difference that means something."""


@dataclass(frozen=True)
class Scored:
    """One test case: scores per foreground class, and the reference metrics of its slices.

    ``final`` is what counts: the prediction after post-processing; ``plain`` before it.
    ``raters``: the Dice per foreground class of ``final`` against each rater who drew the case;
    ``agreement``: that between them, per class id. ``shown``: the pair with most wrong voxels.
    ``strata``: what is known of the patient, such as the site. ``ignored``: the share of the voxels
    that nobody annotated. ``calibration`` is of the network's own probabilities, ``calibrated`` of
    calibrated ones. ``fold``: that of a cross-validation in which it was tested. ``doubts``: the
    slices whose labels the network speaks against.
    """

    case: str
    patient: str
    rater: str
    final: tuple[ClassScores, ...]
    plain: tuple[ClassScores, ...]
    background: tuple[ClassScores, ...]
    reference: Mapping[str, Sequence[float]]
    reference_background: Mapping[str, Sequence[float]]
    calibration: Calibration
    calibrated: Calibration
    certainty: Certainty
    confusion: NDArray[np.int64]
    raters: Mapping[str, Sequence[float]]
    agreement: Sequence[float]
    slices_left_out: int
    shown: str
    planar: bool
    uneven: bool
    strata: Mapping[str, str] = field(default_factory=dict)
    ignored: float = 0.0
    fold: str = ""
    doubts: Sequence[Doubt] = ()

    @property
    def dice(self) -> float:
        """Mean foreground Dice; NaN where no class has one."""
        return float(mean_over([one.dice for one in self.final]))


def rows(
    scored: Sequence[Scored], label_map: LabelMap, resamples: Resamples
) -> dict[str, dict[str, Any]]:
    """The model, its answer before post-processing, and an all-background mask, row by row."""
    return {
        name: _row(
            scored,
            [getattr(one, attribute) for one in scored],
            [getattr(one, reference) for one in scored],
            label_map,
            resamples,
        )
        for name, attribute, reference in (
            ("model", "final", "reference"),
            ("before_postprocessing", "plain", "reference"),
            ("all_background", "background", "reference_background"),
        )
    }


def _row(
    scored: Sequence[Scored],
    of_cases: Sequence[tuple[ClassScores, ...]],
    reference: Sequence[Mapping[str, Sequence[float]]],
    label_map: LabelMap,
    resamples: Resamples,
) -> dict[str, Any]:
    patients = [one.patient for one in scored]
    table = np.array([[list(one.row().values()) for one in case] for case in of_cases])
    drawn = resamples.means(patients, table)  # (resamples, classes, scores)
    classes: dict[str, dict[str, Any]] = {}
    for at, label in enumerate(label_map.foreground):
        ones = [case[at] for case in of_cases]
        classes[label.name] = {
            **{
                score: _spread(table[:, at, number], drawn[:, at, number])
                for number, score in enumerate(SCORES)
            },
            "both_empty": sum(one.both_empty for one in ones),
            "no_surface": sum(one.no_surface for one in ones),
            "not_annotated": sum(not one.annotated for one in ones),
            "lesions": {
                name: sum(getattr(one.lesions, name) for one in ones)
                for name in ("truth", "predicted", "found", "false")
            },
            "negative": _negative(ones),
        }
    of_classes = mean_over(np.moveaxis(drawn, 1, 2))  # (resamples, scores)
    return {
        "mean_foreground": {
            score: between(
                _mean([classes[label.name][score]["mean"] for label in label_map.foreground]),
                of_classes[:, number],
            )
            for number, score in enumerate(SCORES)
        },
        "classes": classes,
        "reference": {
            name: number(float(np.mean([v for case in reference for v in case[name]])))
            for name in reference[0]
        },
    }


def _negative(ones: Sequence[ClassScores]) -> dict[str, Any]:
    """What is marked where the truth has nothing of the class: slices, and whole cases."""
    cases = [one for one in ones if one.annotated and not one.overlap.truth]
    slices = sum(one.negative.slices for one in ones)
    ml = [one.negative.ml for one in ones]
    return {
        "slices": slices,
        "slices_marked": sum(one.negative.marked for one in ones),
        "false_ml_per_slice": number(sum(ml) / slices if slices else math.nan),
        "cases": len(cases),
        "cases_marked": sum(one.overlap.predicted > 0 for one in cases),
        "false_ml_per_case": number(_mean([one.volumes.predicted for one in cases])),
    }


def strata(scored: Sequence[Scored]) -> dict[str, dict[str, dict[str, Any]]]:
    """Stratum -> value -> cases, patients and mean foreground Dice over those cases."""
    members: dict[str, dict[str, list[Scored]]] = {}
    for one in scored:
        for name, value in one.strata.items():
            members.setdefault(name, {}).setdefault(value, []).append(one)
    return {
        name: {
            value: {
                "cases": len(ones),
                "patients": len({one.patient for one in ones}),
                "dice_mean": number(_mean([one.dice for one in ones])),
            }
            for value, ones in sorted(values.items())
        }
        for name, values in sorted(members.items())
    }


def raters(
    scored: Sequence[Scored], label_map: LabelMap, resamples: Resamples
) -> dict[str, Any] | None:
    """The model against every rater, and the raters against each other: the human ceiling."""
    several = [one for one in scored if one.agreement]
    if not several:
        return None
    patients = [one.patient for one in several]
    names = sorted({name for one in several for name in one.raters})
    of_classes = {}
    for at, label in enumerate(label_map.foreground):
        human = np.array([one.agreement[label.id] for one in several])
        against = np.array(
            [
                [one.raters[name][at] if name in one.raters else math.nan for name in names]
                for one in several
            ]
        )
        of_classes[label.name] = {
            "between_raters": _spread(human, resamples.means(patients, human)),
            "model_and_raters": _spread(
                mean_over(against), resamples.means(patients, mean_over(against))
            ),
            "model_and_each": {
                name: number(_mean(against[:, index])) for index, name in enumerate(names)
            },
        }
    return {"cases": len(several), "classes": of_classes}


def number(value: float | None) -> float | None:
    """For a file: :data:`DIGITS` decimals, none where the number does not exist."""
    if value is None or not math.isfinite(value):
        return None
    return round(value, DIGITS)


def in_words(spread: Mapping[str, Any], digits: int = 3) -> str:
    """A mean with its interval, for a terminal."""
    if spread["mean"] is None:
        return "none"
    numbers = (f"{spread[part]:.{digits}f}" for part in ("mean", "low", "high"))
    return "{} [{}, {}]".format(*numbers)


def _spread(values: NDArray[np.float64], drawn: NDArray[np.float64]) -> dict[str, Any]:
    """Mean, 95 % interval, median, standard deviation and number of the cases that have it."""
    known = values[np.isfinite(values)]
    return {
        **between(_mean(known), drawn),
        "median": number(float(np.median(known)) if known.size else None),
        "sd": number(float(known.std(ddof=1)) if known.size > 1 else None),
        "cases": int(known.size),
    }


def between(mean: float, drawn: NDArray[np.float64]) -> dict[str, Any]:
    """A mean, for a file, with the interval of its resamples."""
    bounds = interval(drawn) or (None, None)
    return {"mean": number(mean), "low": number(bounds[0]), "high": number(bounds[1])}


def _mean(values: Any) -> float:
    known = np.array([math.nan if value is None else value for value in values], np.float64)
    return float(mean_over(known))
