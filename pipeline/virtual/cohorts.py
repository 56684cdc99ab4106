"""Virtual cohorts: patients derived from the MNI152 template, made on the spot.

Everything about a patient is drawn from the patient's name, so a cohort is the same
wherever and in whatever order it is made. What made it is recorded beside it, and another recipe
makes it anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline.runtime import executor, files, fingerprints
from pipeline.sources import listing, staging
from pipeline.virtual import ct, t1w


@dataclass(frozen=True)
class Recipe:
    """How one patient is made, given a name and a folder, and how many there are."""

    make: Callable[[str, Path], None]
    patients: int


RECIPES = {
    "mni152_t1w": Recipe(t1w.make, 12),
    "mni152_ncct": Recipe(ct.make, 24),
}


def missing(recipe: str, folder: Path) -> list[str]:
    """The patients that ``folder`` lacks: all where they are not what the recipe makes now."""
    wanted = RECIPES[recipe]
    names = [f"sub-{number:02d}" for number in range(1, wanted.patients + 1)]
    if not listing.filled(folder) or not _is_of(wanted, folder):
        return names
    return [name for name in names if not _made(folder / name)]


def make(recipe: str, folder: Path, workers: int) -> None:
    """Make the patients of ``recipe`` that ``folder`` lacks; they come into it when all are made.

    A run that was stopped is resumed. Raises :class:`Problem` for a patient that cannot be made.
    """
    wanted = RECIPES[recipe]
    staging.finish(folder)
    todo = missing(recipe, folder)
    if todo and listing.filled(folder) and not _is_of(wanted, folder):
        print("  Made anew: the recipe has changed, or which one made them is not known.")
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
    """Whether the patients in ``folder`` were made by this very recipe."""
    record = _record(folder)
    return record.is_file() and record.read_text("utf-8") == _digest(recipe)


def _record(folder: Path) -> Path:
    """Where the digest of the recipe stands: beside the folder, whose content DVC watches."""
    return folder.with_name(f".{folder.name}.recipe")


def _digest(recipe: Recipe) -> str:
    """16 digits that stand for all that a patient follows from: code, libraries, template."""
    return fingerprints.fingerprint(fingerprints.code(recipe.make.__module__), version("nilearn"))[
        :16
    ]


def _made(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _make_patient(make_one: Callable[[str, Path], None], folder: Path, patient: str) -> None:
    with files.replacing_folder(folder / patient) as unfinished:
        make_one(patient, unfinished)
