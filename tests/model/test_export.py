"""export: the same network in a file that runs without TensorFlow, or no file."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from model import export as verb
from model import number_format, provenance
from model.__main__ import main
from model.export import comparison, export
from model.flexunet import flexunet
from model.inference import keras_file, onnx_file
from model.params import ACTIVATIONS, Network
from pipeline.runtime import modelfile
from tests.conftest import Refused
from tests.support.networks import record

pytestmark = pytest.mark.slow

SMALL = Network(16, 1, 4, 3, 3, 1, 0.1, "relu", "batch")
CLASSES = 3
MODEL, ONNX = Path("runs/drawn/model.keras"), Path("runs/drawn/model.onnx")
SHAPES = {
    "default": SMALL,
    "of the reference projects": Network(32, 3, 2, 9, 4, 1, 0.03, "relu", "none"),
    "dilated": Network(32, 3, 2, 9, 3, 3, 0.05, "relu", "none"),
    "group": replace(SMALL, normalization="group"),
    "instance": replace(SMALL, normalization="instance"),
    "three channels": Network(16, 3, 4, 5, 2, 2, 0.0, "gelu", "none"),
    "all at once": Network(16, 3, 3, 5, 3, 2, 0.1, "mish", "group"),
    "two levels": replace(SMALL, num_layers=2, base_filters=1),
    **{one: replace(SMALL, activation=one, num_layers=2) for one in ACTIVATIONS},
}


def drawn(network: Network) -> keras.Model:
    """A network whose normalisation moves and scales as a trained one's does."""
    rng = np.random.default_rng(3)
    model = flexunet(network, CLASSES)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(rng.uniform(0.5, 2, weight.shape))
        elif weight.name != "kernel":
            weight.assign(rng.normal(0, 0.3, weight.shape))
    return model


