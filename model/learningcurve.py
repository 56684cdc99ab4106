"""learningcurve: train on fewer and fewer patients, and say what more of them would give.

Each training has a working folder of its own (:mod:`model.folds.workplace`): it learns from some of
the patients of train, fewer among more, for as many steps as all would be, and is judged by the
same test patients. The curve through their scores is extrapolated
(:mod:`model.scoring.learning_curve`). A training that is done and unchanged is left as it is.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from datasets_spec.contract import Problem
from model import params
from model.folds import running, workplace
from model.folds.workplace import Subset
from model.scoring import learning_curve, per_case
from model.scoring.learning_curve import LEAST_SIZES, Expected, Training
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.runtime import files, locks

_LOG = logging.getLogger(__name__)
USUAL_SEEDS = 2
_HALVINGS = 4
_FEWEST = 3  # patients
_MORE = 200
_DRAWN = 24  # places of the curve between the fewest patients and the most asked about


def learningcurve(
    dataset: str, settings: params.Params, file: Path, patients: Sequence[int] = (), seeds: int = 0
) -> None:
    """Fill ``runs/<dataset>/learning_curve``.

    ``file`` is the parameter file that ``settings`` are from. ``patients``: on how many to train
    (all of train, and halves of that). ``seeds``: trainings on each number (:data:`USUAL_SEEDS`),
    each on other patients. Raises :class:`Problem` where there is no split, for numbers of which no
    curve follows, and where a verb ends with an error.
    """
    workplace.require_pairs(dataset)
    pairs = [pair for pair in manifest.read(paths.dataset(dataset)) if pair.split == "train"]
    every = len({pair.patient for pair in pairs})
    sizes = sorted(set(patients)) or halves(every)
    _require_sizes(dataset, sizes, every)
    steps = settings.train.steps_per_epoch or _steps(pairs, settings)
    first = settings.train.seed
    wanted = [
        Subset.stated(dataset, size, first + number, steps, file)
        for size in sizes
        for number in range(seeds or USUAL_SEEDS)
    ]
    running.each(wanted)
    with locks.alone(paths.learning_curve(dataset)):
        write(dataset, _scored(wanted), every)


def halves(every: int) -> list[int]:
    """All patients, half of them, a quarter, an eighth, as far as there are enough.

    >>> halves(112), halves(8)
    ([14, 28, 56, 112], [4, 8])
    """
    sizes = {round(every / 2**step) for step in range(_HALVINGS)}
    return sorted(size for size in sizes if size >= _FEWEST)


def _require_sizes(dataset: str, sizes: Sequence[int], every: int) -> None:
    where = f"learningcurve {dataset}"
    if len(sizes) < LEAST_SIZES:
        raise Problem(
            f"expected {LEAST_SIZES} numbers of patients or more for a curve, got"
            f" {', '.join(map(str, sizes)) or 'none'}",
            where=where,
            remedy=f"Name them by --patients; train has {every}.",
        )
    if wrong := [size for size in sizes if not 1 <= size <= every]:
        raise Problem(f"expected 1 to {every} patients, as train has, got {wrong[0]}", where=where)


def _steps(pairs: Sequence[Pair], settings: params.Params) -> int:
    """The batches in which all that train has is shown once."""
    own = settings.augment.mode == "online" or settings.train.source == "scans"
    shown = sum(not (own and pair.parent) for pair in pairs)
    return -(-shown // settings.train.batch_pairs)


def _scored(wanted: Sequence[Subset]) -> list[Training]:
    """The mean foreground Dice of each test patient, training by training."""
    found = []
    for one in wanted:
        dice: dict[str, list[float]] = defaultdict(list)
        for row in per_case.read(one.run).values():
            dice[row["patient"]].append(per_case.value(row, "dice"))
        each = [float(np.nanmean(dice[patient])) for patient in sorted(dice)]
        found.append(Training(one.patients, one.seed, tuple(each)))
    return found


def write(dataset: str, trainings: Sequence[Training], every: int) -> None:
    """The curve as a file, and in short on the terminal; ``every``: the patients of train."""
    asked = [2 * every, every + _MORE]
    fewest = min(one.patients for one in trainings)
    places = np.unique(np.geomspace(fewest, max(asked), _DRAWN).round().astype(int)).tolist()
    answers = learning_curve.expected(trainings, [*asked, *places], seed=0)
    content = {
        "test_patients": len(trainings[0].dice),
        "scatter": round(learning_curve.scatter(trainings), 6),
        "trainings": [
            {"patients": one.patients, "seed": one.seed, "dice": round(one.mean, 6)}
            for one in trainings
        ],
        "expected": [_row(one) for one in answers[: len(asked)]],
        "curve": [_row(one) for one in answers[len(asked) :]],
    }
    file = paths.learning_curve(dataset) / paths.CURVE
    with files.replacing(file) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
    _LOG.info(
        "learningcurve %s: mean foreground Dice of %d test patients: %s",
        *(dataset, content["test_patients"], file),
    )
    for one in trainings:
        _LOG.info("  %5d patients, seed %d: %.4f", one.patients, one.seed, one.mean)
    for answer in answers[: len(asked)]:
        _LOG.info(
            "  with %d more, %d: %.3f to %.3f",
            *(answer.patients - every, answer.patients, answer.low, answer.high),
        )


def _row(one: Expected) -> dict[str, float]:
    return {name: round(value, 6) for name, value in asdict(one).items()}
