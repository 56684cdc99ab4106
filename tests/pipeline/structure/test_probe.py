"""Which rules are seen in labels, how exactly, and which never are."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pipeline.structure.label_rules import APART, DIVIDED, NESTED, ONCE, LabelRule
from pipeline.structure.probe import LEAST_PATIENTS, NEARLY_ALL, Drawing, Evidence, probe
from tests.support.anatomy import (
    ANTERIOR,
    CORE,
    HEAD,
    NAMES,
    SHELL,
    TAIL,
    Ids,
    Patient,
    drawings,
    identity_grid,
    reordered,
    turned,
)  # fmt: skip
from tests.support.every import every
from tests.support.shuffles import SHUFFLES

CLASSES = len(NAMES)
COUNT = 16
RULES = (
    LabelRule(DIVIDED, (HEAD, TAIL), ANTERIOR),
    LabelRule(NESTED, (SHELL, CORE)),
    LabelRule(APART, (HEAD, SHELL)),
    LabelRule(APART, (TAIL, SHELL)),
    *(LabelRule(ONCE, (label,)) for label in (HEAD, TAIL, SHELL, CORE)),
)


@pytest.fixture(scope="module")
def patients() -> list[Patient]:
    return [Patient.drawn(number) for number in range(COUNT)]


def found(drawn: list[Drawing]) -> dict[LabelRule, Evidence]:
    return {one.rule: one for one in probe(drawn, CLASSES).rules}


def test_every_rule_is_seen_and_no_other(patients: list[Patient]) -> None:
    seen = found(drawings(patients))
    assert set(seen) == set(RULES)
    assert {(one.patients, one.holds, one.exact) for one in seen.values()} == {(COUNT,) * 3}
    assert seen[RULES[0]].dice == 1


def test_the_order_of_cases_does_not_matter(patients: list[Patient]) -> None:
    assert probe(drawings(patients[::-1]), CLASSES) == probe(drawings(patients), CLASSES)


STORED = [
    ((0, 1, 2), (True, True, False), "axial"),
    ((2, 0, 1), (False, True, True), "coronal"),
    ((1, 2, 0), (False, False, False), "sagittal"),
]


@every(["order", "flips", "plane"], STORED)
def test_rules_do_not_depend_on_how_voxels_are_stored(
    patients: list[Patient], order: tuple[int, ...], flips: tuple[bool, ...], plane: str
) -> None:
    grid = reordered(identity_grid(), order, flips)
    assert probe(drawings(patients, grid, plane), CLASSES) == probe(drawings(patients), CLASSES)


OBLIQUE = [(20, 2, (1, 1, 1)), (-15, 0, (0.7, 0.7, 1.5)), (40, 1, (1, 1, 1))]


@every(["degrees", "axis", "spacing"], OBLIQUE)
def test_a_plane_is_the_patients_on_an_oblique_grid(
    patients: list[Patient], degrees: float, axis: int, spacing: tuple[float, ...]
) -> None:
    grid = turned(degrees, axis, spacing)
    mine, nested, *_ = RULES
    seen = found(drawings(patients, grid))
    assert seen[mine].exact == COUNT
    assert nested in seen


def test_an_oblique_plane_has_its_direction() -> None:
    normal = np.array([0.0, np.cos(np.radians(35)), np.sin(np.radians(35))])
    drawn = drawings([Patient.drawn(number, normal) for number in range(COUNT)])
    [rule] = [one for one in found(drawn) if one.kind == DIVIDED]
    assert not rule.free
    assert normal @ rule.normal > np.cos(np.radians(3))
    assert "an oblique plane" in rule.in_words(NAMES)


def test_a_plane_of_every_patients_own_direction_is_free() -> None:
    def normal(number: int) -> list[float]:
        angle = np.radians(30 if number % 2 else -30)
        return [0.0, np.cos(angle), np.sin(angle)]

    drawn = drawings([Patient.drawn(number, normal(number)) for number in range(COUNT)])
    [one] = [one for one in probe(drawn, CLASSES).rules if one.rule.kind == DIVIDED]
    assert one.rule.free
    assert one.rule.side == "anterior"
    assert one.exact >= COUNT - 2
    assert "of its own direction" in one.rule.in_words(NAMES)


def _broken(count: int, kind: str) -> dict[LabelRule, Evidence]:
    """The rules where the first patients break those of a kind."""

    def change(number: int, ids: Ids) -> Ids:
        if number >= count:
            return ids
        ids = ids.copy()
        if kind == DIVIDED:
            ids[(ids == HEAD) & (np.indices(ids.shape)[0] % 4 < 2)] = TAIL
        elif kind == ONCE:
            ids[0, :3, :] = SHELL
        elif kind == NESTED:
            ids[(ids == SHELL) & (np.indices(ids.shape)[0] > 22)] = CORE
        else:
            ids[np.roll(ids == SHELL, -1, axis=0) & (ids == 0)] = SHELL
        return ids

    return found(drawings([Patient.drawn(number) for number in range(COUNT)], change=change))


@every("rule", [RULES[0], RULES[1], RULES[2], LabelRule(ONCE, (SHELL,))])
def test_a_rule_may_be_broken_in_few_patients_and_says_so(rule: LabelRule) -> None:
    few = int((1 - NEARLY_ALL) * COUNT)
    seen = _broken(few, rule.kind)[rule]
    assert (seen.patients, seen.holds, seen.exact) == (COUNT, COUNT - few, COUNT - few)
    assert f"in {COUNT - few} of {COUNT} patients" in seen.sentence(NAMES)
    assert rule not in _broken(few + 1, rule.kind)


def test_a_step_of_half_a_voxel_is_tolerated_and_not_exact(patients: list[Patient]) -> None:
    def step(number: int, ids: Ids) -> Ids:
        changed = np.where((ids == TAIL) & (np.roll(ids, 1, axis=1) == HEAD), HEAD, ids)
        right = np.arange(ids.shape[2]) >= ids.shape[2] // 2 + 2
        return np.where(right, changed, ids).astype(np.uint8)

    seen = found(drawings(patients, change=step))[RULES[0]]
    assert (seen.holds, seen.exact) == (COUNT, 0)
    assert 0.97 < (seen.dice or 0) < 1


@every(["way", "seed"], product(SHUFFLES, range(5)))
def test_shuffled_labels_obey_nothing(patients: list[Patient], way: str, seed: int) -> None:
    def change(number: int, ids: Ids) -> Ids:
        return SHUFFLES[way](ids, np.random.default_rng([seed, number]))

    assert probe(drawings(patients, change=change), CLASSES).rules == ()


def test_few_patients_are_not_asked(patients: list[Patient]) -> None:
    drawn = drawings(patients[: LEAST_PATIENTS - 1])
    assert probe(drawn, CLASSES).rules == ()
    assert probe(drawn, CLASSES).patients == LEAST_PATIENTS - 1
    more = [*drawn, *drawings(patients[:4])]  # more drawings are not more patients
    assert probe(more, CLASSES).rules == ()
    assert probe(drawings(patients[:LEAST_PATIENTS]), CLASSES).rules


def test_every_drawing_of_a_patient_must_obey(patients: list[Patient]) -> None:
    def swapped(number: int, ids: Ids) -> Ids:
        return np.array([0, TAIL, HEAD, SHELL, CORE], np.uint8)[ids] if number < 3 else ids

    drawn = [*drawings(patients), *drawings(patients, change=swapped)]
    assert RULES[0] not in found(drawn)
    assert found(drawn)[RULES[1]].patients == COUNT


def test_classes_that_nobody_annotated_are_not_asked_about(patients: list[Patient]) -> None:
    def lacking(number: int, ids: Ids) -> Ids:
        return np.where((ids == TAIL) & (number < 2), 0, ids).astype(np.uint8)

    drawn = drawings(patients, change=lacking)
    stated = [
        Drawing(one.patient, one.read, frozenset({TAIL} if at < 2 else ()))
        for at, one in enumerate(drawn)
    ]
    assert found(stated)[RULES[0]].patients == COUNT - 2


def test_small_and_distant_classes_obey_nothing() -> None:
    def change(number: int, ids: Ids) -> Ids:
        changed = np.zeros_like(ids)
        changed[2:5, 2:5, 2:6] = HEAD  # 36 voxels
        changed[15:21, 2:8, 2:8] = SHELL
        changed[15:21, 12:18, 2:8] = CORE  # four voxels from it
        return changed

    drawn = drawings([Patient.drawn(number) for number in range(COUNT)], change=change)
    assert set(found(drawn)) == {LabelRule(ONCE, (SHELL,)), LabelRule(ONCE, (CORE,))}


def test_classes_that_meet_at_a_corner_are_divided_by_nothing() -> None:
    def change(number: int, ids: Ids) -> Ids:
        changed = np.zeros_like(ids)
        changed[2:10, 2:10, 2:10] = HEAD
        changed[9:17, 10:18, 9:17] = TAIL  # they share one face
        return changed

    drawn = drawings([Patient.drawn(number) for number in range(COUNT)], change=change)
    assert {one.kind for one in found(drawn)} == {ONCE, APART}


def test_ignored_voxels_break_no_rule(patients: list[Patient]) -> None:
    def change(number: int, ids: Ids) -> Ids:
        return np.where(np.indices(ids.shape)[2] > 14, 255, ids).astype(np.uint8)

    assert set(RULES) == set(found(drawings(patients, change=change)))


def test_empty_drawings_obey_nothing() -> None:
    def change(number: int, ids: Ids) -> Ids:
        return np.zeros_like(ids)

    drawn = drawings([Patient.drawn(number) for number in range(COUNT)], change=change)
    assert probe(drawn, CLASSES).rules == ()
