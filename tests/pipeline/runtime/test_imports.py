"""The import closure names every file of the project that a module needs, and no other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runtime import imports
from tests.conftest import PROJECT
from tests.support.modules import FLOORS, dotted, modules, nodes

LOADED = """
import importlib, pathlib, sys
root = pathlib.Path.cwd().resolve()
importlib.import_module(sys.argv[1])
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None)
    if file and name.split(".")[0] in ("datasets_spec", "pipeline", "model"):
        print(pathlib.Path(file).resolve().relative_to(root).as_posix())
"""
MODULES = modules()


def closure(module, without=()):
    return {file.as_posix() for file in imports.closure(module, without)}


def loaded(module):
    """The project's files that a fresh interpreter holds after importing ``module``."""
    command = [sys.executable, "-c", LOADED, module]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project; returns a function that writes one of its files."""
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    imports.closure.cache_clear()

    def write(name, *lines):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n", "utf-8")

    yield write
    imports.closure.cache_clear()


def test_what_is_left_out_hides_what_is_needed_through_it_alone():
    whole, without = closure("pipeline.split"), closure("pipeline.split", ("pipeline.pages.card",))
    assert {"pipeline/pages/card.py", "pipeline/pages/draw.py"} <= whole - without
    assert {"pipeline/split.py", "pipeline/pairs/manifest.py", "pipeline/__init__.py"} <= without


def test_convert_needs_volumes_and_no_warps():
    files = closure("pipeline.convert")
    assert {
        "pipeline/__init__.py",
        "pipeline/convert.py",
        "pipeline/volumes/volume.py",
        "pipeline/pairs/canvas.py",
        "datasets_spec/contract.py",
    } <= files
    assert not files & {"pipeline/augment.py", "pipeline/warps/warp.py", "pipeline/warps/chains.py"}


def test_augment_needs_warps_through_transforms():
    needed = {"pipeline/pairs/variants.py", "pipeline/warps/chains.py", "pipeline/warps/fields.py"}
    assert needed | {"pipeline/warps/warp.py"} <= closure("pipeline.augment")
    assert needed <= closure("model.train")


def test_a_new_warp_scores_and_splits_nothing_again():
    drawing = {"pipeline/pairs/variants.py", "pipeline/warps/chains.py", "pipeline/warps/fields.py"}
    for module in ("pipeline.split", "model.evaluate"):
        assert not drawing & closure(module)


OF_CLUSTERS = ("allocator", "cluster", "fingerprints", "imports", "sameness")


@pytest.mark.slow
@pytest.mark.parametrize(
    "module", ["pipeline.convert", "pipeline.augment", "pipeline.split", "datasets_spec.contract"]
)
def test_the_closure_is_what_an_import_loads(module):
    """And what is imported where it is needed: YAML's loader, and Dask."""
    late = {"params/strict_yaml", *(f"runtime/{name}" for name in OF_CLUSTERS)}
    late = closure(module) & {f"pipeline/{name}.py" for name in late}
    assert closure(module) == loaded(module) | late


def test_late_imports_are_in_the_closure_too():
    late = closure("pipeline.__main__") - loaded("pipeline.__main__")
    assert {"pipeline/convert.py", "pipeline/warps/warp.py", "pipeline/splits/leaks.py"} <= late


@pytest.mark.slow
def test_the_closure_holds_the_module_and_only_files():
    assert {file.parts[0] for file in MODULES} == set(FLOORS) == set(imports.FLOORS)
    for module in MODULES:
        files = closure(dotted(module))
        assert module.as_posix() in files, f"{module} is not in its own closure"
        assert all((PROJECT / file).is_file() for file in files), module


def test_no_module_imports_relatively():
    # the closure does not see such imports, nor would a reader who searches for a name
    relative = {
        module.as_posix()
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.ImportFrom) and node.level
    }
    assert relative == set()


@pytest.mark.parametrize(
    "line",
    [
        "import pipeline.base",
        "import pipeline.base as ground",
        "from pipeline import base",
        "from pipeline import base as ground",
        "from pipeline.base import A",
        "def late():\n    from pipeline.base import A",
        "if TYPE_CHECKING:\n    from pipeline import base",
    ],
)
def test_every_way_to_import_is_seen(project, line):
    project("pipeline/__init__.py")
    project("pipeline/top.py", line)
    project("pipeline/base.py", "A = 1")
    assert closure("pipeline.top") == {
        "pipeline/__init__.py",
        "pipeline/top.py",
        "pipeline/base.py",
    }


@pytest.mark.parametrize(
    "line", ["import numpy", "# from pipeline import base", "A = 'pipeline.base'"]
)
def test_what_is_no_import_of_ours_is_not_seen(project, line):
    project("pipeline/top.py", line)
    project("pipeline/base.py")
    assert closure("pipeline.top") == {"pipeline/top.py"}


def test_imports_are_followed_across_floors_and_in_circles(project):
    project("model/train.py", "from pipeline import a")
    project("pipeline/a.py", "from pipeline import b")
    project("pipeline/b.py", "from pipeline import a", "from datasets_spec.contract import Case")
    project("datasets_spec/__init__.py")
    project("datasets_spec/contract.py")
    assert closure("model.train") == {
        "model/train.py",
        "pipeline/a.py",
        "pipeline/b.py",
        "datasets_spec/__init__.py",
        "datasets_spec/contract.py",
    }


def test_files_are_named_from_the_projects_root():
    assert Path(imports.ROOT) == PROJECT.resolve()
    assert all(not file.is_absolute() for file in imports.closure("pipeline.convert"))
