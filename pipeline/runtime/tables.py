"""Tables that people and programs open: CSV, whole or not there at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.runtime import files


def write(file: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with these columns, in UTF-8 with lines that end in a line feed."""
    with (
        files.replacing(file) as unfinished,
        unfinished.open("w", newline="", encoding="utf-8") as stream,
    ):
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(head)
        table.writerows(rows)
