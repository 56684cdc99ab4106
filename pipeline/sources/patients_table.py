"""The patients table of a dataset: what a CSV or TSV file states of each case's patient.

The file is UTF-8 with a header; ``.csv`` has commas between its columns, ``.tsv`` tabs. A byte
order mark and Windows line ends are accepted. An empty cell and BIDS' "n/a" state nothing.
"""

from __future__ import annotations

import csv
import io
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_spec.contract import Case, PatientsTable, Problem, unchecked
from pipeline.runtime.files import require_regular

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NAMES = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_NOTHING = ("", "n/a")
_MOST_NUMBERS = 10
"""A stratum of more different numbers than this is divided at its quartiles."""
_OLDEST = 90
"""Ages from here on are one: higher ones can identify a person (45 CFR 164.514(b)(2))."""
_AGE = re.compile(r"(?<![a-z])age(?![a-z])")


@dataclass(frozen=True)
class _Row:
    line: int
    values: Mapping[str, str]

    def get(self, column: str) -> str:
        value = self.values[column]
        return "" if value.lower() in _NOTHING else value


def applied(
    table: PatientsTable, raw: Path, stated: Sequence[Case], anonymous: bool
) -> tuple[list[Case], dict[str, Problem]]:
    """The cases with patient, split and strata as the table states them; a fault per other case.

    A case's row is the one whose key is the case's patient, or else its id, with or without BIDS'
    "sub-" in front of either. Raises :class:`Problem` for a table that cannot be read, lacks a
    column, or has two rows of one key.
    """
    file = raw / table.file
    rows = _rows(table, file)
    cases: list[Case] = []
    faults: dict[str, Problem] = {}
    for case in stated:
        try:
            cases.append(_applied(table, file, rows, case))
        except Problem as problem:
            faults[str(case.id)] = problem
    return _grouped(cases, table.strata, anonymous), faults


def _applied(table: PatientsTable, file: Path, rows: Mapping[str, _Row], case: Case) -> Case:
    names = [name for name in (case.patient, case.id) if isinstance(name, str)]
    row = next((rows[key] for name in names if (key := _key(name)) in rows), None)
    if row is None:
        raise Problem(
            f"expected a row of patient {case.patient} or case {case.id} in column {table.key},"
            " found none",
            where=file,
            remedy="Add the row, or leave out the case.",
        )
    patient, split = case.patient, case.split
    if table.patient:
        patient = row.get(table.patient)
        if not patient:
            raise Problem(
                f"expected the patient of case {case.id} in column {table.patient}, found none",
                where=f"{file}:{row.line}",
                remedy="Fill it in.",
            )
    if table.split:
        split = _split(row.get(table.split), f"{file}:{row.line}", table.split)
    known = {name: value for name in table.strata if (value := row.get(name))}
    with unchecked():  # listing checks every case once its names are slugs
        return replace(case, patient=patient, split=split, strata={**case.strata, **known})


def _split(word: str, where: str, column: str) -> str | None:
    if word and word.lower() not in _SPLITS:
        raise Problem(
            f"expected {', '.join(_SPLITS)} or nothing in column {column}, got {word!r}",
            where=where,
            remedy="Correct it.",
        )
    return _SPLITS[word.lower()] if word else None


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).removeprefix("sub-")


def _rows(table: PatientsTable, file: Path) -> dict[str, _Row]:
    """Key -> row. Raises :class:`Problem` for a file that is no such table."""
    delimiter = _DELIMITERS[file.suffix]
    lines = _lines(file, delimiter)
    _, header = next(lines, (1, []))
    needed = [table.key, *filter(None, (table.patient, table.split)), *table.strata]
    _require_columns(header, needed, file, delimiter)
    rows: dict[str, _Row] = {}
    for number, cells in lines:
        if len(cells) != len(header):
            raise Problem(
                f"expected {len(header)} columns as in the header, got {len(cells)}",
                where=f"{file}:{number}",
                remedy=f"The columns are separated by {_NAMES[delimiter]}; put text that holds"
                " one in double quotes.",
            )
        row = _Row(number, dict(zip(header, cells, strict=True)))
        if not row.get(table.key):
            raise Problem(
                f"expected a value in column {table.key}, found none",
                where=f"{file}:{number}",
                remedy="Fill it in, or remove the row.",
            )
        other = rows.setdefault(_key(row.get(table.key)), row)
        if other is not row:
            raise Problem(
                f"expected one row of {row.get(table.key)}, got lines {other.line} and {number}",
                where=f"{file}:{number}",
                remedy="Remove one of them.",
            )
    if not rows:
        raise Problem(
            "expected rows below the header, found none",
            where=file,
            remedy="Copy the table again.",
        )
    return rows


