"""Virtual cohorts: made once, the same wherever and by however many workers."""

from __future__ import annotations

from pathlib import Path

import pytest

import datasets_spec
from datasets_spec.contract import Problem
from pipeline import store, virtual, virtual_ct
from pipeline.virtual import Recipe
from tests.conftest import Refused


def fake(patient: str, folder: Path) -> None:
    (folder / "scan.nii").write_text(patient)


def broken(patient: str, folder: Path) -> None:
    raise OSError("the disk is full")


def test_a_dataset_states_how_many_patients_its_recipe_makes() -> None:
    sources = [datasets_spec.load(name).dataset.source for name in datasets_spec.names()]
    stated = {source.recipe: source.cases for source in sources if source.recipe}
    assert stated == {name: recipe.patients for name, recipe in virtual.RECIPES.items()}


@pytest.mark.parametrize("recipe", virtual.RECIPES)
def test_there_are_at_least_twelve_patients(recipe: str) -> None:
    assert virtual.RECIPES[recipe].patients >= 12


def test_only_missing_patients_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(virtual.RECIPES, "fake", Recipe(fake, 7))
    virtual.make("fake", tmp_path, workers=1)
    files = sorted(tmp_path.glob("*/scan.nii"))
    assert [file.parent.name for file in files] == [f"sub-{n:02d}" for n in range(1, 8)]
    for file in files:
        file.write_text("kept")
    files[4].unlink()
    files[4].parent.rmdir()
    virtual.make("fake", tmp_path, workers=1)
    assert [file.read_text() for file in files] == [*["kept"] * 4, "sub-05", *["kept"] * 2]


def test_a_patient_that_cannot_be_made_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setitem(virtual.RECIPES, "broken", Recipe(broken, 1))
    problem: Problem = refused(lambda: virtual.make("broken", tmp_path, workers=1))
    assert "sub-01" in str(problem)
    assert "the disk is full" in str(problem)
    assert not (tmp_path / "sub-01").exists()


@pytest.mark.slow
def test_one_worker_and_two_make_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(virtual.RECIPES, "mni152_ncct", Recipe(virtual_ct.make, 2))
    made = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        virtual.make("mni152_ncct", folder, workers)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        made.append({file.relative_to(folder): store.digest(file) for file in files})
    assert len(made[0]) > 2 * 2 * 28
    assert made[0] == made[1]
