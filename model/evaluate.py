"""evaluate: every test case in its source's own grid, per class, beside the all-background row.

The post-processing is chosen on valid; test is looked at once, with and without it.
"""

from __future__ import annotations

import csv
import importlib.metadata
import json
import math
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import datasets_spec
from datasets_spec.contract import Case, Dataset, Problem
from model import params, provenance
from model.predict import class_ids, probabilities
from model.scoring import pictures as scoring_pictures
from model.scoring import postprocess, scores, summary
from model.scoring.bootstrap import FEW, RESAMPLES, Resamples
from model.scoring.postprocess import Choice, Rule, Search
from model.scoring.scores import EMPTY_POLICY, SCORES, Calibration, Stack
from model.scoring.summary import Scored, number
from model.training.batches import labels_at
from model.training.metrics import cross_entropy, dice_coef_multiclass
from pipeline import paths
from pipeline.labels import decode, fusion
from pipeline.pairs import identities, manifest, png, pseudonyms
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.runtime import files, locks
from pipeline.sources import listing
from pipeline.volumes import nifti, reader, volume
from pipeline.volumes.volume import Grid, Volume

_ANCESTORS = {"dice_coef_multiclass": dice_coef_multiclass, "cross_entropy": cross_entropy}
_VERSIONS = ("keras", "tensorflow", "jax", "torch", "numpy", "scipy", "SimpleITK", "nibabel")


def evaluate(dataset: str, settings: params.Params) -> None:
    """Score ``runs/<dataset>/model.keras`` on the test split and keep its predictions.

    Raises :class:`Problem` if the model is missing or does not fit the parameters, and at once if
    another run fills the folder.
    """
    with locks.alone(paths.run(dataset)), identities.explaining(dataset):
        _evaluate(dataset, settings)


def _evaluate(dataset: str, settings: params.Params) -> None:
    adapter = datasets_spec.load(dataset)
    facts = adapter.dataset
    run = paths.run(dataset)
    pairs = manifest.read(paths.dataset(dataset))
    digest = provenance.dataset_digest(dataset)
    model = provenance.load(run / paths.MODEL, dataset, facts, settings, digest)
    shutil.rmtree(run / paths.PREDICTIONS, ignore_errors=True)
    for name in paths.SCORED:  # else old scores stood beside new masks
        (run / name).unlink(missing_ok=True)
    names = pseudonyms.load(adapter)
    sources = {names.of("case", case.id): case for case in listing.listing(adapter).cases}
    judge = _Judge(model, facts, settings, names, sources)

    choices = judge.choose(_cases(pairs, "valid", dataset)) if settings.evaluate.postprocess else {}
    rules = {label: choice.rule for label, choice in choices.items() if choice.kept}
    mini = {
        file.stem for file in (paths.dataset(dataset) / paths.MINI_TEST / paths.IMAGES).iterdir()
    }
    tested = _cases(pairs, "test", dataset)
    scored = [one for drawings in tested for one in judge.score(drawings, rules, mini)]
    worst = _worst(run / paths.PREDICTIONS, scored, settings.evaluate.worst_cases)
    _draw_overlays(run / paths.PREDICTIONS, paths.dataset(dataset), facts)

    resamples = Resamples.drawn([one.patient for one in scored], settings.evaluate.seed, dataset)
    found = _found(dataset, scored, choices, worst, facts, settings, resamples)
    _write_per_case(run / paths.PER_CASE, scored, facts)
    confusion = sum((one.confusion for one in scored), np.zeros((1, 1), np.int64))
    class_names = [label.name for label in facts.label_map]
    _write_table(
        run / paths.CONFUSION,
        ("truth", "predicted", "voxels"),
        [
            (true, guess, int(confusion[row, column]))
            for row, true in enumerate(class_names)
            for column, guess in enumerate(class_names)
        ],
    )
    scoring_pictures.draw_confusion(run / paths.CONFUSION_PLOT, confusion, class_names)
    _write_table(
        run / paths.CALIBRATION,
        ("confidence", "right", "pixels"),
        [tuple(one.values()) for one in found["calibration"]["bins"]],
    )
    _write_json(run / paths.SCORES, found)
    _write_json(run / paths.METRICS, _metrics(found))
    _tell(dataset, found)


