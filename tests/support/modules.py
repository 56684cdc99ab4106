"""The project's own modules, found at any depth, so that a moved file escapes no test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import PROJECT

FLOORS = {"datasets_spec": 0, "pipeline": 1, "model": 2}


def modules(project: Path = PROJECT) -> list[Path]:
    """The files of every module on the three floors, relative to ``project``, sorted."""
    return sorted(
        file.relative_to(project) for floor in FLOORS for file in (project / floor).rglob("*.py")
    )


def dotted(file: Path) -> str:
    """The name that imports the module of ``file``: "pipeline.convert", a package's own name."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def nodes(file: Path) -> Iterator[ast.AST]:
    """Every node of the syntax tree of ``file``, a path relative to the project's root."""
    return ast.walk(ast.parse((PROJECT / file).read_text("utf-8")))
