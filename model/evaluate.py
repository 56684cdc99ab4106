"""evaluate: every test case in its source's own grid, per class, beside the all-background row."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from tqdm import tqdm

import datasets_spec
from datasets_spec.contract import Case, Dataset, Problem
from model.batches import labels_at
from model.metrics import EMPTY_POLICY, Overlap, dice_coef_multiclass, overlaps
from model.predict import class_ids, probabilities
from pipeline import colors, labels, manifest, params, paths, raw, volume
from pipeline.canvas import Canvas
from pipeline.manifest import Pair
from pipeline.pseudonyms import Pseudonyms
from pipeline.volume import Grid


@dataclass(frozen=True)
class _Scored:
    """One test case: overlaps per class id, and the ancestors' metric of each slice."""

    case: str
    patient: str
    rater: str
    model: list[Overlap]
    background: list[Overlap]
    ancestors: list[float]
    ancestors_background: list[float]


def evaluate(dataset: str, settings: params.Params) -> None:
    """Score ``runs/<dataset>/model.keras`` on the test split and keep its predictions.

    Raises :class:`Problem` if the model is missing or does not fit the parameters.
    """
    adapter = datasets_spec.load(dataset)
    facts = adapter.dataset
    run = paths.run(dataset)
    model = _model(run / paths.MODEL, settings.train.network, len(facts.label_map))
    pairs = manifest.read(paths.dataset(dataset))
    test = [pair for pair in pairs if pair.split == "test"]
    shutil.rmtree(run / paths.PREDICTIONS, ignore_errors=True)
    for name in (paths.METRICS, paths.PER_CASE):  # else old scores stood beside new masks
        (run / name).unlink(missing_ok=True)
    cases = manifest.grouped(test, "case", "rater")
    names = Pseudonyms(dataset, facts.anonymous, settings.convert.id_salt)
    sources = {names.of("case", case.id): case for case in raw.cases(adapter)}
    scored = [
        _score(slices, _source(sources, slices[0]), model, facts, settings, names)
        for slices in tqdm(cases, f"evaluate {dataset}", unit="case", disable=None, leave=False)
    ]
    _predict_mini_test(dataset, model, facts, settings.train.network, run / paths.PREDICTIONS)
    _write_per_case(run / paths.PER_CASE, scored, facts)
    summary = summarise(scored, facts)
    unfinished = run / f".unfinished-{paths.METRICS}"
    unfinished.write_text(json.dumps(summary, indent=2, allow_nan=False) + "\n", "utf-8")
    os.replace(unfinished, run / paths.METRICS)
    _tell(dataset, summary)


def summarise(scored: Sequence[_Scored], facts: Dataset) -> dict[str, object]:
    """Means and standard deviations over the test cases, per foreground class and over all."""
    rows = {}
    for row in ("model", "all_background"):
        classes = {}
        for label in facts.label_map.foreground:
            counts = [(one.model if row == "model" else one.background)[label.id] for one in scored]
            classes[label.name] = {
                **_spread("dice", [count.dice for count in counts]),
                **_spread("iou", [count.iou for count in counts]),
                "both_empty": sum(math.isnan(count.dice) for count in counts),
            }
        ancestors = [
            value
            for one in scored
            for value in (one.ancestors if row == "model" else one.ancestors_background)
        ]
        rows[row] = {
            "mean_foreground_dice": _mean([c["dice_mean"] for c in classes.values()]),
            "mean_foreground_iou": _mean([c["iou_mean"] for c in classes.values()]),
            "dice_coef_multiclass": statistics.fmean(ancestors),
            "classes": classes,
        }
    return {
        "test_cases": len(scored),
        "test_patients": len({one.patient for one in scored}),
        **rows,
        "unit": "case, in the source's own grid; dice_coef_multiclass: slice, at training size",
        "empty_masks": EMPTY_POLICY,
    }


