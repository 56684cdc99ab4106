"""Trainings in working folders of their own, one after the other, by programs of their own."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Sequence

from datasets_spec.contract import Problem
from model.folds import workplace
from model.folds.workplace import Step, Workplace
from pipeline.runtime import locks

_LOG = logging.getLogger(__name__)
_GRACE_SECONDS = 10.0  # a Ctrl-C in the terminal reaches a verb too; a `kill` does not


def each(places: Sequence[Workplace]) -> None:
    """Do the trainings that are not done, and report after each how long the others will take.

    One that was stopped resumes after its last finished epoch. Raises :class:`Problem` where a verb
    ends with an error, or another run fills a working folder.
    """
    left = [one for one in places if one.seconds() is None]
    took: list[float] = []
    for one in places:
        if one not in left:
            _LOG.info("%s: done and unchanged", one.words)
            continue
        start = time.monotonic()
        with locks.alone(one.place):
            _do(one)
        took.append(time.monotonic() - start)
        more = len(left) - len(took)
        _LOG.info(
            "%s: done in %s%s",
            one.words,
            _duration(took[-1]),
            f"; about {_duration(more * sum(took) / len(took))} left" * bool(more),
        )


def _do(one: Workplace) -> None:
    one.prepare()
    seconds = {}
    for step in one.steps:
        _LOG.info("%s: %s", one.words, step.words)
        start = time.monotonic()
        _run(step, one)
        seconds[step.words] = round(time.monotonic() - start, 1)
    one.finish(seconds)


def _run(step: Step, one: Workplace) -> None:
    """Run a verb in its working folder; it is stopped when this program is."""
    sys.stdout.flush()
    command = [sys.executable, "-m", step.floor, step.verb, step.name]
    verb = subprocess.Popen(  # noqa: S603  # this Python, and verbs of this project
        command, cwd=one.place, env=workplace.environment()
    )
    try:
        status = verb.wait()
    except BaseException:
        try:
            verb.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            verb.terminate()
            verb.wait()
        raise
    if status:
        raise Problem(
            f"expected {one.words} to go through {step.verb}, got exit status {status}",
            where=one.place,
            remedy="The line above says why. The same command resumes there.",
        )


def _duration(seconds: float) -> str:
    """Of 4000: "1 h 7 min"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
