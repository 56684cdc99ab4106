"""Who may judge which case when valid chooses for an ensemble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from model import params
from model.scoring.together import Choosing, Network
from pipeline import paths
from pipeline.params.limits import Limits
from tests.conftest import PROJECT
from tests.support import cohort
from tests.support.members import member

pytestmark = pytest.mark.slow

TRAIN, VALID = ("p1", "p2", "p3"), ("p4", "p5")


def choosing(*networks: tuple[str, set[str]]) -> Choosing:
    """Networks by plane and the patients that they learnt from, of three and two patients."""
    pairs = [
        cohort.pair(f"{patient}_0", split=split, parent=parent)
        for split, patients in (("train", TRAIN), ("valid", VALID), ("test", ("p6",)))
        for patient in patients
        for parent in ("", "another")[: 2 if split == "train" else 1]
    ]
    known = [
        Network(f"n{at}", member(plane), frozenset(learnt))
        for at, (plane, learnt) in enumerate(networks)
    ]
    return Choosing(known, pairs, cohort.DATASET, Limits(), Path())


def judged(*networks: tuple[str, set[str]]) -> dict[str, list[int]]:
    """Patient -> the places of the networks that may judge it."""
    found = {}
    for one in choosing(*networks)._judged():
        [[pair]] = one.drawings
        assert not pair.parent
        found[pair.patient] = one.voters
    return found


def test_networks_that_learnt_from_train_are_judged_by_valid() -> None:
    learnt = set(TRAIN)
    assert judged(("axial", learnt), ("axial", learnt)) == {"p4": [0, 1], "p5": [0, 1]}


def test_members_on_folds_are_judged_by_all_patients_that_they_did_not_see() -> None:
    every = {*TRAIN, *VALID}
    folds = [{"p1", "p4"}, {"p2", "p5"}, {"p3"}]
    found = judged(*(("axial", every - fold) for fold in folds))
    assert found == {"p1": [0], "p4": [0], "p2": [1], "p5": [1], "p3": [2]}


def test_of_several_planes_each_has_a_vote_or_the_case_has_none() -> None:
    every = {*TRAIN, *VALID}
    found = judged(
        ("axial", set(TRAIN)),
        ("coronal", every - {"p1", "p4"}),
        ("coronal", every - {"p2", "p5"}),
    )
    assert found == {"p4": [0, 1], "p5": [0, 2]}


def test_where_no_network_may_judge_weights_are_equal_and_nothing_else_is_chosen(
    workplace: Path,
) -> None:
    every = {*TRAIN, *VALID}
    one = choosing(("axial", every), ("coronal", every))
    assert list(one._judged()) == []
    train = params.load(cohort.DATASET, PROJECT / paths.PARAMS).train
    chosen = one.choose(params.Ensemble(), replace(train, postprocess=False))
    assert chosen.weights is None
    assert chosen.section["postprocessing"] == {}
    assert chosen.section["temperature"] == {}
    assert not chosen.section["weights"]["kept"]
