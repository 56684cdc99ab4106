"""The check that a fresh run falls where trainings of other seeds fell."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import paths
from tests.benchmarks import seeds

FOUND = {("one", seeds._MEAN): [0.50, 0.52, 0.54], ("one", "core"): [0.60, 0.61, 0.60]}


def _run(place: Path, mean: float, core: float) -> Path:
    (place / "one").mkdir(parents=True)
    found = {"mean_foreground_dice": mean, "dice": {"core": core, "rim": None}}
    (place / "one" / paths.METRICS).write_text(json.dumps(found), "utf-8")
    return place


def test_what_is_expected_is_wider_than_what_was_seen() -> None:
    low, high = seeds.expected([0.50, 0.52, 0.54])
    assert (low, high) == pytest.approx((0.52 - 0.09937, 0.52 + 0.09937), abs=1e-4)


@pytest.mark.parametrize(
    ("mean", "core", "outside"),
    [(0.45, 0.59, []), (0.41, 0.60, ["mean of classes: 0.410"]), (0.52, 0.64, ["core: 0.640"])],
)
def test_a_run_is_inside_or_named(
    tmp_path: Path, mean: float, core: float, outside: list[str]
) -> None:
    text = "\n".join(seeds.table(FOUND))
    found = seeds.check(_run(tmp_path, mean, core), text)
    assert len(found) == len(outside)
    assert all(part in line for part, line in zip(outside, found, strict=True))


def test_a_check_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nothing in"):
        seeds.check(tmp_path, "\n".join(seeds.table(FOUND)))
