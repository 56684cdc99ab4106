"""What comes of a job, wherever it is run: its result, or the exception that it raised."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from datasets_spec.contract import Problem

J = TypeVar("J")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[J, R]):
    """The outcome of one job: its result, or the exception that it raised."""

    job: J
    result: R | None
    error: Exception | None


def of(task: Callable[[J], R], job: J) -> Outcome[J, R]:
    """Do the job; whatever it raises becomes part of the outcome."""
    try:
        return Outcome(job, task(job), None)
    except Exception as error:
        return Outcome(job, None, error)


def portable(task: Callable[[J], R], job: J) -> R:
    """``task(job)`` in a worker; an exception that cannot be pickled becomes a :class:`Problem`."""
    try:
        return task(job)
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301  # pickled the line before
        except Exception:
            raise Problem(f"{type(error).__name__}: {error}") from None
        raise


def died(job: J, remedy: str) -> Outcome[J, Any]:
    """Of a job that kills whoever works on it."""
    return Outcome(
        job,
        None,
        Problem(
            "the worker process died while it worked on this",
            remedy=f"Was it killed for lack of memory? {remedy}",
        ),
    )