def _score(
    slices: Sequence[Pair],
    case: Case,
    model: keras.Model,
    facts: Dataset,
    settings: params.Params,
    names: Pseudonyms,
) -> _Scored:
    first, classes = slices[0], len(facts.label_map)
    target = paths.run(first.dataset) / paths.PREDICTIONS / "native"
    folder = paths.dataset(first.dataset) / "test"
    canvas = Canvas.of(first.canvas)
    px = settings.train.network.image_px
    native, ancestors, ancestors_background = [], [], []
    for batch in _batches(slices, settings.evaluate.batch_slices):
        pictures = [colors.read_image(folder / pair.image) for pair in batch]
        predicted = probabilities(model, pictures, settings.train.network)
        truth = np.stack(
            [labels_at(colors.read_mask(folder / pair.mask, facts.label_map), px) for pair in batch]
        )
        nothing = np.zeros_like(predicted)
        nothing[..., 0] = 1
        ancestors += dice_coef_multiclass(truth, predicted).tolist()
        ancestors_background += dice_coef_multiclass(truth, nothing).tolist()
        native += [canvas.native(class_ids(one, canvas.px)) for one in predicted]
    in_ras = volume.unslice(np.stack(native), first.plane)
    image = labels.read_image(case.image)
    fused = labels.truth(facts, image, case.labels, settings.convert.raters, first.label_table)
    truth = {names.of("rater", rater): ids for rater, ids in fused.ids.items()}[first.rater]
    name = "_".join([first.case, *([f"r{first.rater}"] if first.rater else [])])
    if isinstance(case.image, Path):
        grid = Grid(first.source_shape, np.reshape(first.affine, (4, 4)))
        volume.save_like(target / f"{name}.nii.gz", grid.from_ras(in_ras), grid, case.image)
        for uid, ids in volume.per_instance(in_ras, image).items():
            colors.write_mask(target / name / f"{names.uid(uid)}.png", ids, facts.label_map)
    else:
        for index, (slice_file, ids) in enumerate(zip(case.image, native, strict=True)):
            stem = slice_file.stem if facts.anonymous else f"{index:04d}"
            colors.write_mask(target / name / f"{stem}.png", ids, facts.label_map)
    return _Scored(
        first.case,
        first.patient,
        first.rater,
        overlaps(truth, in_ras, classes),
        overlaps(truth, np.zeros_like(in_ras), classes),
        ancestors,
        ancestors_background,
    )


def _source(sources: Mapping[str, Case], pair: Pair) -> Case:
    """The raw case that convert made the pair of."""
    if pair.case not in sources:
        raise Problem(
            f"expected the case {pair.case} in the raw data, found it no more",
            where=paths.raw(pair.dataset),
            remedy="Were files or convert.id_salt changed? Run: dvc repro",
        )
    return sources[pair.case]


def _predict_mini_test(
    dataset: str, model: keras.Model, facts: Dataset, network: params.Network, target: Path
) -> None:
    for file in sorted((paths.dataset(dataset) / paths.MINI_TEST / paths.IMAGES).glob("*.png")):
        picture = colors.read_image(file)
        ids = class_ids(probabilities(model, [picture], network)[0], len(picture))
        colors.write_mask(target / paths.MINI_TEST / file.name, ids, facts.label_map)


def _model(file: Path, network: params.Network, classes: int) -> keras.Model:
    if not file.is_file():
        raise Problem(
            "expected a trained model, found none",
            where=file,
            remedy=f"Run: python -m model train {file.parent.name}",
        )
    model = keras.saving.load_model(file, compile=False)
    wanted = (network.image_px, network.image_px, network.channels, classes)
    got = (*model.input_shape[1:], model.output_shape[-1])
    if got != wanted:
        raise Problem(
            f"expected a model for pictures and classes {wanted}, got {got}",
            where=file,
            remedy="Train it again with the present parameters.",
        )
    return model


def _batches(slices: Sequence[Pair], count: int) -> Iterator[Sequence[Pair]]:
    for start in range(0, len(slices), count):
        yield slices[start : start + count]


def _write_per_case(file: Path, scored: Sequence[_Scored], facts: Dataset) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["patient", "case", "rater", "class", "dice", "iou", "truth", "predicted", "both"]
        )
        for one in scored:
            for label in facts.label_map.foreground:
                count = one.model[label.id]
                scores = ["" if math.isnan(v) else f"{v:.6f}" for v in (count.dice, count.iou)]
                counts = [count.truth, count.predicted, count.both]
                writer.writerow([one.patient, one.case, one.rater, label.name, *scores, *counts])


def _spread(name: str, values: Sequence[float]) -> dict[str, float | None]:
    known = [value for value in values if not math.isnan(value)]
    return {
        f"{name}_mean": _mean(known),
        f"{name}_sd": statistics.stdev(known) if len(known) > 1 else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _tell(dataset: str, summary: dict[str, object]) -> None:
    print(f"evaluate {dataset}: {summary['test_cases']} test cases")
    for row in ("model", "all_background"):
        scores = summary[row]
        assert isinstance(scores, dict)
        dice = scores["mean_foreground_dice"]
        told = "none" if dice is None else f"{dice:.3f}"
        print(
            f"  {row:15} mean foreground Dice {told},"
            f" ancestors' dice_coef_multiclass {scores['dice_coef_multiclass']:.4f}"
        )
