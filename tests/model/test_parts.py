"""A network that sees parts of pictures: trained, scored, put to work."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from model.delivery.wish import Wish
from model.evaluate import evaluate
from model.inference.member import Member
from model.predict import predict
from model.train import train
from pipeline import paths
from pipeline.pairs import manifest, png
from pipeline.runtime import modelfile
from tests.support import cohort

pytestmark = pytest.mark.slow

RUN, PAIRS = paths.run(cohort.DATASET), paths.dataset(cohort.DATASET)
MODEL = RUN / paths.MODEL
PARTS: dict[str, Any] = {
    "train.network.image_px": 16,
    "train.network.picture_px": 40,
    "train.foreground_oversampling": 0.33,
    "train.mirrors": "always",
    "train.learning_rate": 0.02,
    "augment.variants": {"mirrored": [{"HorizontalFlip": None}]},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a network that was trained and scored."""
    folder = tmp_path_factory.mktemp("parts")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = cohort.prepare(**PARTS)
        train(cohort.DATASET, settings)
        evaluate(cohort.DATASET, settings)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def here(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder is that of the training."""
    monkeypatch.chdir(trained)
    return trained


def test_the_file_states_what_overlap_gained_and_cost(here: Path) -> None:
    origin = modelfile.read(MODEL)
    assert origin["train"]["network"]["picture_px"] == 40
    stated, facts = origin["chosen"]["tiles"], Member.of(MODEL).facts.tiles
    assert stated["kept"] is facts.kept is True  # so few patients prove no loss
    assert (stated["patients"], stated["gain"]) == (facts.patients, facts.gain)
    assert stated["low"] <= stated["gain"] <= stated["high"]
    assert stated["cost"] > 0


def test_prediction_of_a_raw_scan_is_that_of_evaluate(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = sorted({pair.case for pair in manifest.read(PAIRS) if pair.split == "test"})
    assert cases
    raw = [paths.raw(cohort.DATASET) / case / f"{case}_T1w.nii" for case in cases]
    predict([MODEL], raw, tmp_path, Wish(view=False))
    for case, file in zip(cases, raw, strict=True):
        ours = nib.load(tmp_path / f"{file.stem}.nii.gz")
        theirs = nib.load(RUN / paths.PREDICTIONS / paths.NATIVE / f"{case}.nii.gz")
        ids = np.asanyarray(ours.dataobj)
        np.testing.assert_array_equal(ids, np.asanyarray(theirs.dataobj))
        np.testing.assert_allclose(ours.affine, theirs.affine)
        assert ids.any()
    assert "overlapping parts gained" in capsys.readouterr().out


def test_epochs_show_whole_pictures(here: Path) -> None:
    labels = Member.of(MODEL).facts.label_map
    masks = sorted(here.glob(f"{RUN}/{paths.EPOCH_CHANGE}/epoch_*/*.png"))
    assert masks
    assert {png.read_mask(file, labels).shape for file in masks} == {(64, 64)}
