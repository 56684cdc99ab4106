"""convert: raw scans -> square 8-bit images and indexed masks, every slice of every case."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import datasets_spec
from datasets_spec.contract import Case, Dataset, Problem
from pipeline import (
    executor,
    hounsfield,
    labels,
    likeness,
    manifest,
    params,
    paths,
    probes,
    raw,
    store,
    suspicions,
    volume,
)
from pipeline.canvas import Canvas
from pipeline.manifest import Pair
from pipeline.pseudonyms import Pseudonyms
from pipeline.store import Job


@dataclass(frozen=True)
class _Work:
    case: Case
    source_digest: str


@dataclass(frozen=True)
class _Decision:
    """The label table that holds for all cases ("auto": each case decides), and why."""

    table: str
    evidence: str


def convert(dataset: str, settings: params.Params, workers: int) -> None:
    """Fill ``data/converted/<dataset>``.

    Raises :class:`Problem` if there is no raw data, two cases share an id, or
    any case fails; the other cases' pairs are kept.
    """
    adapter = datasets_spec.load(dataset)
    cases = _labelled_by(settings.convert.raters, raw.cases(adapter), dataset)
    decision = _decided(adapter.dataset, cases, settings.convert, workers)
    recipe = store.fingerprint(
        asdict(settings.convert),
        repr(adapter.dataset),
        decision.table,
        store.code(__name__, adapter.module_file),
    )
    failed: dict[str, Exception] = {}
    jobs = []
    for case in cases:
        try:
            source_digest = store.digest(*raw.files(case))
        except (Problem, OSError) as error:
            failed[case.id] = error
            continue
        work = _Work(case, source_digest)
        jobs.append(Job(case.id, store.fingerprint(recipe, case.id, source_digest), work))
    folder = paths.converted(dataset)
    task = partial(_convert_case, dataset, adapter.dataset, settings.convert, decision, folder)
    names = Pseudonyms(dataset, adapter.dataset.anonymous, settings.convert.id_salt)
    if not names.anonymous and names.salt == params.PUBLISHED_SALT:
        print(
            f"convert {dataset}: warning: ids are hashed with the published convert.id_salt, so"
            " anyone can try ids until one fits; set a salt of your own",
            file=sys.stderr,
        )
    case_of = partial(names.of, "case")
    try:
        pairs = store.fill(folder, jobs, task, workers, f"convert {dataset}", failed, case_of)
    except Problem:
        if (folder / paths.MANIFEST).is_file():
            _tell_suspicions(dataset, manifest.read(folder))
        raise
    if any(pair.label_evidence != decision.evidence for pair in pairs if decision.evidence):
        # another count of votes moves no pixel, so it makes no pair again
        pairs = [replace(pair, label_evidence=decision.evidence) for pair in pairs]
        manifest.write(folder, pairs)
    _tell_suspicions(dataset, pairs)


def _tell_suspicions(dataset: str, pairs: Sequence[Pair]) -> None:
    suspicious = {pair.case for pair in pairs if pair.suspicion}
    if suspicious:
        print(
            f"convert {dataset}: the labels of {len(suspicious)} of"
            f" {len({pair.case for pair in pairs})} cases look suspicious, such as"
            f" {min(suspicious)}; the manifest and the report say why"
        )


def _labelled_by(raters: str, cases: Sequence[Case], dataset: str) -> Sequence[Case]:
    """The cases that ``convert.raters`` can be had of: of one named rater, those he labelled."""
    if raters in labels.FUSIONS:
        return cases
    theirs = [case for case in cases if raters in case.labels]
    if not theirs:
        known = sorted({rater for case in cases for rater in case.labels if rater})
        raise Problem(
            f"expected {', '.join(labels.FUSIONS)} or the name of a rater"
            f" ({', '.join(known) or 'this dataset names none'}), got {raters!r}",
            where=f"convert.raters of {dataset}",
            remedy="Correct it in the parameter file.",
        )
    if len(theirs) < len(cases):
        left = len(cases) - len(theirs)
        print(f"convert {dataset}: {left} of {len(cases)} cases left out: not labelled by {raters}")
    return theirs


def _decided(
    dataset: Dataset, cases: Sequence[Case], settings: params.Convert, workers: int
) -> _Decision:
    """The label table, where it is one for the whole dataset: as stated, or as the cases vote."""
    if settings.label_table != labels.AUTO:
        labels.class_of_table(dataset, settings.label_table)
        return _Decision(settings.label_table, "stated in convert.label_table")
    if not dataset.tables:
        return _Decision("", "")
    if dataset.probe not in probes.DECIDED_BY_ALL_CASES:
        return _Decision(labels.AUTO, "")
    task = partial(_vote, dataset)
    outcomes = executor.run(task, cases, workers, f"probe labels of {dataset.title}")
    votes = Counter(outcome.result for outcome in outcomes if outcome.result)
    ranking = votes.most_common(2)
    told = ", ".join(f"{name} {count}" for name, count in votes.most_common())
    if not ranking or (len(ranking) == 2 and ranking[0][1] == ranking[1][1]):
        raise Problem(
            f"expected most cases to fit one label table, got the votes: {told or 'none'}",
            where=f"convert {dataset.title}",
            remedy="Look at the pictures and state convert.label_table for this dataset.",
        )
    return _Decision(ranking[0][0], f"votes of the cases by intensity: {told}")


def _vote(dataset: Dataset, case: Case) -> str:
    """The table that fits a case, or "" where it has no label or does not tell."""
    image = labels.read_image(case.image)
    label, _ = labels.read_raw(dataset, next(iter(case.labels.values())))
    if not label.array.any() or label.array.shape != image.array.shape:
        return ""
    verdict = probes.probe(dataset, image.array, label.array)
    return verdict.table if verdict.sure else ""


def _convert_case(
    name: str,
    dataset: Dataset,
    settings: params.Convert,
    decision: _Decision,
    folder: Path,
    job: Job[_Work],
) -> list[Pair]:
    """All pairs of one case: every slice, once per rater that is kept."""
    case = job.content.case
    image = labels.read_image(case.image)
    window = _window(case, image.array, dataset, settings)
    image = hounsfield.confirmed(dataset, image, case.image)
    truth = labels.truth(
        dataset, image, case.labels, settings.raters, decision.table, decision.evidence
    )
    names = Pseudonyms(name, dataset.anonymous, settings.id_salt)
    uids = image.slice_uids(dataset.plane)
    stack = volume.slices(image.array, dataset.plane)
    spacing = volume.slice_spacing(image.grid, dataset.plane)
    canvas = Canvas.fit((stack.shape[1], stack.shape[2]), spacing, settings.image_px)
    template = Pair(
        id="",
        dataset=name,
        patient=names.of("patient", case.patient),
        case=names.of("case", case.id),
        slice_index=0,
        rater="",
        image="",
        mask="",
        source="",
        source_digest=job.content.source_digest,
        source_shape=image.grid.shape,
        affine=tuple(image.grid.affine.ravel().tolist()),
        plane=dataset.plane,
        canvas=canvas.values(),
        window=window,
        class_pixels=(),
        image_digest="",
        mask_digest="",
        licence=dataset.source.licence.name,
        fingerprint=job.fingerprint,
        official_split=case.split or "",
        raters=truth.raters,
        agreement=truth.agreement,
        label_table=truth.table,
        label_evidence=truth.evidence,
        snapped_pixels=truth.snapped,
        findings="; ".join([*image.findings, *truth.findings]),
    )
    windowed = labels.has_own_grey(case.image)
    suspicion = {
        rater: "; ".join(suspicions.of_case(dataset, image, ids, windowed))
        for rater, ids in truth.ids.items()
    }
    pairs = []
    for index, native in enumerate(stack):
        picture = np.rint(canvas.image(volume.to_8_bit(native, window))).astype(np.uint8)
        for raw_rater, ids in truth.ids.items():
            rater = names.of("rater", raw_rater)
            mask = canvas.labels(volume.slices(ids, dataset.plane)[index])
            pair_id = "_".join([template.case, *([f"r{rater}"] if rater else []), f"{index:04d}"])
            here = replace(
                template,
                id=pair_id,
                slice_index=index,
                rater=rater,
                source=names.of("source", raw.relative(case.image, name, index)),
                sop_instance_uid=names.uid(uids[index]),
                suspicion=suspicion[raw_rater],
                likeness=likeness.perceptual_hash(picture),
            )
            pairs.append(store.put(folder, here, picture, mask, dataset.label_map))
    return pairs


def _window(
    case: Case, array: NDArray[Any], dataset: Dataset, settings: params.Convert
) -> tuple[float, float]:
    """The intensities that become 0 and 255."""
    if labels.has_own_grey(case.image) and array.min() >= 0 and array.max() <= 255:
        return 0.0, 255.0
    if dataset.window and not labels.has_own_grey(case.image):
        return dataset.window.bounds
    low, high = np.percentile(array, settings.mr_percentiles)
    return float(low), float(high)
