"""Labels in doubt: ranked, each with a reason that its neighbours support; people's words stay."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.evaluate import evaluate
from pipeline import paths
from pipeline.audit import audit
from pipeline.audits import doubted, worklist
from pipeline.audits.worklist import HEAD
from pipeline.pairs import manifest
from tests.conftest import Refused
from tests.support import cohort
from tests.support.every import every
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

A, B = "csf", "grey_matter"


@every(
    ("drawn", "seen", "here", "beside", "words"),
    [
        (A, B, {A: 5}, [{A: 5}, {A: 5}], "drawn as csf, seen as grey_matter"),
        ("background", A, {A: 0}, [{A: 5}, {A: 2}], "csf is on both neighbours and not here"),
        ("background", A, {A: 0}, [{A: 5}], "csf is on the only neighbour and not here"),
        ("background", A, {A: 0}, [{A: 5}, {A: 0}], "csf is seen and none is drawn"),
        ("background", A, {A: 9}, [{A: 5}, {A: 5}], "more csf is seen than is drawn"),
        (
            *(A, "background", {A: 9}, [{A: 0}, {A: 0}]),
            "csf is drawn here, on no neighbour, and not seen",
        ),
        (A, "background", {A: 9}, [{A: 0}, {A: 1}], "more csf is drawn than is seen"),
        (A, "background", {A: 9}, [], "more csf is drawn than is seen"),
    ],
)
def test_the_reason_is_what_slice_and_neighbours_show(
    drawn: str, seen: str, here: Any, beside: Any, words: str
) -> None:
    assert doubted.reason(drawn, seen, here, beside) == words


FILE = paths.run(cohort.DATASET) / paths.AUDIT


def _rows() -> list[dict[str, str]]:
    return worklist.read(FILE)


def _save(rows: list[dict[str, str]], encoding: str = "utf-8", delimiter: str = ",") -> None:
    """As a spreadsheet would."""
    with FILE.open("w", newline="", encoding=encoding) as stream:
        table = csv.DictWriter(stream, HEAD, delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def evaluated(workplace: Path) -> None:
    settings = cohort.prepare()
    save_untrained(cohort.DATASET, settings)
    evaluate(cohort.DATASET, settings)


def test_an_audit_ranks_every_slice_in_doubt(evaluated: None) -> None:
    audit(cohort.DATASET)
    rows = _rows()
    assert tuple(rows[0]) == HEAD
    assert [int(row["rank"]) for row in rows] == [*range(1, len(rows) + 1)]
    doubts = [float(row["doubt"]) for row in rows]
    assert doubts == sorted(doubts, reverse=True)
    tested = {
        (pair.case, str(pair.slice_index + 1))
        for pair in manifest.read(paths.dataset(cohort.DATASET))
        if pair.split == "test"
    }
    assert {(row["case"], row["slice"]) for row in rows} <= tested
    assert all(row["reason"] for row in rows)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_what_people_decided_stays(encoding: str, evaluated: None) -> None:
    audit(cohort.DATASET)
    rows = _rows()
    rows[1] |= {"decision": "wrong", "note": 'as "agreed", on Monday'}
    _save(rows, encoding)
    audit(cohort.DATASET)
    assert _rows() == rows


def test_a_decision_outlives_its_doubt(evaluated: None) -> None:
    """A network trained on the corrected label no longer doubts it."""
    audit(cohort.DATASET)
    rows = _rows()
    settled = rows[0] | {"slice": "99", "decision": "corrected", "note": "by both raters"}
    _save([settled, *rows])
    for _ in range(2):
        audit(cohort.DATASET)
        assert _rows()[:-1] == rows
        assert _rows()[-1] == settled | {"rank": "", "doubt": "", "reason": worklist.SETTLED}


def test_a_table_of_another_form_is_refused_and_kept(evaluated: None, refused: Refused) -> None:
    audit(cohort.DATASET)
    _save(_rows(), delimiter=";")
    before = FILE.read_bytes()
    problem = refused(lambda: audit(cohort.DATASET))
    assert "commas" in problem.remedy
    assert FILE.read_bytes() == before


@every(
    ("change", "words"),
    [
        (lambda text: text + "1,2,3\n", "another number of values in row"),
        (lambda text: text + "," * len(HEAD) + "\n", "another number of values in row"),
        (lambda text: text.replace("rank,", "Rank,"), "no column rank"),
        (lambda text: text + ",p,c,,abc,,,,,,,,wrong,\n", "the slice 'abc' in row"),
        (lambda text: text + 2 * ",p,c,,7,,,,,,,,wrong,\n" + ",p,c,,7,,,,,,,,right,\n", "two dec"),
    ],
)
def test_a_damaged_table_is_named_and_kept(
    change: Callable[[str], str], words: str, evaluated: None, refused: Refused
) -> None:
    FILE.unlink(missing_ok=True)
    audit(cohort.DATASET)
    FILE.write_text(change(FILE.read_text("utf-8")), "utf-8")
    before = FILE.read_bytes()
    assert words in str(refused(lambda: audit(cohort.DATASET)))
    assert FILE.read_bytes() == before


def test_another_encoding_is_named(evaluated: None, refused: Refused) -> None:
    audit(cohort.DATASET)
    FILE.write_bytes(FILE.read_bytes() + ",p,c,,7,,,,,,,,für,\n".encode("cp1252"))
    assert "another encoding" in str(refused(lambda: audit(cohort.DATASET)))


def test_an_empty_table_is_written_anew(evaluated: None) -> None:
    audit(cohort.DATASET)
    rows = _rows()
    FILE.write_bytes(b"")
    audit(cohort.DATASET)
    assert _rows() == rows


def test_columns_of_peoples_own_stay_in_any_order(evaluated: None) -> None:
    audit(cohort.DATASET)
    rows = [row | {"by": ""} for row in _rows()]
    rows[2] |= {"by": "anna", "slice": f"{rows[2]['slice']}.0"}
    with FILE.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, ["by", *reversed(HEAD)])
        table.writeheader()
        table.writerows(rows)
    rows[2]["slice"] = rows[2]["slice"].removesuffix(".0")
    audit(cohort.DATASET)
    assert _rows() == rows
    assert list(_rows()[0]) == [*HEAD, "by"]


def test_labels_are_the_same_after_an_audit(evaluated: None) -> None:
    folder = paths.converted(cohort.DATASET)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    audit(cohort.DATASET)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_no_evaluation_is_named_with_what_to_do(workplace: Path, refused: Refused) -> None:
    cohort.prepare()
    problem = refused(lambda: audit(cohort.DATASET))
    assert "crossvalidate" in problem.remedy


@pytest.mark.parametrize("change", [("doubt", "nan"), ("slice", "two")])
def test_a_table_of_nonsense_is_named(
    change: tuple[str, str], evaluated: None, refused: Refused
) -> None:
    file = paths.run(cohort.DATASET) / paths.DOUBTS
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    rows[0][change[0]] = change[1]
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    assert refused(lambda: audit(cohort.DATASET)).where == str(file)
