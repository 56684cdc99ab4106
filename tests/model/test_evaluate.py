"""Scores and predictions in the source's own grid, with networks whose answers are known."""

from __future__ import annotations

import base64
import csv
import json
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import generate_uid
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score

import datasets_spec
from datasets_spec.contract import Case
from model import params as params_reader
from model.evaluate import evaluate
from model.flexunet import flexunet
from model.inference.member import Member
from model.inference.predictor import Predictor
from model.scoring import choose
from model.scoring.scores import EMPTY_POLICY, SCORES
from pipeline import paths
from pipeline.api import read_scan
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import manifest, png, pseudonyms
from pipeline.pairs.manifest import Pair
from pipeline.runtime import imports, modelfile
from pipeline.split import split
from pipeline.splits.placement import assign
from pipeline.volumes import nifti
from pipeline.volumes.volume import slices, unslice
from tests.conftest import FIXTURES, Refused
from tests.pipeline.volumes.dicom.test_assemble import write_series
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

LABEL_MAP = datasets_spec.load(cohort.DATASET).dataset.label_map
FOREGROUND = [label.name for label in LABEL_MAP.foreground]
RUN = paths.run(cohort.DATASET)
PAIRS = paths.dataset(cohort.DATASET)
Picture = NDArray[np.uint8]
Answer = Callable[[Picture], Picture]
Predict = Callable[[Answer], None]
at_both_sizes = pytest.mark.parametrize("settings", [64, 32], indirect=True)
_HALF_TEST = {"split.shares": {"train": 0.25, "valid": 0.25, "test": 0.5}}


