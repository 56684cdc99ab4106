"""Training end to end on a tiny cohort: what it leaves, what it obeys, what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from keras import callbacks
from PIL import Image

import datasets_spec
from model.train import EpochChange, train
from pipeline import colors, manifest, params, paths
from tests import cohort
from tests.conftest import Refused

LABEL_MAP = datasets_spec.load(cohort.DATASET).dataset.label_map
RUN = paths.run(cohort.DATASET)
PAIRS = paths.dataset(cohort.DATASET)


STALE = (paths.METRICS, paths.PER_CASE, paths.PREDICTIONS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the prepared cohort, an older run's leftovers, and a network trained since."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = cohort.prepare()
        stale = RUN / paths.EPOCH_CHANGE / "epoch_009" / "stale.png"
        stale.parent.mkdir(parents=True)
        stale.touch()
        for name in STALE:
            (RUN / name).mkdir() if name == paths.PREDICTIONS else (RUN / name).touch()
        train(cohort.DATASET, settings)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def fitted(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What ``train`` hands to Keras; nothing is fitted."""
    caught: dict[str, Any] = {}

    def fit(model: keras.Model, pairs: object, **settings: Any) -> None:
        caught.update(settings, model=model, pairs=pairs)

    monkeypatch.setattr(keras.Model, "fit", fit)
    monkeypatch.setattr("model.train.draw_curves", lambda _: None)
    return caught


def _only(caught: dict[str, Any], kind: type) -> Any:
    (one,) = [callback for callback in caught["callbacks"] if isinstance(callback, kind)]
    return one


def _history(folder: Path) -> list[dict[str, str]]:
    with (folder / RUN / paths.HISTORY).open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_history_has_a_row_of_numbers_per_epoch(trained: Path) -> None:
    rows = _history(trained)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert set(rows[0]) >= {"loss", "foreground_dice", "val_loss", "val_foreground_dice"}
    values = np.array([[float(value) for value in row.values()] for row in rows])
    assert np.isfinite(values).all()
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_curves_are_a_picture(trained: Path) -> None:
    with Image.open(trained / RUN / paths.CURVES) as picture:
        assert min(picture.size) > 300
        assert len(set(picture.convert("L").tobytes())) > 10


def test_model_can_be_loaded_and_fits_the_parameters(trained: Path) -> None:
    model = keras.saving.load_model(trained / RUN / paths.MODEL, compile=False)
    assert model.input_shape == (None, 32, 32, 1)
    assert model.output_shape == (None, 32, 32, len(LABEL_MAP))


@pytest.mark.parametrize("epoch", ["epoch_001", "epoch_002"])
def test_epoch_change_holds_indexed_masks_of_mini_test(epoch: str, trained: Path) -> None:
    wanted = sorted(file.name for file in (trained / PAIRS / "mini_test/images").iterdir())
    masks = sorted((trained / RUN / paths.EPOCH_CHANGE / epoch).iterdir())
    assert [file.name for file in masks] == wanted
    assert len(masks) == 6
    for file in masks:
        with Image.open(file) as picture:
            assert picture.mode == "P"
            assert picture.size == (64, 64)
        assert colors.read_mask(file, LABEL_MAP).max() < len(LABEL_MAP)


def test_an_older_runs_pictures_are_gone(trained: Path) -> None:
    folders = sorted(file.name for file in (trained / RUN / paths.EPOCH_CHANGE).iterdir())
    assert folders == ["epoch_001", "epoch_002"]


def test_an_older_models_scores_do_not_stand_beside_the_new_model(trained: Path) -> None:
    assert [name for name in STALE if (trained / RUN / name).exists()] == []


@pytest.mark.slow
def test_same_seed_gives_the_same_history(
    trained: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "data", workplace / "data")
    train(cohort.DATASET, cohort.write_params())
    assert _history(workplace) == _history(trained)


@pytest.mark.parametrize("patience", [1, 4])
@pytest.mark.parametrize(("monitor", "mode"), [("val_loss", "min"), ("val_foreground_dice", "max")])
def test_plateau_and_stop_obey_the_parameters(
    patience: int, monitor: str, mode: str, fitted: dict[str, Any]
) -> None:
    changes = {
        "train.monitor": monitor,
        "train.reducer_patience": patience,
        "train.reducer_factor": 0.25,
        "train.early_stopping_patience": patience + 3,
    }
    train(cohort.DATASET, cohort.prepare(**changes))
    reducer = _only(fitted, callbacks.ReduceLROnPlateau)
    assert (reducer.monitor, reducer.mode) == (monitor, mode)
    assert (reducer.patience, reducer.factor) == (patience, 0.25)
    stop = _only(fitted, callbacks.EarlyStopping)
    assert (stop.monitor, stop.patience) == (monitor, patience + 3)
    assert stop.mode == mode
    keeper = _only(fitted, callbacks.ModelCheckpoint)
    assert (keeper.monitor, keeper.save_best_only) == (monitor, True)
    assert keeper.mode == mode


