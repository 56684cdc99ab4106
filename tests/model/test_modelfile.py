"""A model file may come from anyone: it is right, or refused in one line, and nothing of it runs.

Each hostile file is made of a sound one, and must be refused by whatever reads it: ``evaluate``,
``predict`` and ``export`` (by ``keras_network``) and ``report`` (by ``modelfile.read``).
"""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

import datasets_spec
from model import params, provenance
from model.__main__ import main
from model.flexunet import flexunet
from model.inference.keras_file import built, keras_network
from pipeline import paths
from pipeline.runtime import modelfile
from tests.conftest import Refused
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

MODEL = paths.run(cohort.DATASET) / paths.MODEL
WEIGHTS = "model.weights.h5"
FACTS = datasets_spec.load(cohort.DATASET).dataset
Members = dict[str, bytes]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a dataset and a model of it."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_untrained(cohort.DATASET, cohort.prepare())
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def settings(sound: Path, workplace: Path) -> params.Params:
    shutil.copytree(sound, workplace, dirs_exist_ok=True, copy_function=os.link)
    content = MODEL.read_bytes()
    MODEL.unlink()
    MODEL.write_bytes(content)
    return params.load(cohort.DATASET)


def _members() -> Members:
    with zipfile.ZipFile(MODEL) as archive:
        return {one.filename: archive.read(one) for one in archive.infolist()}


