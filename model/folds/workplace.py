"""The working folder of a fold, in which every verb works as in the project's own.

``runs/<dataset>/folds/fold_<k>/`` has a parameter file that names one fold, links to what every
fold shares (raw data, converted and augmented pairs), and a dataset and a run of its own:

    params.yaml                 one dataset, split.folds and split.fold
    data/{raw,converted,augmented}/<dataset>   links
    data/dataset/<dataset>      what split dealt this fold
    runs/<dataset>              model, scores and predictions of this fold
    done.json                   what the fold was made from, and how long each verb took
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.params import reader
from pipeline.runtime import files, fingerprints, imports

_DONE = "done.json"
_PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "pyarrow")


@dataclass(frozen=True)
class Step:
    """A verb that a fold takes, and of what: ``python -m model train msd_hippocampus``."""

    floor: str
    verb: str
    name: str

    @property
    def words(self) -> str:
        """As it is typed after ``python -m``."""
        return f"{self.floor} {self.verb} {self.name}"


@dataclass(frozen=True)
class Workplace(ABC):
    """A working folder for a dataset, and its parameter file's content."""

    dataset: str
    content: Mapping[str, Any]

    @property
    @abstractmethod
    def place(self) -> Path:
        """Its working folder."""

    @property
    @abstractmethod
    def words(self) -> str:
        """What it is called in messages, such as "fold 0 of 5"."""

    @property
    def run(self) -> Path:
        """Its run, in the working folder."""
        return self.place / paths.run(self.dataset)

    @property
    def pairs(self) -> Path:
        """Its dataset, in the working folder."""
        return self.place / paths.dataset(self.dataset)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The verbs that it takes, in order."""
        own = self.dataset
        members = [Step("model", "train", name) for name in self.content.get("members") or {}]
        together = [Step("model", "ensemble", own)] * bool(self.content.get("ensembles"))
        return (
            Step("pipeline", "split", own),
            Step("model", "train", own),
            *members,
            Step("model", "evaluate", own),
            *together,
        )

    def prepare(self) -> None:
        """Make the working folder, or bring its parameters and links up to date.

        Raises :class:`Problem` where the file system makes no links.
        """
        self.place.mkdir(parents=True, exist_ok=True)
        with files.replacing(self.place / paths.PARAMS) as unfinished:
            unfinished.write_text(yaml.safe_dump(dict(self.content), sort_keys=False), "utf-8")
        for shared in _shared(self.dataset):
            _link(shared, self.place / shared)

    def made_from(self) -> str:
        """The fingerprint of parameters, pairs, code and packages that its outputs follow from."""
        pairs = (paths.converted(self.dataset), paths.augmented(self.dataset))
        content = {key: one for key, one in self.content.items() if key not in reader.RUNNING}
        return fingerprints.fingerprint(
            content,
            [files.sha256(folder / paths.MANIFEST) for folder in pairs],
            [_code(f"{one.floor}.{one.verb}") for one in self.steps],
            [os.environ.get("KERAS_BACKEND", ""), *_versions()],
        )

    def seconds(self) -> dict[str, float] | None:
        """What each step took, of a fold that is done and unchanged; None of any other."""
        try:
            known = json.loads((self.place / _DONE).read_text("utf-8"))
            made_from, seconds = known["made_from"], dict(known["seconds"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        there = (self.pairs / paths.MANIFEST, self.run / paths.CASES)
        if made_from != self.made_from() or not all(map(Path.is_file, there)):
            return None
        return seconds

    def finish(self, seconds: Mapping[str, float]) -> None:
        """Remember that it is done, and how long each step took."""
        with files.replacing(self.place / _DONE) as unfinished:
            done = {"made_from": self.made_from(), "seconds": dict(seconds)}
            unfinished.write_text(json.dumps(done, indent=1) + "\n", "utf-8")


@dataclass(frozen=True)
class Fold(Workplace):
    """One fold of a dataset: its number (from 0), and how many there are."""

    number: int
    of: int

    @classmethod
    def stated(cls, dataset: str, number: int, of: int, params_file: Path) -> Fold:
        """The fold by the project's parameters. Raises :class:`Problem` where they do not fit."""
        overrides = {"split": {"folds": of, "fold": number}}
        return cls(dataset, reader.narrowed(dataset, overrides, params_file), number, of)

    @property
    def place(self) -> Path:
        return paths.fold(self.dataset, self.number)

    @property
    def words(self) -> str:
        return f"fold {self.number} of {self.of}"


@dataclass(frozen=True)
class Subset(Workplace):
    """A training on so many of train's patients, drawn by a seed."""

    patients: int
    seed: int

    @classmethod
    def stated(
        cls, dataset: str, patients: int, seed: int, steps: int, params_file: Path
    ) -> Subset:
        """The subset by the project's parameters, with so many steps an epoch."""
        learnt = {"patients": patients, "seed": seed, "steps_per_epoch": steps}
        content = reader.narrowed(dataset, {"train": learnt}, params_file)
        return cls(dataset, {**content, "members": {}, "ensembles": {}}, patients, seed)

    @property
    def place(self) -> Path:
        return paths.subset(self.dataset, self.patients, self.seed)

    @property
    def words(self) -> str:
        return f"{self.patients} patients, seed {self.seed}"


def environment() -> dict[str, str]:
    """The environment in which a verb runs in another folder: with the project on its path."""
    found = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    root, before = str(imports.ROOT), found.get("PYTHONPATH")
    return found | {"PYTHONPATH": os.pathsep.join([root, *([before] if before else [])])}


def require_pairs(dataset: str) -> None:
    """Raise :class:`Problem` unless there are pairs that folds can be dealt from."""
    for verb, folder in (
        ("convert", paths.converted(dataset)),
        ("augment", paths.augmented(dataset)),
    ):
        if not (folder / paths.MANIFEST).is_file():
            raise Problem(
                "expected pairs to deal into folds, found none",
                where=folder,
                remedy=f"Run: python -m pipeline {verb} {dataset}",
            )


def _shared(dataset: str) -> Iterator[Path]:
    """What every fold reads, and none writes."""
    for place in (
        paths.raw(dataset),
        paths.converted(dataset),
        paths.augmented(dataset),
        paths.ID_SALT,
        paths.IDENTITIES,
    ):
        if place.exists():
            yield place


def _link(source: Path, target: Path) -> None:
    """A relative link, so that the project can be moved; whatever else is there is replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    leads_to = Path(os.path.relpath(Path.cwd() / source, target.parent.resolve()))
    if target.is_symlink():
        if target.readlink() == leads_to:
            return
        target.unlink()
    try:
        target.symlink_to(leads_to, target_is_directory=source.is_dir())
    except OSError as error:  # Windows, for one, lets few people link
        raise Problem(
            f"expected a file system and an account that make symbolic links, got {error}",
            where=target,
            remedy="Allow them (on Windows: developer mode), or see the other way in"
            " docs/how-to/cross-validation.md.",
        ) from None


@cache
def _code(module: str) -> str:
    """The fingerprint of a verb's code, read once."""
    return fingerprints.code(module)


def _versions() -> Sequence[str]:
    """The installed versions of what trains and what stores tables."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
