"""Predictions that are made to obey what train's labels obey."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from model.inference.facts import NONSENSE, label_rules_of
from model.inference.predictor import shared_label_rules
from model.inference.rules import Rule, apply
from model.inference.structure import CORRECTED, obey
from pipeline.structure.label_rules import APART, DIVIDED, KINDS, NESTED, ONCE, LabelRule
from pipeline.volumes.volume import Grid
from tests.support import members
from tests.support.anatomy import (
    ANTERIOR,
    CORE,
    HEAD,
    SHELL,
    TAIL,
    Ids,
    Patient,
    identity_grid,
    reordered,
    stack,
    turned,
)  # fmt: skip
from tests.support.every import every

CORONAL = LabelRule(DIVIDED, (HEAD, TAIL), ANTERIOR)
INSIDE = LabelRule(NESTED, (SHELL, CORE))
GRIDS = [
    (identity_grid(), "axial"),
    (reordered(identity_grid(), (2, 0, 1), (True, False, True)), "sagittal"),
    (turned(25, 2), "coronal"),
    (turned(-15, 0, (0.7, 0.8, 1.6)), "axial"),
]


def frayed(ids: Ids, world: np.ndarray, place: float, normal: np.ndarray, seed: int) -> Ids:
    """The same body, whose divide is uncertain within 2.5 mm of the plane."""
    index = np.stack(np.indices(ids.shape), axis=-1)
    away = (index @ world[:3, :3].T + world[:3, 3]) @ normal - place
    rng = np.random.default_rng(seed)
    head = away + rng.normal(size=ids.shape) * np.where(np.abs(away) < 2.5, 1.2, 0) > 0
    body = (ids == HEAD) | (ids == TAIL)
    return np.where(body, np.where(head, HEAD, TAIL), ids).astype(np.uint8)


@every(["grid", "plane"], GRIDS[:2])
@pytest.mark.parametrize("seed", range(3))
def test_a_frayed_divide_is_repaired_exactly(grid: Grid, plane: str, seed: int) -> None:
    patient = Patient.drawn(seed)
    truth, world = stack(patient, grid, plane)
    guess = frayed(truth, world, patient.place, np.array(ANTERIOR), seed)
    assert (guess != truth).sum() > 90
    assert np.array_equal(obey(guess, [CORONAL], world), truth)


@every(["grid", "plane"], GRIDS[2:])
@pytest.mark.parametrize("seed", range(3))
def test_on_an_oblique_grid_the_place_is_known_to_a_part_of_a_voxel(
    grid: Grid, plane: str, seed: int
) -> None:
    patient = Patient.drawn(seed)
    truth, world = stack(patient, grid, plane)
    guess = frayed(truth, world, patient.place, np.array(ANTERIOR), seed)
    wrong = [int((ids != truth).sum()) for ids in (guess, obey(guess, [CORONAL], world))]
    assert wrong[1] < 0.2 * wrong[0]


def test_what_lies_astray_does_not_move_the_plane() -> None:
    patient = Patient.drawn(1)
    truth, world = stack(patient, identity_grid(), "axial")
    guess = frayed(truth, world, patient.place, np.array(ANTERIOR), 1)
    guess[tuple(np.argwhere(truth == TAIL)[:60].T)] = HEAD
    assert np.array_equal(obey(guess, [CORONAL], world), truth)


def test_a_repair_is_the_same_however_voxels_are_stored() -> None:
    patient = Patient.drawn(1)
    truth, world = stack(patient, identity_grid(), "axial")
    guess = frayed(truth, world, patient.place, np.array(ANTERIOR), 1)
    repaired = obey(guess, [CORONAL], world)
    turn = world.copy()
    turn[:3, 3] += turn[:3, 1] * (guess.shape[1] - 1)
    turn[:3, 1] *= -1
    for own, affine, back in (
        (guess[:, ::-1], turn, lambda one: one[:, ::-1]),
        (guess.transpose(2, 0, 1), world[:, [2, 0, 1, 3]], lambda one: one.transpose(1, 2, 0)),
    ):
        assert np.array_equal(back(obey(own, [CORONAL], affine)), repaired)


def test_a_free_plane_is_fitted_to_the_prediction() -> None:
    normal = np.array([0.1, np.cos(np.radians(25)), np.sin(np.radians(25))])
    normal /= np.linalg.norm(normal)
    patient = Patient(0, normal, 0.4)
    truth, world = stack(patient, identity_grid(), "axial")
    guess = frayed(truth, world, patient.place, normal, 0)
    free = LabelRule(DIVIDED, (HEAD, TAIL), ANTERIOR, free=True)
    wrong = [int((ids != truth).sum()) for ids in (guess, obey(guess, [free], world))]
    assert wrong[1] < 0.35 * wrong[0]
    assert (obey(truth, [free], world) != truth).sum() <= 1


@every("rule", [CORONAL, INSIDE, *(LabelRule(ONCE, (one,)) for one in (HEAD, TAIL, SHELL, CORE))])
@every(["grid", "plane"], GRIDS[:2])
def test_what_obeys_is_left_as_it_is(rule: LabelRule, grid: Grid, plane: str) -> None:
    truth, world = stack(Patient.drawn(2), grid, plane)
    before = truth.copy()
    assert np.array_equal(obey(truth, [rule], world), truth)
    assert np.array_equal(truth, before)


def test_one_piece_stays_and_others_become_what_is_around_them() -> None:
    truth, world = stack(Patient.drawn(3), identity_grid(), "axial")
    guess = truth.copy()
    tail = np.argwhere(truth == TAIL)
    inside = tail[np.abs(tail - tail.mean(axis=0)).sum(axis=1).argmin()]
    guess[tuple(inside)] = HEAD  # within the tail
    guess[0, 0, :3] = HEAD  # within the background
    guess[-1, -1, -2:] = HEAD
    assert np.array_equal(obey(guess, [LabelRule(ONCE, (HEAD,))], world), truth)


def test_what_lies_inside_is_enclosed() -> None:
    truth, world = stack(Patient.drawn(4), identity_grid(), "axial")
    middle = np.argwhere(truth == CORE).mean(axis=0).astype(int)
    guess = truth.copy()
    guess[tuple(middle)] = 0  # a hole in the core
    shell = np.argwhere(truth == SHELL)
    guess[tuple(shell[(shell == middle).sum(axis=1) == 2][0])] = 0  # on the shell's way out
    guess[0, 0, :3] = CORE  # far from the shell
    corrected = obey(guess, [INSIDE], world)
    assert corrected[tuple(middle)] == CORE
    assert not corrected[0, 0, :3].any()
    for axis in range(3):
        beside = np.roll(corrected == CORE, 1, axis) | np.roll(corrected == CORE, -1, axis)
        assert set(np.unique(corrected[beside])) <= {SHELL, CORE}


def test_a_core_that_shows_gets_a_shell() -> None:
    truth, world = stack(Patient.drawn(4), identity_grid(), "axial")
    guess = np.where((truth == SHELL) & (np.indices(truth.shape)[2] < 8), 0, truth).astype(np.uint8)
    corrected = obey(guess, [INSIDE], world)
    assert (corrected == CORE).sum() < (truth == CORE).sum()
    assert np.array_equal(corrected > 0, guess > 0)
    assert set(np.unique(corrected[guess != corrected])) == {SHELL}


@every("rule", [CORONAL, INSIDE, LabelRule(ONCE, (HEAD,))])
@every("ids", [np.zeros((3, 4, 5), np.uint8), np.full((3, 4, 5), HEAD, np.uint8)])
def test_a_class_that_is_not_there_is_not_made(rule: LabelRule, ids: Ids) -> None:
    assert np.array_equal(obey(ids, [rule], np.eye(4)), ids)


def test_classes_on_the_wrong_sides_are_left_alone() -> None:
    truth, world = stack(Patient.drawn(5), identity_grid(), "axial")
    turned_over = LabelRule(DIVIDED, (HEAD, TAIL), (0.0, -1.0, 0.0))
    assert np.array_equal(obey(truth, [turned_over], world), truth)


def test_planes_are_left_out_without_a_geometry() -> None:
    patient = Patient.drawn(1)
    truth, world = stack(patient, identity_grid(), "axial")
    guess = frayed(truth, world, patient.place, np.array(ANTERIOR), 1)
    assert np.array_equal(obey(guess, [CORONAL], None), guess)
    assert np.array_equal(apply(guess, {}, 0.001, True, [CORONAL], world), guess)


def test_label_rules_come_before_those_of_classes() -> None:
    truth, world = stack(Patient.drawn(3), identity_grid(), "axial")
    guess = truth.copy()
    guess[0, 0, :3] = TAIL
    rules = {TAIL: Rule(smallest_ml=0.01)}
    corrected = apply(guess, rules, 0.001, False, [CORONAL, LabelRule(ONCE, (HEAD,))], world)
    assert np.array_equal(corrected, truth)


def test_kinds_without_a_correction_change_nothing() -> None:
    truth, world = stack(Patient.drawn(3), identity_grid(), "axial")
    assert set(KINDS) - set(CORRECTED) == {APART}
    assert np.array_equal(obey(truth, [LabelRule(APART, (HEAD, TAIL))], world), truth)


def _stated(*changes: dict[str, Any]) -> dict[str, Any]:
    one = {"rule": asdict(CORONAL), "gain": 0.01, "low": 0.001, "high": 0.02, "patients": 9}
    return {"label_rules": [one | {"kept": True} | change for change in changes]}


def test_a_model_states_its_label_rules() -> None:
    assert label_rules_of(_stated({}), 3) == (CORONAL,)
    assert label_rules_of(_stated({"kept": False}), 3) == ()
    assert label_rules_of({}, 3) == ()  # of before there were any


@every(
    "changes",
    [
        [{"rule": asdict(LabelRule(DIVIDED, (1, 3), ANTERIOR))}],  # of three classes
        [{"rule": asdict(LabelRule(APART, (1, 2)))}],
        [{}, {}],
        [{"rule": {"kind": "once"}}],
        [{"rule": [1]}],
    ],
)
def test_nonsense_in_a_models_file_is_refused(changes: list[dict[str, Any]]) -> None:
    with pytest.raises(NONSENSE):
        label_rules_of(_stated(*changes), 3)


def test_models_together_obey_what_all_of_them_obey() -> None:
    both, one = (
        replace(members.member(), facts=replace(members.facts(), label_rules=rules))
        for rules in ((CORONAL, INSIDE), (INSIDE,))
    )
    assert shared_label_rules([both.facts, one.facts]) == (INSIDE,)
    assert shared_label_rules([both.facts]) == (CORONAL, INSIDE)
