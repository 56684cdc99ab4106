"""All scored cases -> what scores.json, metrics.json and the tables of a run hold."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from model.params import Evaluate
from model.scoring import certainty, pictures, scored_json, scores, summary, trust
from model.scoring.bootstrap import FEW, RESAMPLES, Resamples
from model.scoring.obeying import Obeyed
from model.scoring.pictures import Shown
from model.scoring.postprocess import Choice
from model.scoring.scores import EMPTY_POLICY, SCORES
from model.scoring.summary import Scored, number
from pipeline import paths
from pipeline.runtime import files, tables

_DOUBTS_HEAD = (
    *("patient", "case", "rater", "fold", "slice", "doubt", "soft_minimum"),
    *("drawn", "seen", "voxels", "ml", "confidence"),
)
_VERSIONS = ("keras", "tensorflow", "jax", "torch", "numpy", "scipy", "SimpleITK", "nibabel")


def results(
    dataset: str,
    scored: Sequence[Scored],
    choices: Mapping[int, Choice],
    shown: Shown,
    label_map: LabelMap,
    wanted: Evaluate,
    converted_with: Mapping[str, Any],
    obeyed: Sequence[Obeyed] = (),
    temperatures: Sequence[float] = (),
) -> dict[str, Any]:
    """Everything about the run, as it stands in scores.json.

    ``converted_with`` is the section ``convert`` of the parameters that the pairs were made with,
    ``obeyed`` the label rules that were tried on valid, ``temperatures`` those by class that
    calibrated the probabilities of all cases.
    """
    resamples = Resamples.drawn([one.patient for one in scored], wanted.seed, dataset)
    rows = summary.rows(scored, label_map, resamples)
    kept = [one.kept for one in choices.values()] + [one.kept for one in obeyed]
    if not any(kept):
        del rows["before_postprocessing"]
    patients = len(resamples.patients)
    uneven = sum(one.uneven for one in scored)
    return {
        "dataset": dataset,
        "test_cases": len(scored),
        "test_patients": patients,
        "uneven_cases": uneven,
        "slices_left_out": sum(one.slices_left_out for one in scored),
        **rows,
        "strata": summary.strata(scored),
        "calibration": trust.calibration(scored, resamples, temperatures, label_map),
        "uncertainty": trust.uncertainty(scored, resamples),
        "raters": summary.raters(scored, label_map, resamples),
        "label_rules": [_obeyed(one, label_map) for one in obeyed],
        "postprocessing": _choices(choices, label_map),
        "worst": [_of_picture(one) for one in shown.worst],
        "median": shown.median and _of_picture(shown.median),
        "best": shown.best and _of_picture(shown.best),
        "parameters": _parameters(wanted, converted_with),
        "definitions": _definitions(any(one.planar for one in scored), uneven, patients, wanted)
        | _annotation(scored),
        "versions": _versions(),
    }


def _of_picture(one: Scored) -> dict[str, Any]:
    return {"case": one.case, "rater": one.rater, "picture": one.shown, "dice": number(one.dice)}


def _choices(choices: Mapping[int, Choice], label_map: LabelMap) -> dict[str, Any]:
    names = {label.id: label.name for label in label_map}
    return {
        names[label]: {
            **asdict(choice.rule),
            "gain": number(choice.gain),
            "low": number(choice.low),
            "high": number(choice.high),
            "valid_patients": choice.patients,
            "kept": choice.kept,
        }
        for label, choice in choices.items()
    }


def _obeyed(one: Obeyed, label_map: LabelMap) -> dict[str, Any]:
    return {
        "rule": asdict(one.rule),
        "words": one.rule.in_words([label.name for label in label_map]),
        "gain": number(one.gain),
        "low": number(one.low),
        "high": number(one.high),
        "valid_patients": one.patients,
        "kept": one.kept,
    }


def _parameters(wanted: Evaluate, converted_with: Mapping[str, Any]) -> dict[str, Any]:
    """What the scores follow from."""
    return {
        "convert": {name: converted_with[name] for name in ("label_table", "raters")},
        "evaluate": asdict(wanted),
    }


def _definitions(planar: bool, uneven: int, patients: int, wanted: Evaluate) -> dict[str, str]:
    """How the numbers came about, in words: they stand beside them wherever they are shown."""
    few = f"; {patients} patients are too few for an interval to be trusted" * (patients < FEW)
    where = "slice by slice, in pixels (the source states no mm)" if planar else "in 3-D, in mm"
    own = f"; none of {uneven} cases whose slices have no one spacing" * bool(uneven)
    weighed = "; of slices without one spacing by their thickness" * bool(uneven)
    return {
        "unit": f"case, in the source's own grid{weighed}; background left out",
        "interval": f"95 %, percentiles of {RESAMPLES} bootstrap resamples of patients{few}",
        "empty_masks": EMPTY_POLICY,
        "distances": f"between surface voxels, {where}; HD95 is the larger direction's percentile"
        + own,
        "nsd_tolerance": f"{wanted.nsd_tolerance_mm:g} {'px' if planar else 'mm'}",
        "lesions": "components by corners; found if one voxel of a lesion is predicted, false if"
        " a predicted component touches none",
        "ece": f"{scores.BINS} bins of the likeliest class, over the pixels at training size whose"
        " truth or prediction is foreground; far from 0 even for perfect probabilities, since of"
        " predicted background it takes the wrong alone",
        "ece_near": f"{scores.BINS} bins of the likeliest class, over the predicted foreground and"
        f" what is within {certainty.NEAR_PX} pixels of it in its slice, in the source's own grid;"
        " 0 for perfect probabilities",
        "nll": "mean negative log-likelihood of the truth, nats a voxel, in the source's own grid",
        "uncertainty": "how well a pixel's entropy marks errors, over the same pixels as ece_near:"
        " area under the ROC curve (chance .5) and average precision (chance the share of errors);"
        " and Spearman's correlation of each case's expected Dice, which follows from its"
        " probabilities alone, with its Dice",
        "reference": "mean over slices at training size; background counts as a class",
    }


def _annotation(scored: Sequence[Scored]) -> dict[str, str]:
    """What is left out since nobody annotated it, in words; nothing where all was annotated."""
    ignored = [one.ignored for one in scored if one.ignored]
    whole = all(of_class.whole for one in scored for of_class in one.final if of_class.annotated)
    lacking = any(not of_class.annotated for one in scored for of_class in one.final)
    words = []
    if ignored:
        words.append(
            f"{np.mean(ignored):.1%} of the voxels of {len(ignored)} cases, which nobody annotated,"
            " are left out"
        )
    if not whole:
        words.append(
            "HD95, NSD and lesion F1 do not exist in a volume of which whole slices are left out"
        )
    if lacking:
        words.append(
            "a class has no score in a case in which nobody annotated it; predicted on background"
            " there, it counts as background"
        )
    return {"annotation": "; ".join(words)} if words else {}


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        **{name: _version(name) for name in _VERSIONS if _version(name)},
    }


def _version(package: str) -> str:
    """The installed version; "" where it is not installed (tensorflow-cpu counts as tensorflow)."""
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def metrics(found: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers of :func:`results` that `dvc metrics` shows and compares."""
    model, nothing = found["model"], found["all_background"]
    dice = model["mean_foreground"]["dice"]
    return {
        "mean_foreground_dice": dice["mean"],
        "low": dice["low"],
        "high": dice["high"],
        "dice": {name: one["dice"]["mean"] for name, one in model["classes"].items()},
        "nsd": model["mean_foreground"]["nsd"]["mean"],
        "ece": found["calibration"]["ece"]["mean"],
        "ece_near": found["calibration"]["near"]["ece"]["mean"],
        "nll": found["calibration"]["nll"]["mean"],
        "error_auroc": found["uncertainty"]["auroc"]["mean"],
        "expected_dice_spearman": found["uncertainty"]["spearman"]["mean"],
        "reference_dice_coef_multiclass": model["reference"]["dice_coef_multiclass"],
        "all_background": {
            "mean_foreground_dice": nothing["mean_foreground"]["dice"]["mean"],
            "reference_dice_coef_multiclass": nothing["reference"]["dice_coef_multiclass"],
        },
        "test_patients": found["test_patients"],
    }


