"""The rules of a plan, over cohorts of many kinds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from model.planning import rules
from model.planning.cohort import Class, Cohort
from tests.support.planning import COHORTS, CT, HIPPOCAMPUS

ALL = ("axial", "coronal", "sagittal")
DECIDED: dict[str, tuple[str, tuple[str, ...], int, float]] = {
    # source, planes, neighbours, oversampling
    "hippocampus": ("scans", ALL, 2, 0.0),
    "head CT of 5 mm": ("scans", ("axial",), 1, 0.33),
    "head CT of 10 mm": ("scans", ("axial",), 0, 0.33),
    "CT of uneven slices": ("scans", ("axial",), 2, 0.33),
    "whole heads of 1 mm": ("scans", ALL, 2, 0.0),
    "one whole head": ("scans", ALL, 2, 0.0),
    "sagittal scans sliced axially": ("scans", ("sagittal",), 1, 0.0),
    "FLAIR of two raters": ("scans", ("axial",), 1, 0.0),
    "pictures in stacks": ("scans", ("axial",), 1, 0.33),
    "single pictures": ("scans", ("axial",), 0, 0.33),
    "pairs without scans": ("pairs", ("axial",), 0, 0.0),
}


def test_every_kind_of_cohort_is_decided() -> None:
    assert DECIDED.keys() == COHORTS.keys()


@pytest.mark.parametrize("kind", DECIDED)
def test_what_follows_from_a_cohort(kind: str) -> None:
    cohort = COHORTS[kind]
    source = rules.source(cohort, "online")
    planes = rules.planes(cohort, source.value)
    near = rules.neighbours(cohort, source.value, planes.value[0])
    share = rules.oversampling(cohort)
    assert (source.value, planes.value, near.value, share.value) == DECIDED[kind]
    assert all(one.reason for one in (source, planes, near, share))


@pytest.mark.parametrize("mode", ["offline", "both"])
def test_variants_on_the_disk_are_of_pairs(mode: str) -> None:
    assert rules.source(HIPPOCAMPUS, mode).value == "pairs"


def test_the_deepest_level_is_about_eight_pixels_wide() -> None:
    for px in range(32, 513):
        side, levels = rules.fitting(px)
        assert 0 <= side - px < 2 ** (levels - 1)
        assert side % 2 ** (levels - 1) == 0
        assert 5 <= side / 2 ** (levels - 1) <= (16 if levels == 6 else 12)


@pytest.mark.parametrize(
    ("cohort", "plane", "mirrored"),
    [
        (HIPPOCAMPUS, "axial", False),  # a crop
        (CT, "axial", True),
        (CT, "coronal", True),
        (CT, "sagittal", False),  # left and right are other pictures
        (replace(CT, classes=(Class("left_thalamus", False, 9, 0.2),)), "axial", False),
        (replace(CT, extent=None), "axial", False),  # how wide it is, nobody knows
    ],
)
def test_only_what_shows_both_sides_alike_is_mirrored(
    cohort: Cohort, plane: str, mirrored: bool
) -> None:
    assert rules.flips(cohort, plane) == mirrored
    chains = rules.variants(cohort, plane, 64).value.values()
    assert [any("Flip" in step for step in chain) for chain in chains] == [mirrored] * 3


def test_values_that_are_calibrated_change_less() -> None:
    def gamma(cohort: Cohort) -> Any:
        return rules.variants(cohort, "axial", 64).value["moved"][-2]["Gamma"]["gamma"]

    assert max(gamma(CT)) < max(gamma(HIPPOCAMPUS))


def test_channels_are_dropped_where_cases_lack_some() -> None:
    assert rules.channel_dropout(CT) is None
    dropped = rules.channel_dropout(replace(CT, lacking=0.1))
    assert dropped
    assert dropped.value == 0.3


@pytest.mark.parametrize(
    ("cohort", "windows", "words"),
    [
        (CT, {}, "convert.windows"),
        (replace(CT, raters=3), {"brain": None}, "3 raters"),
        (COHORTS["one whole head"], {}, "split needs three"),
        (replace(HIPPOCAMPUS, patients=12), {}, "split.folds"),
        (replace(CT, classes=(Class("edh", True, 0, 0.0),)), {"brain": None}, "cannot be learnt"),
    ],
)
def test_what_people_should_know_is_noted(
    cohort: Cohort, windows: dict[str, None], words: str
) -> None:
    [note] = rules.advice(cohort, windows)
    assert words in note
    assert not rules.advice(HIPPOCAMPUS, {})