Drawings = Sequence[Sequence[Pair]]
"""The slices of one case by rater: the same pictures, once for each who drew them."""


@dataclass
class _Beside:
    """The network beside what one rater drew: the truth (N, H, W), and sums over the pictures."""

    truth: Stack
    calibration: Calibration
    ancestors: dict[str, list[float]]
    ancestors_background: dict[str, list[float]]


@dataclass(frozen=True)
class _Answer:
    """What the network says of one case; stacks are (N, H, W).

    ``beside``: by rater, in the order of the drawings; ``raters``: what each rater of the raw data
    drew. ``image`` is without its voxels. ``planar``: pictures without geometry.
    """

    case: Case
    image: Volume
    predicted: Stack
    missing: int
    beside: Sequence[_Beside]
    raters: dict[str, Stack]
    steps: NDArray[np.float64]
    planar: bool


@dataclass(frozen=True)
class _Judge:
    """A network, and all that is needed to judge it case by case."""

    model: keras.Model
    facts: Dataset
    settings: params.Params
    names: Pseudonyms
    sources: Mapping[str, Case]

    def choose(self, cases: Iterable[Drawings]) -> dict[int, Choice]:
        """The post-processing of every class, judged on these cases of valid."""
        search = Search(len(self.facts.label_map))
        for drawings in cases:
            answer = self._answer(drawings)
            voxel_ml, patient = scores.voxel_ml(answer.steps), drawings[0][0].patient
            for one in answer.beside:
                search.add(patient, one.truth, answer.predicted, voxel_ml, answer.planar)
        return search.choose(self.settings.evaluate.seed)

    def score(self, drawings: Drawings, rules: Mapping[int, Rule], mini: set[str]) -> list[Scored]:
        """One test case beside each rater; its prediction is written into the run's folder."""
        classes, tolerance = len(self.facts.label_map), self.settings.evaluate.nsd_tolerance_mm
        answer = self._answer(drawings)
        steps, planar, mended = answer.steps, answer.planar, answer.predicted
        if rules:
            mended = postprocess.apply(mended, rules, scores.voxel_ml(steps), planar)
        nothing = np.zeros(mended.shape, np.uint8)
        against = self._against_raters(answer.raters, mended)
        answer.raters.clear()  # else those who were fused would stay in memory
        scored = []
        for slices, one in zip(drawings, answer.beside, strict=True):
            first = slices[0]
            self._write(first, answer.case, answer.image, mended)
            judged = [
                scores.score(one.truth, ids, classes, steps, planar, tolerance)
                for ids in ([mended, answer.predicted] if rules else [mended])
            ]
            scored.append(
                Scored(
                    first.case,
                    first.patient,
                    first.rater,
                    mended=judged[0],
                    plain=judged[-1],
                    background=scores.score(one.truth, nothing, classes, steps, planar, 0.0),
                    ancestors=one.ancestors,
                    ancestors_background=one.ancestors_background,
                    calibration=one.calibration,
                    confusion=scores.confusion(one.truth, mended, classes),
                    raters=against,
                    agreement=first.agreement,
                    slices_left_out=answer.missing,
                    shown=self._show(slices, one.truth, mended, mini),
                    planar=planar,
                )
            )
        return scored

    def _answer(self, drawings: Drawings) -> _Answer:
        first = drawings[0][0]
        case = self._source(first)
        read = reader.read_image(case.image, self.settings.limits)
        image = replace(read, array=np.empty((0, 0, 0), np.uint8))  # only labels are compared
        del read
        drawn = decode.drawn(
            self.facts, image, case.labels, first.label_table, limits=self.settings.limits
        ).ids
        raters = self.settings.convert.raters
        fused = fusion.fused(drawn, raters, len(self.facts.label_map))
        truths, every = (self._stacks(ids, first.plane) for ids in (fused, drawn))
        beside = [
            _Beside(truths[slices[0].rater], Calibration.none(), {}, {}) for slices in drawings
        ]
        stack = np.zeros(beside[0].truth.shape, np.uint8)  # of what split left out: background
        canvas = Canvas.of(first.canvas)
        for batch in _batches(
            list(zip(*drawings, strict=True)), self.settings.evaluate.batch_slices
        ):
            predicted = self._ask(batch, beside)
            for (pair, *_), one in zip(batch, predicted, strict=True):
                stack[pair.slice_index] = canvas.native(class_ids(one, canvas.px))
        grid = Grid(first.source_shape, np.reshape(first.affine, (4, 4)))
        return _Answer(
            case,
            image,
            stack,
            len(stack) - len(drawings[0]),
            beside,
            every,
            grid.steps(first.plane),
            not isinstance(case.image, Path),
        )

    def _ask(
        self, batch: Sequence[Sequence[Pair]], beside: Sequence[_Beside]
    ) -> NDArray[np.float32]:
        """Probabilities of some pictures, each given once per rater; sums go to ``beside``."""
        folder = paths.dataset(batch[0][0].dataset) / batch[0][0].split
        network = self.settings.train.network
        shown = [png.read_image(folder / pair.image) for pair, *_ in batch]
        predicted = probabilities(self.model, shown, network)
        background = np.zeros_like(predicted)
        background[..., 0] = 1
        for one, pairs in zip(beside, zip(*batch, strict=True), strict=True):
            masks = [png.read_mask(folder / pair.mask, self.facts.label_map) for pair in pairs]
            truth = np.stack([labels_at(ids, network.image_px) for ids in masks])
            for told, answer in (
                (one.ancestors, predicted),
                (one.ancestors_background, background),
            ):
                for name, metric in _ANCESTORS.items():
                    told.setdefault(name, []).extend(metric(truth, answer).tolist())
            one.calibration += Calibration.of(truth, predicted)
        return predicted

    def _stacks(self, ids: Mapping[str, NDArray[np.uint8]], plane: str) -> dict[str, Stack]:
        """Slices by the raters' names in the manifest."""
        return {
            self.names.of("rater", rater): volume.slices(one, plane) for rater, one in ids.items()
        }

    def _against_raters(self, raters: Mapping[str, Stack], mended: Stack) -> dict[str, list[float]]:
        if len(raters) < 2:
            return {}
        classes = len(self.facts.label_map)
        return {
            rater: [one.dice for one in scores.overlaps(scores.confusion(ids, mended, classes))[1:]]
            for rater, ids in raters.items()
        }

    def _write(self, first: Pair, case: Case, image: Volume, stack: Stack) -> None:
        """The prediction in the source's own form: NIfTI, instances, or slices."""
        target = paths.run(first.dataset) / paths.PREDICTIONS / "native"
        name = "_".join([first.case, *([f"r{first.rater}"] if first.rater else [])])
        label_map = self.facts.label_map
        if isinstance(case.image, Path):
            in_ras = volume.unslice(stack, first.plane)
            grid = Grid(first.source_shape, np.reshape(first.affine, (4, 4)))
            nifti.save_like(target / f"{name}.nii.gz", grid.from_ras(in_ras), grid, case.image)
            for uid, ids in volume.per_instance(in_ras, image).items():
                png.write_mask(target / name / f"{self.names.uid(uid)}.png", ids, label_map)
        else:
            for index, (slice_file, ids) in enumerate(zip(case.image, stack, strict=True)):
                stem = slice_file.stem if self.facts.anonymous else f"{index:04d}"
                png.write_mask(target / name / f"{stem}.png", ids, label_map)

    def _show(self, slices: Sequence[Pair], truth: Stack, stack: Stack, mini: set[str]) -> str:
        """Masks at picture size: of mini_test, and of the slice with most wrong voxels.

        They show the scored prediction itself. Returns the latter's pair id.
        """
        target = paths.run(slices[0].dataset) / paths.PREDICTIONS
        canvas = Canvas.of(slices[0].canvas)
        wrong = [np.count_nonzero(one != other) for one, other in zip(truth, stack, strict=True)]
        worst = max(slices, key=lambda pair: (wrong[pair.slice_index], sum(pair.class_pixels[1:])))
        for kind, chosen in ((paths.MINI_TEST, mini), (paths.WORST, {worst.id})):
            for pair in slices:
                if pair.id in chosen:
                    ids = canvas.labels(stack[pair.slice_index])
                    png.write_mask(target / kind / f"{pair.id}.png", ids, self.facts.label_map)
        return worst.id

    def _source(self, pair: Pair) -> Case:
        """The raw case that convert made the pair of."""
        if pair.case not in self.sources:
            raise Problem(
                f"expected the case {pair.case} in the raw data, found it no more",
                where=paths.raw(pair.dataset),
                remedy="Were files of the raw data changed? "
                + ("" if self.names.anonymous else pseudonyms.SALT_HINT)
                + f"Run: python -m pipeline convert {pair.dataset}, then: dvc repro",
            )
        return self.sources[pair.case]


