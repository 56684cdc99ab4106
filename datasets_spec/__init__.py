"""The datasets: one module each. The folder is the registry."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from datasets_spec.contract import Case, Dataset, Problem

_GROUND = {"contract"}


@dataclass(frozen=True)
class Adapter:
    """An adapter module: its name, its facts and how to list its cases.

    Instead of a case that is not usable, ``cases`` may yield a :class:`Problem` that names it; the
    other cases are then kept.
    """

    name: str
    dataset: Dataset
    cases: Callable[[Path], Iterable[Case | Problem]]
    layout: str
    module_file: Path


def names() -> tuple[str, ...]:
    """The names of all datasets, sorted: the modules of this folder."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(set(found) - _GROUND))


def load(name: str) -> Adapter:
    """The adapter of dataset ``name``.

    Raises :class:`Problem` for an unknown name and for a module that is not an adapter.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        raise Problem(
            f"expected a dataset's name, one of {', '.join(names())}, got {name!r}",
            where="datasets_spec",
            remedy=f"Did you mean {near[0]!r}?"
            if near
            else f"To add it, write datasets_spec/{name}.py."
            if name.isidentifier()
            else "A dataset's name has letters, digits and '_' only.",
        )
    try:
        module = importlib.import_module(f"{__name__}.{name}")
        dataset, cases = module.DATASET, module.cases
    except Exception as error:  # whatever the error, its author needs to know the module
        raise Problem(
            f"expected an adapter with DATASET and cases, got {type(error).__name__}: {error}",
            where=f"datasets_spec/{name}.py",
            remedy="Correct the module; --debug shows the traceback.",
        ) from error
    return Adapter(
        name=name,
        dataset=dataset,
        cases=cases,
        layout=module.__doc__ or "",
        module_file=Path(str(module.__file__)),
    )