@pytest.mark.parametrize(("clip", "wanted"), [(0.0, None), (0.4, 0.4)])
def test_optimizer_and_epochs_obey_the_parameters(
    clip: float, wanted: float | None, fitted: dict[str, Any]
) -> None:
    changes = {
        "train.clipvalue": clip,
        "train.learning_rate": 0.003,
        "train.epochs": 7,
        "train.loss": "categorical_crossentropy",
    }
    train(cohort.DATASET, cohort.prepare(**changes))
    optimizer = fitted["model"].optimizer
    assert isinstance(optimizer, keras.optimizers.Adam)
    assert optimizer.clipvalue == wanted
    assert float(optimizer.learning_rate) == pytest.approx(0.003)
    assert fitted["model"].loss.__name__ == "categorical_crossentropy"
    assert fitted["epochs"] == 7


@pytest.mark.parametrize(("steps", "wanted"), [(0, 8), (3, 3)])
def test_training_and_validation_see_their_own_split(
    steps: int, wanted: int, fitted: dict[str, Any]
) -> None:
    train(cohort.DATASET, cohort.prepare(**{"train.steps_per_epoch": steps}))
    counts = [sum(pair.split == split for pair in _pairs()) for split in ("train", "valid")]
    assert counts == [30, 6]
    assert len(fitted["pairs"]) == wanted
    assert len(fitted["validation_data"]) == 2
    pictures = [fitted["validation_data"][index][0] for index in range(2)]
    assert [len(batch) for batch in pictures] == [4, 2]


@pytest.mark.parametrize(
    ("mode", "on_disk", "fresh"),
    [("offline", 30, False), ("online", 10, True), ("both", 30, True)],
)
def test_augment_decides_what_is_trained_on(
    mode: str, on_disk: int, fresh: bool, fitted: dict[str, Any]
) -> None:
    settings = cohort.prepare(**{"train.batch_pairs": 1})
    varied = dataclasses.replace(settings.train, augment=mode)
    train(cohort.DATASET, dataclasses.replace(settings, train=varied))
    seen, valid = fitted["pairs"], fitted["validation_data"]
    assert len(seen) == on_disk
    shown, checked = [], []
    for _ in range(4):
        shown.append([seen[index][0].tobytes() for index in range(len(seen))])
        checked.append([valid[index][0].tobytes() for index in range(len(valid))])
        seen.on_epoch_end()
        valid.on_epoch_end()
    pictures = {picture for epoch in shown for picture in epoch}
    assert (len(pictures) > on_disk) == fresh
    assert all(epoch == checked[0] for epoch in checked)


def test_network_is_the_one_of_the_parameters(fitted: dict[str, Any]) -> None:
    changes = {"train.network.channels": 3, "train.network.num_layers": 2}
    train(cohort.DATASET, cohort.prepare(**changes))
    assert fitted["model"].input_shape == (None, 32, 32, 3)
    drops = [one for one in fitted["model"].layers if isinstance(one, keras.layers.Dropout)]
    assert len(drops) == 3


@pytest.mark.parametrize("count", [0, 2, 99])
def test_epoch_change_shows_as_many_pictures_as_asked(
    count: int, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cohort.prepare(**{"train.epoch_change_pictures": count})
    rim = np.zeros((32, 32, len(LABEL_MAP)), np.float32)
    rim[..., 2] = 1
    monkeypatch.setattr("model.train.probabilities", lambda _, pictures, __: [rim] * len(pictures))
    change = EpochChange(PAIRS, Path("seen"), LABEL_MAP, settings.train)
    change.set_model(SimpleNamespace())
    change.on_epoch_end(11)
    masks = sorted(Path("seen").rglob("*.png"))
    assert len(masks) == min(count, 6)
    assert {file.parent.name for file in masks} <= {"epoch_012"}
    assert all((colors.read_mask(file, LABEL_MAP) == 2).all() for file in masks)


def test_missing_dataset_is_refused(workplace: Path, refused: Refused) -> None:
    settings = cohort.write_params()
    problem = refused(lambda: train(cohort.DATASET, settings))
    assert str(PAIRS) in problem.where
    assert "dvc repro" in problem.remedy


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_split_is_refused(split: str, workplace: Path, refused: Refused) -> None:
    settings = cohort.prepare()
    manifest.write(PAIRS, [pair for pair in _pairs() if pair.split != split])
    problem = refused(lambda: train(cohort.DATASET, settings))
    assert repr(split) in problem.what
    assert problem.remedy


def test_refused_training_leaves_the_earlier_model(workplace: Path, refused: Refused) -> None:
    """A model can be hours of work; a mistake in the data must not cost it."""
    settings: params.Params = cohort.write_params()
    model = RUN / paths.MODEL
    model.parent.mkdir(parents=True)
    model.write_bytes(b"an earlier model")
    refused(lambda: train(cohort.DATASET, settings))
    assert model.is_file()


def _pairs() -> list[manifest.Pair]:
    return manifest.read(PAIRS)