def _cases(pairs: Sequence[Pair], split: str, dataset: str) -> Iterable[Drawings]:
    """Case by case; raters apart where split kept other slices of one than of the other."""

    def pictures(slices: Sequence[Pair]) -> tuple[str, list[tuple[int, str]]]:
        return slices[0].case, [(pair.slice_index, pair.image_digest) for pair in slices]

    by_rater = manifest.grouped([pair for pair in pairs if pair.split == split], "case", "rater")
    cases = [list(drawings) for _, drawings in groupby(by_rater, pictures)]
    return tqdm(cases, f"evaluate {dataset}: {split}", unit="case", disable=None, leave=False)


def _found(
    dataset: str,
    scored: Sequence[Scored],
    choices: Mapping[int, Choice],
    worst: Sequence[Scored],
    facts: Dataset,
    settings: params.Params,
    resamples: Resamples,
) -> dict[str, Any]:
    """Everything that is told of the run, as it stands in scores.json."""
    rows = summary.rows(scored, facts.label_map, resamples)
    if not any(choice.kept for choice in choices.values()):
        del rows["before_postprocessing"]
    patients = len(resamples.patients)
    names = {label.id: label.name for label in facts.label_map}
    return {
        "dataset": dataset,
        "test_cases": len(scored),
        "test_patients": patients,
        "slices_left_out": sum(one.slices_left_out for one in scored),
        **rows,
        "calibration": summary.calibration(scored, resamples),
        "raters": summary.raters(scored, facts.label_map, resamples),
        "postprocessing": {
            names[label]: {
                **asdict(choice.rule),
                "gain": number(choice.gain),
                "low": number(choice.low),
                "high": number(choice.high),
                "valid_patients": choice.patients,
                "kept": choice.kept,
            }
            for label, choice in choices.items()
        },
        "worst": [
            {
                "case": one.case,
                "rater": one.rater,
                "picture": one.shown,
                "dice": number(one.dice),
            }
            for one in worst
        ],
        "parameters": {
            "convert": {
                "label_table": settings.convert.label_table,
                "raters": settings.convert.raters,
            },
            "evaluate": {  # how many slices are predicted at once moves no score
                name: value
                for name, value in asdict(settings.evaluate).items()
                if name != "batch_slices"
            },
        },
        "definitions": _definitions(any(one.planar for one in scored), patients, settings),
        "versions": {
            "python": platform.python_version(),
            "backend": keras.backend.backend(),
            **{name: _version(name) for name in _VERSIONS if _version(name)},
        },
    }


