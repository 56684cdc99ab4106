"""The door to the raw data: what an adapter says, with names fit for files, the bad cases named."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import Case, Problem, unchecked
from pipeline import paths
from pipeline.convert import convert
from pipeline.fetch import fetch
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.sources import listing, places
from tests.conftest import PROJECT, Refused
from tests.support import cohort

NAME = cohort.DATASET
SPLIT = params.load(NAME, PROJECT / paths.PARAMS).split
Says = Callable[..., Adapter]


@pytest.fixture
def says(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Lets the adapter of some raw data give cases that tests state: arguments of Case."""
    (paths.raw(NAME) / "a").mkdir(parents=True)

    def call(*stated: object) -> Adapter:
        def cases(folder: Path) -> Iterator[object]:
            for one in stated:
                if isinstance(one, KeyError):
                    raise one
                yield given(folder, **one) if isinstance(one, dict) else one

        adapter = replace(datasets_spec.load(NAME), cases=cases)
        monkeypatch.setattr(datasets_spec, "load", lambda _: adapter)
        return adapter

    return call


def given(folder: Path, **facts: object) -> Case:
    name = facts.get("id", "a")
    files = {"image": folder / f"{name}.nii", "labels": {"": folder / f"{name}_l.nii"}}
    return Case(**{"id": "a", "patient": str(name), **files, **facts})  # type: ignore[arg-type]


def test_names_become_slugs_and_files_keep_theirs(says: Says) -> None:
    labels = {"Dr. Müller": Path("l.nii"), "=1+1": Path("m.nii")}
    found = listing.listing(says({"id": "x (1)", "patient": "Größe 5", "labels": labels}))
    [case] = found.cases
    assert (case.id, case.patient, list(case.labels)) == ("x-1", "Grosse-5", ["Dr.-Muller", "1+1"])
    assert case.image == paths.raw(NAME) / "x (1).nii"
    assert found.renamed == {
        "x (1)": "x-1", "Größe 5": "Grosse-5", "Dr. Müller": "Dr.-Muller", "=1+1": "1+1",
    }  # fmt: skip


def test_plain_names_stay_and_nothing_is_reported(
    says: Says, capsys: pytest.CaptureFixture[str]
) -> None:
    found = listing.listing(says({"id": "b"}, {"id": "a"}))
    assert [case.id for case in found.cases] == ["a", "b"]
    listing.log_renamed(found, "convert")
    assert (found.renamed, capsys.readouterr().out) == ({}, "")


def test_two_spellings_of_a_patient_are_one_patient(says: Says) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    found = listing.cases(
        says({"id": "a", "patient": composed}, {"id": "b", "patient": decomposed})
    )
    assert {case.patient for case in found} == {"Muller"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        pytest.param({"id": "bad", "labels": {}}, "no label", id="no label"),
        pytest.param({"id": "bad", "labels": None}, "bad", id="labels of no kind"),
        pytest.param({"id": "bad", "patient": ""}, "a case's patient", id="no patient"),
        pytest.param({"id": "bad", "patient": None}, "a case's patient", id="patient None"),
        pytest.param({"id": "()"}, "a case's id", id="no letter in the id"),
        pytest.param({"id": 7}, "a case's id", id="a number for an id"),
        pytest.param({"id": "bad", "split": "validation"}, "split is one of", id="split"),
        pytest.param({"id": "bad", "image": "bad.nii"}, "a Path", id="no Path"),
        pytest.param(Problem("expected a table", where="bad.csv"), "a table", id="a Problem"),
    ],
)
def test_a_bad_case_is_named_and_costs_no_others(
    says: Says, refused: Refused, bad: object, message: str
) -> None:
    adapter = says({"id": "a"}, bad, {"id": "c"})
    found = listing.listing(adapter)
    assert [case.id for case in found.cases] == ["a", "c"]
    [(name, fault)] = found.faults.items()
    assert name
    assert message in str(fault)
    assert str(refused(lambda: listing.cases(adapter))) == str(fault)


def test_an_id_that_two_cases_have_costs_these_two(says: Says) -> None:
    found = listing.listing(says({"id": "a"}, {"id": "b"}, {"id": "a"}))
    assert [case.id for case in found.cases] == ["b"]
    assert "'a' twice" in str(found.faults["a"])


