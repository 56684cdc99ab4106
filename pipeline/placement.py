"""Which patient goes to train, valid or test: by patient, stratified, and as stable as can be.

Patients are put into strata by the classes that they show and by how much of their slices is
foreground. In every stratum they stand in the order of a keyed hash of their id, and each split
takes the first ones up to its share, so what becomes of a patient depends on little else than
the patient: a new one moves few of the old ones. scikit-learn's StratifiedGroupKFold balances as
well, but deals all patients anew when one is added (tests/test_placement.py compares the two).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from datasets_spec.contract import SPLITS, Problem
from pipeline import params, warps
from pipeline.manifest import Pair

Place = dict[str, str]
_NEEDED = {"train": 1, "test": 2, "valid": 3}
"""A class that so many patients show is shown by one of this split, if moving can bring it."""


@dataclass(frozen=True)
class Patient:
    """What placing asks of a patient: pairs, classes shown, share of foreground, official split."""

    name: str
    pairs: int
    classes: frozenset[int]
    foreground: float
    official: str

    @property
    def stratum(self) -> tuple[tuple[int, ...], int]:
        """The classes and the order of magnitude (in powers of four) of the foreground."""
        magnitude = math.floor(math.log(self.foreground, 4)) if self.foreground else 0
        return tuple(sorted(self.classes)), magnitude


def assign(dataset: str, pairs: Sequence[Pair], settings: params.Split) -> Place:
    """Patient -> train, valid or test.

    Patients with an official split keep it (official "train" is shared between train and
    valid). With ``folds``, the patients without an official test split are dealt into that many
    folds, and ``fold`` is the one that is tested (or, where the test list is official,
    validated). Raises :class:`Problem` if a split would stay without a patient, or a patient
    has two official splits.
    """
    known = {patient.name: patient for patient in _patients(dataset, pairs)}
    place = {name: one.official for name, one in known.items() if one.official in ("valid", "test")}
    fixed = set(place)
    official_test = any(one.official in ("train", "test") for one in known.values())
    official_valid = "valid" in place.values()

    def free() -> list[Patient]:
        return [one for one in known.values() if one.name not in place]

    def drawn(split: str) -> Sequence[Patient]:
        everyone = sum(_weight(one, settings) for one in known.values())
        target = getattr(settings.shares, split) * everyone
        return _selected(dataset, free(), settings, target, split)

    if not official_test:
        tested = _fold(dataset, free(), settings) if settings.folds else drawn("test")
        place |= {one.name: "test" for one in tested}
    if official_test and settings.folds:
        place |= {one.name: "valid" for one in _fold(dataset, free(), settings)}
    elif not official_valid and free():
        place |= {one.name: "valid" for one in drawn("valid")}
    place |= {one.name: "train" for one in free()}
    folded = ({"valid"} if official_test else {"test"}) if settings.folds else set()
    movable = set(SPLITS) - folded - ({"test"} if official_test else set())
    _cover(dataset, place, known, movable, fixed, settings.seed)
    _require_all(dataset, place)
    return {name: place[name] for name in sorted(place)}


def _patients(dataset: str, pairs: Sequence[Pair]) -> list[Patient]:
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


def _weight(one: Patient, settings: params.Split) -> int:
    return 1 if settings.share_of == "patients" else one.pairs


def _fold(dataset: str, free: Sequence[Patient], settings: params.Split) -> Sequence[Patient]:
    """The members of the fold that ``settings.fold`` names; all folds together are ``free``."""
    left = list(free)
    if len(left) < settings.folds:
        raise Problem(
            f"expected at least {settings.folds} patients for as many folds, got {len(left)}",
            where=f"split.folds of {dataset}",
            remedy="Ask for fewer folds.",
        )
    for number in range(settings.folds):
        target = sum(_weight(one, settings) for one in left) / (settings.folds - number)
        chosen = _selected(dataset, left, settings, target, f"fold {number}")
        if number == settings.fold:
            break
        taken = {one.name for one in chosen}
        left = [one for one in left if one.name not in taken]
    return chosen


def _selected(
    dataset: str, free: Sequence[Patient], settings: params.Split, target: float, purpose: str
) -> Sequence[Patient]:
    """Patients that weigh ``target`` together, as nearly as whole patients can, from all strata.

    Every stratum gives the first ones of its order up to its part of the target; what is missing
    then is filled up where most of a part is left over (the method of largest remainders).
    """

    def rank(one: Patient) -> int:
        return warps.key(settings.seed, dataset, one.name, purpose)

    strata: dict[object, list[Patient]] = defaultdict(list)
    for one in sorted(free, key=rank):
        strata[one.stratum].append(one)
    total = sum(_weight(one, settings) for one in free)
    chosen, remainders, weight = [], [], 0.0
    for members in strata.values():
        part = target * sum(_weight(one, settings) for one in members) / total
        for position, one in enumerate(members):
            if _weight(one, settings) > part:
                remainders.append((-part / _weight(one, settings), rank(one), one))
                remainders += [(0.0, rank(other), other) for other in members[position + 1 :]]
                break
            part -= _weight(one, settings)
            weight += _weight(one, settings)
            chosen.append(one)
    for _, _, one in sorted(remainders, key=lambda entry: entry[:2]):
        if weight + _weight(one, settings) / 2 <= target:
            weight += _weight(one, settings)
            chosen.append(one)
    return chosen or sorted(free, key=rank)[:1]


def _cover(
    dataset: str,
    place: Place,
    known: Mapping[str, Patient],
    movable: Collection[str],
    fixed: Collection[str],
    seed: int,
) -> None:
    """Move patients so that train shows every class, and test and valid those that suffice.

    Each move is paid back, where it can be, by one the other way, so that shares hold.
    """

    def holders(class_id: int, split: str) -> list[str]:
        return [n for n, s in place.items() if s == split and class_id in known[n].classes]

    def alone(name: str) -> int:
        """Classes that no other patient of the same split shows."""
        return sum(len(holders(class_id, place[name])) == 1 for class_id in known[name].classes)

    counts = Counter(class_id for one in known.values() for class_id in one.classes)
    for class_id, count in sorted(counts.items(), key=lambda entry: (entry[1], entry[0])):
        for split, needed in _NEEDED.items():
            if split not in movable or count < needed or holders(class_id, split):
                continue
            givers = [
                name
                for other in movable
                if other != split
                for name in holders(class_id, other)
                if name not in fixed and (split == "train" or len(holders(class_id, other)) > 1)
            ]
            if not givers:
                continue
            moved = min(givers, key=lambda n: (alone(n), warps.key(seed, dataset, n, "cover")))
            back = [
                name
                for name, where in place.items()
                if where == split and name not in fixed and not alone(name)
            ]
            source, place[moved] = place[moved], split
            if back:
                place[min(back, key=lambda n: warps.key(seed, dataset, n, "back"))] = source


def _require_all(dataset: str, place: Place) -> None:
    counts = Counter(place.values())
    empty = [split for split in SPLITS if not counts[split]]
    if empty:
        raise Problem(
            f"expected at least one patient for each of {', '.join(SPLITS)},"
            f" got {len(place)} patients and none for {empty[0]}",
            where=f"split {dataset}",
            remedy="Add patients: three are the least.",
        )
