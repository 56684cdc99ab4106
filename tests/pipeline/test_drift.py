"""drift: splits and strata of a dataset, from the raw files to the line and the page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from pipeline import paths
from pipeline.audits import groups
from pipeline.drift import drift
from pipeline.pages import of_run
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.split import split
from tests.conftest import Refused
from tests.support import cohort

FILE = paths.run(cohort.DATASET) / paths.DRIFT
SHARES = {"split.shares": {"train": 0.4, "valid": 0.3, "test": 0.3}}
PATIENTS = 20
Splits = dict[str, set[str]]


def _splits() -> Splits:
    found: Splits = {}
    for pair in manifest.read(paths.dataset(cohort.DATASET)):
        found.setdefault(pair.split, set()).add(pair.patient)
    return found


def _make_noisy(patient: str) -> None:
    """What another scanner does to a scan: noise, and nothing else."""
    [file] = (paths.raw(cohort.DATASET) / patient).glob("*_T1w.nii")
    scan = nib.load(file)
    values = np.asarray(scan.dataobj)
    rng = np.random.default_rng(int(patient[-2:]))
    worse = np.rint(values + rng.normal(0, 60, values.shape)).astype(values.dtype)
    nib.save(nib.Nifti1Image(worse, scan.affine, scan.header), file)


def _compared(workers: int = 1) -> list[dict[str, Any]]:
    drift(cohort.DATASET, workers)
    found: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["comparisons"]
    return found


@pytest.fixture
def splits(workplace: Path) -> Splits:
    cohort.prepare(patients=PATIENTS, **SHARES)
    return _splits()


def test_splits_of_one_world_are_not_told_apart(
    splits: Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _compared()
    assert [row["groups"] for row in rows] == [["train", "valid"], ["train", "test"]]
    assert [row["patients"] for row in rows] == [
        [len(splits["train"]), len(splits[other])] for other in ("valid", "test")
    ]
    assert [row["told_apart"] for row in rows] == [False, False]
    assert capsys.readouterr().out.count("nothing tells them apart") == 2


def test_another_scanner_in_test_is_found_and_named(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = cohort.write_params(**SHARES)
    cohort.write_raw(patients=PATIENTS)
    cohort.make_pairs(settings)
    before = _splits()
    for patient in before["test"]:
        _make_noisy(patient)
    cohort.make_pairs(settings)
    assert _splits() == before
    valid, test = _compared()
    assert not valid["told_apart"]
    assert test["told_apart"]
    assert test["p_of_all"] < 0.01
    assert "sharpness (per pixel)" in [one["name"] for one in test["features"]]
    assert "train and test" in capsys.readouterr().out


def test_workers_change_nothing(splits: Splits) -> None:
    assert _compared(1) == _compared(2)


def test_few_patients_are_said_to_be_too_few(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort.prepare()
    assert [row["told_apart"] for row in _compared()] == [None, None]
    assert capsys.readouterr().out.count("too few to tell") == 2


def test_the_page_shows_what_was_found_and_of_which_split(splits: Splits) -> None:
    adapter = datasets_spec.load(cohort.DATASET)
    assert of_run.of_run(adapter, ())["drift"] is None
    _compared()
    shown = of_run.of_run(adapter, ())["drift"]
    assert shown["current"]
    assert [row["words"] for row in shown["rows"]] == ["nothing tells them apart"] * 2
    split(cohort.DATASET, cohort.write_params(**SHARES, **{"split.seed": 7}))
    assert not of_run.of_run(adapter, ())["drift"]["current"]


def test_a_dataset_that_was_not_split_is_named(workplace: Path, refused: Refused) -> None:
    assert "manifest" in str(refused(lambda: drift(cohort.DATASET, 1)))


def test_a_split_of_other_patients_is_named(splits: Splits, refused: Refused) -> None:
    folder = paths.converted(cohort.DATASET)
    manifest.write(folder, [one for one in manifest.read(folder) if one.patient != "sub-03"])
    problem = refused(lambda: drift(cohort.DATASET, 1))
    assert "sub-03" in str(problem)
    assert "split" in problem.remedy


def _known(**strata: str) -> list[Pair]:
    """Ten patients, of whom only ``strata`` is known, one letter a patient."""
    rows = [cohort.pair(f"p{number}_0", split="train") for number in range(10)]
    return [
        replace(
            row,
            strata=manifest.strata_text({name: each[number] for name, each in strata.items()}),
        )
        for number, row in enumerate(rows)
    ]


def test_two_sites_are_one_question_and_three_are_three() -> None:
    found = list(groups.questions(_known(site="AAAAABBBBB", year="1112223333", one="xxxxxxxxxx")))
    assert [(one.words, *map(len, one.patients)) for one in found] == [
        ("train and valid", 10, 0),
        ("train and test", 10, 0),
        ("site: A and B", 5, 5),
        ("year: 1 and all others", 3, 7),
        ("year: 2 and all others", 3, 7),
        ("year: 3 and all others", 4, 6),
    ]
