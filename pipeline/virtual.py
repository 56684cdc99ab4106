"""Virtual cohorts: patients derived from the MNI152 template, made on the spot.

Everything about a patient is drawn from the patient's name, so a cohort is the same
wherever and in whatever order it is made.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline import executor, files, virtual_ct, virtual_t1w


@dataclass(frozen=True)
class Recipe:
    """How one patient is made, given a name and a folder, and how many there are."""

    make: Callable[[str, Path], None]
    patients: int


RECIPES = {
    "mni152_t1w": Recipe(virtual_t1w.make, 12),
    "mni152_ncct": Recipe(virtual_ct.make, 24),
}


def make(recipe: str, folder: Path, workers: int) -> None:
    """Make the patients of ``recipe`` that ``folder`` does not hold yet."""
    wanted = RECIPES[recipe]
    missing = [
        patient
        for patient in (f"sub-{number:02d}" for number in range(1, wanted.patients + 1))
        if not _made(folder / patient)
    ]
    task = partial(_make_patient, wanted.make, folder)
    for outcome in executor.run(task, missing, workers, f"make {folder.name}", "patient"):
        if outcome.error is not None:
            raise Problem(
                f"the virtual patient {outcome.job} could not be made ({outcome.error})",
                where=folder,
            )


def _made(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _make_patient(make_one: Callable[[str, Path], None], folder: Path, patient: str) -> None:
    unfinished = folder / f".unfinished-{patient}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    make_one(patient, unfinished)
    files.replace_folder(unfinished, folder / patient)
