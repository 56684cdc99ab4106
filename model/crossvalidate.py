"""crossvalidate: for every fold split, train and evaluate; then all patients' scores as one.

Each fold has a working folder of its own (:mod:`model.folds.workplace`), in which the verbs run as
programs of their own: ``data/dataset`` and ``runs/<dataset>/model.keras`` stay what they are, and a
fold that was stopped resumes after its last finished epoch. A fold that is done and unchanged is
left as it is.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets_spec.contract import Problem
from model import params
from model.folds import workplace
from model.folds.workplace import Fold, Step
from pipeline import paths
from pipeline.runtime import locks

_LOG = logging.getLogger(__name__)
USUAL_FOLDS, FEWEST_FOLDS = 5, 3
_GRACE_SECONDS = 10.0  # a Ctrl-C in the terminal reaches a verb too; a `kill` does not


def crossvalidate(
    dataset: str, settings: params.Params, file: Path, folds: int = 0, only: Collection[int] = ()
) -> None:
    """Fill ``runs/<dataset>/folds`` with so many folds, or with ``only`` some of them.

    ``file`` is the parameter file that ``settings`` are from. ``folds`` 0 takes ``split.folds``, or
    :data:`USUAL_FOLDS` where that is 0 too. Scores are pooled as soon as all folds are done,
    whichever call did them. Raises :class:`Problem` where there are no pairs to deal, a verb ends
    with an error, or another run fills a fold's folder.
    """
    of = folds or settings.split.folds or USUAL_FOLDS
    _require_numbers(dataset, of, only)
    every = [Fold.stated(dataset, number, of, file) for number in range(of)]
    wanted = [one for one in every if not only or one.number in only]
    workplace.require_pairs(dataset)
    _each(wanted)
    missing = [one.number for one in every if one.seconds() is None]
    if missing:
        _LOG.info(
            "crossvalidate %s: scores are pooled once all folds are done; left: %s",
            dataset,
            ", ".join(map(str, missing)),
        )
        return
    from model.folds import pool  # here: it imports Keras, whose memory the folds need

    with locks.alone(paths.folds(dataset)):
        _report(dataset, pool.pool(dataset, every, settings))


def _require_numbers(dataset: str, of: int, only: Collection[int]) -> None:
    where = f"crossvalidate {dataset}"
    if of < FEWEST_FOLDS:
        raise Problem(f"expected {FEWEST_FOLDS} folds or more, got {of}", where=where)
    if unknown := set(only) - set(range(of)):
        raise Problem(f"expected folds of 0 to {of - 1}, got {min(unknown)}", where=where)


def _each(folds: Sequence[Fold]) -> None:
    """Do the folds that are not done, and say after each how long the others will take."""
    left = [one for one in folds if one.seconds() is None]
    took: list[float] = []
    for one in folds:
        if one not in left:
            _LOG.info("fold %d of %d: done and unchanged", one.number, one.of)
            continue
        start = time.monotonic()
        with locks.alone(one.place):
            _do(one)
        took.append(time.monotonic() - start)
        more = len(left) - len(took)
        _LOG.info(
            "fold %d of %d: done in %s%s",
            one.number,
            one.of,
            _duration(took[-1]),
            f"; about {_duration(more * sum(took) / len(took))} left" * bool(more),
        )


def _do(fold: Fold) -> None:
    fold.prepare()
    seconds = {}
    for step in fold.steps:
        _LOG.info("fold %d of %d: %s", fold.number, fold.of, step.words)
        start = time.monotonic()
        _run(step, fold)
        seconds[step.words] = round(time.monotonic() - start, 1)
    fold.finish(seconds)


def _run(step: Step, fold: Fold) -> None:
    """Run a verb in the fold's folder; it is stopped when this program is."""
    sys.stdout.flush()
    command = [sys.executable, "-m", step.floor, step.verb, step.name]
    verb = subprocess.Popen(  # noqa: S603  # this Python, and verbs of this project
        command, cwd=fold.place, env=workplace.environment()
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
            f"expected fold {fold.number} to go through {step.verb}, got exit status {status}",
            where=fold.place,
            remedy="The line above says why. The same command resumes there.",
        )


def _report(dataset: str, found: Mapping[Path, Mapping[str, Any]]) -> None:
    """The pooled scores in short, on the terminal."""
    for part, one in found.items():
        spread = one["folds"]["spread"]
        model = one["model"]
        _LOG.info(
            "crossvalidate %s%s: %d test cases of %d patients in %d folds: %s",
            dataset,
            f", {part.as_posix()}" if part.parts else "",
            one["test_cases"],
            one["test_patients"],
            len(one["folds"]["each"]),
            paths.folds(dataset) / part,
        )
        _LOG.info("  %-21s Dice %s", "mean of classes", _words(model["mean_foreground"]["dice"]))
        for name, of_class in model["classes"].items():
            _LOG.info("  %-21s Dice %s", name, _words(of_class["dice"]))
        if spread["sd"] is not None:
            _LOG.info(
                "  means of the folds: %.3f ± %.3f, %.3f to %.3f",
                *(spread[name] for name in ("mean", "sd", "lowest", "highest")),
            )


def _words(spread: Mapping[str, Any]) -> str:
    if spread["mean"] is None:
        return "none"
    return "{mean:.3f} [{low:.3f}, {high:.3f}]".format(**spread)


def _duration(seconds: float) -> str:
    """Of 4000: "1 h 7 min"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"
