"""4 epochs, a stop and 4 more equal 8, bit for bit; Keras' own callbacks agree on the counting."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from model import params, provenance, train
from model.__main__ import main
from model.training import checkpoint, fit
from model.training.state import State
from pipeline import paths
from pipeline.runtime import files as runtime_files
from tests.conftest import PROJECT
from tests.support import cohort
from tests.support.every import every
from tests.test_repro import Project

pytestmark = pytest.mark.slow

RUN = paths.run(cohort.DATASET)
PLACE = checkpoint.folder(paths.run(cohort.DATASET))
# everything that has a memory
KNOBS: dict[str, Any] = {
    "train.network.dropout_rate": 0.2,
    "train.foreground_oversampling": 0.5,
    "train.accumulate_batches": 3,
    "train.reducer_patience": 1,
    "train.early_stopping_patience": 99,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder where four epochs were trained without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train.train(cohort.DATASET, cohort.prepare(**KNOBS, **{"train.epochs": 4}))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def again(whole: Path, workplace: Path) -> Callable[..., params.Params]:
    """Parameters for a number of epochs, where the same dataset lies."""
    shutil.copytree(whole / "data", workplace / "data")
    return lambda epochs=4, **more: cohort.write_params(**KNOBS, **{"train.epochs": epochs}, **more)


def _outcome(folder: Path) -> dict[str, Any]:
    """What a training leaves, as comparable bytes: history, weights, pictures."""
    run = folder / RUN
    arrays = {}
    for name in (run / paths.MODEL, run / "checkpoint" / "last.keras"):
        model = keras.saving.load_model(name, compile=False)
        arrays[name.name] = [weight.tobytes() for weight in model.get_weights()]
    pictures = {
        file.relative_to(run).as_posix(): file.read_bytes()
        for file in sorted((run / paths.EPOCH_CHANGE).rglob("*.png"))
    }
    assert len(pictures) == 24
    return {"history": (run / paths.HISTORY).read_text(), **arrays, **pictures}


def _stop_in(epoch: int, patch: pytest.MonkeyPatch) -> None:
    """Let Ctrl-C come in the middle of an epoch, counted from 1."""
    before = fit.fit_epoch

    def stopped(model: Any, learn: Any, number: int, callbacks: list[Any]) -> Any:
        def press(batch: int, logs: Any) -> None:
            if batch == 3:
                signal.raise_signal(signal.SIGINT)

        if number == epoch - 1:
            callbacks = [*callbacks, keras.callbacks.LambdaCallback(on_train_batch_end=press)]
        return before(model, learn, number, callbacks)

    patch.setattr(fit, "fit_epoch", stopped)


def test_two_epochs_and_two_more_are_four(again: Callable[..., params.Params], whole: Path) -> None:
    train.train(cohort.DATASET, again(2))
    train.train(cohort.DATASET, again(4))
    assert _outcome(Path()) == _outcome(whole)


def test_ctrl_c_in_an_epoch_costs_that_epoch_alone(
    again: Callable[..., params.Params],
    whole: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again()
    with monkeypatch.context() as patch:
        _stop_in(3, patch)
        assert main(["train", cohort.DATASET]) == 130
    assert "resumes after epoch 2" in capsys.readouterr().out
    assert len((RUN / paths.HISTORY).read_text().splitlines()) == 3
    assert (RUN / paths.MODEL).is_file()
    assert main(["train", cohort.DATASET]) == 0
    assert "resumes after epoch 2" in capsys.readouterr().out
    assert _outcome(Path()) == _outcome(whole)


def test_a_finished_training_gives_its_outputs_again(
    whole: Path, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after dvc has removed them."""
    shutil.copytree(whole, workplace, dirs_exist_ok=True)
    wanted = _outcome(workplace)
    for name in (paths.MODEL, paths.HISTORY, paths.CURVES):
        (RUN / name).unlink()
    shutil.rmtree(RUN / paths.EPOCH_CHANGE)
    train.train(cohort.DATASET, params.load(cohort.DATASET))
    assert _outcome(workplace) == wanted
    assert "epoch 1:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"train.learning_rate": 0.001}, "train.learning_rate"),
        ({"train.network.base_filters": 3}, "train.network.base_filters"),
        ({"train.schedule": "cosine", "train.epochs": 5}, "train.schedule"),
    ],
)
def test_a_different_training_starts_over_and_says_why(
    change: dict[str, Any],
    named: str,
    whole: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    workplace: Path,
) -> None:
    kept = json.loads(json.dumps(_state(whole).made_from))
    settings = cohort.write_params(**{**KNOBS, "train.epochs": 4, **change})
    recorded = {
        "train": _asdict(settings.train),
        "augment": _asdict(settings.augment),
        "packages": {},
    }
    now = checkpoint.ingredients(recorded, settings.train)
    now = {**kept, **{key: value for key, value in now.items() if key.startswith("train.")}}
    assert checkpoint.earlier(whole / PLACE, now, 4, []) is None
    assert f"was made with a different {named}" in capsys.readouterr().out.replace(
        "train.epochs, ", ""
    )


