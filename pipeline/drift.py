"""drift: do train, valid, test, and the sites or scanners that are known come from one world?

What is measured on test holds for patients like those of test. Where a classifier can tell two
groups of patients apart (:mod:`pipeline.audits.two_sample`), a difference in score may be one of
scanners, and a network may have learnt them. Nothing is changed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

import datasets_spec
from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.audits import features, groups, two_sample
from pipeline.audits.groups import Question
from pipeline.audits.two_sample import Verdict
from pipeline.pairs import manifest
from pipeline.params.limits import Limits
from pipeline.runtime import executor, files
from pipeline.runtime.executor import Workers

_LOG = logging.getLogger(__name__)
_SEED = 20261121


def drift(dataset: str, workers: Workers, limits: Limits = Limits()) -> None:
    """Compare train with valid and test, and every value of a stratum with the others.

    Writes ``runs/<dataset>/drift.json``. Raises :class:`Problem` where split has not run on what is
    converted, or a scan cannot be read.
    """
    label_map = datasets_spec.load(dataset).dataset.label_map
    pairs = manifest.read(paths.dataset(dataset))
    questions = list(groups.questions([pair for pair in pairs if not pair.parent]))
    converted = paths.converted(dataset)
    jobs = [
        features.Job(converted, tuple(slices), label_map, limits)
        for slices in manifest.grouped(manifest.read(converted), "case")
    ]
    by_patient: dict[str, list[features.Numbers]] = {}
    for job, found in executor.results(features.of_case, jobs, workers, f"drift {dataset}"):
        by_patient.setdefault(job.slices[0].patient, []).append(found)
    numbers = {patient: features.of_patient(cases) for patient, cases in by_patient.items()}
    _require_converted(dataset, questions, numbers)
    answers = [(question, _answer(question, numbers)) for question in questions]
    told = [verdict for _, verdict in answers if verdict]
    together = iter(two_sample.adjusted([verdict.p for verdict in told]))
    rows = [_row(one, verdict, next(together) if verdict else None) for one, verdict in answers]
    digest = files.sha256(paths.dataset(dataset) / paths.MANIFEST)
    content = {"manifest": digest, "patients": len(numbers), "comparisons": rows}
    with files.replacing(paths.run(dataset) / paths.DRIFT) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", "utf-8")
    _log(dataset, rows)


def _require_converted(
    dataset: str, questions: Sequence[Question], numbers: Mapping[str, features.Numbers]
) -> None:
    asked = {patient for one in questions for group in one.patients for patient in group}
    if lost := sorted(asked - set(numbers)):
        raise Problem(
            f"expected every patient of the split among those converted, {len(lost)} are not, such"
            f" as {lost[0]}",
            where=paths.dataset(dataset) / paths.MANIFEST,
            remedy=f"Run: python -m pipeline split {dataset}",
        )


def _answer(question: Question, numbers: Mapping[str, features.Numbers]) -> Verdict | None:
    """What the test says; None of too few patients."""
    first, second = question.patients
    if min(len(first), len(second)) < two_sample.LEAST:
        return None
    patients = [*first, *second]
    names = sorted({name for patient in patients for name in numbers[patient]})
    table = [[features.value(numbers[patient], name) for name in names] for patient in patients]
    is_first = np.arange(len(patients)) < len(first)
    return two_sample.told_apart(np.array(table), names, is_first, _SEED)


def _row(question: Question, verdict: Verdict | None, p: float | None) -> dict[str, Any]:
    sizes = [len(group) for group in question.patients]
    row: dict[str, Any] = {"of": question.known, "groups": [question.first, question.second]}
    row |= {"words": question.words, "patients": sizes}
    if verdict is None or p is None:
        return row | {"told_apart": None}
    return row | {
        "told_apart": p < two_sample.SIGNIFICANT,
        "auc": round(verdict.auc, 4),
        "p": verdict.p,
        "p_of_all": p,
        "features": [asdict(one) for one in verdict.features],
    }


def _log(dataset: str, rows: Sequence[Mapping[str, Any]]) -> None:
    for row in rows:
        first, second = row["patients"]
        sizes = f"{first} and {second} patients"
        if row["told_apart"] is None:
            _LOG.info(
                "drift %s: %s: %s are too few to tell (%d of each)",
                *(dataset, row["words"], sizes, two_sample.LEAST),
            )
            continue
        verdict = "differ" if row["told_apart"] else "nothing tells them apart"
        _LOG.info(
            "drift %s: %s (%s): %s, AUC %.3f, p %.4f",
            *(dataset, row["words"], sizes, verdict, row["auc"], row["p_of_all"]),
        )
        for one in row["features"] if row["told_apart"] else ():
            _LOG.info(
                "  %s: %.4g against %.4g (p %.2g)",
                *(one["name"], one["first"], one["second"], one["p"]),
            )
