"""The examples in docstrings run, and give what they state."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from tests.conftest import PROJECT

MODULES = [
    ".".join(file.relative_to(PROJECT).with_suffix("").parts)
    for floor in ("datasets_spec", "pipeline", "model")
    for file in sorted((PROJECT / floor).rglob("*.py"))
    if ">>> " in file.read_text("utf-8")
]
PAGES = sorted(
    file.relative_to(PROJECT).as_posix()
    for file in (PROJECT / "docs").rglob("*.md")
    if ">>> " in file.read_text("utf-8")
)
FACE = {"check_folder", "open_pairs", "read_scan"}


def test_the_modules_that_users_call_have_examples() -> None:
    assert {"pipeline.api", "datasets_spec.contract"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_examples_give_what_they_state(module: str, workplace: Path) -> None:
    """In an empty working folder, in which they leave nothing."""
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert not result.failed
    assert not list(workplace.iterdir())


def test_the_page_for_library_users_has_examples() -> None:
    assert "docs/how-to/use-as-a-library.md" in PAGES


@pytest.mark.parametrize("page", PAGES)
def test_examples_of_a_page_give_what_they_state(page: str, workplace: Path) -> None:
    result = doctest.testfile(str(PROJECT / page), module_relative=False)
    assert result.attempted
    assert not result.failed
    assert not list(workplace.iterdir())


def test_every_function_of_the_api_has_an_example() -> None:
    api = importlib.import_module("pipeline.api")
    found = {test.name.rpartition(".")[2]: test for test in doctest.DocTestFinder().find(api)}
    public = {name for name in api.__all__ if not isinstance(getattr(api, name), type)}
    assert public == FACE
    assert all(found[name].examples for name in public)