@pytest.mark.parametrize("name", ["dataset_digest", "code", "keras", "backend"])
def test_data_code_and_packages_are_ingredients(
    name: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = _state(whole).made_from
    assert kept[name]
    assert checkpoint.earlier(whole / PLACE, {**kept, name: "another"}, 4, []) is None
    assert f"was made with a different {name}: starting over" in capsys.readouterr().out
    assert checkpoint.earlier(whole / PLACE, kept, 4, []) is not None


@pytest.mark.parametrize("content", [b"", b"PK no archive"])
def test_a_broken_checkpoint_starts_over(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "last.keras").write_bytes(content)
    assert checkpoint.earlier(tmp_path, {}, 1, []) is None
    assert "cannot be read" in capsys.readouterr().out


CLOCK = """
import sys, time
time.time = lambda: 5.0
from pathlib import Path
import keras
from model import provenance
from pipeline.runtime import modelfile
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, kernel_initializer="ones")])
place = Path(sys.argv[1])
for name in ("a.keras", "b.keras"):
    with provenance.writing(model, place / name, {"dataset": "x"}) as archive:
        provenance.add(archive, "more.json", "{}")
loaded = keras.saving.load_model(place / "a.keras")
assert (loaded.get_weights()[0] == model.get_weights()[0]).all()
assert modelfile.member(place / "a.keras", "provenance.json") == {"dataset": "x"}
"""


def test_a_model_is_written_where_no_clock_is_set_and_holds_none(tmp_path: Path) -> None:
    """Many a small machine begins in 1970, and no zip file can hold a date before 1980."""
    subprocess.run([sys.executable, "-c", CLOCK, str(tmp_path)], cwd=PROJECT, check=True)
    first, second = tmp_path / "a.keras", tmp_path / "b.keras"
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as archive:
        dates = {entry.date_time for entry in archive.infolist()}
    assert dates == {(1980, 1, 1, 0, 0, 0)}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.keras", "b.keras"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut is promised to cost an epoch at most."""
    order: list[str] = []
    sync, replace = runtime_files.sync, os.replace
    monkeypatch.setattr(runtime_files, "sync", lambda path: (order.append(path.name), sync(path)))
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(f"-> {b.name}"), replace(a, b)))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with provenance.writing(model, tmp_path / "last.keras", {}):
        pass
    assert order == [".unfinished-last.keras", "-> last.keras", tmp_path.name]


