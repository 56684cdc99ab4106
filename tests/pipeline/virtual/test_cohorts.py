"""Virtual cohorts: made once, the same wherever and by however many workers."""

from __future__ import annotations

from pathlib import Path

import pytest

import datasets_spec
from datasets_spec.contract import Problem
from pipeline.runtime import imports
from pipeline.runtime.files import sha256
from pipeline.sources import listing
from pipeline.virtual import cohorts, ct
from pipeline.virtual.cohorts import Recipe
from tests.conftest import Refused


def fake(patient: str, folder: Path) -> None:
    (folder / "scan.nii").write_text(patient)


def broken(patient: str, folder: Path) -> None:
    raise OSError("the disk is full")


def test_a_dataset_states_how_many_patients_its_recipe_makes() -> None:
    sources = [datasets_spec.load(name).dataset.source for name in datasets_spec.names()]
    stated = {source.recipe: source.cases for source in sources if source.recipe}
    assert stated == {name: recipe.patients for name, recipe in cohorts.RECIPES.items()}


@pytest.mark.parametrize("recipe", cohorts.RECIPES)
def test_there_are_at_least_twelve_patients(recipe: str) -> None:
    assert cohorts.RECIPES[recipe].patients >= 12


def test_only_missing_patients_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cohorts.RECIPES, "fake", Recipe(fake, 7))
    cohorts.make("fake", tmp_path, workers=1)
    files = sorted(tmp_path.glob("*/scan.nii"))
    assert [file.parent.name for file in files] == [f"sub-{n:02d}" for n in range(1, 8)]
    for file in files:
        file.write_text("kept")
    files[4].unlink()
    files[4].parent.rmdir()
    cohorts.make("fake", tmp_path, workers=1)
    assert [file.read_text() for file in files] == [*["kept"] * 4, "sub-05", *["kept"] * 2]


def stopped_at(number: int) -> Recipe:
    def make(patient: str, folder: Path) -> None:
        fake(patient, folder)
        if patient == f"sub-{number:02d}":
            raise KeyboardInterrupt

    return Recipe(make, 7)


@pytest.mark.parametrize("number", [1, 4, 7])
def test_a_cohort_is_there_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setitem(cohorts.RECIPES, "fake", stopped_at(number))
    with pytest.raises(KeyboardInterrupt):
        cohorts.make("fake", tmp_path, workers=1)
    assert not listing.filled(tmp_path)
    made = []
    again = Recipe(lambda patient, folder: (made.append(patient), fake(patient, folder))[1], 7)
    monkeypatch.setitem(cohorts.RECIPES, "fake", again)
    cohorts.make("fake", tmp_path, workers=1)
    assert made == [f"sub-{n:02d}" for n in range(number, 8)]  # resumed
    assert len(list(tmp_path.glob("sub-*/scan.nii"))) == 7
    assert cohorts.missing("fake", tmp_path) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"sub-0{n}" for n in range(1, 8)]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_cohort_of_another_recipe_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: bool
) -> None:
    folder = tmp_path / "cohort"
    monkeypatch.setitem(cohorts.RECIPES, "fake", Recipe(fake, 3))
    cohorts.make("fake", folder, workers=1)
    for file in folder.glob("*/scan.nii"):
        file.write_text("as an earlier version made it")
    if recorded:
        monkeypatch.setattr(cohorts.fingerprints, "code", lambda _: "another")
    else:
        (tmp_path / ".cohort.recipe").unlink()
    assert len(cohorts.missing("fake", folder)) == 3
    cohorts.make("fake", folder, workers=1)
    assert cohorts.missing("fake", folder) == []
    assert {file.read_text() for file in folder.glob("*/scan.nii")} == {
        "sub-01",
        "sub-02",
        "sub-03",
    }


def test_the_recipe_follows_from_the_code_that_draws() -> None:
    files = {file.name for file in imports.closure(ct.make.__module__)}
    assert {"ct.py", "anatomy.py", "dicom_writer.py", "head.py"} <= files
    digests = {cohorts._digest(recipe) for recipe in cohorts.RECIPES.values()}
    assert len(digests) == len(cohorts.RECIPES) > 1


def test_a_patient_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setitem(cohorts.RECIPES, "broken", Recipe(broken, 1))
    problem: Problem = refused(lambda: cohorts.make("broken", tmp_path, workers=1))
    assert "sub-01" in str(problem)
    assert "the disk is full" in str(problem)
    assert not (tmp_path / "sub-01").exists()


@pytest.mark.slow
def test_a_patient_is_the_same_bytes_alone_and_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cohorts.RECIPES, "mni152_ncct", Recipe(ct.make, 2))
    cohorts.make("mni152_ncct", tmp_path / "two", workers=2)
    (tmp_path / "alone").mkdir()
    ct.make("sub-02", tmp_path / "alone")
    made = []
    for folder in (tmp_path / "two" / "sub-02", tmp_path / "alone"):
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        made.append({file.relative_to(folder): sha256(file) for file in files})
    assert len(made[0]) > 2 * 28
    assert made[0] == made[1]
