"""convert: raw scans -> square 8-bit images and indexed masks, every slice of every case."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial

import datasets_spec
from datasets_spec.contract import Case, Dataset, Problem, volume_of
from pipeline import paths
from pipeline.labels import decode, tables
from pipeline.pairs import case as case_maker
from pipeline.pairs import identities, manifest, pseudonyms, store
from pipeline.pairs.case import CaseMaker, Decision, Work
from pipeline.pairs.manifest import Pair
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.pairs.store import Job
from pipeline.params import reader as params
from pipeline.params.convert import Convert
from pipeline.params.dicom import Tolerances
from pipeline.params.limits import Limits
from pipeline.params.split import Split
from pipeline.runtime import executor, fingerprints
from pipeline.sources import listing as raw
from pipeline.sources import places
from pipeline.volumes import reader

_LOG = logging.getLogger(__name__)


def convert(dataset: str, settings: params.Params, workers: int) -> None:
    """Fill ``data/converted/<dataset>``.

    Raises :class:`Problem` if there is no raw data, two cases share an id, or
    any case fails; the other cases' pairs are kept.
    """
    adapter = datasets_spec.load(dataset)
    listing = raw.listing(adapter)
    raw.log_renamed(listing, f"convert {dataset}")
    cases = _labelled_by(settings.convert.raters, listing.cases, dataset)
    _warn_of_what_split_refuses(dataset, cases, settings.split)
    names = pseudonyms.load(adapter, new_salt=True)
    decision = _decided(adapter.dataset, cases, settings.convert, workers, settings.limits)
    recipe = fingerprints.fingerprint(
        asdict(settings.convert),
        _deciding(adapter.dataset),
        decision.table,
        names.fingerprint,
        fingerprints.code(case_maker.__name__),
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
    task = CaseMaker(adapter.dataset, settings.convert, decision, names, folder, settings.limits)
    title, case_of = f"convert {dataset}", partial(names.of, "case")
    present = partial(_present, adapter.dataset, decision, names)
    try:
        pairs = store.fill(folder, jobs, task, workers, title, failed, case_of, present)
    except Problem:
        if (folder / paths.MANIFEST).is_file():
            _report_suspicions(dataset, manifest.read(folder))
        raise
    kept = [job.content.case for job in jobs]
    _keep_identities(names, kept, adapter.dataset, settings)
    _report_suspicions(dataset, pairs)


def _deciding(dataset: Dataset) -> dict[str, str]:
    """The facts of a dataset that its pairs follow from: all but the words about it."""
    words = ("title", "source", "warnings")
    return {
        one.name: repr(getattr(dataset, one.name))
        for one in fields(dataset)
        if one.name not in words
    }


def _work(case: Case) -> tuple[Work, object]:
    """The work on a case, and all that its pairs are made from: what the adapter states of it.

    The digest of every file stands by the file's role, so that labels that two raters exchange are
    other labels. Raises :class:`Problem` or OSError for files that cannot be read.
    """
    roles = raw.files_by_role(case)
    source_digest, digests = fingerprints.digests(*(file for _, files in roles for file in files))
    each = iter(digests)
    by_role = [(role, [next(each) for _ in files]) for role, files in roles]
    chosen = [volume_of(one) for one in (case.image, *case.labels.values())]
    return Work(case, source_digest), (case.id, case.patient, case.split, by_role, chosen)


def _present(
    dataset: Dataset, decision: Decision, names: Pseudonyms, job: Job[Work], pair: Pair
) -> Pair:
    """A pair that is kept, with the facts of its row that no pixel follows from as they are now.

    They are the place of its picture, the licence's name, and the votes for a label table.
    """
    picture = places.relative(job.content.case.image, names.dataset, pair.slice_index)
    return replace(
        pair,
        source=names.of("source", picture),
        licence=dataset.source.licence.name,
        label_evidence=decision.evidence or pair.label_evidence,
    )


def _keep_identities(
    names: Pseudonyms, cases: Sequence[Case], dataset: Dataset, settings: params.Params
) -> None:
    """Tables for all cases, also kept ones whose table is gone or old, and for no others."""
    for case in cases:
        if not identities.kept(names, case):
            read = reader.read_image(case.image, settings.limits, settings.convert.dicom)
            uids = read.slice_uids(dataset.plane)
            identities.write(names, case, uids)
    identities.keep_only(names, cases)


def _warn_of_what_split_refuses(dataset: str, cases: Sequence[Case], settings: Split) -> None:
    """Say before hours of work that split will not have the patients that it needs."""
    try:
        raw.require_patients(dataset, cases, settings)
    except Problem as problem:
        _LOG.warning("convert %s: warning: split will refuse this: %s", dataset, problem)


def _report_suspicions(dataset: str, pairs: Sequence[Pair]) -> None:
    suspicious = {pair.case for pair in pairs if pair.suspicion}
    if suspicious:
        message = (
            f"convert {dataset}: the labels of {len(suspicious)} of"
            f" {len({pair.case for pair in pairs})} cases look suspicious, such as"
            f" {min(suspicious)}; the manifest and the report say why"
        )
        _LOG.info(identities.explained(dataset, message))


def _labelled_by(raters: str, cases: Sequence[Case], dataset: str) -> Sequence[Case]:
    """The cases that ``convert.raters`` selects; logs how many are left out."""
    theirs = raw.labelled_by(raters, cases, dataset)
    if len(theirs) < len(cases):
        _LOG.info(
            "convert %s: %d of %d cases left out: not labelled by %s",
            dataset,
            len(cases) - len(theirs),
            len(cases),
            raters,
        )
    return theirs


def _decided(
    dataset: Dataset,
    cases: Sequence[Case],
    settings: Convert,
    workers: int,
    limits: Limits,
) -> Decision:
    """The label table, where it is one for the whole dataset: as stated, or as the cases vote."""
    if settings.label_table != tables.AUTO:
        tables.class_of_table(dataset, settings.label_table)
        return Decision(settings.label_table, "stated in convert.label_table")
    if not dataset.tables:
        return Decision("", "")
    if dataset.probe not in tables.DECIDED_BY_ALL_CASES:
        return Decision(tables.AUTO, "")
    task = partial(_vote, dataset, limits, settings.dicom)
    outcomes = executor.run(task, cases, workers, f"probe labels of {dataset.title}")
    votes = Counter(outcome.result for outcome in outcomes if outcome.result)
    ranking = votes.most_common(2)
    counts = ", ".join(f"{name} {count}" for name, count in votes.most_common())
    if not ranking or (len(ranking) == 2 and ranking[0][1] == ranking[1][1]):
        raise Problem(
            f"expected most cases to fit one label table, got the votes: {counts or 'none'}",
            where=f"convert {dataset.title}",
            remedy="Look at the pictures and state convert.label_table for this dataset.",
        )
    return Decision(ranking[0][0], f"votes of the cases by intensity: {counts}")


def _vote(dataset: Dataset, limits: Limits, tolerances: Tolerances, case: Case) -> str:
    """The table that fits a case, or "" if the case has no label or does not decide."""
    image = reader.read_image(case.image, limits, tolerances)
    label, _ = decode.read_raw(dataset, next(iter(case.labels.values())), limits)
    if not label.array.any() or label.array.shape != image.array.shape:
        return ""
    verdict = tables.probe(dataset, image.array, label.array)
    return verdict.table if verdict.sure else ""