@pytest.fixture
def settings(request: pytest.FixtureRequest, workplace: Path) -> params_reader.Params:
    """A prepared cohort of 64 pixels and a network on disk, for half of that unless stated."""
    prepared = cohort.prepare(**{"train.network.image_px": getattr(request, "param", 32)})
    _save_model(prepared)
    return prepared


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Let every network answer as a function says: picture -> class ids of the same size."""

    def set_answer(answer: Answer) -> None:
        def probabilities(member: Member, pictures: Sequence[Picture]) -> NDArray[np.float32]:
            step = len(pictures[0]) // member.facts.network.image_px
            ids = np.stack(
                [answer(picture)[step // 2 :: step, step // 2 :: step] for picture in pictures]
            )
            return (ids[..., None] == np.arange(len(LABEL_MAP))).astype(np.float32)

        monkeypatch.setattr(Member, "of_pictures", probabilities)

    return set_answer


def _perfect() -> Answer:
    """Knows the mask of every picture of the valid and the test split; all others have none."""
    masks = {
        png.read_image(PAIRS / pair.split / pair.image).tobytes(): png.read_mask(
            PAIRS / pair.split / pair.mask, LABEL_MAP
        )
        for pair in manifest.read(PAIRS)
        if pair.split != "train"
    }
    return lambda picture: masks.get(picture.tobytes(), np.zeros_like(picture))


def _nothing(picture: Picture) -> Picture:
    return np.zeros_like(picture)


def _bright(picture: Picture) -> Picture:
    """Right here and there: thresholds of the brightness, the same for every patient."""
    return np.digitize(picture, [60, 140, 200]).astype(np.uint8)


def _json(name: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content: dict[str, Any] = json.loads((RUN / name).read_text("utf-8"), parse_constant=refuse)
    return content


def _metrics() -> dict[str, Any]:
    return _json(paths.METRICS)


def _found() -> dict[str, Any]:
    return _json(paths.SCORES)


def _per_case() -> list[dict[str, str]]:
    with (RUN / paths.PER_CASE).open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _test_pairs() -> list[Pair]:
    return [pair for pair in manifest.read(PAIRS) if pair.split == "test"]


def _cases() -> list[str]:
    return sorted({pair.case for pair in _test_pairs()})


def _prediction(case: str) -> Any:
    return nib.load(RUN / paths.PREDICTIONS / "native" / f"{case}.nii.gz")


def _raw(case: str, kind: str) -> Any:
    return nib.load(paths.raw(cohort.DATASET) / case / f"{case}_{kind}.nii")


def _save_model(settings: params_reader.Params, classes: int = len(LABEL_MAP)) -> None:
    save_untrained(cohort.DATASET, settings, classes)


def _choose(settings: params_reader.Params) -> None:
    """What train does at its end."""
    pairs = manifest.read(PAIRS)
    choose.write(RUN / paths.MODEL, pairs, cohort.DATASET, settings.train, settings.limits)


@at_both_sizes
def test_perfect_predictions_come_back_voxel_by_voxel(
    settings: params_reader.Params, predict: Predict
) -> None:
    """Each patient has axes and flips of their own; the way back undoes them all."""
    predict(_perfect())
    evaluate(cohort.DATASET, settings)
    exact = settings.train.network.image_px == settings.convert.image_px
    axes = set()
    for case in _cases():
        truth = np.asanyarray(_raw(case, "dseg").dataobj)
        guess = np.asanyarray(_prediction(case).dataobj)
        assert (guess == truth).mean() == 1 if exact else (guess == truth).mean() > 0.97
        axes.add(nib.aff2axcodes(_prediction(case).affine))
    assert len(axes) == len(_cases()) == 2


@at_both_sizes
def test_perfect_predictions_score_one(settings: params_reader.Params, predict: Predict) -> None:
    predict(_perfect())
    evaluate(cohort.DATASET, settings)
    model = _found()["model"]
    exact = settings.train.network.image_px == settings.convert.image_px
    assert model["reference"]["dice_coef_multiclass"] == 1
    assert model["reference"]["cross_entropy"] < 1e-6
    # at half the size an edge of a class moves by a voxel at most, and no lesion is lost
    best = {"dice": 1.0, "iou": 1.0, "nsd": 1.0, "lesion_f1": 1.0, "hd95_mm": 0.0}
    off = {
        "dice": 0.05,
        "iou": 0.1,
        "nsd": 0.01,
        "lesion_f1": 0.0,
        "hd95_mm": max(cohort.SIDES[:2]),
    }
    means = [model["mean_foreground"], *model["classes"].values()]
    assert len(means) == 1 + len(FOREGROUND)
    for score, wanted in best.items():
        for one in means:
            assert abs(one[score]["mean"] - wanted) <= (0 if exact else off[score]), score
    assert _found()["calibration"]["ece"]["mean"] == 0


def test_predictions_stand_in_the_sources_grid(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    files = sorted((RUN / paths.PREDICTIONS / "native").iterdir())
    assert [file.name for file in files] == [f"{case}.nii.gz" for case in _cases()]
    for case in _cases():
        prediction, image = _prediction(case), _raw(case, "T1w")
        assert prediction.shape == image.shape
        assert prediction.get_data_dtype() == np.uint8
        np.testing.assert_array_equal(prediction.affine, image.affine)
        np.testing.assert_array_equal(prediction.get_qform(), image.get_qform())
        assert prediction.header.get_xyzt_units() == image.header.get_xyzt_units()


@at_both_sizes
def test_scores_are_those_of_the_files_on_disk(
    settings: params_reader.Params, predict: Predict
) -> None:
    """Judged anew by scikit-learn: the prediction's file against the raw label's file."""
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    rows = {(row["case"], row["class"]): row for row in _per_case()}
    for case in _cases():
        truth = np.asanyarray(_raw(case, "dseg").dataobj).ravel()
        guess = np.asanyarray(_prediction(case).dataobj).ravel()
        for score, reference in (("dice", f1_score), ("iou", jaccard_score)):
            wanted = reference(truth, guess, average=None, labels=range(1, len(LABEL_MAP)))
            got = [float(rows[case, name][score]) for name in FOREGROUND]
            assert got == pytest.approx(wanted.tolist(), abs=1e-6)
            assert 0 < min(got) < 1
        for label in LABEL_MAP.foreground:
            row = rows[case, label.name]
            assert int(row["truth"]) == (truth == label.id).sum()
            assert int(row["predicted"]) == (guess == label.id).sum()
            assert int(row["both"]) == ((truth == label.id) & (guess == label.id)).sum()


def test_per_case_has_a_row_per_case_and_foreground_class(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    rows = _per_case()
    assert [(row["case"], row["class"]) for row in rows] == [
        (case, name) for case in _cases() for name in FOREGROUND
    ]
    assert all(row["patient"] == row["case"] and row["rater"] == "" for row in rows)


def test_means_are_those_of_the_rows(settings: params_reader.Params, predict: Predict) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    model, rows = _found()["model"], _per_case()
    for score in SCORES:
        means = []
        for name in FOREGROUND:
            summary = model["classes"][name][score]
            values = [float(row[score]) for row in rows if row["class"] == name]
            means.append(np.mean(values))
            assert summary["cases"] == len(values) == 2
            assert summary["mean"] == pytest.approx(means[-1], abs=2e-6)
            assert summary["median"] == pytest.approx(np.median(values), abs=2e-6)
            assert summary["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-5)
            assert min(values) - 2e-6 <= summary["low"] <= summary["mean"] <= summary["high"]
        assert model["mean_foreground"][score]["mean"] == pytest.approx(np.mean(means), abs=2e-6)


def test_a_network_that_finds_nothing_is_the_all_background_row(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_nothing)
    evaluate(cohort.DATASET, settings)
    found = _found()
    assert found["model"] == found["all_background"]
    assert found["model"]["mean_foreground"]["dice"]["mean"] == 0
    assert found["model"]["classes"][FOREGROUND[0]]["no_surface"] == 2


def test_all_background_row_does_not_depend_on_the_network(
    settings: params_reader.Params, predict: Predict
) -> None:
    rows = []
    for answer in (_bright, _perfect()):
        predict(answer)
        evaluate(cohort.DATASET, settings)
        rows.append(_found()["all_background"])
    assert rows[0] == rows[1]
    praised = rows[0]["reference"]["dice_coef_multiclass"]
    assert praised > 0.8  # what the reference metric gives for nothing
    assert _metrics()["all_background"] == {
        "mean_foreground_dice": 0,
        "reference_dice_coef_multiclass": praised,
    }


@at_both_sizes
def test_the_reference_metric_is_a_mean_over_slices(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_nothing)
    evaluate(cohort.DATASET, settings)
    px = settings.train.network.image_px
    step = settings.convert.image_px // px
    wanted = []
    for pair in _test_pairs():
        mask = png.read_mask(PAIRS / "test" / pair.mask, LABEL_MAP)
        background = (mask[step // 2 :: step, step // 2 :: step] == 0).sum()
        wanted.append((2 * background + 1) / (2 * px**2 + 1))
    got = _found()["all_background"]["reference"]["dice_coef_multiclass"]
    assert got == pytest.approx(np.mean(wanted), abs=1e-6)


def test_calibration_leaves_the_masks_and_is_stated_before_and_after(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is right in four of five pixels of each class, and sure in all."""
    settings = cohort.prepare(patients=10, **_MANY_VALID, **{"train.postprocess": False})
    _save_model(settings)

    def answer(_: Member, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        ids = np.stack([_bright(picture) for picture in pictures])
        fifth = np.add.outer(np.arange(64), 2 * np.arange(64)) % 5 == 0
        ids = np.where(fifth & (ids > 0), ids % 3 + 1, ids)
        sure = (ids[..., None] == np.arange(len(LABEL_MAP))) * 0.97 + 0.01
        return (sure / sure.sum(axis=-1, keepdims=True)).astype(np.float32)

    monkeypatch.setattr(Member, "of_pictures", answer)
    evaluate(cohort.DATASET, settings)
    plain, masks = _found(), _native()
    assert plain["calibration"]["before"] is None
    assert plain["calibration"]["temperatures"] is None
    _choose(settings)
    evaluate(cohort.DATASET, settings)
    found = _found()["calibration"]
    assert _native() == masks
    assert list(found["temperatures"]) == [label.name for label in LABEL_MAP]
    for name in ("ece", "bins", "near", "nll"):
        assert found["before"][name] == plain["calibration"][name]
    assert found["near"]["ece"]["mean"] < 0.05 < found["before"]["near"]["ece"]["mean"]
    assert found["nll"]["mean"] < found["before"]["nll"]["mean"]
    metrics = _metrics()
    assert (metrics["ece"], metrics["nll"]) == (found["ece"]["mean"], found["nll"]["mean"])
    with (RUN / paths.CALIBRATION).open(newline="") as stream:
        bins = list(csv.DictReader(stream))
    for suffix, one in (("", found), ("_before", found["before"])):
        pixels = [int(row[f"pixels{suffix}"] or 0) for row in bins]
        assert sum(pixels) == sum(row["pixels"] for row in one["near"]["bins"]) > 0
    rows = _per_case()
    assert all(0 < float(row["expected_dice"]) < 1 for row in rows if float(row["predicted"]))


def _native() -> dict[str, bytes]:
    """The predictions in the source's grid."""
    files = sorted((RUN / paths.PREDICTIONS / paths.NATIVE).rglob("*"))
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def test_metrics_are_few_and_scores_say_how_they_came_about(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    metrics, found = _metrics(), _found()
    dice = found["model"]["mean_foreground"]["dice"]
    assert list(metrics) == [
        "mean_foreground_dice",
        "low",
        "high",
        "dice",
        "nsd",
        "ece",
        "ece_near",
        "nll",
        "error_auroc",
        "expected_dice_spearman",
        "reference_dice_coef_multiclass",
        "all_background",
        "test_patients",
    ]
    assert [metrics[name] for name in list(metrics)[:3]] == [
        dice[name] for name in ("mean", "low", "high")
    ]
    assert list(metrics["dice"]) == FOREGROUND
    assert (found["test_cases"], found["test_patients"]) == (2, 2)
    summary = found["definitions"]
    assert "case" in summary["unit"]
    assert summary["empty_masks"] == EMPTY_POLICY
    assert summary["nsd_tolerance"] == "1 mm"
    assert "3-D" in summary["distances"]
    assert "2 patients are too few" in summary["interval"]
    assert {"python", "keras", "numpy"} <= set(found["versions"])


def test_dice_is_stated_by_stratum(settings: params_reader.Params, predict: Predict) -> None:
    pairs = manifest.read(PAIRS)
    site = {pair.patient: f"site of {pair.patient}" for pair in pairs}
    manifest.write(
        PAIRS,
        [replace(p, strata=manifest.strata_text({"site": site[p.patient]})) for p in pairs],
    )
    _save_model(settings)
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    found = _found()["strata"]["site"]
    assert len(found) == 2
    dice = [one["dice_mean"] for one in found.values()]
    assert [one["cases"] for one in found.values()] == [1, 1]
    assert np.mean(dice) == pytest.approx(
        _found()["model"]["mean_foreground"]["dice"]["mean"], abs=1e-5
    )


def test_distances_are_those_of_the_files_on_disk(
    settings: params_reader.Params, predict: Predict
) -> None:
    """Measured anew between the world coordinates of all surface voxels of both files."""
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    rows = {(row["case"], row["class"]): row for row in _per_case()}
    for case in _cases():
        files = _raw(case, "dseg"), _prediction(case)
        for label in LABEL_MAP.foreground:
            places = []
            for file in files:
                mask = np.asanyarray(file.dataobj) == label.id
                edge = np.argwhere(mask & ~ndimage.binary_erosion(mask))
                places.append(nib.affines.apply_affine(file.affine, edge))
            table = cdist(*places)
            near = [table.min(axis=1), table.min(axis=0)]
            row = rows[case, label.name]
            hd95 = max(np.percentile(each, 95) for each in near)
            assert float(row["hd95_mm"]) == pytest.approx(hd95, abs=1e-5)
            nsd = (np.concatenate(near) <= settings.evaluate.nsd_tolerance_mm).mean()
            assert float(row["nsd"]) == pytest.approx(nsd, abs=1e-6)
            ml = np.prod(cohort.SIDES) / 1000
            assert float(row["truth_ml"]) == pytest.approx(int(row["truth"]) * ml, abs=1e-6)


def test_confusion_counts_every_voxel_of_test(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    with (RUN / paths.CONFUSION).open(newline="", encoding="utf-8") as stream:
        rows = {
            (row["truth"], row["predicted"]): int(row["voxels"]) for row in csv.DictReader(stream)
        }
    assert len(rows) == len(LABEL_MAP) ** 2
    assert sum(rows.values()) == 2 * np.prod(cohort.SHAPE)
    for name in FOREGROUND:
        both = sum(int(row["both"]) for row in _per_case() if row["class"] == name)
        assert rows[name, name] == both
    with Image.open(RUN / paths.CONFUSION_PLOT) as picture:
        assert picture.width > 200


def _freckled() -> Answer:
    """Knows everything, and marks four pixels of air in a corner of every slice as class 1."""
    perfect = _perfect()

    def answer(picture: Picture) -> Picture:
        ids = perfect(picture).copy()
        ids[:2, :2] = 1
        return ids

    return answer


_MANY_VALID = {
    "split.shares": {"train": 0.2, "valid": 0.6, "test": 0.2},
    "train.network.image_px": 64,
}


def test_postprocessing_that_helps_on_valid_is_kept_and_both_are_shown(
    workplace: Path, predict: Predict
) -> None:
    settings = cohort.prepare(patients=10, **_MANY_VALID)
    _save_model(settings)
    predict(_freckled())
    _choose(settings)
    evaluate(cohort.DATASET, settings)
    found = _found()
    rules = found["postprocessing"]
    assert rules[FOREGROUND[0]]["kept"]
    assert rules[FOREGROUND[0]]["valid_patients"] == 6
    assert 0 < rules[FOREGROUND[0]]["low"] <= rules[FOREGROUND[0]]["gain"]
    assert not any(rules[name]["kept"] for name in FOREGROUND[1:])
    before, after = (
        found[row]["classes"][FOREGROUND[0]]["dice"]["mean"]
        for row in ("before_postprocessing", "model")
    )
    assert before < after == 1
    for case in _cases():
        truth = np.asanyarray(_raw(case, "dseg").dataobj)
        assert (np.asanyarray(_prediction(case).dataobj) == truth).all()


def _state_rule(**rule: object) -> None:
    """Let the card state what its few patients could not show."""
    card = json.loads((PAIRS / paths.CARD).read_text("utf-8"))
    card["label_rules"]["rules"] = [rule]
    (PAIRS / paths.CARD).write_text(json.dumps(card), "utf-8")


def test_predictions_obey_a_label_rule_that_helps_on_valid(
    workplace: Path, predict: Predict
) -> None:
    settings = cohort.prepare(patients=10, **_MANY_VALID)
    _save_model(settings)
    predict(_freckled())
    _state_rule(kind="once", classes=[1], normal=[], free=False)
    _choose(settings)
    evaluate(cohort.DATASET, settings)
    found = _found()
    [rule] = found["label_rules"]
    assert rule["kept"]
    assert rule["valid_patients"] == 6
    assert rule["words"] == f"{FOREGROUND[0]} is one piece"
    assert not any(one["kept"] for one in found["postprocessing"].values())  # nothing is left
    assert found["before_postprocessing"]["mean_foreground"]["dice"]["mean"] < 1
    assert found["model"]["mean_foreground"]["dice"]["mean"] == 1
    predictor = Predictor.of([RUN / paths.MODEL])
    [obeyed] = predictor.label_rules
    for case in _cases():
        truth = np.asanyarray(_raw(case, "dseg").dataobj)
        assert (np.asanyarray(_prediction(case).dataobj) == truth).all()
        image = read_scan(paths.raw(cohort.DATASET) / case / f"{case}_T1w.nii")
        stack = slices(image.grid.to_ras(truth), "axial").copy()
        stack[0, 0, :2] = obeyed.classes[0]  # predict does what evaluate does
        corrected = predictor.postprocessed(stack, image)
        assert np.array_equal(image.grid.from_ras(unslice(corrected, "axial")), truth)


@pytest.mark.parametrize("classes", [[9], ["1"], 3])
def test_a_card_of_nonsense_is_named(
    settings: params_reader.Params, predict: Predict, refused: Refused, classes: object
) -> None:
    predict(_nothing)
    _state_rule(kind="twice", classes=classes, normal=[], free=False)
    problem = refused(lambda: _choose(settings))
    assert "expected the label rules of the dataset" in problem.what
    assert "python -m pipeline split" in problem.remedy


def test_postprocessing_is_never_chosen_on_test(workplace: Path, predict: Predict) -> None:
    """Freckles on test alone stay: nothing that valid shows speaks for their removal."""
    settings = cohort.prepare(patients=10, **_MANY_VALID)
    _save_model(settings)
    perfect, freckled = _perfect(), _freckled()
    tests = {png.read_image(PAIRS / "test" / pair.image).tobytes() for pair in _test_pairs()}
    predict(lambda picture: (freckled if picture.tobytes() in tests else perfect)(picture))
    _choose(settings)
    evaluate(cohort.DATASET, settings)
    found = _found()
    assert not any(rule["kept"] for rule in found["postprocessing"].values())
    assert "before_postprocessing" not in found
    assert found["model"]["classes"][FOREGROUND[0]]["dice"]["mean"] < 1
    negative = found["model"]["classes"][FOREGROUND[0]]["negative"]
    assert 0 < negative["slices_marked"] == negative["slices"]
    assert negative["false_ml_per_slice"] > 0


def test_postprocessing_can_be_switched_off(workplace: Path, predict: Predict) -> None:
    settings = cohort.prepare(patients=10, **_MANY_VALID)
    _save_model(settings)
    predict(_freckled())
    _choose(replace(settings, train=replace(settings.train, postprocess=False)))
    evaluate(cohort.DATASET, settings)
    assert _found()["postprocessing"] == {}


def test_evaluate_asks_about_test_alone(settings: params_reader.Params, predict: Predict) -> None:
    asked: set[str] = set()
    perfect = _perfect()
    valid = {
        png.read_image(PAIRS / "valid" / pair.image).tobytes()
        for pair in manifest.read(PAIRS)
        if pair.split == "valid"
    }

    def answer(picture: Picture) -> Picture:
        asked.add("valid" if picture.tobytes() in valid else "test")
        return perfect(picture)

    predict(answer)
    evaluate(cohort.DATASET, settings)
    assert asked == {"test"}


def test_worst_cases_are_kept_as_pictures_lowest_first(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_bright)
    changed = replace(settings, evaluate=replace(settings.evaluate, worst_cases=1))
    evaluate(cohort.DATASET, changed)
    [worst] = _found()["worst"]
    means = {
        case: np.mean([float(row["dice"]) for row in _per_case() if row["case"] == case])
        for case in _cases()
    }
    assert worst["case"] == min(means, key=lambda case: means[case])
    assert worst["dice"] == pytest.approx(min(means.values()), abs=1e-6)
    predictions = RUN / paths.PREDICTIONS
    best, median = _found()["best"], _found()["median"]
    assert best["case"] == max(means, key=lambda case: means[case])
    middle = sorted(means.values())[len(means) // 2]
    assert means[median["case"]] == pytest.approx(middle)
    shown = {one["picture"] for one in (worst, median, best)}
    assert {mask.stem for mask in (predictions / paths.EXAMPLES).iterdir()} == shown
    overlays = sorted((predictions / paths.OVERLAYS / paths.EXAMPLES).iterdir())
    assert {one.stem for one in overlays} == shown
    with Image.open(overlays[0]) as picture:
        assert picture.size == (3 * 64 + 2 * 4, 64 + 22 + 4)  # a title above, a gap below


def _scrolled(case: str) -> dict[str, Any]:
    """What the page of a test case shows: its class ids and the truth, (N, H, W) each."""
    folder = RUN / paths.PREDICTIONS / "view" / case
    record = json.loads((folder / "record.json").read_text("utf-8"))
    layers: dict[str, Any] = {"ids": [], "truth": []}
    for file in sorted(folder.glob("0*.js")):
        part = json.loads(file.read_text("utf-8")[len("viewerPart(") : -len(");\n")])
        for name, found in layers.items():
            for packed in part[name]:
                ids = np.zeros(record["grid"], np.uint8)
                if packed:
                    ids.flat = np.frombuffer(zlib.decompress(base64.b64decode(packed)), np.uint8)
                found.append(ids)
    return {"record": record, **{name: np.stack(slices) for name, slices in layers.items()}}


def test_a_test_case_is_scrolled_with_truth_and_prediction(
    settings: params_reader.Params, predict: Predict
) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    rows = _per_case()
    for case in _cases():
        seen = _scrolled(case)
        for kind, wanted in (("ids", _prediction(case)), ("truth", _raw(case, "dseg"))):
            upright = nib.as_closest_canonical(wanted)
            shown = seen[kind][:, ::-1, ::-1].transpose(2, 1, 0)
            np.testing.assert_array_equal(shown, np.asanyarray(upright.dataobj))
        measures = seen["record"]["facts"]["measures"]
        own = [row for row in rows if row["case"] == case]
        for one, row in zip(measures, own, strict=True):
            assert one["class"] == row["class"]
            assert one["dice"] == pytest.approx(float(row["dice"]), abs=1e-4)
            assert one["truth_ml"] == pytest.approx(float(row["truth_ml"]), abs=1e-5)


@pytest.mark.parametrize("most", [0, 1])
def test_no_more_cases_are_scrolled_than_wanted(
    most: int, settings: params_reader.Params, predict: Predict
) -> None:
    predict(_bright)
    changed = replace(settings, evaluate=replace(settings.evaluate, viewed_cases=most))
    evaluate(cohort.DATASET, changed)
    view = RUN / paths.PREDICTIONS / "view"
    kept = sorted(one.name for one in view.iterdir() if one.is_dir()) if most else []
    assert kept == [_found()["worst"][0]["case"]][:most]
    assert view.exists() == (RUN / paths.PREDICTIONS / "index.html").exists() == bool(most)


def test_class_that_is_nowhere_is_left_out_and_counted(workplace: Path, predict: Predict) -> None:
    settings = cohort.prepare(classes=3, **{"train.network.image_px": 64})
    _save_model(settings)
    predict(_perfect())
    evaluate(cohort.DATASET, settings)
    model = _found()["model"]
    missing = model["classes"][FOREGROUND[2]]
    nothing = {**dict.fromkeys(("mean", "low", "high", "median", "sd")), "cases": 0}
    assert [missing[score] for score in SCORES] == [nothing] * len(SCORES)
    assert (missing["both_empty"], missing["no_surface"]) == (2, 0)
    assert missing["negative"]["cases"] == 2
    assert _metrics()["mean_foreground_dice"] == 1
    blank = [row for row in _per_case() if row["class"] == FOREGROUND[2]]
    assert [(row["dice"], row["iou"], row["truth"]) for row in blank] == [("", "", "0")] * 2


def test_class_that_is_invented_scores_zero(workplace: Path, predict: Predict) -> None:
    settings = cohort.prepare(classes=3, **{"train.network.image_px": 64})
    _save_model(settings)
    predict(lambda picture: np.full_like(picture, 3))
    evaluate(cohort.DATASET, settings)
    invented = _found()["model"]["classes"][FOREGROUND[2]]
    assert (invented["dice"]["mean"], invented["both_empty"], invented["no_surface"]) == (0, 0, 2)
    negative = invented["negative"]
    assert (negative["cases"], negative["cases_marked"]) == (2, 2)
    volume = np.prod(cohort.SHAPE) * np.prod(cohort.SIDES) / 1000
    assert negative["false_ml_per_case"] == pytest.approx(volume, rel=1e-5)


@pytest.mark.parametrize("slices", [1, 4])
def test_scores_do_not_depend_on_the_batch(
    slices: int,
    settings: params_reader.Params,
    predict: Predict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    predict(_bright)
    for batch in (32, slices):
        monkeypatch.setattr(Member, "at_once", batch)
        evaluate(cohort.DATASET, settings)
        found.append([(RUN / name).read_bytes() for name in paths.SCORED])
    assert found[0] == found[1]


def test_dicom_predictions_come_back_to_each_instance(
    workplace: Path, predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cohort.write_params(**{"train.network.image_px": 64})
    cases = [_dicom_case(f"sub-{number:02d}", number) for number in range(3)]
    adapter = replace(datasets_spec.load(cohort.DATASET), cases=lambda _: iter(cases))
    monkeypatch.setattr(datasets_spec, "load", lambda _: adapter)
    cohort.make_pairs(settings)
    _save_model(settings)
    predict(_perfect())
    evaluate(cohort.DATASET, settings)
    [case] = _cases()
    truth = {
        str(header.SOPInstanceUID): header.pixel_array
        for header in map(pydicom.dcmread, (paths.raw(cohort.DATASET) / case / "scan").iterdir())
    }
    files = sorted((RUN / paths.PREDICTIONS / "native" / case).iterdir())
    assert [file.stem for file in files] == sorted(truth)
    for file in files:
        assert np.array_equal(png.read_mask(file, LABEL_MAP), truth[file.stem] // 100)
    assert np.asanyarray(_prediction(case).dataobj).shape == (10, 12, 5)


def _dicom_case(name: str, number: int, tilt: float = 0) -> Case:
    """A patient whose scan shows each class as 100 times its id, and whose label is a series."""
    drawn = np.random.default_rng(number).integers(0, len(LABEL_MAP), (5, 12, 10))

    def storing(pixels: NDArray[Any], kind: str) -> Any:
        def change(header: pydicom.Dataset, index: int) -> None:
            header.SeriesInstanceUID = generate_uid(entropy_srcs=[name, kind])
            header.Modality = "MR"
            header.RescaleSlope, header.RescaleIntercept = 1, 0
            header.PixelData = pixels[index].astype(np.int16).tobytes()

        return change

    folder = paths.raw(cohort.DATASET) / name
    write_series(folder / "scan", change=storing(drawn * 100 + number, "scan"), tilt=tilt)
    write_series(folder / "mask", change=storing(drawn, "mask"), tilt=tilt)
    return Case(name, name, folder / "scan", {"": folder / "mask"})


def _several_raters(raters: str) -> tuple[str, params_reader.Params]:
    """The fixture of mbh_seg25 with a rater more, who draws one voxel beside another."""
    name = "mbh_seg25"
    shutil.copytree(FIXTURES / name / "raw", paths.raw(name))
    for image in paths.raw(name).rglob("image.nii.gz"):
        drawn = nib.load(min(image.parent.glob("label_annot_*.nii.gz")))
        beside = np.roll(np.asanyarray(drawn.dataobj), 1, axis=0)
        nib.save(nib.Nifti1Image(beside, drawn.affine), image.parent / "label_annot_5.nii.gz")
    return name, _untrained(name, **{"convert.raters": raters})


def _untrained(name: str, **overrides: Any) -> params_reader.Params:
    """All stages before train on the raw data that lies here, and a network as it begins."""
    cohort.write_params(**overrides)
    content = yaml.safe_load(paths.PARAMS.read_text("utf-8"))
    content["datasets"] = {name: None}
    paths.PARAMS.write_text(yaml.safe_dump(content), "utf-8")
    settings = params_reader.load(name)
    for stage in (convert, augment):
        stage(name, settings, 1)
    split(name, settings)
    save_untrained(name, settings)
    return settings


def test_pictures_without_geometry_are_scored_slice_by_slice_in_pixels(workplace: Path) -> None:
    name = "phe_sich_ct_ids"
    shutil.copytree(FIXTURES / name / "raw", paths.raw(name))
    evaluate(name, _untrained(name))
    found = json.loads((paths.run(name) / paths.SCORES).read_text("utf-8"))
    assert "slice by slice, in pixels" in found["definitions"]["distances"]
    assert found["definitions"]["nsd_tolerance"] == "1 px"
    with (paths.run(name) / paths.PER_CASE).open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            assert float(row["truth_ml"]) == pytest.approx(int(row["truth"]) / 1000)


def test_slices_that_split_left_out_are_background_and_counted(
    settings: params_reader.Params, predict: Predict
) -> None:
    pairs = manifest.read(PAIRS)
    gone = next(pair for pair in pairs if pair.split == "test" and pair.empty)
    predict(_perfect())
    manifest.write(PAIRS, [pair for pair in pairs if pair != gone])
    _save_model(settings)
    evaluate(cohort.DATASET, settings)
    assert _found()["slices_left_out"] == 1
    assert _prediction(gone.case).shape == _raw(gone.case, "dseg").shape


def test_the_model_stands_beside_every_rater_and_the_human_ceiling(workplace: Path) -> None:
    name, settings = _several_raters("majority")
    evaluate(name, settings)
    adapter = datasets_spec.load(name)
    found = json.loads((paths.run(name) / paths.SCORES).read_text("utf-8"))["raters"]
    cases = {case.id: case for case in adapter.cases(paths.raw(name))}
    several = {
        pair.case: pair
        for pair in manifest.read(paths.dataset(name))
        if pair.split == "test" and pair.raters > 1
    }
    assert found["cases"] == len(several) > 0
    for label in adapter.dataset.label_map.foreground:
        summary = found["classes"][label.name]
        humans = [pair.agreement[label.id] for pair in several.values()]
        known = [value for value in humans if not np.isnan(value)]
        assert summary["between_raters"]["mean"] == (
            pytest.approx(np.mean(known), abs=1e-6) if known else None
        )
        each: dict[str, list[float]] = {}
        for case in several:
            file = paths.run(name) / paths.PREDICTIONS / "native" / f"{case}.nii.gz"
            guess = np.asanyarray(nib.load(file).dataobj) == label.id
            for rater, picture in cases[case].labels.items():
                truth = np.asanyarray(nib.load(picture).dataobj) == label.id
                if truth.any() or guess.any():
                    dice = f1_score(truth.ravel(), guess.ravel(), zero_division=0)
                    each.setdefault(rater, []).append(float(dice))
        for rater, values in each.items():
            assert summary["model_and_each"][rater] == pytest.approx(np.mean(values), abs=1e-6)


def test_each_rater_is_a_row_of_its_own_where_pairs_are(workplace: Path) -> None:
    name, settings = _several_raters("each")
    evaluate(name, settings)
    with (paths.run(name) / paths.PER_CASE).open(newline="", encoding="utf-8") as stream:
        rows = {(row["case"], row["rater"]) for row in csv.DictReader(stream)}
    pairs = [pair for pair in manifest.read(paths.dataset(name)) if pair.split == "test"]
    assert rows == {(pair.case, pair.rater) for pair in pairs}
    assert any(rater for _, rater in rows)


@pytest.mark.parametrize("raters", ["majority", "each"])
def test_a_case_is_read_and_predicted_once_for_all_raters(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, raters: str
) -> None:
    name, settings = _several_raters(raters)
    read: list[Path] = []
    asked = 0
    read_file = nifti.read

    def noted(file: Path, *more: Any) -> Any:
        read.append(file)
        return read_file(file, *more)

    def nothing(member: Member, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        nonlocal asked
        asked += len(pictures)
        px = member.facts.network.image_px
        shape = (len(pictures), px, px, 6)
        return np.broadcast_to(np.eye(6, dtype=np.float32)[0], shape)

    monkeypatch.setattr(nifti, "read", noted)
    monkeypatch.setattr(Member, "of_pictures", nothing)
    evaluate(name, settings)
    judged = [pair for pair in manifest.read(paths.dataset(name)) if pair.split == "test"]
    assert asked == len({(pair.case, pair.slice_index) for pair in judged})
    assert len(read) == len(set(read)) > len({pair.case for pair in judged})


def test_mini_test_is_predicted_as_indexed_masks(
    settings: params_reader.Params, predict: Predict
) -> None:
    stale = RUN / paths.PREDICTIONS / paths.MINI_TEST / "stale.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    answer = _perfect()
    predict(answer)
    evaluate(cohort.DATASET, settings)
    images = sorted((PAIRS / paths.MINI_TEST / paths.IMAGES).iterdir())
    masks = sorted((RUN / paths.PREDICTIONS / paths.MINI_TEST).iterdir())
    assert [file.name for file in masks] == [file.name for file in images]
    for image, mask in zip(images, masks, strict=True):
        with Image.open(mask) as picture:
            assert picture.mode == "P"
        ids = png.read_mask(mask, LABEL_MAP)
        assert (ids == answer(png.read_image(image))).mean() > 0.95


def test_a_real_network_is_asked_about_every_slice(workplace: Path) -> None:
    settings = cohort.prepare(**{"train.network.channels": 3})
    _save_model(settings)
    evaluate(cohort.DATASET, settings)
    metrics = _metrics()
    assert 0 <= metrics["mean_foreground_dice"] < 1
    assert metrics["test_patients"] == 2


def test_case_whose_name_looks_like_anothers_slice_stays_whole(
    workplace: Path, predict: Predict
) -> None:
    """Pair ids sort all of "sub-01_0002" among the slices of "sub-01"."""
    cohort.write_raw(patients=3)
    cohort.write_patient(paths.raw(cohort.DATASET) / "sub-01_0002", 7)
    settings = cohort.write_params(
        **{"train.network.image_px": 64, "split.seed": _twins_seed(), **_HALF_TEST}
    )
    cohort.make_pairs(settings)
    assert _cases() == ["sub-01", "sub-01_0002"]
    _save_model(settings)
    predict(_perfect())
    evaluate(cohort.DATASET, settings)
    assert _found()["test_cases"] == 2


def _twins_seed() -> int:
    """A seed of ``split`` that puts exactly the two patients of like name into test."""
    names = ["sub-01", "sub-01_0002", "sub-02", "sub-03"]
    pairs = [cohort.pair(f"{name}_0000") for name in names]
    settings = cohort.write_params(Path("any.yaml"), **_HALF_TEST).split
    for seed in range(1000):
        places = assign(cohort.DATASET, pairs, replace(settings, seed=seed))
        if [name for name in names if places[name] == "test"] == names[:2]:
            return seed
    raise AssertionError("expected one seed in a thousand to do it")


def test_missing_model_is_refused(workplace: Path, refused: Refused) -> None:
    settings = cohort.prepare()
    problem = refused(lambda: evaluate(cohort.DATASET, settings))
    assert problem.where == str(RUN / paths.MODEL)
    assert f"python -m model train {cohort.DATASET}" in problem.remedy


@pytest.mark.parametrize(
    ("changes", "classes", "named"),
    [
        ({"train.network.image_px": 64}, 4, "image_px 32, got one of 64"),
        ({"train.network.channels": 3}, 4, "channels 1, got one of 3"),
        ({"train.network.activation": "gelu"}, 4, "activation 'relu', got one of 'gelu'"),
        ({"convert.mr_percentiles": [1, 99]}, 4, "{'percentiles': [0.5, 99.5]}, got one of"),
        ({}, 3, "labels [[0, 'background', [0, 0, 0]]"),
    ],
    ids=["size", "channels", "activation", "window", "classes"],
)
def test_model_made_for_something_else_is_refused(
    changes: dict[str, Any], classes: int, named: str, workplace: Path, refused: Refused
) -> None:
    settings = cohort.prepare()
    _save_model(cohort.write_params(Path("other.yaml"), **changes), classes)
    problem = refused(lambda: evaluate(cohort.DATASET, settings))
    assert named in problem.what
    assert "rain" in problem.remedy
    assert not (RUN / paths.METRICS).exists()


def test_model_of_another_split_is_refused(workplace: Path, refused: Refused) -> None:
    """It could have learnt from the patients that it is now judged by."""
    settings = cohort.prepare()
    _save_model(settings)
    manifest.write(PAIRS, [pair for pair in manifest.read(PAIRS) if pair.split != "valid"])
    assert "dataset_digest" in refused(lambda: evaluate(cohort.DATASET, settings)).what


def test_model_of_settings_that_its_pairs_do_not_show_is_taken(
    workplace: Path, predict: Predict
) -> None:
    """The dataset's digest stands for how the pairs were made."""
    settings = cohort.prepare()
    _save_model(cohort.write_params(Path("other.yaml"), **{"split.seed": 1, "augment.seed": 1}))
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    assert (RUN / paths.METRICS).is_file()


def test_model_that_says_nothing_of_itself_is_refused(workplace: Path, refused: Refused) -> None:
    settings = cohort.prepare()
    RUN.mkdir(parents=True)
    flexunet(settings.train.network, 4).save(RUN / paths.MODEL)
    problem = refused(lambda: evaluate(cohort.DATASET, settings))
    assert modelfile.PROVENANCE in problem.what
    assert f"python -m model train {cohort.DATASET}" in problem.remedy


def test_missing_dataset_is_refused(workplace: Path, refused: Refused) -> None:
    settings = cohort.write_params()
    assert str(PAIRS) in refused(lambda: evaluate(cohort.DATASET, settings)).where


@pytest.mark.parametrize("name", ["label.nii.gz", "truth.json"])
def test_labels_that_are_not_those_of_the_pairs_are_named(
    name: str, settings: params_reader.Params, predict: Predict, refused: Refused
) -> None:
    predict(_bright)
    one, other = (paths.converted(cohort.DATASET) / paths.TRUTH / case / name for case in _cases())
    shutil.copy(other, one)
    problem = refused(lambda: evaluate(cohort.DATASET, settings))
    assert problem.where == str(one)
    assert f"python -m pipeline convert {cohort.DATASET}" in problem.remedy
    one.unlink()
    assert "got none" in refused(lambda: evaluate(cohort.DATASET, settings)).what


def _nifti_cohort(_: pytest.MonkeyPatch) -> str:
    cohort.prepare()
    return cohort.DATASET


def _tilted_cohort(monkeypatch: pytest.MonkeyPatch) -> str:
    """Not anonymous, so that instances have pseudonyms, and sliced across the instances."""
    cases = [_dicom_case(f"sub-{number:02d}", number, tilt=1.5) for number in range(6)]
    adapter = datasets_spec.load(cohort.DATASET)
    facts = replace(adapter.dataset, anonymous=False, plane="coronal")
    changed = replace(adapter, cases=lambda _: iter(cases), dataset=facts)
    monkeypatch.setattr(datasets_spec, "load", lambda _: changed)
    cohort.make_pairs(cohort.write_params())
    return cohort.DATASET


def _picture_cohort(_: pytest.MonkeyPatch) -> str:
    name = "phe_sich_ct_ids"
    shutil.copytree(FIXTURES / name / "raw", paths.raw(name))
    _untrained(name)
    return name


@pytest.mark.parametrize("prepare", [_nifti_cohort, _tilted_cohort, _picture_cohort])
def test_neither_raw_data_nor_the_salt_are_needed(
    prepare: Callable[[pytest.MonkeyPatch], str],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(pseudonyms.SALT_VARIABLE, "0123456789abcdef0123456789abcdef")
    name = prepare(monkeypatch)
    settings = params_reader.load(name)
    save_untrained(name, settings)
    run, found = paths.run(name), []
    for gone in (False, True):
        if gone:
            monkeypatch.delenv(pseudonyms.SALT_VARIABLE)
            for folder in (paths.raw(name), paths.IDENTITIES, paths.augmented(name)):
                shutil.rmtree(folder, ignore_errors=True)
        evaluate(name, settings)
        files = [file for file in sorted(run.rglob("*")) if file.is_file()]
        found.append({file: file.read_bytes() for file in files})
    assert found[0] == found[1]
    assert [file for file in found[0] if file.is_relative_to(run / paths.PREDICTIONS / "native")]


def test_evaluate_imports_no_reader_of_scans_and_nothing_of_identities() -> None:
    needed = {file.as_posix() for file in imports.closure("model.evaluate")}
    assert {"model/inference/member.py", "pipeline/pairs/truth.py"} <= needed
    unwanted = ("volumes/reader", "volumes/slices", "volumes/dicom/", "labels/fusion")
    unwanted += ("labels/decode", "sources/", "pairs/identities", "pairs/pseudonyms", "convert")
    assert [file for file in needed if any(f"pipeline/{part}" in file for part in unwanted)] == []
