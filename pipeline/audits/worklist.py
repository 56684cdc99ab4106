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
    """All rows, in any order of the columns, with further ones of people's own.

    None without the file, or in an empty one. Raises :class:`Problem` for another table.
    """
    return _read(file)[1]


def _read(file: Path) -> tuple[Sequence[str], list[Row]]:
    """The columns, and the rows."""
    if not file.is_file():
        return HEAD, []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            table = csv.DictReader(stream, strict=True)
            columns, rows = table.fieldnames or HEAD, list(table)
    except UnicodeDecodeError:
        raise _unreadable(file, "text in another encoding") from None
    except csv.Error as error:
        raise _unreadable(file, str(error)) from None
    if missing := [name for name in HEAD if name not in columns]:
        raise _unreadable(file, f"no column {', '.join(missing)}")
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise _unreadable(file, f"another number of values in row {line}")
        number = row["slice"].removesuffix(".0")  # as some spreadsheets save it
        if not number.isdecimal():
            raise _unreadable(file, f"the slice {row['slice']!r} in row {line}")
        row["slice"] = number
    return columns, rows


def write(file: Path, found: Sequence[Doubted]) -> None:
    """The slices ``found``, in their order, each with what people wrote beside it in ``file``.

    A decided slice that is not among them comes last, without a rank and a doubt. Raises
    :class:`Problem` where :func:`read` does, and for a slice with two decisions, and writes nothing
    then.
    """
    columns, earlier = _read(file)
    own = [*_DECIDED, *(name for name in columns if name not in HEAD)]
    kept: dict[tuple[str, str, str], Row] = {}
    for row in earlier:
        if not any(row[name] for name in own):
            continue
        before = kept.setdefault(_key(row), row)
        if any(before[name] != row[name] for name in own):
            where = f"{row['case']}, slice {row['slice']}"
            raise _unreadable(file, f"two decisions for {where}")
    rows = [_row(rank, one) for rank, one in enumerate(found, start=1)]
    for row in rows:
        was = kept.pop(_key(row), {})
        row |= {name: was.get(name, "") for name in own}
    rows += [row | {"rank": "", "doubt": "", "reason": SETTLED} for row in kept.values()]
    head = [*HEAD, *own[len(_DECIDED) :]]
    tables.write(file, head, ([row[name] for name in head] for row in rows))


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
        f"expected the table that audit wrote, got {got}",
        where=file,
        remedy="Correct it, as CSV in UTF-8 with commas, or move it away: it holds your decisions,"
        " so it was not written over.",
    )
