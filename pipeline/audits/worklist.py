"""``audit.csv``: the slices in doubt as people work through them, with what they wrote beside them.

People open it with a spreadsheet, so what that does to a CSV (a byte order mark) is read too, and
a table that is not as it was written is refused before it would be written over.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline.audits.doubted import Doubted
from pipeline.runtime import tables

HEAD = (
    *("rank", "patient", "case", "rater", "slice", "doubt", "drawn", "seen"),
    *("voxels", "ml", "confidence", "reason", "decision", "note"),
)
SETTLED = "no longer in doubt"
"""The reason beside a decision whose slice the latest evaluation draws as the labels do."""

_DECIDED = ("decision", "note")
Row = dict[str, str]


def read(file: Path) -> list[Row]:
    """All rows, as they stand; none without the file. Raises :class:`Problem` for another table."""
    if not file.is_file():
        return []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, strict=True)
            rows = list(table)
    except (ValueError, csv.Error) as error:
        raise _unreadable(file, f"{type(error).__name__}: {error}") from None
    if tuple(table.fieldnames or ()) != HEAD:
        raise _unreadable(file, f"the columns {', '.join(table.fieldnames or ['(none)'])}")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise _unreadable(file, f"another number of values in row {line}")
    return rows


def write(file: Path, found: Sequence[Doubted]) -> None:
    """The slices ``found``, in their order, each with what ``file`` had as its decision and note.

    A decided slice that is not among them comes last, without a rank and a doubt. Raises
    :class:`Problem` where :func:`read` does, and writes nothing then.
    """
    kept = {_key(row): row for row in read(file) if any(row[name] for name in _DECIDED)}
    rows = [_row(rank, one) for rank, one in enumerate(found, start=1)]
    for row in rows:
        was = kept.pop(_key(row), {})
        row |= {name: was.get(name, "") for name in _DECIDED}
    rows += [row | {"rank": "", "doubt": "", "reason": SETTLED} for row in kept.values()]
    tables.write(file, HEAD, ([row[name] for name in HEAD] for row in rows))


def _key(row: Row) -> tuple[str, str, str]:
    return row["case"], row["rater"], row["slice"]


def _row(rank: int, one: Doubted) -> Row:
    return {
        **{name: str(value) for name, value in vars(one).items()},
        "rank": str(rank),
        "doubt": f"{one.doubt:.6f}",
        "ml": f"{one.ml:.6f}",
        "confidence": f"{one.confidence:.6f}",
    }


def _unreadable(file: Path, got: str) -> Problem:
    return Problem(
        f"expected the table that audit wrote, its columns separated by commas, got {got}",
        where=file,
        remedy="Save it as CSV in UTF-8 with commas, or move it away: it holds your decisions, so "
        "it was not written over.",
    )
