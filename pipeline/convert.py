"""convert: raw scans -> square 8-bit images and indexed masks, every slice of every case."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import datasets_spec
from datasets_spec.contract import Case, Dataset, Problem
from pipeline import paths
from pipeline.labels import decode, fusion, plausibility, tables
from pipeline.labels import tables as probes
from pipeline.pairs import identities, kept, likeness, manifest, pseudonyms, put, store
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.pairs.store import Job
from pipeline.params import reader as params
from pipeline.params.convert import Convert
from pipeline.params.limits import Limits
from pipeline.params.split import Split
from pipeline.runtime import executor, fingerprints
from pipeline.sources import listing as raw
from pipeline.volumes import findings, hounsfield, reader, volume


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
    listing = raw.listing(adapter)
    raw.tell_renamed(listing, f"convert {dataset}")
    cases = _labelled_by(settings.convert.raters, listing.cases, dataset)
    _tell_what_split_refuses(dataset, cases, settings.split)
    names = pseudonyms.load(adapter, new_salt=True)
    decision = _decided(adapter.dataset, cases, settings.convert, workers, settings.limits)
    recipe = fingerprints.fingerprint(
        asdict(settings.convert),
        _deciding(adapter.dataset),
        decision.table,
        names.fingerprint,
        fingerprints.code(__name__),
    )
    failed: dict[str, Exception] = dict(listing.faults)
    jobs = []
    for case in cases:
        try:
            work, made_from = _work(case)
        except (Problem, OSError) as error:
            failed[case.id] = error
            continue
        jobs.append(Job(case.id, fingerprints.fingerprint(recipe, made_from), work))
    folder = paths.converted(dataset)
    task = partial(
        _convert_case,
        adapter.dataset,
        settings.convert,
        decision,
        names,
        folder,
        limits=settings.limits,
    )
    title, case_of = f"convert {dataset}", partial(names.of, "case")
    present = partial(_present, adapter.dataset, decision, names)
    try:
        pairs = store.fill(folder, jobs, task, workers, title, failed, case_of, present)
    except Problem:
        if (folder / paths.MANIFEST).is_file():
            _tell_suspicions(dataset, manifest.read(folder))
        raise
    _keep_identities(names, [job.content.case for job in jobs], adapter.dataset, settings.limits)
    _tell_suspicions(dataset, pairs)


def _deciding(dataset: Dataset) -> dict[str, str]:
    """The facts of a dataset that its pairs follow from: all but the words about it."""
    words = ("title", "source", "warnings")
    return {
        one.name: repr(getattr(dataset, one.name))
        for one in fields(dataset)
        if one.name not in words
    }


def _work(case: Case) -> tuple[_Work, object]:
    """The work on a case, and all that its pairs are made from: what the adapter says of it.

    The digest of every file stands by the file's role, so that labels that two raters exchange are
    other labels. Raises :class:`Problem` or OSError for files that cannot be read.
    """
    roles = raw.files_by_role(case)
    source_digest, digests = fingerprints.digests(*(file for _, files in roles for file in files))
    each = iter(digests)
    by_role = [(role, [next(each) for _ in files]) for role, files in roles]
    return _Work(case, source_digest), (case.id, case.patient, case.split, by_role)


def _present(
    dataset: Dataset, decision: _Decision, names: Pseudonyms, job: Job[_Work], pair: Pair
) -> Pair:
    """A pair that is kept, with the facts of its row that no pixel follows from as they are now.

    They are the place of its picture, the licence's name, and the votes for a label table.
    """
    picture = raw.relative(job.content.case.image, names.dataset, pair.slice_index)
    return replace(
        pair,
        source=names.of("source", picture),
        licence=dataset.source.licence.name,
        label_evidence=decision.evidence or pair.label_evidence,
    )


def _keep_identities(
    names: Pseudonyms, cases: Sequence[Case], dataset: Dataset, limits: Limits
) -> None:
    """Tables for all cases, also kept ones whose table is gone or old, and for no others."""
    for case in cases:
        if not identities.kept(names, case):
            uids = reader.read_image(case.image, limits).slice_uids(dataset.plane)
            identities.write(names, case, uids)
    identities.keep_only(names, cases)


def _tell_what_split_refuses(dataset: str, cases: Sequence[Case], settings: Split) -> None:
    """Say before hours of work that split will not have the patients that it needs."""
    try:
        raw.require_patients(dataset, cases, settings)
    except Problem as problem:
        print(f"convert {dataset}: warning: split will refuse this: {problem}", file=sys.stderr)


def _tell_suspicions(dataset: str, pairs: Sequence[Pair]) -> None:
    suspicious = {pair.case for pair in pairs if pair.suspicion}
    if suspicious:
        told = (
            f"convert {dataset}: the labels of {len(suspicious)} of"
            f" {len({pair.case for pair in pairs})} cases look suspicious, such as"
            f" {min(suspicious)}; the manifest and the report say why"
        )
        print(identities.explained(dataset, told))


def _labelled_by(raters: str, cases: Sequence[Case], dataset: str) -> Sequence[Case]:
    """The cases that have what ``convert.raters`` asks for; says how many have not."""
    theirs = raw.labelled_by(raters, cases, dataset)
    if len(theirs) < len(cases):
        left = len(cases) - len(theirs)
        print(f"convert {dataset}: {left} of {len(cases)} cases left out: not labelled by {raters}")
    return theirs


def _decided(
    dataset: Dataset,
    cases: Sequence[Case],
    settings: Convert,
    workers: int,
    limits: Limits,
) -> _Decision:
    """The label table, where it is one for the whole dataset: as stated, or as the cases vote."""
    if settings.label_table != tables.AUTO:
        tables.class_of_table(dataset, settings.label_table)
        return _Decision(settings.label_table, "stated in convert.label_table")
    if not dataset.tables:
        return _Decision("", "")
    if dataset.probe not in probes.DECIDED_BY_ALL_CASES:
        return _Decision(tables.AUTO, "")
    task = partial(_vote, dataset, limits)
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


def _vote(dataset: Dataset, limits: Limits, case: Case) -> str:
    """The table that fits a case, or "" where it has no label or does not tell."""
    image = reader.read_image(case.image, limits)
    label, _ = decode.read_raw(dataset, next(iter(case.labels.values())), limits)
    if not label.array.any() or label.array.shape != image.array.shape:
        return ""
    verdict = probes.probe(dataset, image.array, label.array)
    return verdict.table if verdict.sure else ""


def _convert_case(
    dataset: Dataset,
    settings: Convert,
    decision: _Decision,
    names: Pseudonyms,
    folder: Path,
    job: Job[_Work],
    limits: Limits,
) -> list[Pair]:
    """All pairs of one case: every slice, once per rater that is kept."""
    case, name = job.content.case, names.dataset
    image = reader.read_image(case.image, limits)
    window = _window(case, image.array, dataset, settings)
    image = hounsfield.confirmed(dataset, image, case.image)
    truth = fusion.truth(
        dataset,
        image,
        case.labels,
        settings.raters,
        decision.table,
        decision.evidence,
        limits=limits,
    )
    uids = image.slice_uids(dataset.plane)
    identities.write(names, case, uids)
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
        findings=findings.to_json([*image.findings, *truth.findings]),
    )
    windowed = reader.has_own_grey(case.image)
    suspicion = {
        rater: findings.to_json(plausibility.of_case(dataset, image, ids, windowed))
        for rater, ids in truth.ids.items()
    }
    pairs = []
    shades: set[int] = set()
    for index, native in enumerate(stack):
        picture = np.rint(canvas.image(volume.to_8_bit(native, window))).astype(np.uint8)
        shades |= {int(picture.min()), int(picture.max())}
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
            pairs.append(put.put(folder, here, picture, mask, dataset.label_map))
    by_name = {names.of("rater", rater): ids for rater, ids in truth.ids.items()}
    return kept.judged(pairs, image.array, shades, by_name, dataset.label_map)


def _window(
    case: Case, array: NDArray[Any], dataset: Dataset, settings: Convert
) -> tuple[float, float]:
    """The intensities that become 0 and 255."""
    if reader.has_own_grey(case.image) and array.min() >= 0 and array.max() <= 255:
        return 0.0, 255.0
    if dataset.window and not reader.has_own_grey(case.image):
        return dataset.window.bounds
    low, high = np.percentile(array, settings.mr_percentiles)
    return float(low), float(high)
