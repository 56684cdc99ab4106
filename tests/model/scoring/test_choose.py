"""What valid decides of a trained model, by the gain of one way of asking over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.inference import tiles
from model.inference.facts import Mirrors
from model.inference.member import Member
from model.params import Train
from model.scoring import choose
from model.scoring.choose import _Trial
from model.scoring.postprocess import Search
from pipeline.params.limits import Limits
from tests.support import cohort, members

pytestmark = pytest.mark.slow

SMOOTH, APART = tiles.OVERLAP, 0.0
MIRRORED = ("horizontal",)


@pytest.fixture
def wanted(workplace: Path) -> Train:
    return cohort.write_params().train


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], float]]:
    """The ways that were tried, in groups; each has the Dice of :data:`DICE` in six patients."""
    ways: list[tuple[tuple[str, ...], float]] = []

    def tried(group: Sequence[Member], **_: Any) -> list[_Trial]:
        trials = []
        for way in group:
            ways.append((way.axes, way.overlap))
            search, overlap = Search(3), way.overlap
            dice = 0.5 + GAINS["tiles"] * (overlap > 0) + GAINS["mirrors"] * bool(way.axes)
            search.patients = [f"p{number}" for number in range(6)]
            search.plain_dice = lambda dice=dice: np.full(6, dice)  # type: ignore[method-assign]
            search.choose = lambda *_: {}  # type: ignore[method-assign]
            trials.append(_Trial(way, search, 1 + 2 * (overlap > 0) + bool(way.axes)))
        return trials

    monkeypatch.setattr(choose, "_tried", tried)
    return ways


GAINS = {"tiles": 0.0, "mirrors": 0.0}


def chosen(
    wanted: Train, monkeypatch: pytest.MonkeyPatch, picture_px: int, **gains: float
) -> dict[str, Any]:
    for name, gain in gains.items():
        monkeypatch.setitem(GAINS, name, gain)
    one = members.member()
    network = replace(one.facts.network, picture_px=picture_px)
    facts = replace(one.facts, network=network, mirrors=Mirrors(MIRRORED, kept=False))
    return choose.choose(replace(one, facts=facts), [], cohort.DATASET, wanted, Limits())


@pytest.mark.parametrize(
    ("gain", "kept"), [(0.01, True), (0.0, True), (-0.0005, True), (-0.01, False)]
)
def test_overlap_stays_unless_it_loses(
    gain: float,
    kept: bool,
    wanted: Train,
    asked: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = chosen(wanted, monkeypatch, 40, tiles=gain)["tiles"]
    assert found["kept"] is kept
    assert found["gain"] == pytest.approx(gain)
    assert (found["patients"], found["cost"]) == (6, 3.0)
    # mirror images are judged as parts will be asked about
    overlap = SMOOTH if kept else APART
    assert asked == [((), APART), ((), SMOOTH), ((), overlap), (MIRRORED, overlap)]


@pytest.mark.parametrize(("gain", "kept"), [(0.01, True), (0.0, False), (-0.01, False)])
def test_mirror_images_are_kept_where_they_gain(
    gain: float,
    kept: bool,
    wanted: Train,
    asked: list[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = chosen(wanted, monkeypatch, 0, mirrors=gain)
    assert found["mirrors"]["kept"] is kept
    assert "tiles" not in found
    assert [axes for axes, _ in asked] == [(), MIRRORED]


def test_a_way_is_not_tried_twice_for_nothing(
    wanted: Train, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = replace(wanted, mirrors="never")
    assert chosen(never, monkeypatch, 40)["mirrors"] == {"kept": False}
    assert asked == [((), APART), ((), SMOOTH)]
