"""One test that goes through many cheap variants, where an item for each would cost more."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

_PARAM = type(pytest.param())
Test = Callable[..., None]


def every(names: str | Sequence[str], variants: Iterable[Any]) -> Callable[[Test], Test]:
    """Call a test with each of ``variants``, which are as for ``pytest.mark.parametrize``.

    The names of several arguments are a sequence; a variant is then one of their values, or
    ``pytest.param(..., id="its name")``. A failure names its variant and hides those behind it.
    Fixtures are made once, so what a variant leaves in one is there for the next. This is for cheap
    checks of one rule; where each variant is a promise of its own, let each be an item.
    Raises :class:`ValueError` for no variants.
    """
    several = not isinstance(names, str)
    arguments = list(names) if several else [names]
    called = [_named(variant, several) for variant in variants]
    if not called:
        raise ValueError(f"expected variants of {', '.join(arguments)}, got none")

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def through_all(**fixtures: Any) -> None:
            for name, values in called:
                try:
                    test(**fixtures, **dict(zip(arguments, values, strict=True)))
                except BaseException as error:
                    error.add_note(f"of {', '.join(arguments)}: {name}")
                    raise

        signature = inspect.signature(test)
        left = [one for one in signature.parameters.values() if one.name not in arguments]
        if len(left) != len(signature.parameters) - len(arguments):
            raise ValueError(f"expected {test.__name__} to take {', '.join(arguments)}")
        through_all.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return through_all

    return decorate


def _named(variant: Any, several: bool) -> tuple[str, Sequence[Any]]:
    """A variant's name for messages, and its values."""
    if isinstance(variant, _PARAM):
        return str(variant.id or variant.values), variant.values
    return repr(variant), variant if several else (variant,)
