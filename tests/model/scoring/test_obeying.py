"""Which label rules valid keeps, and what its further choices are made on."""

from __future__ import annotations

import numpy as np
import pytest

from datasets_spec.contract import IGNORED
from model.inference.facts import LEAST_PATIENTS
from model.inference.structure import obey
from model.scoring.obeying import Case, Cases
from model.scoring.postprocess import Rule, Search
from model.scoring.scores import confusion, overlaps
from pipeline.structure.label_rules import APART, DIVIDED, ONCE, LabelRule
from tests.support.anatomy import ANTERIOR, HEAD, NAMES, TAIL, Ids, Patient, identity_grid, stack

CORONAL = LabelRule(DIVIDED, (HEAD, TAIL), ANTERIOR)
UNITED = LabelRule(ONCE, (HEAD,))
CLASSES = len(NAMES)
ML = 0.001


def cases(patients: int, helped: int, voxels: int = 30) -> list[Case]:
    """Cases of valid, of which the first so many are frayed at the divide."""
    made = []
    for number in range(patients):
        truth, world = stack(Patient.drawn(number), identity_grid(), "axial")
        guess = truth.copy()
        if number < helped:
            border = np.argwhere((truth == HEAD) & (np.roll(truth, -1, axis=1) == TAIL))
            guess[tuple(border[:voxels].T)] = TAIL
        made.append(Case(f"p{number}", truth, guess, ML, (), world))
    return made


def searched(made: list[Case], *rules: LabelRule) -> Search:
    search = Search(CLASSES, rules)
    for one in made:
        search.add(one.patient, one.truth, one.predicted, ML, False, (), one.world)
    return search


def _dice(truth: Ids, ids: Ids) -> float:
    return float(np.mean([one.dice for one in overlaps(confusion(truth, ids, CLASSES))[1:]]))


def test_a_rule_that_helps_every_patient_is_kept() -> None:
    made = cases(LEAST_PATIENTS, LEAST_PATIENTS)
    [one] = searched(made, CORONAL).obey(1)
    gains = [
        _dice(case.truth, obey(case.predicted, [CORONAL], case.world))
        - _dice(case.truth, case.predicted)
        for case in made
    ]
    assert one.gain == pytest.approx(np.mean(gains))
    assert 0 < one.low <= one.gain <= one.high
    assert one.kept


@pytest.mark.parametrize(
    ("patients", "helped"), [(8, 1), (LEAST_PATIENTS - 1, LEAST_PATIENTS - 1), (8, 0)]
)
def test_a_rule_that_may_help_by_chance_is_not_kept(patients: int, helped: int) -> None:
    [one] = searched(cases(patients, helped), CORONAL).obey(1)
    assert one.gain >= 0
    assert not one.kept


def test_a_small_gain_is_enough_where_it_is_sure() -> None:
    [one] = searched(cases(8, 8, voxels=1), CORONAL).obey(1)
    assert 0 < one.gain < 0.001
    assert one.kept


def test_a_rule_is_tried_on_top_of_those_that_are_kept() -> None:
    frayed, united = searched(cases(8, 8), CORONAL, UNITED).obey(1)
    assert frayed.kept
    assert (united.gain, united.kept) == (0, False)


def test_rules_of_classes_are_chosen_after_those_that_are_kept() -> None:
    made = cases(8, 8)
    for one in made:
        one.predicted[0, -1, :2] = TAIL  # 0.002 ml in the background
    search = searched(made, UNITED, CORONAL)
    search.obey(1)
    for one, rows in zip(made, zip(*search._dice.values(), strict=True), strict=True):
        own = Search(CLASSES)
        ids = obey(one.predicted, [CORONAL], one.world)
        own.add(one.patient, one.truth, ids, ML, False)
        assert [list(row) for row in rows] == [own._dice[label][0] for label in own._dice]
    assert search.choose(1)[TAIL].rule == Rule(smallest_ml=0.01)


def test_what_says_nothing_about_predictions_is_not_tried() -> None:
    assert searched(cases(6, 6), LabelRule(APART, (HEAD, TAIL))).obey(1) == []


def test_pictures_without_geometry_are_not_asked() -> None:
    search = Search(CLASSES, (CORONAL,))
    for one in cases(6, 6):
        search.add(one.patient, one.truth, one.predicted, ML, True)
    assert search.obey(1) == []
    assert search.choose(1)


def test_cases_come_back_as_they_were_as_often_as_wanted() -> None:
    kept, made = Cases(), cases(3, 2)
    for one in made:
        kept.add(one)
    for _ in range(2):
        for one, back in zip(made, kept, strict=True):
            assert back.patient == one.patient
            assert np.array_equal(back.truth, one.truth)
            assert np.array_equal(back.predicted, one.predicted)
    assert list(Cases()) == []


def test_what_nobody_annotated_is_not_judged() -> None:
    [one] = cases(1, 1)
    assert one.dice(one.predicted, CLASSES) < 1
    wrong = one.predicted != one.truth
    unknown = Case("p", np.where(wrong, IGNORED, one.truth), one.predicted, ML, (), one.world)
    assert unknown.dice(one.predicted, CLASSES) == 1
    of_others = Case("p", one.truth, one.predicted, ML, (HEAD, TAIL), one.world)
    assert of_others.dice(one.predicted, CLASSES) == 1
    assert np.isnan(Case("p", one.truth, one.truth, ML, (1, 2, 3, 4), None).dice(one.truth, 5))


def test_a_thick_slice_counts_as_many_thin_ones() -> None:
    [one] = cases(1, 1)
    times = np.random.default_rng(0).integers(1, 4, len(one.truth))
    truth, guess = (np.repeat(ids, times, axis=0) for ids in (one.truth, one.predicted))
    thick = Case("p", one.truth, one.predicted, ML * times, (), None)
    assert thick.dice(one.predicted, 5) == pytest.approx(
        Case("p", truth, guess, ML, (), None).dice(guess, 5)
    )


def test_a_gain_is_stated_in_words() -> None:
    [one] = searched(cases(6, 6), CORONAL).obey(1)
    words = one.in_words(NAMES)
    assert words.startswith(f"{one.gain:+.4f} Dice [")
    assert words.endswith("head and tail are divided by a coronal plane, head on the anterior side")
