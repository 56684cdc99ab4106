"""The house has three floors, and imports point down only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime.imports import imported
from tests.conftest import PROJECT
from tests.support.modules import FLOORS, modules, nodes

MODULES = modules()
ELSEWHERE = {"tests", "data", "runs", "report", "build", "docs"}  # no code of the house
STAGES = {"fetch", "convert", "augment", "split", "report"}
DEEP_LEARNING = {"tensorflow", "keras", "jax", "torch"}
YAML_READERS = [Path(f"pipeline/params/{name}.py") for name in ("editing", "reader", "strict_yaml")]
YAML_WRITERS = {"safe_dump", "safe_dump_all"}
YAML_LIBRARIES = {"ruamel", "ruyaml", "oyaml", "strictyaml", "omegaconf", "yamlcore"}


def foreign(file: Path) -> set[str]:
    """Top-level names of everything that a file imports."""
    names = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


def reads_yaml(source: str) -> bool:
    """Whether code may read YAML: it does anything with a YAML library but write."""
    tree = list(ast.walk(ast.parse(source)))
    modules = [alias for node in tree if isinstance(node, ast.Import) for alias in node.names]
    taken = {
        (node.module or "", alias.name)
        for node in tree
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    called = {alias.asname or alias.name for alias in modules if alias.name == "yaml"}
    uses = [node for node in tree if isinstance(node, ast.Name) and node.id in called]
    writes = [
        node
        for node in tree
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in called
        and node.attr in YAML_WRITERS
    ]
    return (
        len(uses) > len(writes)
        or any(alias.name.startswith("yaml.") for alias in modules)
        or any(alias.name.split(".")[0] in YAML_LIBRARIES for alias in modules)
        or any(module.split(".")[0] in YAML_LIBRARIES for module, _ in taken)
        or any(m.split(".")[0] == "yaml" and name not in YAML_WRITERS for m, name in taken)
        or any(isinstance(node, ast.Constant) and node.value == "yaml" for node in tree)
    )


def test_there_are_modules_on_every_floor() -> None:
    assert {file.parts[0] for file in MODULES} == set(FLOORS)


def test_a_module_is_seen_in_whatever_room_it_stands(tmp_path: Path) -> None:
    rooms = [Path("pipeline/a.py"), Path("pipeline/room/b.py"), Path("pipeline/room/cellar/c.py")]
    for file in rooms:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert modules(tmp_path) == rooms


def test_no_code_stands_outside_of_the_floors() -> None:
    """Where nothing below would look at it."""
    found = {
        file.relative_to(PROJECT)
        for part in PROJECT.iterdir()
        if part.name not in ELSEWHERE and not part.name.startswith(".")
        for file in ([part] if part.is_file() else part.rglob("*.py"))
        if file.suffix == ".py"
    }
    assert sorted(found) == MODULES


def test_every_room_is_a_package() -> None:
    """What is none is not linted by mypy, is not in the wheel and is imported by luck."""
    rooms = {file.parent for file in MODULES}
    assert [room for room in sorted(rooms) if room / "__init__.py" not in MODULES] == []


def test_imports_point_down() -> None:
    upward = {
        file.as_posix(): name
        for file in MODULES
        for name in imported(file)
        if FLOORS[name.split(".")[0]] > FLOORS[file.parts[0]]
    }
    assert not upward


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_never_import_each_other(stage: str) -> None:
    others = {f"pipeline.{other}" for other in STAGES - {stage}}
    assert not others & {
        part
        for name in imported(Path("pipeline") / f"{stage}.py")
        for part in (name, name.rsplit(".", 1)[0])
    }


def test_only_the_model_imports_a_deep_learning_library() -> None:
    below = [file for file in MODULES if file.parts[0] != "model"]
    assert below
    assert {file.as_posix() for file in below if foreign(file) & DEEP_LEARNING} == set()


def test_the_model_knows_keras_alone() -> None:
    """But for what asks TensorFlow for its GPUs and its fused kernel, and several processes of JAX
    for what one of them has: Keras has none of these."""
    backends = {
        file.as_posix(): found
        for file in MODULES
        if file.parts[0] == "model" and (found := foreign(file) & (DEEP_LEARNING - {"keras"}))
    }
    assert backends == {
        "model/normalization.py": {"tensorflow"},
        "model/training/devices.py": {"jax", "tensorflow"},
    }


@pytest.mark.parametrize(
    "source",
    [
        "import yaml\nyaml.safe_load(text)",
        "import yaml\nyaml.load(text, Loader=yaml.CSafeLoader)",
        "import yaml\nyaml.load(text, yaml.SafeLoader)",
        "import yaml\nyaml.full_load(text)",
        "import yaml\nyaml.unsafe_load_all(text)",
        "import yaml\nyaml.compose(text)",
        "import yaml\nclass Own(yaml.SafeLoader): pass",
        "import yaml as y\ny.safe_load(text)",
        "import yaml\nread = getattr(yaml, 'safe_load')",
        "import yaml\ndef late():\n    return yaml.safe_load(text)",
        "import yaml\nyaml.safe_dump(1)\nyaml.safe_load(text)",
        "import yaml.loader",
        "from yaml import safe_load",
        "from yaml import safe_load as read",
        "from yaml import *",
        "from yaml.loader import SafeLoader",
        "import importlib\nimportlib.import_module('yaml').safe_load(text)",
        "__import__('yaml').safe_load(text)",
        "from ruamel.yaml import YAML",
        "import ruamel.yaml",
        "import omegaconf",
    ],
)
def test_every_way_to_read_yaml_is_seen(source: str) -> None:
    assert reads_yaml(source)


@pytest.mark.parametrize(
    "source",
    [
        "import yaml\nyaml.safe_dump(content)",
        "from yaml import safe_dump",
        "open('params.yaml')",
        "# import yaml, yaml.safe_load",
        "import json\njson.load(text)",
    ],
)
def test_what_only_writes_yaml_is_no_reader(source: str) -> None:
    assert not reads_yaml(source)


def test_one_module_reads_the_parameter_file_and_one_changes_its_text() -> None:
    readers = [file for file in MODULES if reads_yaml((PROJECT / file).read_text("utf-8"))]
    assert readers == YAML_READERS


@pytest.mark.slow
def test_the_pipeline_runs_without_a_deep_learning_library() -> None:
    program = (
        "import sys, pipeline.convert, pipeline.augment, pipeline.split, pipeline.report,"
        " pipeline.fetch; print(sorted({'tensorflow', 'keras', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
