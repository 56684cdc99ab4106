"""The patients of a dataset, and what decides their splits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from datasets_spec.contract import Problem
from pipeline.pairs.manifest import Pair


@dataclass(frozen=True)
class Patient:
    """What decides the split of a patient: pairs, classes, share of foreground, official split."""

    name: str
    pairs: int
    classes: frozenset[int]
    foreground: float
    official: str

    @property
    def magnitude(self) -> float:
        """The order of magnitude of the foreground, in powers of four."""
        return math.floor(math.log(self.foreground, 4)) if self.foreground else -math.inf


def patients(dataset: str, pairs: Sequence[Pair]) -> list[Patient]:
    """The patients of ``pairs``, sorted by name.

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
                remedy="Correct Case.split in the dataset's adapter.",
            )
        counts = [sum(column) for column in zip(*(p.class_pixels for p in members), strict=True)]
        found.append(
            Patient(
                name,
                len(members),
                frozenset(number for number, count in enumerate(counts) if number and count),
                sum(counts[1:]) / max(1, sum(counts)),
                official.pop(),
            )
        )
    return found
