"""audit: which labels are in doubt, most doubtful first; nothing is changed.

A network that did not learn from a patient is asked how probable each label is; the ranking is
that of :mod:`model.scoring.doubts`, over all folds of a cross-validation where there is one.
"""

from __future__ import annotations

import logging

import datasets_spec
from pipeline import paths
from pipeline.audits import doubted, worklist
from pipeline.pairs import manifest
from pipeline.runtime import tables

_LOG = logging.getLogger(__name__)
_RATERS_HEAD = ("rank", "patient", "case", "raters", "class", "dice")
_LOGGED = 10


def audit(dataset: str) -> None:
    """Write ``runs/<dataset>/audit.csv``, and ``audit_raters.csv`` where several raters drew.

    The columns ``decision`` and ``note`` are people's. Raises :class:`Problem` where no network was
    asked about patients that it had not seen, and where an earlier ``audit.csv`` cannot be read.
    """
    label_map = datasets_spec.load(dataset).dataset.label_map
    pairs = manifest.read(paths.dataset(dataset))
    place = doubted.evaluation(dataset)
    rows = doubted.ranked(place / paths.DOUBTS, pairs, label_map)
    file = paths.run(dataset) / paths.AUDIT
    worklist.write(file, rows)
    _LOG.info(
        "audit %s: %d slices of %d cases in doubt, by %s: %s",
        *(dataset, len(rows), len({one.case for one in rows}), place, file),
    )
    for rank, one in enumerate(rows[:_LOGGED], start=1):
        where = f"{one.case}{f', rater {one.rater}' if one.rater else ''}, slice {one.slice}"
        _LOG.info("  %2d  %.3f  %s: %s (%d voxels)", rank, one.doubt, where, one.reason, one.voxels)
    raters = doubted.disagreements(pairs, label_map)
    if raters:
        file = paths.run(dataset) / paths.AUDIT_RATERS
        lines = ((rank, *vars(one).values()) for rank, one in enumerate(raters, start=1))
        tables.write(file, _RATERS_HEAD, lines)
        _LOG.info("audit %s: %d times raters drew a class: %s", dataset, len(raters), file)