def write(
    run: Path, scored: Sequence[Scored], found: Mapping[str, Any], label_map: LabelMap
) -> None:
    """Write everything but the predictions: :data:`pipeline.paths.SCORED`."""
    _write_per_case(run / paths.PER_CASE, scored, label_map)
    confusion = sum((one.confusion for one in scored), np.zeros((1, 1), np.int64))
    _write_confusion(run, confusion, label_map)
    tables.write(run / paths.DOUBTS, _DOUBTS_HEAD, list(_doubts(scored, label_map)))
    tables.write(run / paths.CALIBRATION, *trust.table(found["calibration"]))
    _write_json(run / paths.CASES, scored_json.written(scored))
    _write_json(run / paths.SCORES, found)
    _write_json(run / paths.METRICS, metrics(found))


def _write_confusion(run: Path, confusion: NDArray[np.int64], label_map: LabelMap) -> None:
    """Voxels by true and predicted class, as a table and as a picture."""
    names = [label.name for label in label_map]
    tables.write(
        run / paths.CONFUSION,
        ("truth", "predicted", "voxels"),
        [
            (true, guess, int(confusion[row, column]))
            for row, true in enumerate(names)
            for column, guess in enumerate(names)
        ],
    )
    pictures.draw_confusion(run / paths.CONFUSION_PLOT, confusion, names)


