"""Checks that the sections of the parameter file ask of their values, and how values are shown."""

from __future__ import annotations

_SHOWN = 100  # characters of a wrong value


class OutOfRange(Exception):
    """A key and what is wrong with its value."""


def expect(fits: bool, key: str, expected: str, got: object) -> None:
    """Raises :class:`OutOfRange` for ``key`` unless its value ``fits``."""
    if not fits:
        raise OutOfRange(key, f"expected {expected}, got {shown(got)}")


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises :class:`OutOfRange` unless ``value`` is one of ``choices``."""
    expect(value in choices, key, f"one of {', '.join(choices)}", value)


def shown(value: object) -> str:
    """``value`` as it is written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
