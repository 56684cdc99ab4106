"""An ONNX file may come from anyone: it is what we would write but for its weights, or refused."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets_spec.contract import Problem
from model.inference import onnx_file, onnx_graph
from model.inference.protobuf import field
from model.params import ACTIVATIONS, Network
from tests.conftest import PROJECT, Refused
from tests.support.networks import record, write_onnx

onnx: Any = pytest.importorskip("onnx", reason="hostile graphs are made with ONNX' own library")

NETWORK, CLASSES = Network(16, 1, 2, 3, 2, 1, 0.0, "relu", "batch"), 3
ASKED = (16, 1, CLASSES)
FILE = Path("model.onnx")


@pytest.fixture
def sound(workplace: Path) -> bytes:
    """The content of a sound file, which lies at FILE."""
    return write_onnx(FILE, NETWORK, CLASSES)


def run() -> onnx_file.Runner:
    return onnx_file.runner(FILE, *ASKED)


def pictures(count: int, channels: int = 1) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(1).integers(0, 256, (count, 16, 16, channels), np.uint8)


@pytest.mark.parametrize("count", [1, 5])
def test_a_sound_file_gives_probabilities(count: int, sound: bytes) -> None:
    found = run()(pictures(count))
    assert (found.shape, found.dtype) == ((count, 16, 16, CLASSES), np.float32)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)
    assert found.std() > 0.001


def test_a_batch_answers_as_its_pictures_do(sound: bytes) -> None:
    batch, runner = pictures(3), run()
    one_by_one = np.concatenate([runner(one[None]) for one in batch])
    np.testing.assert_allclose(runner(batch), one_by_one, atol=1e-6)


def test_its_provenance_is_read_with_the_facts_of_the_format(sound: bytes) -> None:
    stated = onnx_file.read(FILE)
    facts = stated.pop("format")
    assert stated == record(NETWORK, CLASSES)
    assert facts["name"] == "onnx"
    assert (facts["opset"], facts["precision"]) == (onnx_graph.OPSET, "float32")


@pytest.mark.parametrize("normalization", ["none", "batch", "group", "instance"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_itself_finds_every_kind_of_file_valid_and_would_write_the_same(
    activation: str, normalization: str, workplace: Path
) -> None:
    network = Network(16, 3, 2, 5, 3, 2, 0.1, activation, normalization)
    content = write_onnx(FILE, network, CLASSES)
    model = onnx.load_model_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString(deterministic=True) == content
    assert np.isfinite(onnx_file.runner(FILE, 16, 3, CLASSES)(pictures(2, 3))).all()


# Files that another hand has changed. Of each, the function changes ONNX' own view of it.


def _another_domain(model: Any) -> None:
    model.graph.node[1].domain = "com.microsoft"
    model.opset_import.add(domain="com.microsoft", version=1)


def _a_function(model: Any) -> None:
    made = onnx.helper.make_node("Relu", ["x"], ["y"])
    operators = [onnx.helper.make_opsetid("", 20)]
    model.functions.append(onnx.helper.make_function("f", "F", ["x"], ["y"], [made], operators))


def _a_subgraph(model: Any) -> None:
    inner = onnx.helper.make_graph([], "inner", [], [])
    node = onnx.helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner)
    model.graph.node.insert(0, node)


def _a_file_elsewhere(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    tensor.external_data.add(key="location", value="/etc/passwd")


def _a_bomb(model: Any) -> None:
    """Each node doubles what it is given."""
    names = ["picture", *(f"double_{number}" for number in range(40))]
    for before, after in itertools.pairwise(names):
        node = onnx.helper.make_node("Concat", [before, before], [after], axis=0)
        model.graph.node.append(node)


def _another_text(model: Any, change: Callable[[dict[str, Any]], Any]) -> None:
    stated = json.loads(model.metadata_props[0].value)
    other = change(stated)
    model.metadata_props[0].value = json.dumps(stated if other is None else other)


def _text(change: Callable[[dict[str, Any]], Any]) -> Callable[[Any], None]:
    return functools.partial(_another_text, change=change)


def _network(**changed: object) -> Callable[[Any], None]:
    return _text(lambda stated: stated["train"]["network"].update(changed))


def _weight(model: Any, value: bytes) -> None:
    tensor = model.graph.initializer[0]
    tensor.raw_data = value + tensor.raw_data[4:]


CHANGES: dict[str, Callable[[Any], Any]] = {
    "another operator": lambda model: setattr(model.graph.node[4], "op_type", "Sigmoid"),
    "another attribute": lambda model: model.graph.node[3].attribute[0].ints.append(1),
    "another domain": _another_domain,
    "a function": _a_function,
    "a subgraph": _a_subgraph,
    "a file elsewhere": _a_file_elsewhere,
    "a bomb": _a_bomb,
    "a node less": lambda model: model.graph.node.pop(),
    "an output more": lambda model: model.graph.output.append(model.graph.output[0]),
    "another shape": lambda model: model.graph.initializer[0].dims.append(1),
    "another opset": lambda model: setattr(model.opset_import[0], "version", 21),
    "a text more": lambda model: model.metadata_props.add(key="a", value="b"),
    "notes": lambda model: setattr(model, "doc_string", "optimised"),
    "a weight that is no number": lambda model: _weight(model, b"\0\0\xc0\x7f"),
    "an endless weight": lambda model: _weight(model, b"\0\0\x80\x7f"),
    "a weight of another file": lambda model: _weight(model, b"\0\0\x80\x3f"),
    "no digest of its weights": _text(lambda stated: stated.pop("format") and None),
    "a format that is text": _text(lambda stated: stated.update(format="onnx")),
    "another network": _network(activation="tanh"),
    "an absurd network": _network(base_filters=10**9),
    "absurd pictures": _network(image_px=2**40),
    "absurd whole pictures": _network(picture_px=2**40),
    "whole pictures below nothing": _network(picture_px=-1),
    "whole pictures below their parts": _network(picture_px=2),
    "absurd levels": _network(num_layers=10**6),
    "filters that are text": _network(base_filters="2"),
    "filters that are true": _network(base_filters=True),
    "a parameter more": _network(code="x"),
    "one class": _text(lambda stated: stated.update(labels=[1])),
    "many classes": _text(lambda stated: stated.update(labels=[1] * 257)),
}
READ: dict[str, Callable[[Any], Any]] = {
    "no provenance": lambda model: model.metadata_props.pop(),
    "a list": _text(lambda stated: [stated]),
    "no network": _text(lambda stated: stated["train"].pop("network") and None),
    "labels are text": _text(lambda stated: stated.update(labels="all")),
    "no text": lambda model: setattr(model.metadata_props[0], "value", "{"),
    "deep": lambda model: setattr(model.metadata_props[0], "value", '{"a":' * 10**5),
    "long": lambda model: setattr(model.metadata_props[0], "value", " " * 2**24 + "{}"),
}


@pytest.mark.parametrize("kind", [*CHANGES, *READ])
def test_a_file_of_another_hand_is_refused_before_onnxruntime_sees_it(
    kind: str, sound: bytes, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load_model_from_string(sound)
    {**CHANGES, **READ}[kind](model)
    changed = model.SerializeToString()
    assert changed != sound
    FILE.write_bytes(changed)
    monkeypatch.setattr(onnx_file, "_session", lambda *_: pytest.fail("it was opened"))
    problems = [refused(run)]
    if kind in READ:
        problems.append(refused(lambda: onnx_file.read(FILE)))
    for problem in problems:
        assert problem.where == str(FILE)
        assert "python -m model export" in problem.remedy
        assert len(str(problem)) < 1000


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_other_byte_outside_of_the_provenance_is_refused(
    data: st.DataObject, sound: bytes
) -> None:
    text = sound.index(b'{\n "augment"')
    place = data.draw(st.integers(0, text - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda one: one != sound[place]))
    FILE.write_bytes(sound[:place] + bytes([byte]) + sound[place + 1 :])
    with pytest.raises(Problem):
        run()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=300), st.integers(0, 10**6))
def test_truncated_and_foreign_bytes_are_refused(sound: bytes, more: bytes, end: int) -> None:
    FILE.write_bytes(sound[: end % len(sound)] + more)
    if FILE.read_bytes() != sound:
        with pytest.raises(Problem):
            run()
    FILE.write_bytes(more)
    with pytest.raises(Problem):
        onnx_file.read(FILE)


def test_provenance_in_another_place_is_refused(sound: bytes, refused: Refused) -> None:
    """Whichever of two texts another reader would take."""
    FILE.write_bytes(field(onnx_graph.METADATA, field(1, "provenance") + field(2, "{}")) + sound)
    assert "no" in refused(run).what


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_what_is_no_file_is_refused_and_not_waited_for(
    kind: str, workplace: Path, refused: Refused
) -> None:
    if kind == "pipe":
        os.mkfifo(FILE)
    elif kind == "device":
        FILE.symlink_to("/dev/zero")
    elif kind == "folder":
        FILE.mkdir()
    for action in (run, lambda: onnx_file.read(FILE)):
        assert refused(action).where == str(FILE)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(
    sound: bytes, refused: Refused
) -> None:
    with FILE.open("r+b") as stream:
        stream.truncate(2**31)
    assert "2147483647 are the most" in refused(lambda: onnx_file.read(FILE)).what


@pytest.mark.parametrize("asked", [(32, 1, 3), (16, 3, 3), (16, 1, 4)])
def test_a_network_of_other_pictures_or_classes_is_refused(
    asked: tuple[int, int, int], sound: bytes, refused: Refused
) -> None:
    assert "16, 1 and 3" in refused(lambda: onnx_file.runner(FILE, *asked)).what


def test_a_network_that_overflows_is_refused_when_it_answers(
    workplace: Path, refused: Refused
) -> None:
    write_onnx(FILE, replace(NETWORK, normalization="none"), CLASSES, spread=1e37)
    runner = run()
    assert "numbers that are none" in refused(lambda: runner(pictures(1))).what


def test_a_network_beyond_what_onnx_holds_is_refused(refused: Refused) -> None:
    huge = replace(NETWORK, base_filters=512, num_layers=5)
    problem = refused(lambda: onnx_file.parts(huge, CLASSES, {}, {}))
    assert "less than 2147483647 bytes" in problem.what


def test_without_onnxruntime_the_extra_is_named(
    sound: bytes, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert onnx_file.read(FILE)["dataset"] == "drawn"
    assert "flexunet-pipeline[predict]" in refused(run).remedy


def test_a_lack_of_memory_is_one() -> None:
    error = onnx_file._problem_of(FILE, RuntimeError("Failed to allocate memory for 12 bytes"))
    assert isinstance(error, MemoryError)
    assert isinstance(onnx_file._problem_of(FILE, RuntimeError("no such kernel")), Problem)


def test_it_is_imported_where_no_network_library_is() -> None:
    absent = ("keras", "tensorflow", "onnx", "onnxruntime", "h5py")
    program = f"import sys; sys.modules.update(dict.fromkeys({absent})); "
    program += "import model.inference.onnx_file, model.inference.places"
    subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=True)
