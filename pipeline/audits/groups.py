"""Which patients are compared with which: the splits, and whatever else is known of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair

_SPLITS = (("train", "valid"), ("train", "test"))
_SPLIT = "split"
_MOST_VALUES = 20  # of a stratum: one with more is a measure, or an id


@dataclass(frozen=True)
class Question:
    """Two groups of patients: those with one value of what is ``known``, and the others."""

    known: str
    first: str
    second: str
    patients: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def words(self) -> str:
        """Such as "train and valid" or "scanner: Siemens and all others"."""
        words = f"{self.first} and {self.second}"
        return words if self.known == _SPLIT else f"{self.known}: {words}"


def questions(pairs: Sequence[Pair]) -> Iterator[Question]:
    """Which groups are compared, by split and by all that is known of the patients."""
    splits: dict[str, set[str]] = {}
    strata: dict[str, dict[str, set[str]]] = {}
    for pair in pairs:
        splits.setdefault(pair.split, set()).add(pair.patient)
        for name, value in manifest.strata_of(pair).items():
            strata.setdefault(name, {}).setdefault(value, set()).add(pair.patient)
    for first, second in _SPLITS:
        groups = tuple(sorted(splits.get(first, ()))), tuple(sorted(splits.get(second, ())))
        yield Question(_SPLIT, first, second, groups)
    for name, values in sorted(strata.items()):
        if not 1 < len(values) <= _MOST_VALUES:
            continue
        every = set().union(*values.values())
        two = len(values) == 2
        for value, patients in sorted(values.items())[: 1 if two else None]:
            others = sorted(values)[1] if two else "all others"
            groups = tuple(sorted(patients)), tuple(sorted(every - patients))
            yield Question(name, value, others, groups)