def test_an_adapter_that_breaks_off_is_reported_with_the_case_before(
    says: Says, refused: Refused
) -> None:
    problem = refused(lambda: listing.listing(says({"id": "a"}, {"id": "b"}, KeyError("x"))))
    assert "after the case 'b'" in problem.what
    assert f"datasets_spec/{NAME}.py" in problem.where


def test_only_bad_cases_are_an_error(says: Says, refused: Refused) -> None:
    assert "no label" in str(refused(lambda: listing.listing(says({"labels": {}}))))
    assert "found none" in str(refused(lambda: listing.listing(says())))


@pytest.mark.slow
def test_a_bad_case_is_an_error_at_the_end_of_fetch_and_convert(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cohort.write_raw(patients=4)
    settings = cohort.write_params()
    adapter = datasets_spec.load(NAME)

    def cases(folder: Path) -> Iterator[Case]:
        first, *others = adapter.cases(folder)
        assert isinstance(first, Case)
        yield replace(first, split="validation")
        for number, one in enumerate(others):
            assert isinstance(one, Case)
            yield replace(one, id=f"{one.id} ({number})")

    changed = replace(
        adapter,
        cases=cases,
        dataset=replace(
            adapter.dataset,
            source=replace(adapter.dataset.source, recipe="", instructions="Ask."),
        ),
    )
    monkeypatch.setattr(datasets_spec, "load", lambda _: changed)
    assert "sub-01" in str(refused(lambda: fetch(NAME, 1, subset=True)))
    message = capsys.readouterr()
    assert "sub-01: data/raw/virtual_mni152: case sub-01: split is one of" in message.err
    assert "'sub-02 (0)' -> sub-02-0" in message.out
    assert "sub-01" in str(refused(lambda: convert(NAME, settings, 1)))
    message = capsys.readouterr()
    assert "split is one of" in message.err
    assert "'sub-02 (0)' -> sub-02-0" in message.out
    pairs = manifest.read(paths.converted(NAME))
    assert {pair.case for pair in pairs} == {"sub-02-0", "sub-03-1", "sub-04-2"}
    assert {pair.source for pair in pairs} == {f"sub-0{n}/sub-0{n}_T1w.nii" for n in (2, 3, 4)}


def stated(*splits: str) -> list[Case]:
    """A case of a patient of its own for each official split."""
    with unchecked():
        return [Case(f"c{n}", f"p{n}", Path(), {}, split or None) for n, split in enumerate(splits)]


@pytest.mark.parametrize(
    ("cases", "changes", "message"),
    [
        (stated("", ""), {}, "at least 3 patients for train, valid and test, got 2"),
        (stated("", "", ""), {"folds": 4}, "at least 4 patients for as many folds, got 3"),
        (stated("test", "test", "test", "train"), {}, "official test list"),
        (stated("test", "valid"), {}, "official test and valid list"),
        (stated("valid", "", "", ""), {"folds": 3}, "no folds where the valid list is official"),
    ],
)
def test_too_few_patients_are_seen_before_any_picture(
    refused: Refused, cases: Sequence[Case], changes: dict[str, int], message: str
) -> None:
    settings = replace(SPLIT, **changes)
    assert message in str(refused(lambda: listing.require_patients(NAME, cases, settings)))


def test_a_patient_of_two_official_splits_is_seen_before_any_picture(refused: Refused) -> None:
    with unchecked():
        cases = [replace(case, patient="p") for case in stated("train", "test")]
    problem = refused(lambda: listing.require_patients(NAME, [*cases, *stated("", "", "")], SPLIT))
    assert "got two for p" in problem.what


def test_convert_says_at_once_that_split_will_lack_patients(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort.write_raw(patients=2)
    settings = cohort.write_params()
    monkeypatch.setattr(
        "pipeline.pairs.store.fill", lambda *_: pytest.fail(capsys.readouterr().err)
    )
    with pytest.raises(pytest.fail.Exception, match=r"warning: split will refuse this.* got 2"):
        convert(NAME, settings, 1)


def test_bytes_that_are_no_text_are_spelled_out(workplace: Path) -> None:
    file = paths.raw(NAME) / "scan\udcff.nii"
    assert places.relative(file, NAME, 0) == "scan\\xff.nii"
