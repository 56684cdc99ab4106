"""A loop over variants hides none: it runs over all, not over nothing, and names what fails."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.support.every import every

seen: list[tuple[int, str]] = []


@every("number", [1, 2])
@every("letter", "ab")
def test_variants_multiply_beside_a_fixture(tmp_path: Path, number: int, letter: str) -> None:
    seen.append((number, letter))
    (tmp_path / f"{number}{letter}").touch(exist_ok=False)
    assert len(list(tmp_path.iterdir())) == len(seen)


def test_every_variant_was_called() -> None:
    calls: list[tuple[int, str]] = []

    @every(("number", "letter"), itertools.product((1, 2), "ab"))
    def check(number: int, letter: str) -> None:
        calls.append((number, letter))

    check()
    assert calls == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]


def test_a_failure_names_its_variant() -> None:
    @every("number", [1, pytest.param(2, id="the second"), 3])
    def check(number: int) -> None:
        assert number < 2

    with pytest.raises(AssertionError) as caught:
        check()
    assert caught.value.__notes__ == ["of number: the second"]


def test_nothing_is_no_variant() -> None:
    with pytest.raises(ValueError, match="expected variants of number, got none"):
        every("number", [])


def test_a_test_that_does_not_take_the_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="to take number"):

        @every("number", [1])
        def check() -> None: ...
