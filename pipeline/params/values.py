"""Checks of parameter values, and how values are shown in messages."""

from __future__ import annotations

_SHOWN = 100  # characters of a wrong value


class OutOfRange(Exception):
    """A parameter whose value is out of range: its key, and what was expected."""


def expect(fits: bool, key: str, expected: str, got: object) -> None:
    """Raises :class:`OutOfRange` for ``key`` unless its value ``fits``."""
    if not fits:
        raise OutOfRange(key, f"expected {expected}, got {shown(got)}")


def one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises :class:`OutOfRange` unless ``value`` is one of ``choices``."""
    expect(value in choices, key, f"one of {', '.join(choices)}", value)


def shown(value: object) -> str:
    """``value`` as text, shortened if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