def _write(members: Members, how: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(MODEL, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def _load(settings: params.Params) -> keras.Model:
    provenance.require(MODEL, cohort.DATASET, FACTS, settings)
    return keras_network(MODEL)[0]


def _with(change: Callable[[dict[str, Any]], Any]) -> Callable[[Members], Members]:
    """Members whose provenance is changed in place, or another where something is returned."""

    def make(members: Members) -> Members:
        stated = json.loads(members[modelfile.PROVENANCE])
        other = change(stated)
        text = json.dumps(stated if other is None else other)
        return members | {modelfile.PROVENANCE: text.encode()}

    return make


def _config(change: Callable[[dict[str, Any]], Any]) -> Callable[[Members], Members]:
    def make(members: Members) -> Members:
        config = json.loads(members[modelfile.CONFIG])
        change(config)
        return members | {modelfile.CONFIG: json.dumps(config).encode()}

    return make


def _weights(change: Callable[[h5py.File], Any]) -> Callable[[Members], Members]:
    def make(members: Members) -> Members:
        stream = io.BytesIO(members[WEIGHTS])
        with h5py.File(stream, "a") as file:
            change(file)
        return members | {WEIGHTS: stream.getvalue()}

    return make


def _kernel(file: h5py.File) -> h5py.Group:
    """The group of the first convolution's weights."""
    return file["layers/conv2d/vars"]


def _reshape(shape: tuple[int, ...]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del _kernel(file)["0"]
        _kernel(file).create_dataset("0", shape, "f4", chunks=tuple(min(n, 64) for n in shape))

    return change


def _elsewhere(file: h5py.File) -> None:
    del _kernel(file)["0"]
    _kernel(file)["0"] = h5py.ExternalLink("/etc/hostname", "/")


def _nan(file: h5py.File) -> None:
    _kernel(file)["0"][...] = np.nan


def _code(config: dict[str, Any]) -> None:
    """A Lambda layer whose code leaves a trace."""
    lam = keras.layers.Lambda(lambda x: (Path("ran").touch(), x)[1], name="evil")
    layer = keras.saving.serialize_keras_object(lam)
    config["config"]["layers"].insert(1, {**layer, "name": "evil", "inbound_nodes": []})


def _any_function(config: dict[str, Any]) -> None:
    config["config"]["layers"][1] |= {
        "module": "os",
        "class_name": "mkdir",
        "config": {"path": "ran"},
        "registered_name": "mkdir",
    }


DEEP = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
REFUSED: dict[str, Callable[[Members], Members]] = {
    "no provenance": lambda m: {k: v for k, v in m.items() if k != modelfile.PROVENANCE},
    "no text": lambda m: m | {modelfile.PROVENANCE: b"\xff\xfe{"},
    "a list": _with(lambda stated: [stated]),
    "a number": _with(lambda _: 1),
    "no train": _with(lambda stated: stated.pop("train") and None),
    "train is text": _with(lambda stated: stated.update(train="fast")),
    "no network": _with(lambda stated: stated["train"].pop("network") and None),
    "network is a list": _with(lambda stated: stated["train"].update(network=[1])),
    "labels are text": _with(lambda stated: stated.update(labels="all")),
    "no digest": _with(lambda stated: stated.pop("dataset_digest") and None),
    "deep": lambda m: m | {modelfile.PROVENANCE: DEEP},
    "many digits": lambda m: m | {modelfile.PROVENANCE: b'{"a":' + b"9" * 5000 + b"}"},
    "huge": lambda m: m | {modelfile.PROVENANCE: b" " * 2**24 + b"{}"},
}
REFUSED_TO_LOAD: dict[str, Callable[[Members], Members]] = {
    "another network": _with(lambda stated: stated["train"]["network"].update(num_layers=9)),
    "absurd network": _with(lambda stated: stated["train"]["network"].update(base_filters=10**9)),
    "no number": _with(lambda stated: stated["train"]["network"].update(base_filters=[[1]])),
    "no config": lambda m: {k: v for k, v in m.items() if k != modelfile.CONFIG},
    "deep config": lambda m: m | {modelfile.CONFIG: DEEP},
    "config is a list": lambda m: m | {modelfile.CONFIG: b"[]"},
    "no layers": _config(lambda config: config.update(config={"layers": 3})),
    "a layer less": _config(lambda config: config["config"]["layers"].pop()),
    "another dilation": _config(
        lambda config: config["config"]["layers"][2]["config"].update(filters=5)
    ),
    "a Lambda": _config(_code),
    "any function": _config(_any_function),
    "no weights": lambda m: {k: v for k, v in m.items() if k != WEIGHTS},
    "weights are text": lambda m: m | {WEIGHTS: b"weights"},
    "a weight less": _weights(lambda file: _kernel(file).pop("0")),
    "other shapes": _weights(_reshape((3, 3, 7, 7))),
    "absurd shapes": _weights(_reshape((10**6, 10**6))),
    "weights of another file": _weights(_elsewhere),
    "no numbers": _weights(_nan),
}


@pytest.mark.parametrize("kind", [*REFUSED, *REFUSED_TO_LOAD])
def test_a_hostile_file_is_refused_in_one_line_and_runs_nothing(
    kind: str, settings: params.Params, refused: Refused
) -> None:
    changed = {**REFUSED, **REFUSED_TO_LOAD}[kind](_members())
    assert changed != _members()
    _write(changed)
    problems = [refused(lambda: _load(settings)), refused(lambda: keras_network(MODEL))]
    if kind in REFUSED:
        problems.append(refused(lambda: modelfile.read(MODEL)))
    for problem in problems:
        assert problem.where == str(MODEL)
        assert f"python -m model train {cohort.DATASET}" in problem.remedy
        assert len(str(problem)) < 1000
    assert not Path("ran").exists()


def test_a_file_of_compressed_zeros_is_refused_before_it_is_unpacked(
    settings: params.Params, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(_members() | {WEIGHTS: bytes(2**26)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr("zipfile.ZipFile.testzip", lambda _: pytest.fail("unpacked"))
    assert "is compressed" in refused(lambda: _load(settings)).what


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(
    share: float, settings: params.Params, refused: Refused
) -> None:
    content = MODEL.read_bytes()
    MODEL.write_bytes(content[: int(share * len(content))])
    assert "whole model" in refused(lambda: _load(settings)).what


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_what_is_no_file_is_refused_and_not_waited_for(
    kind: str, settings: params.Params, refused: Refused
) -> None:
    MODEL.unlink()
    if kind == "pipe":
        os.mkfifo(MODEL)
    elif kind == "device":
        MODEL.symlink_to("/dev/zero")
    elif kind == "folder":
        MODEL.mkdir()
    assert refused(lambda: modelfile.read(MODEL)).where == str(MODEL)


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_commands_say_it_in_one_line(
    verb: str, settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(REFUSED["deep"](_members()))
    images = str(paths.dataset(cohort.DATASET) / "test" / "images")
    more = [images, "--output", "masks"] if verb == "predict" else []
    assert main([verb, cohort.DATASET, *more]) == 2
    [line] = [one for one in capsys.readouterr().err.splitlines() if "error" in one]
    assert str(MODEL) in line


@pytest.mark.parametrize(
    ("option", "same", "other"),
    [
        ("block", ["plain"], "residual"),
        ("input_normalization", ["none"], "zscore"),
        ("deep_supervision", [False, True], "often"),
    ],
)
def test_a_model_that_states_an_option_of_earlier_is_read_where_it_did_nothing(
    option: str, same: list[object], other: str, settings: params.Params, refused: Refused
) -> None:
    sound, weights = _members(), _load(settings).count_params()

    def state(value: object) -> None:
        _write(_with(lambda stated: stated["train"]["network"].update({option: value}))(sound))

    for value in same:
        state(value)
        assert _load(settings).count_params() == weights
    state(other)
    assert f"the parameter '{option}' of {other!r}" in refused(lambda: _load(settings)).what


@pytest.mark.parametrize("form", ["float32", "bfloat16"])
@pytest.mark.parametrize("normalization", ["none", "batch", "group", "instance"])
def test_the_network_that_is_built_is_the_one_that_keras_would_load(
    form: str, normalization: str, workplace: Path
) -> None:
    """Number by number, and whatever the precision of this process."""
    settings = cohort.write_params(**{"train.network.normalization": normalization})
    manifest = paths.dataset(cohort.DATASET) / paths.MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.touch()
    keras.config.set_dtype_policy("float32" if form == "float32" else f"mixed_{form}")
    try:
        network = flexunet(settings.train.network, len(FACTS.label_map))
    finally:
        keras.config.set_dtype_policy("float32")
    rng = np.random.default_rng(0)
    network.set_weights([rng.random(w.shape, np.float32) for w in network.get_weights()])
    stated = provenance.of(cohort.DATASET, FACTS, settings) | {"precision": form}
    with provenance.writing(network, MODEL, stated):
        pass
    pictures = rng.integers(0, 256, (2, 32, 32, 1), np.uint8)
    ours = built(MODEL, settings.train.network, len(FACTS.label_map), form)
    theirs = keras.saving.load_model(MODEL, compile=False)
    found, wanted = (np.asarray(one.predict_on_batch(pictures)) for one in (ours, theirs))
    np.testing.assert_array_equal(found, wanted)
    assert ours.get_layer("head").compute_dtype == form
    assert keras.config.dtype_policy().name == "float32"
    same = flexunet(settings.train.network, len(FACTS.label_map))
    same.set_weights(network.get_weights())
    alone, origin = keras_network(MODEL)
    assert origin == modelfile.read(MODEL)
    np.testing.assert_array_equal(alone.predict_on_batch(pictures), same.predict_on_batch(pictures))
    assert alone.get_layer("head").compute_dtype == "float32"


def test_a_renewed_file_has_another_provenance_and_nothing_else(
    settings: params.Params,
) -> None:
    before_it = _members()
    stated = provenance.of(cohort.DATASET, FACTS, settings)
    before = MODEL.stat().st_ino
    provenance.renew(MODEL, stated)
    assert MODEL.stat().st_ino == before  # it says so already
    provenance.renew(MODEL, stated | {"epoch": 3})
    assert modelfile.read(MODEL)["epoch"] == 3
    assert list(_members()) == list(before_it)
    changed = [name for name, content in _members().items() if content != before_it[name]]
    assert changed == [modelfile.PROVENANCE]
    assert _load(settings).count_params() > 0


def test_a_model_is_written_where_the_clock_stands_before_1980(
    settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = _load(settings)
    monkeypatch.setattr("time.time", lambda: 0.0)
    with provenance.writing(model, MODEL, provenance.of(cohort.DATASET, FACTS, settings)):
        pass
    assert _load(settings).count_params() == model.count_params()
