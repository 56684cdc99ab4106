"""What a reader of the project is to the campaign, and what all of them share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.params.limits import Limits
from tests.fuzz.mutations import Mutation
from tests.fuzz.trees import Input

LIMITS = Limits(voxels=30_000_000, pixels=10_000_000)
"""Smaller than the defaults, so that what passes them fits the campaign's limit of memory."""


@dataclass(frozen=True)
class Trial:
    """One call of a reader: what it was called with, and what came.

    ``sound`` is what the reader made of the untouched seed; ``printed`` what it wrote to stdout.
    """

    made: Input
    seed: Input
    result: Any
    sound: Any
    printed: str
    folder: Path


@dataclass(frozen=True)
class Reader:
    """``call`` gets the paths of ``Input.main``; ``fault`` says what is wrong with its result.

    ``weight`` is its share of the time; a ``heavy`` one needs TensorFlow or a trained workplace.
    """

    name: str
    seeds: Callable[[], list[Input]]
    mutations: tuple[Mutation, ...]
    call: Callable[[tuple[Path, ...], Input], Any]
    fault: Callable[[Trial], str]
    weight: float = 1.0
    heavy: bool = False


def with_known(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call ``function`` with those of ``named`` that it takes."""
    known = inspect.signature(function).parameters
    return function(*arguments, **{key: one for key, one in named.items() if key in known})


def limited(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``function`` with :data:`LIMITS`, if it takes limits."""
    return with_known(function, *arguments, limits=LIMITS)


def printed_fault(trial: Trial) -> str:
    """What is wrong with what was printed; "" if nothing is."""
    return lines_fault(trial.printed.split("\n"))


def lines_fault(lines: Sequence[str]) -> str:
    """The first line that is not printable, in words; "" if all are."""
    bad = next((line for line in lines if not one_line(line)), None)
    return "" if bad is None else f"a line with control characters: {bad!r:.80}"


def one_line(text: str) -> bool:
    """Whether it is printable text in one line; bytes of an unknown encoding may stand in it."""
    return all(character.isprintable() or 0xDC80 <= ord(character) <= 0xDCFF for character in text)
