"""The patients table: what it gives each case, and what it refuses, by file and line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import Case, PatientsTable, Problem
from pipeline import paths
from pipeline.sources import listing
from tests.conftest import Refused

NAME = "virtual_mni152"
TABLE = PatientsTable("participants.tsv", patient="person", split="set", strata=("site", "age"))
HEADER = "participant_id\tperson\tset\tsite\tage"
ROWS = ("sub-01\tp1\ttrain\tA\t61", "sub-02\tp1\ttrain\tB\t61", "sub-03\tp3\t\tn/a\t70")


@pytest.fixture
def table_of(workplace: Path) -> Path:
    """Where the patients table of three cases lies."""
    raw = paths.raw(NAME)
    raw.mkdir(parents=True)
    for number in (1, 2, 3):
        (raw / f"sub-{number:02d}.nii").touch()
    return raw / TABLE.file


def adapter(table: PatientsTable = TABLE, ids: str = "sub-{:02d}", cases: int = 3) -> Adapter:
    def each(raw: Path) -> Iterator[Case]:
        for number in range(1, cases + 1):
            name, file = ids.format(number), raw / f"sub-{number:02d}.nii"
            yield Case(name, name, file, {"": file})

    known = datasets_spec.load(NAME)
    return replace(known, cases=each, dataset=replace(known.dataset, patients=table))


def written(file: Path, *rows: str, header: str = HEADER, ends: str = "\n") -> None:
    file.write_bytes(ends.join([header, *rows, ""]).encode())


def test_gives_every_case_its_patient_split_and_strata(table_of: Path) -> None:
    written(table_of, *ROWS)
    one, two, three = listing.cases(adapter())
    assert [case.patient for case in (one, two, three)] == ["p1", "p1", "p3"]
    assert [case.split for case in (one, two, three)] == ["train", "train", None]
    assert one.strata == {"site": "A", "age": "61"}
    assert two.strata == {"site": "B", "age": "61"}
    assert three.strata == {"age": "70"}


def test_columns_that_are_not_named_leave_what_the_adapter_states(table_of: Path) -> None:
    written(table_of, *ROWS)
    cases = listing.cases(adapter(PatientsTable(TABLE.file, strata=("site",))))
    assert [case.patient for case in cases] == ["sub-01", "sub-02", "sub-03"]
    assert {case.split for case in cases} == {None}


@pytest.mark.parametrize("ids", ["sub-{:02d}", "{:02d}"])
@pytest.mark.parametrize("prefix", ["sub-", ""])
def test_a_key_may_have_the_prefix_of_bids_or_not(table_of: Path, ids: str, prefix: str) -> None:
    written(table_of, *(row.replace("sub-", prefix, 1) for row in ROWS))
    assert [case.patient for case in listing.cases(adapter(ids=ids))] == ["p1", "p1", "p3"]


def test_a_number_without_its_zeros_is_another_key(table_of: Path, refused: Refused) -> None:
    written(table_of, *(row.replace("sub-0", "") for row in ROWS))
    assert "expected a row" in refused(lambda: listing.cases(adapter())).what


def test_the_patient_finds_the_row_before_the_id(table_of: Path) -> None:
    written(table_of, "of-id\tp1\t\tA\t1", "of-patient\tp2\t\tB\t2")
    known = adapter()

    def one(raw: Path) -> Iterator[Case]:
        file = raw / "sub-01.nii"
        yield Case("of-id", "of-patient", file, {"": file})

    assert [case.patient for case in listing.cases(replace(known, cases=one))] == ["p2"]


@pytest.mark.parametrize(
    "change",
    [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")],
    ids=["byte order mark", "Windows line ends"],
)
def test_what_a_spreadsheet_adds_changes_nothing(table_of: Path, change: object) -> None:
    written(table_of, *ROWS)
    before = listing.cases(adapter())
    table_of.write_bytes(change(table_of.read_bytes()))  # type: ignore[operator]
    assert listing.cases(adapter()) == before


@pytest.mark.parametrize(
    ("word", "split"),
    [
        *[("Training", "train"), ("val", "valid"), ("DEV", "valid"), ("validation", "valid")],
        *[("testing", "test"), ("n/a", None), ("", None)],
    ],
)
def test_usual_words_name_a_split(table_of: Path, word: str, split: str | None) -> None:
    written(table_of, f"sub-01\tp1\t{word}\tA\t61")
    assert [case.split for case in listing.cases(adapter(cases=1))] == [split]


OF_A_CASE = {
    "no row": ("expected a row of patient sub-02", "participants.tsv", (ROWS[0], ROWS[2])),
    "no patient": (
        "expected the patient of case sub-02",
        "participants.tsv:3",
        (ROWS[0], "sub-02\t\t\tB\t61", ROWS[2]),
    ),
    "an unknown split": (
        "got 'holdout'",
        "participants.tsv:3",
        (ROWS[0], "sub-02\tp2\tholdout\tB\t61", ROWS[2]),
    ),
}


@pytest.mark.parametrize("fault", OF_A_CASE)
def test_a_fault_of_one_case_costs_no_other(table_of: Path, fault: str) -> None:
    what, where, rows = OF_A_CASE[fault]
    written(table_of, *rows)
    found = listing.listing(adapter())
    assert [case.id for case in found.cases] == ["sub-01", "sub-03"]
    assert found.faults.keys() == {"sub-02"}
    problem = found.faults["sub-02"]
    assert isinstance(problem, Problem)
    assert what in problem.what
    assert str(problem.where).endswith(where)
    assert problem.remedy


OF_THE_TABLE = {
    "two rows of one key": ("lines 2 and 5", 5, "\n".join([HEADER, *ROWS, ROWS[0]])),
    "one key spelled twice": ("one row of 01", 5, "\n".join([HEADER, *ROWS, ROWS[0][4:]])),
    "an empty key": ("value in column participant_id", 2, f"{HEADER}\n\tp1\t\tA\t61"),
    "a missing column": ("expected column age", 1, f"{HEADER[:-4]}\nsub-01\tp1\t\tA"),
    "a column twice": ("expected column site once", 1, f"{HEADER}\tsite\nsub-01\tp1\t\tA\t6\tB"),
    "other delimiters": (
        "separated by tabs, got semicolons",
        1,
        "\n".join([HEADER, *ROWS]).replace("\t", ";"),
    ),
    "a cell too many": ("expected 5 columns as in the header, got 6", 3, f"{HEADER}\n{ROWS[0]}\n"
                        f"{ROWS[1]}\t9"),
    "an open quote": ("separated by tabs, got", 2, f'{HEADER}\nsub-01\t"p1\t\tA\t61'),
    "no row": ("expected rows below the header", None, HEADER),
    "nothing": ("expected column participant_id once, got no header", 1, ""),
}  # fmt: skip


@pytest.mark.parametrize("fault", OF_THE_TABLE)
def test_a_broken_table_is_refused_by_file_and_line(
    table_of: Path, refused: Refused, fault: str
) -> None:
    what, line, text = OF_THE_TABLE[fault]
    table_of.write_text(text, "utf-8")
    problem = refused(lambda: listing.listing(adapter()))
    assert what in problem.what
    assert problem.where == (f"{table_of}:{line}" if line else str(table_of))
    assert problem.remedy


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused_by_its_line(
    table_of: Path, refused: Refused, encoding: str
) -> None:
    line = 1 if encoding == "utf-16" else 3
    table_of.write_bytes("\n".join([HEADER, ROWS[0], "sub-02\tMüller\t\tB\t5"]).encode(encoding))
    problem = refused(lambda: listing.listing(adapter()))
    assert "UTF-8" in problem.what
    assert problem.where == f"{table_of}:{line}"


def test_a_table_that_is_not_there_is_named(table_of: Path, refused: Refused) -> None:
    assert refused(lambda: listing.listing(adapter())).where == str(table_of)


def test_numbers_of_many_values_become_quartiles(table_of: Path) -> None:
    ages = [40, 45, 50, 55, 60, 65, 70, 75, 80, 85, 89, 93]
    written(table_of, *(f"sub-{n:02d}\tp{n}\t\tA\t{age}" for n, age in enumerate(ages, 1)))
    for number in range(4, 13):
        (table_of.parent / f"sub-{number:02d}.nii").touch()
    strata = [case.strata["age"] for case in listing.cases(adapter(cases=12))]
    assert strata == (
        ["below 55"] * 3 + ["55 to below 70"] * 3 + ["70 to below 85"] * 3 + ["85 and above"] * 3
    )


@pytest.mark.parametrize("anonymous", [True, False])
def test_high_ages_are_one_unless_the_source_is_anonymous(table_of: Path, anonymous: bool) -> None:
    written(table_of, "sub-01\tp1\t\tA\t93", "sub-02\tp2\t\tA\t89", "sub-03\tp3\t\t95\tn/a")
    known = adapter()
    known = replace(known, dataset=replace(known.dataset, anonymous=anonymous))
    one, two, three = listing.cases(known)
    assert one.strata["age"] == ("93" if anonymous else "90 and above")
    assert two.strata["age"] == "89"
    assert three.strata == {"site": "95"}


def test_the_table_is_no_unused_file(table_of: Path) -> None:
    written(table_of, *ROWS)
    assert listing.unused(adapter(), listing.cases(adapter())) == {}