@every("patience", [1, 2, 4])
@every("seed", range(4))
@every("monitor", ["val_loss", "val_foreground_dice"])
def test_counting_is_that_of_keras_callbacks(
    monitor: str, seed: int, patience: int, workplace: Path
) -> None:
    wanted = cohort.write_params(
        **{
            "train.monitor": monitor,
            "train.reducer_patience": patience,
            "train.early_stopping_patience": 2 * patience,
            "train.reducer_factor": 0.5,
            "train.epochs": 60,
        }
    ).train
    mode = "min" if monitor == "val_loss" else "max"
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(wanted.learning_rate))
    reducer = keras.callbacks.ReduceLROnPlateau(
        monitor=monitor, mode=mode, factor=0.5, patience=patience
    )
    stop = keras.callbacks.EarlyStopping(monitor=monitor, mode=mode, patience=2 * patience)
    for one in (reducer, stop):
        one.set_model(model)
        one.on_train_begin()
    state = State({}, "float32", wanted.learning_rate)
    drift = np.linspace(0, -0.2 if mode == "min" else 0.2, 60)
    values = np.random.default_rng(seed).normal(0.5, 0.1, 60) + drift
    values[10:14] = values[9] + 5e-5 * (-1 if mode == "min" else 1) * np.arange(1, 5)
    for epoch, value in enumerate(values.tolist()):
        logs = {monitor: value}
        reducer.on_epoch_end(epoch, logs)
        stop.on_epoch_end(epoch, logs)
        best = state.count({monitor: value}, wanted)
        assert best == (stop.best_epoch == epoch and stop.best == value)
        assert state.learning_rate == pytest.approx(float(model.optimizer.learning_rate))
        assert state.stopped == bool(model.stop_training)
        if state.stopped:
            break
    assert state.history[0]["learning_rate"] == wanted.learning_rate


def test_a_monitor_that_is_no_number_is_no_gain_but_leaves_a_best_epoch(workplace: Path) -> None:
    wanted = cohort.write_params(**{"train.monitor": "val_loss"}).train
    state = State({}, "float32", wanted.learning_rate)
    values = [float("nan"), float("nan"), 2.0, float("nan")]
    assert [state.count({"val_loss": one}, wanted) for one in values] == [True, False, True, False]
    assert state.best_epoch == 3


def test_dvc_repro_killed_in_an_epoch_resumes(tmp_path: Path) -> None:
    """kill -9 on all of it; DVC then removes the stage's outputs, but not the checkpoint."""
    project = Project(tmp_path / "project")
    project.change({"train": {"epochs": 4, "precision": "float32", "steps_per_epoch": 20}})
    project.dvc("repro", "split@virtual_mni152")
    other = tmp_path / "other"
    shutil.copytree(project.folder, other, ignore=shutil.ignore_patterns(".dvc", ".git"))
    place = project.folder / PLACE / "last.keras"
    with project.running("repro", "train@virtual_mni152") as started:
        _wait_for(place)
        os.killpg(started.pid, signal.SIGKILL)
    assert not (project.folder / "dvc.lock").read_text().count("train@")
    output = project.dvc("repro", "train@virtual_mni152")
    assert "resumes after epoch" in output
    done = subprocess.run(
        [sys.executable, "-m", "model", "train", "virtual_mni152"],
        cwd=other,
        env={**os.environ, "PYTHONPATH": str(other)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    names = (paths.HISTORY, paths.EPOCH_CHANGE)
    assert _files(project.folder / RUN, *names) == _files(other / RUN, *names)


def _files(run: Path, *names: str) -> dict[str, bytes]:
    files = [file for name in names for file in sorted(run.glob(f"{name}*/**/*.png"))]
    files += [run / paths.HISTORY]
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}


def _wait_for(file: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not file.is_file():
        assert time.monotonic() < end, f"{file} did not come"
        time.sleep(0.02)


def _state(folder: Path) -> State:
    with zipfile.ZipFile(folder / PLACE / "last.keras") as archive:
        return State(**json.loads(archive.read("training.json")))


def _asdict(value: Any) -> dict[str, Any]:
    return dataclasses.asdict(value)
