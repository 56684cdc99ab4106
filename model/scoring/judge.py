"""Answers -> scores: every test case beside its truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets_spec.contract import IGNORED, LabelMap
from model.inference.rules import Rule, apply
from model.params import Params
from model.scoring import case_views, doubts, native, pictures, scores
from model.scoring.answers import Answer, Drawings
from model.scoring.certainty import Certainty
from model.scoring.scores import Stack
from model.scoring.summary import Scored
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.structure.label_rules import LabelRule


def postprocessed(
    answer: Answer, rules: Mapping[int, Rule], label_rules: Sequence[LabelRule] = ()
) -> Stack:
    """The prediction by the rules that valid chose."""
    if not rules and not label_rules:
        return answer.predicted
    planar, world = answer.planar, answer.world
    return apply(answer.predicted, rules, answer.voxel_ml, planar, label_rules, world)


def keep(
    folder: Path,
    drawings: Drawings,
    answer: Answer,
    final: Stack,
    certain: Sequence[Certainty],
    given: Sequence[Stack],
    label_map: LabelMap,
    settings: Params,
) -> list[Scored]:
    """:func:`score` one test case, and write its prediction below ``folder``.

    ``given``: the probability of each rater's labels, as :class:`model.scoring.doubts.OfLabels` has
    them.
    """
    shown = []
    for slices, one in zip(drawings, answer.beside, strict=True):
        native.write(folder / paths.NATIVE, slices[0], final, answer.kept, label_map)
        shown.append(pictures.write_masks(folder, slices, one.truth, final, label_map))
    tolerance_mm = settings.evaluate.nsd_tolerance_mm
    scored = score(drawings, answer, final, certain, shown, len(label_map), tolerance_mm)
    scored = [
        replace(row, doubts=tuple(doubts.of_case(p, one.truth, answer.predicted, answer.voxel_ml)))
        for row, p, one in zip(scored, given, answer.beside, strict=True)
    ]
    if settings.evaluate.viewed_cases:
        case_views.write(folder, drawings, scored, answer, final, label_map, settings.limits)
    return scored


def score(
    drawings: Drawings,
    answer: Answer,
    final: Stack,
    certain: Sequence[Certainty],
    shown: Sequence[str],
    classes: int,
    tolerance_mm: float,
) -> list[Scored]:
    """One test case beside each rater.

    ``final`` is the prediction that counts, after post-processing; ``certain`` states, by rater,
    how sure the network was, and ``shown`` names the pair whose picture shows most wrong voxels.
    """
    steps, planar, ml = answer.steps, answer.planar, answer.voxel_ml
    unlabelled = drawings[0][0].unlabelled
    nothing = np.zeros(final.shape, np.uint8)
    of_raters = _against_raters(drawings, answer, final, classes)
    scored = []
    beside = zip(drawings, answer.beside, certain, shown, strict=True)
    for slices, one, certainty, picture in beside:
        first = slices[0]
        kinds = [final] if final is answer.predicted else [final, answer.predicted]
        judged = [
            scores.score(one.truth, ids, classes, steps, planar, tolerance_mm, ml, unlabelled)
            for ids in kinds
        ]
        background = scores.score(one.truth, nothing, classes, steps, planar, 0.0, ml, unlabelled)
        scored.append(
            Scored(
                first.case,
                first.patient,
                first.rater,
                final=judged[0],
                plain=judged[-1],
                background=background,
                reference=one.reference,
                reference_background=one.reference_background,
                calibration=one.calibration,
                calibrated=one.calibrated,
                certainty=certainty,
                confusion=scores.confusion(one.truth, final, classes, unlabelled),
                raters=of_raters,
                agreement=first.agreement,
                slices_left_out=answer.missing,
                shown=picture,
                planar=planar,
                strata=manifest.strata_of(first),
                uneven=answer.kept.record.uneven,
                ignored=np.count_nonzero(one.truth == IGNORED) / one.truth.size,
            )
        )
    return scored


def _against_raters(
    drawings: Drawings, answer: Answer, final: Stack, classes: int
) -> dict[str, list[float]]:
    """The Dice of every foreground class against each rater of the raw data, where several are.

    One rater at a time is in memory, but for those whose drawings the pairs show.
    """
    known = {
        slices[0].rater: one.truth for slices, one in zip(drawings, answer.beside, strict=True)
    }
    found = {}
    for rater in answer.kept.record.raters:
        truth = known[rater] if rater in known else answer.kept.stack(rater)
        unlabelled = drawings[0][0].unlabelled
        table = scores.confusion(truth, final, classes, unlabelled)
        found[rater] = [
            math.nan if label in unlabelled else one.dice
            for label, one in enumerate(scores.overlaps(table)[1:], start=1)
        ]
    return found