def _lines(file: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not empty, from 1, and its cells on one line."""
    if not file.exists():
        raise Problem(
            "expected the patients table, found none",
            where=file,
            remedy="Copy it there, or correct Dataset.patients in the dataset's module.",
        )
    content = require_regular(file).read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Problem(
            "expected text in UTF-8, got another encoding",
            where=f"{file}:{line}",
            remedy="Save it as UTF-8 (in spreadsheets: CSV UTF-8).",
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            stripped = [unicodedata.normalize("NFC", " ".join(cell.split())) for cell in cells]
            if any(stripped):
                yield reader.line_num, stripped
    except csv.Error as error:
        raise Problem(
            f"expected columns separated by {_NAMES[delimiter]}, got {error}",
            where=f"{file}:{reader.line_num}",
            remedy="Correct the line's quotes.",
        ) from None


def _require_columns(
    header: Sequence[str], needed: Sequence[str], file: Path, delimiter: str
) -> None:
    missing = [name for name in needed if name not in header]
    twice = [name for name in needed if header.count(name) > 1]
    others = [sign for sign in _NAMES if sign != delimiter and any(sign in one for one in header)]
    if missing and len(header) == 1 and others:
        raise Problem(
            f"expected columns separated by {_NAMES[delimiter]}, got {_NAMES[others[0]]}",
            where=f"{file}:1",
            remedy=f"Save it with {_NAMES[delimiter]} (.csv has commas, .tsv tabs).",
        )
    if missing or twice:
        raise Problem(
            f"expected column {(missing or twice)[0]} once, got {', '.join(header) or 'no header'}",
            where=f"{file}:1",
            remedy="Correct the header, or Dataset.patients in the dataset's module.",
        )


def _grouped(cases: Sequence[Case], strata: Sequence[str], anonymous: bool) -> list[Case]:
    """The cases with numbers of many values by quartile, and high ages as one."""
    words: dict[str, Mapping[str, str]] = {}
    for name in strata:
        of_patient = {case.patient: case.strata[name] for case in cases if name in case.strata}
        oldest = _OLDEST if _AGE.search(name.lower()) and not anonymous else math.inf
        words[name] = _words(sorted(of_patient.values()), oldest)
    grouped = []
    for case in cases:
        mine = {
            name: words[name].get(value, value) if name in words else value
            for name, value in case.strata.items()
        }
        with unchecked():
            grouped.append(replace(case, strata=mine))
    return grouped


def _words(values: Sequence[str], oldest: float) -> dict[str, str]:
    """Value, one for each patient -> its name as a stratum."""
    numbers = {value: min(_number(value), oldest) for value in values}
    at_most = {value: f"{oldest:g} and above" for value in numbers if numbers[value] == oldest}
    if len(set(numbers.values())) <= _MOST_NUMBERS or any(map(math.isnan, numbers.values())):
        return {value: at_most.get(value, value) for value in numbers}
    ordered = sorted(numbers[value] for value in values)
    edges = sorted({ordered[len(ordered) * quarter // 4] for quarter in (1, 2, 3)} - {ordered[0]})
    return {value: _bin(number, edges) for value, number in numbers.items()}


def _bin(number: float, edges: Sequence[float]) -> str:
    below = [edge for edge in edges if edge <= number]
    above = [edge for edge in edges if edge > number]
    if not below:
        return f"below {above[0]:g}" if above else f"{number:g}"
    return f"{below[-1]:g} to below {above[0]:g}" if above else f"{below[-1]:g} and above"


def _number(text: str) -> float:
    """The finite number that a cell holds, else NaN."""
    try:
        number = float(text)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
