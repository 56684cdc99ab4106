"""The gate: what must never be true of a dataset that is split into train, valid and test.

``split`` judges the pairs that it has placed; :mod:`pipeline.splits.folders` judges any folder of
the layout ``{train,valid,test}/{images,masks}``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from datasets_spec.contract import SPLITS, Problem
from pipeline.pairs import pictures, png
from pipeline.pairs.manifest import Pair
from pipeline.splits import near_duplicates
from pipeline.volumes.arrays import Image8

PATIENTS = "no patient is in two splits"
PARENTS = "no parent of an augmented pair is in two splits"
COPIES = "no picture is in two splits"
LIKENESSES = "no near-duplicate picture is in two splits"
AUGMENTED = "only train holds augmented pairs"
PAIRED = "every image has its mask, and the reverse"
READABLE = "every picture can be read, image and mask in one size"
UNCHANGED = "every picture is the manifest's"
COLOURS = "masks hold the label map's colours only"
PROMISES = (
    PATIENTS, PARENTS, COPIES, LIKENESSES, AUGMENTED, PAIRED, READABLE, UNCHANGED, COLOURS,
)  # fmt: skip
SHOWN = 3
"""Examples of a violation that are shown, unless all are requested."""


@dataclass(frozen=True)
class Violation:
    """A broken promise, and the examples of it, worst first; there is at least one."""

    promise: str
    examples: tuple[str, ...]

    @property
    def count(self) -> int:
        """How often the promise is broken."""
        return len(self.examples)

    def text(self, most: int | None = SHOWN) -> str:
        """How often, and up to ``most`` examples (None: all of them)."""
        shown = self.examples[:most]
        left = self.count - len(shown)
        times = "once" if self.count == 1 else f"{self.count} times"
        return f"broken {times}, such as {'; '.join(shown)}" + (
            f"; and {left} more" if left else ""
        )


def judge(folder: Path, pairs: Iterable[Pair], blank: Iterable[str] = ()) -> list[Violation]:
    """The violations among ``pairs``, whose ``split`` is set and whose pictures are in ``folder``.

    ``blank`` holds the digests of pictures with one single value: they look the same in every
    patient and are not compared. Other pictures that occur in several splits are opened.
    """
    pairs = list(pairs)
    blank = frozenset(blank) | _blank_digests(folder, pairs)
    showing = [pair for pair in pairs if pair.image_digest not in blank]
    return violations(
        {
            PATIENTS: _shared(pairs, lambda pair: pair.patient),
            PARENTS: _shared(pairs, lambda pair: pair.parent or pair.id),
            COPIES: _shared(showing, lambda pair: pair.image_digest),
            LIKENESSES: _likenesses(folder, showing),
            AUGMENTED: [f"{p.split}/{p.id}" for p in pairs if p.parent and p.split != "train"],
        }
    )


def violations(examples: dict[str, Sequence[str]]) -> list[Violation]:
    """Promise -> examples of its violation, as violations; promises without examples hold."""
    return [Violation(promise, tuple(each)) for promise, each in examples.items() if each]


def table(violations: Sequence[Violation], most: int | None = SHOWN) -> str:
    """Every promise and whether it holds, a line each, with up to ``most`` examples."""
    broken = {one.promise: one for one in violations}
    return "\n".join(
        f"  {promise:58} {broken[promise].text(most) if promise in broken else 'holds'}"
        for promise in PROMISES
    )


def of_like_pictures(violations: Iterable[Violation]) -> bool:
    """Whether copies or near-duplicates are among what is broken, which may suggest patients."""
    return any(one.promise in (COPIES, LIKENESSES) for one in violations)


def require(violations: Sequence[Violation], where: object, remedy: str) -> None:
    """Raises :class:`Problem` if there are any violations."""
    if violations:
        raise Problem(
            "; ".join(f"{one.promise}: {one.text()}" for one in violations),
            where=where,
            remedy=remedy,
        )


def _shared(pairs: Sequence[Pair], key: Callable[[Pair], str]) -> list[str]:
    """Examples of a ``key`` that pairs of several splits share, each with a pair of every split."""
    several = _in_several_splits(pairs, key)
    where: dict[str, dict[str, str]] = {}
    for pair in pairs:
        if several and (name := key(pair)) in several:
            where.setdefault(name, {}).setdefault(pair.split, pair.id)
    return [
        f"{name}: {' and '.join(f'{split}/{pair_id}' for split, pair_id in members.items())}"
        for name, members in where.items()
    ]


def _in_several_splits(pairs: Iterable[Pair], key: Callable[[Pair], str]) -> set[str]:
    first: dict[str, str] = {}
    return {name for pair in pairs if first.setdefault(name := key(pair), pair.split) != pair.split}


def _likenesses(folder: Path, pairs: Sequence[Pair]) -> list[str]:
    """Pictures of two patients in two splits that show the same slice, most alike first.

    Copies and slices of one patient have promises of their own.
    """
    members = {split: [p for p in pairs if p.split == split and p.likeness] for split in SPLITS}
    groups = [
        _alike(folder, members[first], members[second]) for first, second in combinations(SPLITS, 2)
    ]
    examples = [
        f"{names} (correlation {correlation:.3f})"
        for correlation, names in sorted((one for group in groups for one in group), reverse=True)
    ]
    if any(len(group) == near_duplicates.ENOUGH for group in groups):
        examples[0] += f"; between two splits the search ends at {near_duplicates.ENOUGH}"
    return examples


def shown(folder: Path, pair: Pair) -> Image8:
    """The picture of a pair in ``folder``, below the folder of its split once it has one."""
    return pictures.shown(folder, pair)


def _alike(folder: Path, here: Sequence[Pair], there: Sequence[Pair]) -> list[tuple[float, str]]:
    """Correlation and names of pictures that show the same slice but belong to two patients."""

    def reader(members: Sequence[Pair]) -> near_duplicates.ReadPicture:
        return lambda at: shown(folder, members[at])

    def looks(members: Sequence[Pair]) -> list[near_duplicates.Look]:
        return [near_duplicates.Look(p.likeness, p.patient, p.image_digest) for p in members]

    likenesses = near_duplicates.near_duplicates(
        looks(here), looks(there), (reader(here), reader(there))
    )
    return [
        (
            alike.correlation,
            f"{here[alike.first].split}/{here[alike.first].id} and"
            f" {there[alike.second].split}/{there[alike.second].id}",
        )
        for alike in likenesses
    ]


def _blank_digests(folder: Path, pairs: Sequence[Pair]) -> frozenset[str]:
    """Digests of the pictures with one single value, among those that occur in several splits."""
    shared = _in_several_splits(pairs, lambda pair: pair.image_digest)
    examples = {pair.image_digest: pair for pair in pairs if pair.image_digest in shared}
    return frozenset(digest for digest, pair in examples.items() if _blank(folder, pair))


def _blank(folder: Path, pair: Pair) -> bool:
    try:
        picture = png.of_files(pictures.files(folder, pair)[:1], pair.depth)
    except Problem:
        return False
    return bool(picture.min() == picture.max())
