"""A model is named by its dataset, by its run's folder or by its file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.inference.places import model_file
from tests.conftest import Refused


def touch(name: str) -> Path:
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    return file


@pytest.mark.parametrize("text", ["aisd", "runs/aisd", "runs/aisd/", "runs/aisd/model.keras"])
def test_each_way_leads_to_the_file(text: str, workplace: Path) -> None:
    """Without params.yaml, and without an adapter of that name."""
    file = touch("runs/aisd/model.keras")
    assert model_file(text) == file


def test_a_path_is_not_bound_to_names(workplace: Path) -> None:
    file = touch("from a colleague/best.keras")
    assert model_file(str(file)) == file


def test_keras_comes_before_onnx_and_onnx_will_do(workplace: Path) -> None:
    exported = touch("runs/aisd/model.onnx")
    assert model_file("aisd") == exported
    trained = touch("runs/aisd/model.keras")
    assert model_file("aisd") == trained


def test_a_folder_of_the_datasets_name_does_not_hide_its_run(workplace: Path) -> None:
    Path("aisd").mkdir()
    file = touch("runs/aisd/model.keras")
    assert model_file("aisd") == file


@pytest.mark.parametrize("text", ["aisd", "runs/aisd", "x.keras", "a" * 5000, ""])
def test_what_is_nowhere_is_refused_with_all_that_was_looked_at(
    text: str, workplace: Path, refused: Refused
) -> None:
    problem = refused(lambda: model_file(text))
    assert problem.where == text
    assert str(Path(text, "model.onnx")) in problem.what


def test_a_pipe_is_left_to_whoever_reads_it(workplace: Path) -> None:
    os.mkfifo("model.keras")
    assert model_file("model.keras") == Path("model.keras")
