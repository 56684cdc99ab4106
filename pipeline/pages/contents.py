"""Reading what earlier stages wrote: JSON and CSV, with errors that name the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2

from datasets_spec.contract import Problem

_NONSENSE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    csv.Error,
    jinja2.TemplateError,
)
_MOST_QUOTED = 200  # characters of an error


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """What a file of nonsense leads to, as a :class:`Problem` that names the file."""
    try:
        yield
    except _NONSENSE as error:
        fault = f"{type(error).__name__}: {str(error)[:_MOST_QUOTED]}"
        raise Problem(
            f"expected what the stage before wrote, got content that leads to {fault}",
            where=file,
            remedy="Was it changed by hand, or does another version write it? Run: dvc repro",
        ) from error


def json_of(file: Path) -> Any:
    """The content of a JSON file. Raises ValueError for numbers that JSON does not have."""

    def refuse(word: str) -> float:
        raise ValueError(f"{word}, which is no number")

    return json.loads(file.read_text("utf-8"), parse_constant=refuse)


def table_of(file: Path, *columns: str) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises ValueError if it has none, or not these columns."""
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    missing = [name for name in columns if not rows or rows[0].get(name) is None]
    if missing:
        raise ValueError(f"no row with {missing[0]}")
    return rows
