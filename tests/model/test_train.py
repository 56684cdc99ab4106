"""Training end to end on a tiny cohort: what it leaves, what it obeys, what it refuses."""

from __future__ import annotations

import csv
import dataclasses
import io
import platform
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

import datasets_spec
from datasets_spec.contract import Problem
from model import params, provenance
from model import params as params_reader
from model.flexunet import flexunet
from model.inference import keras_file
from model.params import Network
from model.train import train
from model.training import checkpoint, precision, slices
from model.training.devices import Share
from model.training.losses import loss_of
from model.training.watch import EpochChange, draw_curves, loggers
from pipeline import paths
from pipeline.pairs import manifest, png
from pipeline.pairs.variants import Variants
from pipeline.runtime import locks, modelfile
from tests.conftest import PROJECT, Refused
from tests.support import cohort

pytestmark = pytest.mark.slow

FACTS = datasets_spec.load(cohort.DATASET).dataset
LABEL_MAP = FACTS.label_map
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
    """What ``train`` hands to Keras; nothing is fitted, scores are all 0.5."""
    caught: dict[str, Any] = {"rates": []}
    names = ["loss", *(name.removeprefix("val_") for name in params.MONITORS)]

    def fit(model: keras.Model, batches: object, **settings: Any) -> SimpleNamespace:
        caught.update(settings, model=model, pairs=batches)
        caught["rates"].append(float(model.optimizer.learning_rate))
        return SimpleNamespace(history={name: [0.5] for name in names})

    def judge(model: keras.Model, batches: object, **settings: Any) -> dict[str, float]:
        caught["valid"] = batches
        return dict.fromkeys(names, 0.5)

    monkeypatch.setattr(keras.Model, "fit", fit)
    monkeypatch.setattr(keras.Model, "evaluate", judge)
    return caught


