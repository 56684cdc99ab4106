"""The patients of a dataset, and what decides their splits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from datasets_spec.contract import Problem
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair


@dataclass(frozen=True)
class Patient:
    """What decides the split of a patient: pairs, classes, share of foreground, official split.

    ``strata``: the values of those whose shares are balanced, in their order.
    """

    name: str
    pairs: int
    classes: frozenset[int]
    foreground: float
    official: str
    strata: tuple[str, ...] = ()

    @property
    def magnitude(self) -> float:
        """The order of magnitude of the foreground, in powers of four."""
        return math.floor(math.log(self.foreground, 4)) if self.foreground else -math.inf


def patients(dataset: str, pairs: Sequence[Pair], strata: Sequence[str] = ()) -> list[Patient]:
    """The patients of ``pairs``, sorted by name, with their values of ``strata``.

    Raises :class:`Problem` for a patient with two official splits.
    """
    theirs: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        theirs[pair.patient].append(pair)
    found = []
    for name, members in sorted(theirs.items()):
        official = {pair.official_split for pair in members}
        if len(official) > 1:
            raise Problem(
                f"expected one official split per patient, got {sorted(official)} for {name}",
                where=f"split {dataset}",
                remedy="Correct Case.split in the dataset's adapter, or the patients table.",
            )
        counts = [sum(column) for column in zip(*(p.class_pixels for p in members), strict=True)]
        found.append(
            Patient(
                name,
                len(members),
                frozenset(number for number, count in enumerate(counts) if number and count),
                sum(counts[1:]) / max(1, sum(counts)),
                official.pop(),
                tuple(_stratum(members, name) for name in strata),
            )
        )
    return found


def _stratum(pairs: Sequence[Pair], name: str) -> str:
    """The value of a patient; several of them (two scans, at two sites) are one of their own."""
    texts = {pair.strata: pair for pair in pairs}
    values = {manifest.strata_of(pair).get(name, "") for pair in texts.values()}
    return " and ".join(sorted(values))


def require_strata(dataset: str, pairs: Sequence[Pair], strata: Sequence[str]) -> None:
    """Raises :class:`Problem` for one of ``strata`` that no pair has."""
    texts = {pair.strata: pair for pair in pairs}
    known = sorted({name for pair in texts.values() for name in manifest.strata_of(pair)})
    for name in strata:
        if name not in known:
            raise Problem(
                f"expected strata of this dataset ({', '.join(known) or 'it has none'}),"
                f" got {name!r}",
                where=f"split.strata of {dataset}",
                remedy="Correct it in the parameter file, or name the column in Dataset.patients.",
            )
