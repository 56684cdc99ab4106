"""Which of the project's own files a module needs: its import closure, read without importing.

DVC does not follow Python imports. The stages' fingerprints and the test of dvc.yaml
both stand on this one answer.
"""

from __future__ import annotations

import ast
import tomllib
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PROJECT = "flexunet-pipeline"
FLOORS = ("datasets_spec", "pipeline", "model")


@lru_cache(maxsize=64)
def closure(module: str, without: tuple[str, ...] = ()) -> frozenset[Path]:
    """Files, relative to the project's root, that ``module`` ("pipeline.convert") imports.

    The modules and packages ``without``, and what is imported through them alone, do not count.
    """
    found: set[Path] = set()
    left_out = {file for name in without for file in _below(name)}
    todo = [module]
    while todo:
        name = todo.pop()
        for file in _files(name):
            if file not in found and file not in left_out:
                found.add(file)
                todo += imported(file)
    return frozenset(found)


def imported(file: Path) -> list[str]:
    """Dotted names of the project's modules that ``file`` imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in FLOORS]


def project_version() -> str:
    """The version of this project, run from its folder or installed."""
    file = ROOT / "pyproject.toml"
    if not file.is_file():
        return version(_PROJECT)
    return str(tomllib.loads(file.read_text("utf-8"))["project"]["version"])


def _files(name: str) -> list[Path]:
    """The files behind a dotted name: its packages and, where it is one, its module."""
    parts = name.split(".")
    ways = [Path(*parts[:length]) for length in range(1, len(parts) + 1)]
    candidates = [way / "__init__.py" for way in ways] + [way.with_suffix(".py") for way in ways]
    return [file for file in candidates if (ROOT / file).is_file()]


def _below(name: str) -> set[Path]:
    """The file of a module, or every file of a package."""
    place = ROOT.joinpath(*name.split("."))
    files = place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]
    return {file.relative_to(ROOT) for file in files}
