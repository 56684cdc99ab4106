"""Which test cases can be scrolled: those of lowest Dice and the best, one at a time."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from model.scoring.case_views import Views


def _case(name: str, dice: float) -> Any:
    return cast(Any, SimpleNamespace(case=name, rater="", dice=dice))


@pytest.mark.parametrize(
    ("most", "kept"),
    [(5, "abcde"), (3, "bda"), (2, "ba"), (1, "b")],
)
def test_the_lowest_and_the_best_are_kept(most: int, kept: str, tmp_path: Path) -> None:
    dice = {"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.3, "e": math.nan}
    views = Views(tmp_path, most)
    left = set()
    for name, value in dice.items():
        (tmp_path / "view" / name).mkdir(parents=True)
        views.add([_case(name, value)])
        left = {one.name for one in (tmp_path / "view").iterdir()}
        assert len(left) <= most
    assert left == set(kept)
