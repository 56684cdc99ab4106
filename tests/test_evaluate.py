"""Scores and predictions in the source's own grid, with networks whose answers are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import generate_uid
from sklearn.metrics import f1_score, jaccard_score

import datasets_spec
from datasets_spec.contract import Case
from model.evaluate import evaluate
from model.flexunet import flexunet
from model.metrics import EMPTY_POLICY
from pipeline import colors, manifest, params, paths
from pipeline.manifest import Pair
from pipeline.placement import assign
from tests import cohort
from tests.conftest import Refused
from tests.test_dicom import write_series

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
def settings(request: pytest.FixtureRequest, workplace: Path) -> params.Params:
    """A prepared cohort of 64 pixels and a network on disk, for half of that if not said else."""
    prepared = cohort.prepare(**{"train.network.image_px": getattr(request, "param", 32)})
    _save_model(prepared)
    return prepared


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Predict:
    """Let every network answer as a function says: picture -> class ids of the same size."""

    def set_answer(answer: Answer) -> None:
        def probabilities(
            _: object, pictures: Sequence[Picture], network: params.Network
        ) -> NDArray[np.float32]:
            step = len(pictures[0]) // network.image_px
            ids = np.stack(
                [answer(picture)[step // 2 :: step, step // 2 :: step] for picture in pictures]
            )
            return (ids[..., None] == np.arange(len(LABEL_MAP))).astype(np.float32)

        monkeypatch.setattr("model.evaluate.probabilities", probabilities)

    return set_answer


def _perfect() -> Answer:
    """Knows the mask of every picture of the test split."""
    masks = {
        colors.read_image(PAIRS / "test" / pair.image).tobytes(): colors.read_mask(
            PAIRS / "test" / pair.mask, LABEL_MAP
        )
        for pair in _test_pairs()
    }
    return lambda picture: masks[picture.tobytes()]


def _nothing(picture: Picture) -> Picture:
    return np.zeros_like(picture)


def _bright(picture: Picture) -> Picture:
    """Right here and there: thresholds of the brightness, the same for every patient."""
    return np.digitize(picture, [60, 140, 200]).astype(np.uint8)


def _metrics() -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    text = (RUN / paths.METRICS).read_text("utf-8")
    metrics: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return metrics


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


def _save_model(settings: params.Params, classes: int = len(LABEL_MAP)) -> None:
    RUN.mkdir(parents=True, exist_ok=True)
    flexunet(settings.train.network, classes).save(RUN / paths.MODEL)


@at_both_sizes
def test_perfect_predictions_come_back_voxel_by_voxel(
    settings: params.Params, predict: Predict
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
def test_perfect_predictions_score_one(settings: params.Params, predict: Predict) -> None:
    predict(_perfect())
    evaluate(cohort.DATASET, settings)
    scores = _metrics()["model"]
    least = 1 if settings.train.network.image_px == settings.convert.image_px else 0.9
    assert least <= scores["mean_foreground_dice"] <= 1
    assert scores["dice_coef_multiclass"] == 1
    for name in FOREGROUND:
        assert least - 0.1 * (least < 1) <= scores["classes"][name]["dice_mean"] <= 1


def test_predictions_stand_in_the_sources_grid(settings: params.Params, predict: Predict) -> None:
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
def test_scores_are_those_of_the_files_on_disk(settings: params.Params, predict: Predict) -> None:
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
            assert 0 < min(got) < max(got) < 1
        for label in LABEL_MAP.foreground:
            row = rows[case, label.name]
            assert int(row["truth"]) == (truth == label.id).sum()
            assert int(row["predicted"]) == (guess == label.id).sum()
            assert int(row["both"]) == ((truth == label.id) & (guess == label.id)).sum()


def test_per_case_has_a_row_per_case_and_foreground_class(
    settings: params.Params, predict: Predict
) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    rows = _per_case()
    assert [(row["case"], row["class"]) for row in rows] == [
        (case, name) for case in _cases() for name in FOREGROUND
    ]
    assert all(row["patient"] == row["case"] and row["rater"] == "" for row in rows)


def test_means_are_those_of_the_rows(settings: params.Params, predict: Predict) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    scores, rows = _metrics()["model"], _per_case()
    for score in ("dice", "iou"):
        means = []
        for name in FOREGROUND:
            values = [float(row[score]) for row in rows if row["class"] == name]
            means.append(np.mean(values))
            assert scores["classes"][name][f"{score}_mean"] == pytest.approx(means[-1], abs=1e-6)
            spread = np.std(values, ddof=1)
            assert scores["classes"][name][f"{score}_sd"] == pytest.approx(spread, abs=1e-5)
        assert scores[f"mean_foreground_{score}"] == pytest.approx(np.mean(means), abs=1e-6)


def test_a_network_that_finds_nothing_is_the_all_background_row(
    settings: params.Params, predict: Predict
) -> None:
    predict(_nothing)
    evaluate(cohort.DATASET, settings)
    metrics = _metrics()
    assert metrics["model"] == metrics["all_background"]
    assert metrics["model"]["mean_foreground_dice"] == 0


def test_all_background_row_does_not_depend_on_the_network(
    settings: params.Params, predict: Predict
) -> None:
    rows = []
    for answer in (_bright, _perfect()):
        predict(answer)
        evaluate(cohort.DATASET, settings)
        rows.append(_metrics()["all_background"])
    assert rows[0] == rows[1]
    assert rows[0]["dice_coef_multiclass"] > 0.8  # what the ancestors' metric gives for nothing


@at_both_sizes
def test_ancestors_metric_is_a_mean_over_slices(settings: params.Params, predict: Predict) -> None:
    predict(_nothing)
    evaluate(cohort.DATASET, settings)
    px = settings.train.network.image_px
    step = settings.convert.image_px // px
    wanted = []
    for pair in _test_pairs():
        mask = colors.read_mask(PAIRS / "test" / pair.mask, LABEL_MAP)
        background = (mask[step // 2 :: step, step // 2 :: step] == 0).sum()
        wanted.append((2 * background + 1) / (2 * px**2 + 1))
    got = _metrics()["all_background"]["dice_coef_multiclass"]
    assert got == pytest.approx(np.mean(wanted), rel=1e-9)


def test_metrics_state_unit_and_policy(settings: params.Params, predict: Predict) -> None:
    predict(_bright)
    evaluate(cohort.DATASET, settings)
    metrics = _metrics()
    assert set(metrics) == {
        "test_cases",
        "test_patients",
        "model",
        "all_background",
        "unit",
        "empty_masks",
    }
    assert (metrics["test_cases"], metrics["test_patients"]) == (2, 2)
    assert "case" in metrics["unit"]
    assert metrics["empty_masks"] == EMPTY_POLICY
    for row in (metrics["model"], metrics["all_background"]):
        assert set(row) == {
            "mean_foreground_dice",
            "mean_foreground_iou",
            "dice_coef_multiclass",
            "classes",
        }
        assert list(row["classes"]) == FOREGROUND
        for scores in row["classes"].values():
            assert set(scores) == {"dice_mean", "dice_sd", "iou_mean", "iou_sd", "both_empty"}


def test_class_that_is_nowhere_is_left_out_and_counted(workplace: Path, predict: Predict) -> None:
    settings = cohort.prepare(classes=3, **{"train.network.image_px": 64})
    _save_model(settings)
    predict(_perfect())
    evaluate(cohort.DATASET, settings)
    scores = _metrics()["model"]
    missing = {"dice_mean": None, "dice_sd": None, "iou_mean": None, "iou_sd": None}
    assert scores["classes"][FOREGROUND[2]] == {**missing, "both_empty": 2}
    assert scores["mean_foreground_dice"] == 1
    blank = [row for row in _per_case() if row["class"] == FOREGROUND[2]]
    assert [(row["dice"], row["iou"], row["truth"]) for row in blank] == [("", "", "0")] * 2


def test_class_that_is_invented_scores_zero(workplace: Path, predict: Predict) -> None:
    settings = cohort.prepare(classes=3, **{"train.network.image_px": 64})
    _save_model(settings)
    predict(lambda picture: np.full_like(picture, 3))
    evaluate(cohort.DATASET, settings)
    invented = _metrics()["model"]["classes"][FOREGROUND[2]]
    assert (invented["dice_mean"], invented["both_empty"]) == (0, 0)


@pytest.mark.parametrize("slices", [1, 4])
def test_scores_do_not_depend_on_the_batch(
    slices: int, settings: params.Params, predict: Predict
) -> None:
    found = []
    for batch in (32, slices):
        predict(_bright)
        changed = replace(settings, evaluate=params.Evaluate(batch))
        evaluate(cohort.DATASET, changed)
        found.append([(RUN / name).read_bytes() for name in (paths.METRICS, paths.PER_CASE)])
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
        assert np.array_equal(colors.read_mask(file, LABEL_MAP), truth[file.stem] // 100)
    assert np.asanyarray(_prediction(case).dataobj).shape == (10, 12, 5)


def _dicom_case(name: str, number: int) -> Case:
    """A patient whose scan shows each class as 100 times its id, and whose label is a series."""
    drawn = np.random.default_rng(number).integers(0, len(LABEL_MAP), (5, 12, 10))

    def storing(pixels: NDArray[Any], kind: str) -> Any:
        def change(header: pydicom.Dataset, index: int) -> None:
            header.SeriesInstanceUID = generate_uid(entropy_srcs=[name, kind])
            header.RescaleSlope, header.RescaleIntercept = 1, 0
            header.PixelData = pixels[index].astype(np.int16).tobytes()

        return change

    folder = paths.raw(cohort.DATASET) / name
    write_series(folder / "scan", change=storing(drawn * 100 + number, "scan"))
    write_series(folder / "mask", change=storing(drawn, "mask"))
    return Case(name, name, folder / "scan", {"": folder / "mask"})


def test_mini_test_is_predicted_as_indexed_masks(settings: params.Params, predict: Predict) -> None:
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
        ids = colors.read_mask(mask, LABEL_MAP)
        assert (ids == answer(colors.read_image(image))).mean() > 0.95


def test_a_real_network_is_asked_about_every_slice(workplace: Path) -> None:
    settings = cohort.prepare(**{"train.network.channels": 3})
    _save_model(settings)
    evaluate(cohort.DATASET, settings)
    metrics = _metrics()
    assert 0 <= metrics["model"]["mean_foreground_dice"] < 1
    assert metrics["test_cases"] == 2


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
    assert _metrics()["test_cases"] == 2


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
    ("changes", "classes"),
    [
        ({"train.network.image_px": 64}, 4),
        ({"train.network.channels": 3}, 4),
        ({}, 3),
    ],
    ids=["size", "channels", "classes"],
)
def test_model_of_another_shape_is_refused(
    changes: dict[str, int], classes: int, workplace: Path, refused: Refused
) -> None:
    settings = cohort.prepare()
    _save_model(cohort.write_params(Path("other.yaml"), **changes), classes)
    problem = refused(lambda: evaluate(cohort.DATASET, settings))
    assert "(32, 32, 1, 4)" in problem.what
    assert "rain" in problem.remedy
    assert not (RUN / paths.METRICS).exists()


def test_missing_dataset_is_refused(workplace: Path, refused: Refused) -> None:
    settings = cohort.write_params()
    _save_model(settings)
    assert str(PAIRS) in refused(lambda: evaluate(cohort.DATASET, settings)).where


@pytest.mark.parametrize("kind", ["T1w", "dseg"])
def test_missing_raw_file_is_named(
    kind: str, workplace: Path, predict: Predict, refused: Refused
) -> None:
    settings = cohort.prepare()
    _save_model(settings)
    predict(_bright)
    (case, *_) = _cases()
    missing = paths.raw(cohort.DATASET) / case / f"{case}_{kind}.nii"
    missing.unlink()
    assert missing.name in refused(lambda: evaluate(cohort.DATASET, settings)).where
