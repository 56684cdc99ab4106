"""evaluate: every test case in its source's own grid, per class, beside the all-background row.

Label rules, post-processing and mirror images are those that the model carries; test is looked at
once, with rules and post-processing and without.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from functools import partial
from typing import Any

import datasets_spec
from datasets_spec.contract import LabelMap
from model import params, provenance
from model.inference.member import Member
from model.scoring import (
    answers,
    certainty,
    choose,
    doubts,
    judge,
    pictures,
    results,
    summary,
    trust,
)
from model.scoring.answers import Drawings
from model.scoring.case_views import Views
from model.scoring.certainty import Certainty
from model.scoring.doubts import OfLabels
from model.scoring.scores import EMPTY_POLICY
from model.scoring.summary import Scored
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.runtime import executor, locks
from pipeline.runtime.executor import Cluster, Workers

_LOG = logging.getLogger(__name__)


def evaluate(dataset: str, settings: params.Params, cluster: Cluster | None = None) -> None:
    """Score ``runs/<dataset>/model.keras`` on the test split and keep its predictions.

    Reads the pairs and the labels that convert kept beside them, and no raw data. The cases are
    judged in this process, or on ``cluster``. Raises :class:`Problem` if the model is missing or
    does not fit the parameters, if the labels are not those of the pairs, and at once if another
    run fills the folder.
    """
    with locks.alone(paths.run(dataset)):
        _evaluate(dataset, settings, cluster or 1)


def _evaluate(dataset: str, settings: params.Params, workers: Workers) -> None:
    facts, run = datasets_spec.load(dataset).dataset, paths.run(dataset)
    label_map, wanted = facts.label_map, settings.evaluate
    pairs = manifest.read(paths.dataset(dataset))
    digest = provenance.dataset_digest(dataset)
    origin = provenance.require(run / paths.MODEL, dataset, facts, settings, digest)
    member = Member.of(run / paths.MODEL)
    shutil.rmtree(run / paths.PREDICTIONS, ignore_errors=True)
    for name in paths.SCORED:  # else old scores stood beside new masks
        (run / name).unlink(missing_ok=True)

    choices = choose.choices(origin.get("chosen", {}))
    obeyed = choose.obeyed(origin.get("chosen", {}))
    task, scored = partial(_test_case, member, label_map, settings), []
    cases = answers.by_case(pairs, "test")
    views = Views(run / paths.PREDICTIONS, wanted.viewed_cases)
    for _, of_case in executor.results(task, cases, workers, f"evaluate {dataset}: test"):
        scored += of_case
        views.add(of_case)
    views.write_index(f"{dataset}: test cases")
    shown = pictures.keep_shown(run / paths.PREDICTIONS, scored, wanted.worst_cases)
    pictures.place_truth(run / paths.PREDICTIONS, paths.dataset(dataset), pairs)
    pictures.draw_overlays(run / paths.PREDICTIONS, label_map)
    found = results.results(
        dataset,
        scored,
        choices,
        shown,
        label_map,
        wanted,
        origin["convert"],
        obeyed,
        member.temperatures.of_class,
    )
    results.write(run, scored, found, label_map)
    _report(dataset, found)


def _test_case(
    member: Member,
    label_map: LabelMap,
    settings: params.Params,
    drawings: Drawings,
) -> list[Scored]:
    """One test case beside each rater; its prediction is written into the run's folder."""
    certain = [Certainty.none(len(label_map)) for _ in drawings]
    labels = OfLabels(len(drawings), drawings[0][0].unlabelled)
    look = doubts.looking(labels, certainty.look(certain, drawings[0][0].unlabelled))
    answer = answers.answer(member, drawings, label_map, settings.limits, look)
    final = judge.postprocessed(answer, member.facts.rules or {}, member.facts.label_rules)
    folder = paths.run(drawings[0][0].dataset) / paths.PREDICTIONS
    from_pairs = member.facts.source == "pairs"
    plane = drawings[0][0].plane if from_pairs else member.facts.plane
    given = doubts.in_plane(labels, drawings, plane, from_pairs)
    return judge.keep(folder, drawings, answer, final, certain, given, label_map, settings)


def _report(dataset: str, found: Mapping[str, Any]) -> None:
    """The results in short, on the terminal."""
    counts = f"{found['test_cases']} test cases of {found['test_patients']} patients"
    _LOG.info("evaluate %s: %s; %s", dataset, counts, found["definitions"]["interval"])
    for row in ("model", "before_postprocessing", "all_background"):
        if row in found:
            _LOG.info(
                "  %-21s mean foreground Dice %s, reference projects' dice_coef_multiclass %.4f",
                row,
                summary.in_words(found[row]["mean_foreground"]["dice"]),
                found[row]["reference"]["dice_coef_multiclass"],
            )
    for name, one in found["model"]["classes"].items():
        _LOG.info(
            "  %-21s Dice %s, HD95 %s, NSD %s, lesion F1 %s",
            name,
            summary.in_words(one["dice"]),
            summary.in_words(one["hd95_mm"], 1),
            summary.in_words(one["nsd"]),
            summary.in_words(one["lesion_f1"]),
        )
    _LOG.info("  %s", trust.sentence(found))
    for one in found["label_rules"]:
        if one["kept"]:
            _LOG.info("  made to obey, %+.4f Dice on valid: %s", one["gain"], one["words"])
    for name, one in found["postprocessing"].items():
        if one["kept"]:
            _LOG.info("  %s: post-processing kept, %+.4f Dice on valid", name, one["gain"])
    _LOG.info("  Empty masks: %s.", EMPTY_POLICY)
    if found["uneven_cases"]:
        _LOG.info(
            "  %d cases have slices of uneven spacing: each weighs by its thickness; they have no"
            " HD95, no NSD and no NIfTI, but a mask for each instance.",
            found["uneven_cases"],
        )
