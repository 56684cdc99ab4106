"""Which network is taken when time, memory and pixels change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from datasets_spec.contract import Problem
from model import params
from model.planning import tradeoff, work
from model.planning.cohort import Cohort
from model.planning.machine import Speed
from model.planning.tradeoff import Budget, Candidate, Wanted
from tests.conftest import PROJECT
from tests.support.planning import COHORTS, CT, HIPPOCAMPUS, SPEED

USUAL = params.load("virtual_mni152", PROJECT / "params.yaml").train.network
ALL = ("axial", "coronal", "sagittal")


def chosen(cohort: Cohort, minutes: float, gb: float = 16.0, **more: int) -> Candidate:
    planes = ALL if cohort.anisotropy < 2 else ("axial",)
    wanted = Wanted(planes, 1, scans=True, **more)
    budget = Budget(60 * minutes, SPEED, gb, 0.7, 0.15)
    return tradeoff.best(cohort, USUAL, wanted, budget)


@pytest.mark.parametrize("kind", COHORTS)
def test_more_time_is_never_worse_and_never_overdrawn(kind: str) -> None:
    expected = []
    for minutes in (3, 10, 30, 120, 600):
        best = chosen(COHORTS[kind], minutes)
        expected.append(best.expected)
        assert best.minutes * len(best.planes) <= max(minutes, 2.5) * 1.05
        assert best.steps <= tradeoff.PLENTY
    assert expected == sorted(expected)
    assert expected[0] < expected[-1]


def test_a_short_time_is_for_one_plane_and_a_long_one_for_all() -> None:
    assert chosen(HIPPOCAMPUS, 3).planes == ("axial",)
    assert chosen(HIPPOCAMPUS, 30).planes == ALL


@pytest.mark.parametrize(("cohort", "kinds"), [(HIPPOCAMPUS, 3), (CT, 1)])
def test_time_that_is_left_is_for_further_seeds(cohort: Cohort, kinds: int) -> None:
    best = chosen(cohort, 20_000)
    assert len(set(best.planes)) == kinds
    assert len(best.planes) == 3 * kinds
    assert chosen(cohort, 20_000, most=1).planes == ("axial",)


def test_hippocampi_are_seen_as_they_were_scanned() -> None:
    best = chosen(HIPPOCAMPUS, 30)
    assert best.network.whole_px == best.network.field_mm == 56
    assert (best.network.num_layers, best.batch) == (4, 32)
    assert best.steps > 1500
    assert [chosen(HIPPOCAMPUS, minutes).network.base_filters for minutes in (3, 300)] == [16, 32]


def test_large_pictures_become_coarser_or_parts_where_time_is_short() -> None:
    short, long = chosen(CT, 5), chosen(CT, 3000)
    assert short.network.image_px < 300 < long.network.whole_px
    deepest = long.network.base_filters * 2 ** (long.network.num_layers - 1)
    assert deepest <= tradeoff.MOST_FILTERS


def test_what_does_not_fit_the_memory_is_not_chosen() -> None:
    classes = len(CT.classes) + 1
    for gb in (1.0, 4.0):
        best = chosen(CT, 600, gb)
        assert work.training_gb(best.network, best.batch, classes) <= gb / 2
    with pytest.raises(Problem, match="fits the memory"):
        chosen(CT, 600, 0.001)


def test_what_is_stated_is_kept() -> None:
    best = chosen(HIPPOCAMPUS, 30, image_px=96, base_filters=12, batch=6, epochs=3, per_epoch=7)
    network = best.network
    assert (network.image_px, network.base_filters, best.batch, best.steps) == (96, 12, 6, 21)
    parts = chosen(CT, 30, picture_px=512, num_layers=4).network
    assert (parts.picture_px, parts.image_px, parts.num_layers) == (512, 128, 4)


def test_stated_epochs_that_take_longer_than_there_is_time_are_for_one_network() -> None:
    best = chosen(HIPPOCAMPUS, 1, epochs=33, per_epoch=125)
    assert len(best.planes) == 1
    assert best.minutes > 1


def test_the_gap_is_that_of_the_measurement_and_closes_with_every_step() -> None:
    for steps, dice in zip(tradeoff.STEPS, tradeoff.DICE, strict=True):
        assert tradeoff.REACHED * (1 - tradeoff.gap(steps)) == pytest.approx(dice)
    gaps = [tradeoff.gap(steps) for steps in np.geomspace(1, tradeoff.PLENTY, 60)]
    assert gaps == sorted(gaps, reverse=True)
    assert len(set(gaps)) == len(gaps)


def test_speed_goes_through_what_was_timed() -> None:
    few = replace(USUAL, base_filters=8, image_px=128, num_layers=5)
    many = replace(USUAL, base_filters=32, image_px=64, num_layers=4)
    rows = [(work.gflop(one, 3), work.values(one, 3), SPEED.step(one, 1, 3)) for one in (few, many)]
    found = Speed.through(*rows)
    assert found.per_gflop == pytest.approx(SPEED.per_gflop)
    assert found.per_million == pytest.approx(SPEED.per_million)
    for odd in ([(1.0, 1.0, 1.0), (2.0, 1.0, 0.5)], [(1.0, 1.0, 1.0), (1.0, 2.0, 0.5)]):
        bounded = Speed.through(*odd)
        assert min(bounded.per_gflop, bounded.per_million) == 0
        assert max(bounded.per_gflop, bounded.per_million) > 0
