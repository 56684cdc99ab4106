"""A model's file alone, elsewhere, on raw scans: what evaluate predicts, by Keras and by ONNX."""

from __future__ import annotations

import shutil
from pathlib import Path

import keras
import nibabel as nib
import numpy as np
import pytest

from model import params
from model.__main__ import main
from model.evaluate import evaluate
from model.scoring import choose
from pipeline import paths
from pipeline.pairs import manifest
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

SEED = 1  # of weights that give several classes
NATIVE = paths.run(cohort.DATASET) / paths.PREDICTIONS / paths.NATIVE
MODEL = paths.run(cohort.DATASET) / paths.MODEL


@pytest.fixture
def settings(workplace: Path) -> params.Params:
    """A prepared cohort and a network on disk, as train leaves it."""
    prepared = cohort.prepare(patients=9)
    keras.utils.set_random_seed(SEED)
    save_untrained(cohort.DATASET, prepared)
    pairs = manifest.read(paths.dataset(cohort.DATASET))
    choose.write(MODEL, pairs, cohort.DATASET, prepared.train, prepared.limits)
    evaluate(cohort.DATASET, prepared)
    return prepared


def ids(file: Path) -> np.ndarray:
    return np.asanyarray(nib.load(file).dataobj)


def test_predict_on_raw_test_scans_is_what_evaluate_predicts(
    settings: params.Params,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Voxel by voxel, from a copy of the file in a folder that has nothing else."""
    elsewhere, here = tmp_path_factory.mktemp("elsewhere"), Path.cwd()
    shutil.copy(MODEL, elsewhere / "given.keras")
    monkeypatch.chdir(elsewhere)
    raw = here / paths.raw(cohort.DATASET)
    assert main(["predict", "given.keras", str(raw), "--output", "masks"]) == 0
    tested = sorted((here / NATIVE).glob("*.nii.gz"))
    assert len(tested) > 1
    for file in tested:
        case = file.name.removesuffix(".nii.gz")
        mask = nib.load(elsewhere / "masks" / f"{case}_T1w.nii.gz")
        np.testing.assert_array_equal(ids(elsewhere / "masks" / f"{case}_T1w.nii.gz"), ids(file))
        np.testing.assert_array_equal(mask.affine, nib.load(file).affine)
    assert len(np.unique(np.concatenate([ids(file).ravel() for file in tested]))) > 1


def test_onnx_predicts_the_same(settings: params.Params) -> None:
    pytest.importorskip("onnxruntime")
    scan = str(next(paths.raw(cohort.DATASET).rglob("*_T1w.nii")))
    assert main(["export", cohort.DATASET]) == 0
    for model, output in ((str(MODEL), "keras"), (str(MODEL.with_suffix(".onnx")), "onnx")):
        assert main(["predict", model, scan, "--output", output, "--no-page"]) == 0
    [name] = [file.name for file in Path("keras").glob("*.nii.gz")]
    assert (ids(Path("keras") / name) == ids(Path("onnx") / name)).mean() > 0.999


def test_an_ensemble_of_one_model_twice_is_that_model(settings: params.Params) -> None:
    scan = str(next(paths.raw(cohort.DATASET).rglob("*_T1w.nii")))
    for more, output in (([], "one"), (["--ensemble", cohort.DATASET], "two")):
        wanted = ["predict", cohort.DATASET, scan, "--output", output, "--uncertainty"]
        assert main([*wanted, "--no-page", *more]) == 0
    [name] = [file.name for file in Path("one").glob("*T1w.nii.gz")]
    np.testing.assert_array_equal(ids(Path("one") / name), ids(Path("two") / name))
    [apart] = Path("two").glob("*_disagreement.nii.gz")
    assert ids(apart).max() < 1e-4
