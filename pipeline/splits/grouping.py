"""Pictures that seem to be of one patient, grouped by likeness where no patient is published.

Two pictures are linked if they are copies or near-duplicates (:mod:`near_duplicates`); if they look
like slices of one scan, which is hashes that differ in few bits and a correlation *as they lie* of
at least :data:`ALIKE`; or if their names follow each other in one folder and they correlate at
least :data:`FOLLOWING` as they lie. Whatever is linked, over any number of links, is a group. A
group does not depend on the order of the pictures.

Measured (tests/benchmarks/grouping.md). A slice and the next of its scan correlate .92 in the
median, but so do slices of two patients at one height: likeness alone joins a third of the
neighbours before it joins strangers. Names that follow the scans decide: nearly all neighbours are
joined, and the end of a scan looks as unlike the next one's start as slices can. Names that do not
follow the scans would join strangers, so it is asked whether they do.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datasets_spec.contract import Problem
from pipeline.pairs.manifest import Pair
from pipeline.params.split import Split
from pipeline.runtime import files, keys
from pipeline.splits import near_duplicates
from pipeline.volumes.arrays import Image8

ALIKE = 0.96
"""Pictures with near hashes that correlate this much as they lie are slices of one scan."""
FOLLOWING = 0.6
"""Pictures whose names follow each other and that correlate this much are slices of one scan."""
COPY, NEAR_DUPLICATE, NEIGHBOUR, NAMES = "copy", "near-duplicate", "neighbour", "names"
"""Why two pictures are linked."""
GROUPED = f"grouped by likeness: correlation of {ALIKE} or more"
GROUPED_BY_NAMES = f"{GROUPED}, or of {FOLLOWING} or more where names follow each other"
NO_ORDER = (
    "the pictures' names do not follow their scans, so few slices of one scan are recognised: those"
    " of one patient may lie in train and in test"
)
ALONE = "its own: like no other"
COLUMNS = ("first", "second", "correlation", "basis", "group")
_NEARLY = 0.02  # so close to a near-duplicate that the other order of the two is asked as well
_REMEMBERED = 4096  # small pictures: 64 MiB
_FEW, _CONTROLS = 20, 500  # pictures; of fewer it is not asked whether names say something
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Link:
    """Two pictures, by their positions, how they correlate, and why they are linked."""

    first: int
    second: int
    correlation: float
    basis: str


@dataclass(frozen=True)
class Groups:
    """What is grouped: the ``pictures``, their links, and the group's name of each of them.

    ``by_names``: whether names that follow each other linked any.
    """

    pictures: Sequence[Pair]
    links: Sequence[Link]
    names: Sequence[str]
    by_names: bool = False

    def of_patient(self) -> dict[str, str]:
        """Patient -> the name of the group."""
        return {one.patient: name for one, name in zip(self.pictures, self.names, strict=True)}

    @property
    def basis(self) -> str:
        """How the members of a group were recognised."""
        return GROUPED_BY_NAMES if self.by_names else GROUPED

    def sizes(self) -> list[int]:
        """The number of pictures of each group that has several patients."""
        several = Counter(self.names)
        alone = {one.patient for one in self.pictures}
        return [count for name, count in several.items() if name not in alone]

    def write(self, file: Path, name: Callable[[Pair], str] = lambda pair: pair.id) -> None:
        """Write every link as a row of a CSV file, sorted, completely or not at all."""
        rows = sorted(
            (
                *sorted((name(self.pictures[one.first]), name(self.pictures[one.second]))),
                f"{one.correlation:.4f}",
                one.basis,
                self.names[one.first],
            )
            for one in self.links
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.replacing(file) as unfinished, unfinished.open("w", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([COLUMNS, *rows])


def groups(
    pairs: Iterable[Pair], read: Callable[[Pair], Image8], order: Mapping[str, str] | None = None
) -> Groups:
    """The groups of the pictures of ``pairs`` that are not augmented; ``read`` opens one.

    ``order``: case -> its path in the raw data; names that follow each other are then asked, and
    slices of one scan are looked for. Without it only copies and near-duplicates are.
    """
    pictures = _pictures(pairs)
    small = lru_cache(_REMEMBERED)(lambda at: near_duplicates.thumbnail(read(pictures[at])))
    links = [*_copies(pictures, read), *_alike(pictures, small, neighbours=order is not None)]
    following = [] if order is None else _following(pictures, small, order)
    links += following
    names = _named(pictures, _components(pictures, links))
    return Groups(pictures, _once(links), names, by_names=bool(following))


def regrouped(pairs: Iterable[Pair], groups: Groups) -> list[Pair]:
    """``pairs`` with their groups as patients, and how these were determined."""
    of_patient = groups.of_patient()
    return [
        replace(
            pair,
            patient=of_patient[pair.patient],
            patient_basis=ALONE if of_patient[pair.patient] == pair.patient else groups.basis,
        )
        for pair in pairs
    ]


def require_small(dataset: str, groups: Groups, settings: Split) -> None:
    """Raises :class:`Problem` for a group that is larger than the largest split."""
    names, counts = np.unique(groups.names, return_counts=True)
    most = max(settings.shares.train, settings.shares.valid, settings.shares.test)
    at = int(counts.argmax())
    if counts[at] > most * len(groups.pictures):
        raise Problem(
            f"expected groups of like pictures that a split can hold, at most {most:.0%} of"
            f" {len(groups.pictures)}, got {counts[at]} in {names[at]}",
            where=f"split {dataset}",
            remedy="Pictures of several patients are alike: state the patients in a table"
            f" (Dataset.patients in datasets_spec/{dataset}.py).",
        )


def _pictures(pairs: Iterable[Pair]) -> list[Pair]:
    """One pair for each picture, whoever drew its labels, sorted by id."""
    found: dict[tuple[str, str, int], Pair] = {}
    for pair in sorted(pairs, key=lambda pair: (pair.id, pair.split)):
        if not pair.parent:
            found.setdefault((pair.split, pair.case, pair.slice_index), pair)
    return list(found.values())


def _copies(pictures: Sequence[Pair], read: Callable[[Pair], Image8]) -> Iterator[Link]:
    """A picture that shows something, and each other of the same bytes."""
    first: dict[str, int] = {}
    for at, one in enumerate(pictures):
        other = first.setdefault(one.image_digest, at)
        if pictures[other].patient != one.patient and (one.likeness or np.ptp(read(one))):
            yield Link(other, at, 1.0, COPY)


def _alike(
    pictures: Sequence[Pair], small: Callable[[int], Image8], neighbours: bool
) -> Iterator[Link]:
    """Pictures of two patients whose hashes are near, and that are alike."""
    different = {one.image_digest: at for at, one in reversed(list(enumerate(pictures)))}
    places = sorted(different.values())
    hashes = [pictures[at].likeness for at in places]
    numbers: dict[str, int] = {}
    patients = np.array(
        [numbers.setdefault(pictures[at].patient, len(numbers)) for at in places], np.int64
    )
    for here, there in near_duplicates.candidates(hashes, hashes, (patients, patients)):
        if here >= there:
            continue
        first, second = places[here], places[there]
        one, other = small(first), small(second)
        correlation = near_duplicates.in_place(one, other)
        if neighbours and correlation >= ALIKE:
            same = correlation >= near_duplicates.SAME
            yield Link(first, second, correlation, NEAR_DUPLICATE if same else NEIGHBOUR)
            continue
        correlation = near_duplicates.moved(one, other)
        if near_duplicates.SAME > correlation > near_duplicates.SAME - _NEARLY:
            correlation = max(correlation, near_duplicates.moved(other, one))
        if correlation >= near_duplicates.SAME:
            yield Link(first, second, correlation, NEAR_DUPLICATE)


def _following(
    pictures: Sequence[Pair], small: Callable[[int], Image8], order: Mapping[str, str]
) -> list[Link]:
    """Pictures whose files follow each other in one folder, each a case of its own.

    None where that tells nothing: unless they are twice as often alike, or half as often unlike, as
    pictures in another order.
    """
    slices = Counter(one.patient for one in pictures)
    single = [at for at, one in enumerate(pictures) if slices[one.patient] == 1]
    queue = sorted(single, key=lambda at: _natural(order[pictures[at].case]))

    def alike(pairs: Iterable[tuple[int, int]]) -> tuple[list[Link], float]:
        asked = [
            Link(min(pair), max(pair), near_duplicates.in_place(*map(small, pair)), NAMES)
            for pair in pairs
        ]
        found = [link for link in asked if link.correlation >= FOLLOWING]
        return found, len(found) / max(1, len(asked))

    folders = {at: Path(order[pictures[at].case]).parent for at in queue}
    links, share = alike(pair for pair in pairwise(queue) if len({*map(folders.get, pair)}) == 1)
    if len(queue) < _FEW:
        return links
    shuffled = sorted(queue, key=lambda at: keys.key(0, "", order[pictures[at].case], "control"))
    _, by_chance = alike(pairwise(shuffled[:_CONTROLS]))
    order_tells = share >= 2 * by_chance or 1 - share <= (1 - by_chance) / 2
    return links if order_tells else []


def _natural(path: str) -> list[tuple[str, int, str]]:
    """A key that sorts numbers by value: scan/2.png before scan/10.png."""
    parts = _DIGITS.split(path)
    numbers = [*parts[1::2], "0"]
    return [(text, int(number), number) for text, number in zip(parts[::2], numbers, strict=True)]


def _once(links: Iterable[Link]) -> list[Link]:
    """The links, each two pictures once, with the first reason."""
    found: dict[tuple[int, int], Link] = {}
    for link in links:
        found.setdefault((link.first, link.second), link)
    return list(found.values())


def _components(pictures: Sequence[Pair], links: Sequence[Link]) -> list[int]:
    """The number of the group of each picture: what a patient or a link joins is one."""
    first: dict[str, int] = {}
    of_patient = [(first.setdefault(one.patient, at), at) for at, one in enumerate(pictures)]
    ends = np.array([*of_patient, *((link.first, link.second) for link in links)], np.intp)
    here, there = ends.reshape(-1, 2).T
    graph = coo_array((np.ones(len(here), bool), (here, there)), (len(pictures), len(pictures)))
    numbers: list[int] = connected_components(graph, directed=False)[1].tolist()
    return numbers


def _named(pictures: Sequence[Pair], numbers: Sequence[int]) -> list[str]:
    """The name of each picture's group: its first case's, or the patient's where it is alone."""
    cases: dict[int, set[str]] = {}
    patients: dict[int, set[str]] = {}
    for one, number in zip(pictures, numbers, strict=True):
        cases.setdefault(number, set()).add(one.case)
        patients.setdefault(number, set()).add(one.patient)
    return [
        f"group-{min(cases[number])}" if len(patients[number]) > 1 else next(iter(patients[number]))
        for number in numbers
    ]
