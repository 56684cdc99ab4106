"""The drawings of train whose shapes mean something: those with a geometry."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pipeline.pairs import manifest, truth_record
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.limits import Limits
from pipeline.structure.cuts import Floats, Ids
from pipeline.structure.probe import Drawing


def of_train(pairs: Sequence[Pair], converted: Path, limits: Limits) -> list[Drawing]:
    """What each rater drew of each case of train, as convert kept it in ``converted``.

    Pictures without geometry are left out, and series whose slices have no one spacing. Raises
    :class:`Problem` if the labels that convert kept are not there.
    """
    drawings = []
    originals = [pair for pair in pairs if pair.split == "train" and not pair.parent]
    for slices in manifest.grouped(originals, "case", "rater"):
        pair = slices[0]
        kept = KeptTruth.of(converted, pair, limits)
        if not kept.record.uneven and kept.record.source != truth_record.PICTURES:
            read = partial(_read, kept, pair.rater)
            drawings.append(Drawing(pair.patient, read, frozenset(pair.unlabelled)))
    return drawings


def _read(kept: KeptTruth, rater: str) -> tuple[Ids, Floats]:
    return kept.stack(rater), kept.grid.world(kept.plane)