def save(network: Network, file: Path = MODEL, **stated: Any) -> keras.Model:
    """Write a drawn network as a trained one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    model = drawn(network)
    with provenance.writing(model, file, record(network, CLASSES) | stated):
        pass
    return model


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "model.export")
    return caplog


@pytest.mark.parametrize("name", SHAPES)
def test_onnx_answers_as_keras_does(name: str, workplace: Path) -> None:
    network = SHAPES[name]
    model = save(network)
    export(str(MODEL), "onnx")
    pictures = np.random.default_rng(0).integers(0, 256, (3, network.image_px, network.image_px, 1))
    pictures = np.repeat(pictures, network.channels, axis=-1).astype(np.uint8)
    found = onnx_file.runner(ONNX, network.image_px, network.channels, CLASSES)(pictures)
    exact = keras.ops.convert_to_numpy(verb._in_float64(model)(pictures.astype(np.float64)))
    assert exact.std() > 0.01
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5)
    if network.normalization in ("none", "batch"):  # Keras itself is further off with the others
        keras_own = model.predict_on_batch(pictures.astype(np.float32))
        np.testing.assert_allclose(found, keras_own, rtol=0, atol=1e-5)


def test_the_same_model_gives_the_same_bytes_and_its_provenance(workplace: Path) -> None:
    save(SMALL, epoch=7)
    export("drawn", "onnx")  # neither params.yaml nor a dataset of this name is here
    first = ONNX.read_bytes()
    export("runs/drawn", "onnx", Path("elsewhere.onnx"))
    assert Path("elsewhere.onnx").read_bytes() == first
    stated = onnx_file.read(ONNX)
    assert stated.pop("format")["precision"] == "float32"
    assert stated == modelfile.read(MODEL)
    assert stated["epoch"] == 7


@pytest.mark.parametrize("form", ["bfloat16", "float16"])
def test_a_network_of_another_precision_answers_in_float32(form: str, workplace: Path) -> None:
    """The weights are float32 in any case."""
    model = drawn(SMALL)
    number_format.use(form)
    try:
        mixed = flexunet(SMALL, CLASSES)
    finally:
        number_format.use("float32")
    mixed.set_weights(model.get_weights())
    MODEL.parent.mkdir(parents=True)
    with provenance.writing(mixed, MODEL, record(SMALL, CLASSES) | {"precision": form}):
        pass
    export("drawn", "onnx")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    wanted = model.predict_on_batch(pictures.astype(np.float32))
    found = onnx_file.runner(ONNX, 16, 1, CLASSES)(pictures)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_the_largest_difference_is_reported(
    workplace: Path, messages: pytest.LogCaptureFixture
) -> None:
    save(SMALL)
    assert main(["export", "drawn"]) == 0
    [line] = messages.messages
    found = re.search(r"at most (\S+) from Keras' probabilities on 6 pictures$", line)
    assert found
    assert 0 < float(found[1]) < 1e-5


@pytest.mark.parametrize("normalization", ["batch", "group"])
def test_another_answer_is_a_problem_and_leaves_what_was_there(
    normalization: str, workplace: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(replace(SMALL, normalization=normalization))
    ONNX.write_text("an earlier export")
    right = keras_file.arrays

    def wrong(model: keras.Model) -> dict[str, Any]:
        return right(model) | {"head.bias": np.array([0, 0, 0.01], np.float32)}

    monkeypatch.setattr(keras_file, "arrays", wrong)
    problem = refused(lambda: export("drawn", "onnx"))
    assert "within 1e-05" in problem.what
    assert problem.where == str(MODEL)
    assert ONNX.read_text() == "an earlier export"
    assert {one.name for one in MODEL.parent.iterdir()} == {MODEL.name, ONNX.name}


def test_keras_own_rounding_does_not_count_against_onnx(workplace: Path, refused: Refused) -> None:
    """Pictures of a single grey are amplified noise behind a normalisation by groups."""
    network = replace(SMALL, normalization="group", activation="softplus")
    model = drawn(network)
    exact = verb._in_float64(model)

    def of(other: keras.Model, more: float = 0) -> str:
        def runner(pictures: Any) -> Any:
            return keras.ops.convert_to_numpy(other(pictures.astype("float64"))) + more

        return comparison(model, runner, network, MODEL)

    words = of(exact)
    assert "float64" in words
    assert "float64" in refused(lambda: of(exact, 0.01)).what


@pytest.mark.parametrize("form", ["saved_model", "litert"])
def test_other_formats_are_as_keras_writes_them_with_the_provenance(
    form: str, workplace: Path
) -> None:
    save(SMALL)
    export("drawn", form)
    folder = MODEL.with_name(f"model_{form}")
    assert len([one for one in folder.rglob("*") if one.is_file()]) > 1
    stated = (folder / modelfile.PROVENANCE).read_text("utf-8")
    assert modelfile.mapping(MODEL, "it", stated.encode()) == modelfile.read(MODEL)


def test_a_folder_takes_the_place_of_an_earlier_export_alone(
    workplace: Path, refused: Refused
) -> None:
    save(SMALL)
    other = Path("model_saved_model/of/other")
    other.mkdir(parents=True)
    problem = refused(lambda: export("drawn", "saved_model", Path("model_saved_model")))
    assert "a new folder" in problem.what
    assert other.is_dir()
    Path("model_saved_model", modelfile.PROVENANCE).touch()
    export("drawn", "saved_model", Path("model_saved_model"))
    assert not other.exists()


@pytest.mark.parametrize(
    ("form", "package"),
    [("onnx", "onnxruntime"), ("litert", "tensorflow"), ("openvino", "openvino")],
)
def test_a_missing_package_is_named_before_any_work(
    form: str, package: str, workplace: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    MODEL.parent.mkdir(parents=True)
    MODEL.touch()
    monkeypatch.setattr(
        verb, "find_spec", lambda name: pytest.fail(name) if name != package else None
    )
    problem = refused(lambda: export("drawn", form))
    assert package in problem.what
    assert "pip install" in problem.remedy


@pytest.mark.parametrize("output", ["a.txt", "folder.onnx", "model"])
def test_onnx_takes_the_place_of_nothing_else(
    output: str, workplace: Path, refused: Refused
) -> None:
    save(SMALL)
    Path("folder.onnx").mkdir()
    assert refused(lambda: export("drawn", "onnx", Path(output))).where == output


def test_what_was_exported_is_not_exported_again(workplace: Path, refused: Refused) -> None:
    save(SMALL)
    export("drawn", "onnx")
    assert "already" in refused(lambda: export(str(ONNX), "onnx")).what


def test_a_lack_of_the_model_is_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "nothing"]) == 2
    assert "runs/nothing/model.keras" in capsys.readouterr().err