def _definitions(planar: bool, patients: int, settings: params.Params) -> dict[str, str]:
    """How the numbers came about, in words: they stand beside them wherever they are shown."""
    few = f"; {patients} patients are too few for an interval to be trusted" * (patients < FEW)
    where = "slice by slice, in pixels (the source states no mm)" if planar else "in 3-D, in mm"
    return {
        "unit": "case, in the source's own grid; background left out",
        "interval": f"95 %, percentiles of {RESAMPLES} bootstrap resamples of patients{few}",
        "empty_masks": EMPTY_POLICY,
        "distances": f"between surface voxels, {where}; HD95 is the larger direction's percentile",
        "nsd_tolerance": f"{settings.evaluate.nsd_tolerance_mm:g} {'px' if planar else 'mm'}",
        "lesions": "components by corners; found if one voxel of a lesion is predicted, false if"
        " a predicted component touches none",
        "ece": f"{scores.BINS} bins of the likeliest class, over the pixels at training size whose"
        " truth or prediction is foreground",
        "ancestors": "mean over slices at training size; background counts as a class",
    }


def _metrics(found: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers that `dvc metrics` shows and compares."""
    model, nothing = found["model"], found["all_background"]
    dice = model["mean_foreground"]["dice"]
    return {
        "mean_foreground_dice": dice["mean"],
        "low": dice["low"],
        "high": dice["high"],
        "dice": {name: one["dice"]["mean"] for name, one in model["classes"].items()},
        "nsd": model["mean_foreground"]["nsd"]["mean"],
        "ece": found["calibration"]["ece"]["mean"],
        "ancestors_dice_coef_multiclass": model["ancestors"]["dice_coef_multiclass"],
        "all_background": {
            "mean_foreground_dice": nothing["mean_foreground"]["dice"]["mean"],
            "ancestors_dice_coef_multiclass": nothing["ancestors"]["dice_coef_multiclass"],
        },
        "test_patients": found["test_patients"],
    }


def _worst(predictions: Path, scored: Sequence[Scored], count: int) -> list[Scored]:
    """The cases of lowest mean foreground Dice, lowest first; other cases' pictures are removed."""
    known = [one for one in scored if not math.isnan(one.dice)]
    worst = sorted(known, key=lambda one: (one.dice, one.case, one.rater))[:count]
    kept = {one.shown for one in worst}
    for file in (predictions / paths.WORST).glob("*.png"):
        if file.stem not in kept:
            file.unlink()
    return worst


def _draw_overlays(predictions: Path, folder: Path, facts: Dataset) -> None:
    for kind in (paths.MINI_TEST, paths.WORST):
        for file in sorted((predictions / kind).glob("*.png")):
            image, mask = (
                folder / "test" / part / file.name for part in (paths.IMAGES, paths.MASKS)
            )
            scoring_pictures.draw_overlay(
                predictions / paths.OVERLAYS / kind / file.name,
                png.read_image(image),
                png.read_mask(mask, facts.label_map),
                png.read_mask(file, facts.label_map),
                facts.label_map,
            )


def _batches(slices: Drawings, count: int) -> Iterator[Drawings]:
    for start in range(0, len(slices), count):
        yield slices[start : start + count]


def _version(package: str) -> str:
    """The installed version; "" where it is not installed (tensorflow-cpu counts as tensorflow)."""
    for name in (package, f"{package}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _write_per_case(file: Path, scored: Sequence[Scored], facts: Dataset) -> None:
    rows = []
    for one in scored:
        for label, told in zip(facts.label_map.foreground, one.mended, strict=True):
            values = ["" if math.isnan(v) else f"{v:.6f}" for v in told.row().values()]
            overlap, lesions, healthy = told.overlap, told.lesions, told.healthy
            rows.append(
                (
                    *(one.patient, one.case, one.rater, label.name),
                    *values,
                    *(overlap.truth, overlap.predicted, overlap.both),
                    *(f"{told.truth_ml:.6f}", f"{told.predicted_ml:.6f}"),
                    *(lesions.truth, lesions.found, lesions.false),
                    *(healthy.slices, healthy.marked),
                )
            )
    head = ("patient", "case", "rater", "class", *SCORES, "truth", "predicted", "both", "truth_ml")
    more = ("predicted_ml", "lesions", "lesions_found", "lesions_false")
    _write_table(file, (*head, *more, "healthy_slices", "healthy_marked"), rows)


def _write_table(file: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with (
        files.replacing(file) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    with files.replacing(file) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")


def _tell(dataset: str, found: Mapping[str, Any]) -> None:
    told = f"{found['test_cases']} test cases of {found['test_patients']} patients"
    print(f"evaluate {dataset}: {told}; {found['definitions']['interval']}")
    for row in ("model", "before_postprocessing", "all_background"):
        if row not in found:
            continue
        one = found[row]
        print(
            f"  {row:21} mean foreground Dice {summary.told(one['mean_foreground']['dice'])},"
            f" ancestors' dice_coef_multiclass {one['ancestors']['dice_coef_multiclass']:.4f}"
        )
    for name, one in found["model"]["classes"].items():
        print(
            f"  {name:21} Dice {summary.told(one['dice'])}, HD95 {summary.told(one['hd95_mm'], 1)},"
            f" NSD {summary.told(one['nsd'])}, lesion F1 {summary.told(one['lesion_f1'])}"
        )
    for name, one in found["postprocessing"].items():
        if one["kept"]:
            print(f"  {name}: post-processing kept, {one['gain']:+.4f} Dice on valid")
    print(f"  Empty masks: {EMPTY_POLICY}.")
