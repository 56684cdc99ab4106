"""From pseudonyms back to the raw data: one table per case, readable by its owner only.

``data/identities/<dataset>/<case>.csv`` lists the case, patient, raters, files and DICOM
instances that the names of :mod:`pipeline.pairs.pseudonyms` stand for. ``convert`` writes it for
datasets that are not published as anonymous. It has mode 0600, is not an output
of any stage, and git and DVC ignore it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from datasets_spec.contract import Case, Problem
from pipeline import paths
from pipeline.pairs.pseudonyms import Pseudonyms, write_guarded
from pipeline.sources import places

_COLUMNS = ("kind", "name", "raw")
_NAME = re.compile(r"(?<![0-9a-zA-Z.])[0-9a-f]{16}(?![0-9a-zA-Z])")


def write(names: Pseudonyms, case: Case, uids: Iterable[str]) -> None:
    """Write the table of ``case``; ``uids`` are the SOPInstanceUIDs of its DICOM instances."""
    if names.anonymous:
        return
    instances = [("instance", names.uid(uid), uid) for uid in uids if uid]
    text = io.StringIO()
    table = [_COLUMNS, *_rows(names, case), *instances]
    csv.writer(text, lineterminator="\n").writerows(table)
    paths.IDENTITIES.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_guarded(_file(names, case), text.getvalue())


def kept(names: Pseudonyms, case: Case) -> bool:
    """Whether the table of ``case`` exists and is up to date; anonymous cases need none."""
    if names.anonymous:
        return True
    try:
        table = _read(_file(names, case))
    except OSError:
        return False
    return [row for row in table if row[0] != "instance"] == _rows(names, case)


def keep_only(names: Pseudonyms, cases: Iterable[Case]) -> None:
    """Remove the tables of all other cases."""
    files = {_file(names, case) for case in cases}
    for file in (paths.IDENTITIES / names.dataset).glob("*.csv"):
        if file not in files:
            file.unlink()


def known(names: Pseudonyms, cases: Iterable[Case]) -> dict[str, str]:
    """Pseudonym -> "<kind> <raw id>" of the listed cases; empty for anonymous datasets."""
    if names.anonymous:
        return {}
    return {name: f"{kind} {raw_id}" for case in cases for kind, name, raw_id in _rows(names, case)}


def explained(dataset: str, text: str, more: Mapping[str, str] | None = None) -> str:
    """``text`` followed by the meaning of each pseudonym in it, from the tables and ``more``."""
    wanted = dict.fromkeys(_NAME.findall(text))
    meaning = {name: stands for name, stands in (more or {}).items() if name in wanted}
    for file in sorted((paths.IDENTITIES / dataset).glob("*.csv")):
        if meaning.keys() >= wanted.keys():
            break
        meaning |= {
            name: f"{kind} {raw_id}" for kind, name, raw_id in _read(file) if name in wanted
        }
    legend = "; ".join(f"{name} is the {meaning[name]}" for name in wanted if name in meaning)
    return f"{text} ({legend})" if legend else text


@contextmanager
def explaining(dataset: str) -> Iterator[dict[str, str]]:
    """Add the meaning of pseudonyms to a :class:`Problem` that is raised in this block.

    The block may fill the dictionary that it gets with meanings (:func:`known`).
    """
    more: dict[str, str] = {}
    try:
        yield more
    except Problem as problem:
        whole = str(problem)
        legend = explained(dataset, whole, more).removeprefix(whole)
        if not legend:
            raise
        raise Problem(
            problem.what + legend, where=problem.where, remedy=problem.remedy
        ) from problem


def _rows(names: Pseudonyms, case: Case) -> list[list[str]]:
    """Kind, pseudonym and raw id of everything about a case except its instances."""
    raw_ids = [("case", case.id), ("patient", case.patient)]
    raw_ids += [("rater", rater) for rater in case.labels if rater]
    raw_ids += [
        ("source", places.relative(picture, names.dataset, at))
        for picture in case.pictures.values()
        for at in range(len(places.parts(picture)))
    ]
    return [[kind, names.of(kind, raw_id), _cell(raw_id)] for kind, raw_id in raw_ids]


def _file(names: Pseudonyms, case: Case) -> Path:
    return paths.IDENTITIES / names.dataset / f"{names.of('case', case.id)}.csv"


def _read(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))[1:]


def _cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: file names are arbitrary."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
