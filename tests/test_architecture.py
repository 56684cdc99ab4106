"""The house has three floors, and imports point down only."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.imports import imported
from tests.conftest import PROJECT

FLOORS = {"datasets_spec": 0, "pipeline": 1, "model": 2}
MODULES = [
    file.relative_to(PROJECT)
    for floor in FLOORS
    for file in sorted((PROJECT / floor).rglob("*.py"))
]
STAGES = {"fetch", "convert", "augment", "split", "report"}
DEEP_LEARNING = {"tensorflow", "keras", "jax", "torch"}


def ids(file: Path) -> str:
    return file.as_posix()


def foreign(file: Path) -> set[str]:
    """Top-level names of everything that a file imports."""
    tree = ast.parse((PROJECT / file).read_text("utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def test_there_are_modules_on_every_floor() -> None:
    assert {file.parts[0] for file in MODULES} == set(FLOORS)


@pytest.mark.parametrize("file", MODULES, ids=ids)
def test_imports_point_down(file: Path) -> None:
    above = [name for name in imported(file) if FLOORS[name.split(".")[0]] > FLOORS[file.parts[0]]]
    assert not above


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_never_import_each_other(stage: str) -> None:
    others = {f"pipeline.{other}" for other in STAGES - {stage}}
    assert not others & {
        part
        for name in imported(Path("pipeline") / f"{stage}.py")
        for part in (name, name.rsplit(".", 1)[0])
    }


@pytest.mark.parametrize("file", [f for f in MODULES if f.parts[0] != "model"], ids=ids)
def test_only_the_model_imports_a_deep_learning_library(file: Path) -> None:
    assert not foreign(file) & DEEP_LEARNING


@pytest.mark.parametrize("file", [f for f in MODULES if f.parts[0] == "model"], ids=ids)
def test_the_model_knows_keras_alone(file: Path) -> None:
    """But for the one module that asks TensorFlow for its GPUs: Keras has no word for them."""
    backends = {Path("model/training/devices.py"): {"tensorflow"}}
    assert foreign(file) & (DEEP_LEARNING - {"keras"}) == backends.get(file, set())


def test_only_one_module_reads_the_parameter_file() -> None:
    loading = re.compile(r"yaml\.\w*load|Loader\(yaml")
    readers = [file for file in MODULES if loading.search((PROJECT / file).read_text("utf-8"))]
    assert readers == [Path("pipeline/params/reader.py"), Path("pipeline/params/strict_yaml.py")]


def test_the_pipeline_runs_without_a_deep_learning_library() -> None:
    program = (
        "import sys, pipeline.convert, pipeline.augment, pipeline.split, pipeline.report,"
        " pipeline.fetch; print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