def _history(folder: Path) -> list[dict[str, str]]:
    with (folder / RUN / paths.HISTORY).open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_history_has_a_row_of_numbers_per_epoch(trained: Path) -> None:
    rows = _history(trained)
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert set(rows[0]) >= {"loss", "foreground_dice", "val_loss", "val_foreground_dice"}
    values = np.array([[float(value) for value in row.values()] for row in rows])
    assert np.isfinite(values).all()
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_the_last_line_names_the_epoch_that_was_kept(
    fitted: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripted epochs score alike, so that the first is the best."""
    train(cohort.DATASET, cohort.prepare(**{"train.epochs": 3}))
    last = capsys.readouterr().out.splitlines()[-1]
    monitor = "val_foreground_dice 0.5000"
    assert last == f"train {cohort.DATASET}: kept epoch 1 ({monitor}): {RUN / paths.MODEL}"


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
        assert png.read_mask(file, LABEL_MAP).max() < len(LABEL_MAP)


def test_an_older_runs_pictures_are_gone(trained: Path) -> None:
    folders = sorted(file.name for file in (trained / RUN / paths.EPOCH_CHANGE).iterdir())
    assert folders == ["epoch_001", "epoch_002"]


def test_nothing_unfinished_is_left(trained: Path) -> None:
    assert list((trained / RUN).rglob(".unfinished*")) == []


def test_an_older_models_scores_do_not_stand_beside_the_new_model(trained: Path) -> None:
    assert [name for name in STALE if (trained / RUN / name).exists()] == []


def test_same_seed_gives_the_same_history(
    trained: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained / "data", workplace / "data")
    train(cohort.DATASET, cohort.write_params())
    assert _history(workplace) == _history(trained)


@pytest.mark.parametrize(
    ("changes", "kind", "options"),
    [
        ({"train.clipvalue": 0.4}, "Adam", {"clipvalue": 0.4, "clipnorm": None}),
        ({"train.clipnorm": 2.0}, "Adam", {"clipvalue": None, "clipnorm": 2.0}),
        ({"train.optimizer": "adamw", "train.weight_decay": 0.1}, "AdamW", {"weight_decay": 0.1}),
        ({"train.accumulate_batches": 3}, "Adam", {"gradient_accumulation_steps": 3}),
    ],
)
def test_optimizer_obeys_the_parameters(
    changes: dict[str, Any], kind: str, options: dict[str, Any], fitted: dict[str, Any]
) -> None:
    train(cohort.DATASET, cohort.prepare(**{**changes, "train.epochs": 1}))
    optimizer = fitted["model"].optimizer
    assert type(optimizer).__name__ == kind
    assert {name: getattr(optimizer, name) for name in options} == options


def test_weight_decay_spares_biases_and_normalisation(fitted: dict[str, Any]) -> None:
    train(cohort.DATASET, cohort.prepare(**{"train.optimizer": "adamw", "train.epochs": 1}))
    model = fitted["model"]
    decayed = {
        variable.name
        for variable in model.trainable_variables
        if model.optimizer._use_weight_decay(variable)
    }
    assert decayed == {"kernel"}


def test_cosine_falls_to_nothing_over_all_epochs(fitted: dict[str, Any]) -> None:
    changes = {"train.schedule": "cosine", "train.epochs": 4, "train.learning_rate": 0.01}
    train(cohort.DATASET, cohort.prepare(**changes))
    wanted = [0.005 * (1 + np.cos(np.pi * epoch / 4)) for epoch in range(4)]
    assert fitted["rates"] == pytest.approx(wanted)


def test_a_training_begins_with_how_frequent_the_classes_are(fitted: dict[str, Any]) -> None:
    """A class of less than 1 in 100 counts as that."""
    train(cohort.DATASET, cohort.prepare(**{"train.epochs": 1}))
    pixels = np.sum([p.class_pixels for p in _pairs() if p.split == "train"], axis=0)
    shares = np.maximum(pixels / pixels.sum(), 0.01)
    first = np.exp(np.asarray(fitted["model"].get_layer("head").bias))
    np.testing.assert_allclose(first, shares / shares.sum(), rtol=1e-5)


def test_a_network_that_was_driven_to_background_comes_back() -> None:
    """Five slices, no normalisation: 20 e-foldings from any foreground, where Keras' own
    cross-entropy from probabilities has no slope, and the network stays."""
    wanted = params.load(cohort.DATASET, PROJECT / "params.yaml").train
    keras.utils.set_random_seed(1)
    network = flexunet(Network(16, 5, 4, 3, 2, 1, 0.0, "relu", "none"), 3)
    network.get_layer("head").bias.assign([20.0, 0.0, 0.0])
    losses = loss_of(dataclasses.replace(wanted, loss="dice_ce"), [1, 1, 1])
    network.compile(keras.optimizers.Adam(0.03), losses, jit_compile=False)
    ids = np.zeros((8, 16, 16), np.uint8)
    for picture in range(8):
        ids[picture, picture : picture + 5, 2:8], ids[picture, 3:9, 9 : 10 + picture // 2] = 1, 2
    pictures = np.repeat(ids[..., None] * np.uint8(100) + 20, 5, axis=-1)
    for _ in range(120):
        network.train_on_batch(pictures, ids)
    found = np.asarray(network.predict_on_batch(pictures)).argmax(axis=-1)
    assert (found == ids)[ids > 0].mean() > 0.9


def test_loss_and_precision_obey_the_parameters(fitted: dict[str, Any]) -> None:
    changes = {"train.loss": "focal", "train.precision": "bfloat16", "train.epochs": 1}
    train(cohort.DATASET, cohort.prepare(**changes))
    assert fitted["model"].loss.name == "focal"
    assert fitted["model"].get_layer("head").compute_dtype == "bfloat16"
    assert fitted["model"].get_layer("probabilities").compute_dtype == "float32"
    assert {weight.dtype for weight in fitted["model"].weights} == {"float32"}


@pytest.mark.parametrize(("steps", "wanted"), [(0, 8), (3, 3)])
def test_training_and_validation_see_their_own_split(
    steps: int, wanted: int, fitted: dict[str, Any]
) -> None:
    train(cohort.DATASET, cohort.prepare(**{"train.steps_per_epoch": steps, "train.epochs": 1}))
    counts = [sum(pair.split == split for pair in _pairs()) for split in ("train", "valid")]
    assert counts == [30, 6]
    assert len(fitted["pairs"]) == wanted
    assert [len(fitted["valid"][index][0]) for index in range(len(fitted["valid"]))] == [4, 2]


def test_fewer_patients_are_among_more_and_are_learnt_from_alone(fitted: dict[str, Any]) -> None:
    seen = []
    for patients in (1, 2, 0):
        changes = {"train.patients": patients, "train.steps_per_epoch": 3, "train.epochs": 1}
        settings = cohort.prepare(**changes)
        found = slices.of(cohort.DATASET, FACTS, settings)
        seen.append({pair.patient for pair in found.train})
        assert {pair.split for pair in found.valid} == {"valid"}
        train(cohort.DATASET, settings)
        assert len(fitted["pairs"]) == 3
    one, two, every = seen
    assert [len(one), len(two), len(every)] == [1, 2, 3]
    assert one < two < every


def test_another_seed_learns_from_other_patients(workplace: Path) -> None:
    pairs = [cohort.pair(f"p{number}_0", split="train") for number in range(20)]
    wanted = dataclasses.replace(cohort.write_params().train, patients=5)
    chosen = [
        {
            pair.patient
            for pair in slices.learnt_from("any", pairs, dataclasses.replace(wanted, seed=seed))
        }
        for seed in (1, 1, 2)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [len(one) for one in chosen] == [5, 5, 5]


def test_more_patients_than_there_are_are_refused(fitted: dict[str, Any], refused: Refused) -> None:
    settings = cohort.prepare(**{"train.patients": 4})
    problem = refused(lambda: train(cohort.DATASET, settings))
    assert "at most the 3 patients of train, got 4" in str(problem)


def test_lengths_in_pixels_are_those_of_the_datasets_pictures(
    fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cohort.prepare(**{"augment.mode": "online", "train.epochs": 1})
    asked: list[dict[str, int]] = []

    def variants(*given: Any, **more: int) -> Variants:
        asked.append(more)
        return Variants(*given, **more)

    monkeypatch.setattr("model.train.Variants", variants)
    train(cohort.DATASET, settings)
    assert asked == [{"image_px": settings.convert.image_px}]
    assert settings.convert.image_px > settings.train.network.whole_px


@pytest.mark.parametrize(
    ("mode", "on_disk", "fresh"),
    [("offline", 30, False), ("online", 10, True), ("both", 30, True)],
)
def test_augment_decides_what_is_trained_on(
    mode: str, on_disk: int, fresh: bool, fitted: dict[str, Any]
) -> None:
    settings = cohort.prepare(**{"train.batch_pairs": 1, "train.epochs": 1})
    varied = dataclasses.replace(settings.augment, mode=mode)
    train(cohort.DATASET, dataclasses.replace(settings, augment=varied))
    seen, valid = fitted["pairs"], fitted["valid"]
    assert len(seen) == on_disk
    shown, checked = [], []
    for epoch in range(4):
        seen.show(epoch)
        valid.show(epoch)
        shown.append([seen[index][0].tobytes() for index in range(len(seen))])
        checked.append([valid[index][0].tobytes() for index in range(len(valid))])
    pictures = {picture for pictures in shown for picture in pictures}
    assert (len(pictures) > on_disk) == fresh
    assert all(pictures == checked[0] for pictures in checked)


def test_network_is_the_one_of_the_parameters(fitted: dict[str, Any]) -> None:
    changes = {"train.network.channels": 3, "train.network.num_layers": 2, "train.epochs": 1}
    train(cohort.DATASET, cohort.prepare(**changes))
    assert fitted["model"].input_shape == (None, 32, 32, 3)
    drops = [one for one in fitted["model"].layers if isinstance(one, keras.layers.Dropout)]
    assert len(drops) == 3


@pytest.mark.parametrize("name", ["tensorboard", "dvclive"])
def test_a_logger_that_is_not_installed_is_named(
    name: str, workplace: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    settings = cohort.write_params(**{f"train.{name}": True})
    problem = refused(lambda: train(cohort.DATASET, settings))
    assert problem.where == f"train.{name}"
    assert "pip install" in problem.remedy


def test_a_loss_that_is_not_a_number_is_reported(
    fitted: dict[str, Any], refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cohort.prepare()
    diverged = SimpleNamespace(history={"loss": [float("nan")]})
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: diverged)
    problem = refused(lambda: train(cohort.DATASET, settings))
    assert "nan in epoch 1" in problem.what
    assert "learning_rate" in problem.remedy


@pytest.fixture
def earlier(fitted: dict[str, Any]) -> dict[str, bytes]:
    """What a training of two epochs and its scores left."""
    train(cohort.DATASET, cohort.prepare())
    (RUN / paths.PREDICTIONS).mkdir()
    for name in (*paths.SCORED, f"{paths.PREDICTIONS}/case.nii.gz"):
        (RUN / name).write_bytes(b"scored")
    return _content()


def _content() -> dict[str, bytes]:
    files = sorted(file for file in RUN.rglob("*") if file.is_file())
    return {file.relative_to(RUN).as_posix(): file.read_bytes() for file in files}


@pytest.mark.parametrize("end", [KeyboardInterrupt, float("nan")], ids=["Ctrl-C", "NaN"])
def test_a_new_training_costs_the_earlier_one_nothing_before_its_first_epoch_is_through(
    end: Any,
    earlier: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fit(*_: object, **__: object) -> SimpleNamespace:
        if end is KeyboardInterrupt:
            raise KeyboardInterrupt
        return SimpleNamespace(history={"loss": [end]})

    changed = cohort.write_params(**{"train.learning_rate": 0.5})
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "fit", fit)
        with pytest.raises((KeyboardInterrupt, Problem)):
            train(cohort.DATASET, changed)
    message = capsys.readouterr().out
    assert "was made with a different train.learning_rate: starting over" in message
    assert ("the same command starts over" in message) == (end is KeyboardInterrupt)
    assert _content() == earlier
    train(cohort.DATASET, cohort.write_params(**{"train.learning_rate": 0.5, "train.epochs": 1}))
    assert len(_history(Path())) == 1
    folders = [
        RUN / paths.EPOCH_CHANGE,
        checkpoint.folder(RUN) / paths.EPOCH_CHANGE,
    ]
    assert [sorted(file.name for file in one.iterdir()) for one in folders] == [["epoch_001"]] * 2
    assert not (RUN / paths.PREDICTIONS).exists()
    assert not [name for name in paths.SCORED if (RUN / name).exists()]


@pytest.fixture
def scripted(fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The scores of valid after each epoch, to be set; the weights tell which epoch it was."""
    scores: list[float] = []
    names = ["loss", *(name.removeprefix("val_") for name in params.MONITORS)]

    def fit(model: keras.Model, _: object, initial_epoch: int, **__: object) -> SimpleNamespace:
        for weight in model.trainable_variables:
            weight.assign(np.full(weight.shape, (initial_epoch + 1) / 100))
        return SimpleNamespace(history={name: [0.5] for name in names})

    def judge(model: keras.Model, *_: object, **__: object) -> dict[str, float]:
        epoch = round(100 * float(np.mean(model.trainable_variables[0])))
        return dict.fromkeys(names, scores[epoch - 1])

    def logger(folder: Path) -> Any:
        folder.mkdir(parents=True)
        return lambda epoch, row: (folder / str(epoch)).write_text(f"{row}")

    monkeypatch.setattr(keras.Model, "fit", fit)
    monkeypatch.setattr(keras.Model, "evaluate", judge)

    def draw(file: Path, history: list[dict[str, float]]) -> None:
        file.write_text(repr(history))  # what the curves follow from; drawing them takes longer

    monkeypatch.setattr("model.training.watch.draw_curves", draw)
    monkeypatch.setattr(
        "model.training.watch.LOGGERS", dict.fromkeys(("tensorboard", "dvclive"), logger)
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda _: True)
    return scores


def _outputs() -> dict[str, bytes]:
    """Everything in the run but the trainer's own place; of the model weights and provenance."""
    found = {name: c for name, c in _content().items() if not name.startswith("checkpoint/")}
    with zipfile.ZipFile(io.BytesIO(found.pop(paths.MODEL))) as archive:
        for name in ("model.weights.h5", modelfile.PROVENANCE):
            found[name] = archive.read(name)
    return found


BEST_SECOND, BEST_LAST = [0.4, 0.6, 0.5, 0.3], [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("scores", "before", "after", "anew"),
    [
        (BEST_SECOND, {"train.epochs": 4}, {"train.epochs": 3}, ""),
        (BEST_SECOND, {"train.epochs": 4}, {"train.epochs": 1}, "train.epochs"),
        (BEST_LAST, {"train.epochs": 3}, {"train.epochs": 2}, "train.epochs"),
        (BEST_SECOND, {"train.epochs": 3}, {"train.epochs": 4}, ""),
        (BEST_SECOND, {"train.early_stopping_patience": 1}, {}, "train.early_stopping_patience"),
        (BEST_LAST, {}, {"train.monitor": "val_loss"}, "train.monitor"),
        (BEST_SECOND, {}, {"train.epoch_change_pictures": 2}, ""),
        (BEST_SECOND, {"train.epoch_change_pictures": 2}, {}, "train.epoch_change_pictures"),
        (BEST_SECOND, {"split.mini_test": 4}, {"split.mini_test": 2}, ""),
        (BEST_SECOND, {"split.mini_test": 2}, {"split.mini_test": 4}, "split.mini_test"),
        (BEST_SECOND, {}, {"train.tensorboard": True}, ""),
        (BEST_SECOND, {"train.tensorboard": True, "train.dvclive": True}, {}, ""),
        (
            BEST_SECOND,
            {"train.epochs": 4, "train.dvclive": True},
            {"train.epochs": 2, "train.dvclive": True},
            "",
        ),
    ],
)
def test_what_an_earlier_training_left_changes_no_output(
    scores: list[float],
    before: dict[str, Any],
    after: dict[str, Any],
    anew: str,
    scripted: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The outputs are those of a fresh training, and a reason is printed if it is one."""
    scripted += scores
    for changes in (before, after):
        leaves = {"train.network.num_layers": 2, "train.epochs": 3, **changes}
        if changes is before or "split.mini_test" in changes:
            shutil.rmtree(paths.DATA, ignore_errors=True)
            settings = cohort.prepare(**leaves)
        else:
            settings = cohort.write_params(**leaves)
        capsys.readouterr()
        train(cohort.DATASET, settings)
    message = capsys.readouterr().out
    assert ("starting over" in message) == bool(anew)
    assert anew in message
    found = _outputs()
    shutil.rmtree(RUN)
    train(cohort.DATASET, settings)
    wanted = _outputs()
    assert len(wanted) > 3
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def test_fewer_epochs_cost_the_trained_ones_nothing(
    scripted: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    scripted += BEST_SECOND
    train(cohort.DATASET, cohort.prepare(**{"train.epochs": 4}))
    wanted = _outputs()
    for epochs, message in ((2, "the outputs are those of the first 2"), (4, "nothing is left")):
        capsys.readouterr()
        train(cohort.DATASET, cohort.write_params(**{"train.epochs": epochs}))
        out = capsys.readouterr().out
        assert "4 epochs are done already, nothing is left to train" in out
        assert message in out
        assert len(_history(Path())) == epochs
    assert _outputs() == wanted


@pytest.mark.parametrize("broken", ["best.keras", "last.keras"])
@pytest.mark.parametrize("whole", [False, True], ids=["flipped", "missing"])
def test_half_a_checkpoint_starts_over(
    broken: str, whole: bool, earlier: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    file = checkpoint.folder(RUN) / broken
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.unlink() if whole else file.write_bytes(content)
    train(cohort.DATASET, params_reader.load(cohort.DATASET))
    message = capsys.readouterr().out
    assert ("cannot be read" in message) != (whole and broken == "last.keras")
    assert "; starts\n" in message
    assert (RUN / paths.MODEL).is_file()


def test_of_a_cluster_only_the_leading_process_holds_the_lock(
    fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.training.devices.join", lambda _: Share(1, 2, 2))
    monkeypatch.setattr(Share, "of_leader", lambda _, text: text)
    monkeypatch.setattr(Share, "leave", lambda _: None)
    settings = cohort.prepare(**{"train.epochs": 1})
    with locks.alone(RUN):
        train(cohort.DATASET, settings)
    assert "model" in fitted
    assert not (RUN / paths.MODEL).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.accumulate_batches": 9}, "accumulate_batches 9 is more than the 8 steps"),
        ({"train.accumulate_batches": 8}, ""),
    ],
)
def test_what_does_nothing_is_reported(
    changes: dict[str, Any],
    message: str,
    fitted: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(cohort.DATASET, cohort.prepare(**{**changes, "train.epochs": 1}))
    lines = capsys.readouterr().out.splitlines()
    warned = [line for line in lines if line.startswith("  accumulate_")]
    assert [message in line for line in warned] == [True] * bool(message)


def test_the_precision_that_auto_chose_is_stated_by_the_model_and_kept(
    fitted: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changes = {"train.precision": "auto", "train.epochs": 1}
    with monkeypatch.context() as patch:
        patch.setattr(precision, "probe", lambda *_: {"float32": 1.0, "bfloat16": 0.1})
        train(cohort.DATASET, cohort.prepare(**changes))
    monkeypatch.setattr(precision, "probe", lambda *_: pytest.fail("probed"))
    train(cohort.DATASET, cohort.write_params(**{**changes, "train.epochs": 2}))
    assert "resumes after epoch 1" in capsys.readouterr().out
    recorded = modelfile.read(checkpoint.folder(RUN) / "last.keras")
    assert (recorded["precision"], recorded["train"]["precision"]) == ("bfloat16", "auto")


def test_a_model_says_how_its_pairs_were_made_but_not_the_salt(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEXUNET_ID_SALT", "only-the-owner-knows-this")
    settings = cohort.prepare()
    recorded = provenance.of(cohort.DATASET, FACTS, settings)
    assert recorded["window"] == {"percentiles": [0.5, 99.5]}
    assert recorded["convert"]["image_px"] == 64
    assert recorded["split"]["shares"]["train"] == 0.5
    assert recorded["augment"]["variants"].keys() == {"deformed", "barrdistorted"}
    assert recorded["packages"]["python"] == platform.python_version()
    assert f'version = "{recorded["project"]}"' in (PROJECT / "pyproject.toml").read_text("utf-8")
    assert "salt" not in str(recorded).lower()
    assert "only-the-owner-knows-this" not in str(recorded)


@pytest.mark.parametrize(
    ("name", "mode", "same"),
    [
        ("convert.raters", "offline", True),
        ("split.seed", "offline", True),
        ("augment.seed", "offline", True),
        ("augment.seed", "online", False),
        ("train.seed", "offline", False),
    ],
)
def test_what_the_datasets_digest_stands_for_begins_no_training_anew(
    name: str, mode: str, same: bool, workplace: Path
) -> None:
    cohort.prepare()
    found = []
    for value in ({}, {name: "each" if name == "convert.raters" else 5}):
        settings = cohort.write_params(**{"augment.mode": mode, **value})
        recorded = provenance.of(cohort.DATASET, FACTS, settings)
        found.append(checkpoint.ingredients(recorded, settings.train))
    assert (found[0] == found[1]) == same


@pytest.mark.parametrize(("count", "marker"), [(1, "o"), (2, "")])
def test_curves_have_whole_epochs_and_show_a_single_one(
    count: int, marker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    close = pyplot.close
    monkeypatch.setattr(pyplot, "close", drawn.append)
    names = ("loss", "val_loss", "foreground_dice", "val_foreground_dice")
    draw_curves(tmp_path / "curves.png", [dict.fromkeys(names, 0.5)] * count)
    [figure] = drawn
    close(figure)
    for axis in figure.axes:
        assert all(tick == round(tick) for tick in axis.get_xticks())
        assert {line.get_marker() for line in axis.get_lines()} == {marker}


@pytest.mark.parametrize("count", [0, 2, 99])
def test_epoch_change_shows_as_many_pictures_as_asked(
    count: int, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = cohort.prepare(**{"train.epoch_change_pictures": count})
    rim = np.zeros((32, 32, len(LABEL_MAP)), np.float32)
    rim[..., 2] = 1
    monkeypatch.setattr(keras_file, "runner", lambda _: lambda pictures: [rim] * len(pictures))
    EpochChange(PAIRS, Path("seen"), LABEL_MAP, settings.train).draw(SimpleNamespace(), 12)
    masks = sorted(Path("seen").rglob("*.png"))
    assert len(masks) == min(count, 6)
    assert {file.parent.name for file in masks} <= {"epoch_012"}
    assert all((png.read_mask(file, LABEL_MAP) == 2).all() for file in masks)


def test_tensorboard_takes_in_every_epoch(workplace: Path) -> None:
    pytest.importorskip("tensorboard")
    settings = cohort.write_params(**{"train.tensorboard": True})
    (log,) = loggers(settings.train, RUN).values()
    for epoch in (1, 2):
        log(epoch, {"loss": 0.5, "val_loss": 0.25, "learning_rate": 0.1})
    files = sorted((RUN / "tensorboard").rglob("events*"))
    assert files
    assert all(file.stat().st_size > 100 for file in files)


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


def _without(split: str, classes: tuple[int, ...]) -> None:
    """Let no picture of a split show these classes, as far as the manifest says."""
    manifest.write(
        PAIRS,
        [
            dataclasses.replace(
                pair,
                class_pixels=tuple(
                    0 if pair.split == split and at in classes else pixels
                    for at, pixels in enumerate(pair.class_pixels)
                ),
            )
            for pair in _pairs()
        ],
    )


@pytest.mark.parametrize(
    ("split", "monitor"), [("train", "val_loss"), ("valid", "val_foreground_dice")]
)
def test_a_split_without_any_foreground_is_refused_before_the_first_epoch(
    split: str, monitor: str, fitted: dict[str, Any], refused: Refused
) -> None:
    settings = cohort.prepare(**{"train.monitor": monitor})
    _without(split, (1, 2, 3))
    problem = refused(lambda: train(cohort.DATASET, settings))
    assert f"expected foreground in {split}" in problem.what
    assert "model" not in fitted


@pytest.mark.parametrize(
    ("split", "classes", "message"),
    [
        ("train", (2,), ["grey_matter: it is not learnt"]),
        ("valid", (1, 2, 3), [f"{n}: it is not judged" for n in ("csf", "grey_", "white_")]),
        ("test", (1, 2, 3), []),
    ],
)
def test_a_class_without_a_picture_is_named_before_the_first_epoch(
    split: str,
    classes: tuple[int, ...],
    message: list[str],
    fitted: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = cohort.prepare(**{"train.monitor": "val_loss", "train.epochs": 1})
    _without(split, classes)
    train(cohort.DATASET, settings)
    out = capsys.readouterr().out
    named = [line for line in out.splitlines() if line.startswith("  no picture of")]
    assert len(named) == len(message)
    assert all(
        one.split(":")[0].rstrip("_") in line for one, line in zip(message, named, strict=True)
    )
    assert not named or out.index(named[-1]) < out.index("epoch 1")


def test_refused_training_leaves_the_earlier_model(workplace: Path, refused: Refused) -> None:
    """A model can be hours of work; a mistake in the data must not cost it."""
    settings: params_reader.Params = cohort.write_params()
    model = RUN / paths.MODEL
    model.parent.mkdir(parents=True)
    model.write_bytes(b"an earlier model")
    refused(lambda: train(cohort.DATASET, settings))
    assert model.is_file()


def _pairs() -> list[manifest.Pair]:
    return manifest.read(PAIRS)
