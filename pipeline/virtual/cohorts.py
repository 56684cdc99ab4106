"""Virtual cohorts: patients generated from the MNI152 template.

Everything about a patient is drawn from the patient's name, so a cohort is the same
wherever and in whatever order it is made. A digest of the recipe is recorded beside it, and a
changed recipe makes the cohort anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline.runtime import executor, files, fingerprints
from pipeline.runtime.executor import Workers
from pipeline.sources import listing, staging
from pipeline.virtual import ct, t1w

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """A function that makes one patient, given a name and a folder, and the number of patients."""

    make: Callable[[str, Path], None]
    patients: int


RECIPES = {
    "mni152_t1w": Recipe(t1w.make, 12),
    "mni152_ncct": Recipe(ct.make, 28),
}


def missing(recipe: str, folder: Path) -> list[str]:
    """The patients that ``folder`` lacks: all of them if the recipe has changed."""
    wanted = RECIPES[recipe]
    names = [f"sub-{number:02d}" for number in range(1, wanted.patients + 1)]
    if not listing.filled(folder) or not _is_of(wanted, folder):
        return names
    return [name for name in names if not _made(folder / name)]


def make(recipe: str, folder: Path, workers: Workers) -> None:
    """Make the patients of ``recipe`` that ``folder`` lacks; they appear there together at the end.

    A run that was stopped is resumed. Raises :class:`Problem` for a patient that cannot be made.
    """
    wanted = RECIPES[recipe]
    staging.finish(folder)
    todo = missing(recipe, folder)
    if todo and listing.filled(folder) and not _is_of(wanted, folder):
        _LOG.info("  Made anew: their recipe has changed or is unknown.")
    if not todo:
        return
    place = staging.begin(folder, f"virtual-{_digest(wanted)}", resume=True)
    task = partial(_make_patient, wanted.make, place)
    todo = [name for name in todo if not _made(place / name)]
    for outcome in executor.run(task, todo, workers, f"make {folder.name}", "patient"):
        if outcome.error is not None:
            raise Problem(
                f"the virtual patient {outcome.job} could not be made ({outcome.error})",
                where=folder,
            )
    staging.deliver(place)
    with files.replacing(_record(folder)) as file:
        file.write_text(_digest(wanted), "utf-8")


def _is_of(recipe: Recipe, folder: Path) -> bool:
    """Whether the patients in ``folder`` were made by ``recipe`` as it is now."""
    record = _record(folder)
    return record.is_file() and record.read_text("utf-8") == _digest(recipe)


def _record(folder: Path) -> Path:
    """The file with the digest of the recipe: beside the folder, because DVC tracks its content."""
    return folder.with_name(f".{folder.name}.recipe")


def _digest(recipe: Recipe) -> str:
    """16 digits that identify what determines a patient: code, libraries and template."""
    return fingerprints.fingerprint(fingerprints.code(recipe.make.__module__), version("nilearn"))[
        :16
    ]


def _made(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _make_patient(make_one: Callable[[str, Path], None], folder: Path, patient: str) -> None:
    with files.replacing_folder(folder / patient) as unfinished:
        make_one(patient, unfinished)