def _write_per_case(file: Path, scored: Sequence[Scored], label_map: LabelMap) -> None:
    rows = []
    pooled = any(one.fold for one in scored)
    for one in scored:
        foreground = zip(
            label_map.foreground, one.final, one.certainty.calibrated.expected.dice, strict=True
        )
        for label, of_class, expected in foreground:
            values = ["" if math.isnan(v) else f"{v:.6f}" for v in of_class.row().values()]
            overlap, lesions, negative = of_class.overlap, of_class.lesions, of_class.negative
            volumes = of_class.volumes
            rows.append(
                (
                    *(one.patient, one.case, one.rater, label.name),
                    *values,
                    *(overlap.truth, overlap.predicted, overlap.both),
                    *(f"{volumes.truth:.6f}", f"{volumes.predicted:.6f}"),
                    *(lesions.truth, lesions.found, lesions.false),
                    *(negative.slices, negative.marked),
                    "" if one.planar else "even" if of_class.even else "uneven",
                    f"{one.ignored if of_class.annotated else 1:.6f}",
                    "" if math.isnan(expected) else f"{expected:.6f}",
                    *([one.fold] if pooled else []),
                )
            )
    head = ("patient", "case", "rater", "class", *SCORES, "truth", "predicted", "both", "truth_ml")
    more = ("predicted_ml", "lesions", "lesions_found", "lesions_false")
    last = ("negative_slices", "negative_marked", "spacing", "ignored_share", "expected_dice")
    fold = ["fold"] * pooled
    tables.write(file, (*head, *more, *last, *fold), rows)


def _doubts(scored: Sequence[Scored], label_map: LabelMap) -> Iterator[tuple[object, ...]]:
    """The slices in doubt, case by case; they count from 1, as on the pages."""
    names = [label.name for label in label_map]
    for one in scored:
        for doubt in one.doubts:
            yield (
                *(one.patient, one.case, one.rater, one.fold, doubt.slice_index + 1),
                *(f"{doubt.doubt:.6f}", f"{doubt.soft_minimum:.6f}"),
                *(names[doubt.drawn], names[doubt.seen], doubt.voxels),
                *(f"{doubt.ml:.6f}", f"{doubt.confidence:.6f}"),
            )


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    with files.replacing(file) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
