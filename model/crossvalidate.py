"""crossvalidate: for every fold split, train and evaluate; then all patients' scores as one.

Each fold has a working folder of its own (:mod:`model.folds.workplace`), in which the verbs run as
programs of their own: ``data/dataset`` and ``runs/<dataset>/model.keras`` stay what they are, and a
fold that was stopped resumes after its last finished epoch. A fold that is done and unchanged is
left as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from datasets_spec.contract import Problem
from model import params
from model.folds import running, workplace
from model.folds.workplace import Fold
from pipeline import paths
from pipeline.runtime import locks

_LOG = logging.getLogger(__name__)
USUAL_FOLDS, FEWEST_FOLDS = 5, 3


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
    running.each(wanted)
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
