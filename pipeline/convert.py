"""convert: raw scans -> square 8-bit images and indexed masks, every slice of every case."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from functools import partial

import datasets_spec
from datasets_spec.contract import Case, Dataset, Problem, volume_of
from pipeline import paths
from pipeline.labels import decode, fusion, resample, tables
from pipeline.pairs import case as case_maker
from pipeline.pairs import channels, identities, manifest, packing, pseudonyms, store
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
from pipeline.runtime.executor import Workers
from pipeline.sources import listed, places
from pipeline.sources import listing as raw
from pipeline.sources.brought import brought
from pipeline.volumes import findings, reader

_LOG = logging.getLogger(__name__)
_EARLIER = "earlier-conversion"
_QUICKLY_READ = 1 << 31  # bytes: read and hashed in the seconds that processes take to start


def convert(dataset: str, settings: params.Params, workers: Workers) -> None:
    """Fill ``data/converted/<dataset>``.

    Raises :class:`Problem` if there is no raw data, two cases share an id, or
    any case fails; the other cases' pairs are kept.
    """
    adapter = datasets_spec.load(dataset)
    listing = raw.listing(adapter)
    raw.log_renamed(listing, f"convert {dataset}")
    cases = _labelled_by(settings.convert.raters, listing.cases, dataset)
    _warn_of_what_split_refuses(dataset, cases, settings.split)
    _warn_of_two_raters(dataset, cases, settings.convert.raters)
    names = pseudonyms.load(adapter, new_salt=True)
    decision = _decided(adapter.dataset, cases, settings.convert, workers, settings.limits)
    recipe = fingerprints.fingerprint(
        settings.convert.deciding,
        _deciding(adapter.dataset),
        repr(channels.of(adapter.dataset, settings.convert.in_hu)),
        decision.table,
        names.fingerprint,
        fingerprints.code(case_maker.__name__),
    )
    failed: dict[str, Exception] = dict(listing.faults)
    jobs = _jobs(dataset, cases, recipe, workers, failed)
    folder = paths.converted(dataset)
    layout = packing.of_convert(dataset, settings.convert, len(cases))
    task = CaseMaker(adapter.dataset, settings.convert, decision, names, folder, settings.limits)
    title, case_of = f"convert {dataset}", partial(names.of, "case")
    present = partial(_present, adapter.dataset, decision, names)
    earlier = partial(_earlier, names, {case_of(case.id): case for case in cases})
    try:
        pairs = store.fill(
            folder, jobs, task, workers, title, failed, case_of, present, earlier, layout
        )
    except Problem:
        if (folder / paths.MANIFEST).is_file():
            _report_oddities(dataset, manifest.read(folder))
        raise
    kept = [job.content.case for job in jobs]
    _keep_identities(names, kept, adapter.dataset, settings, workers)
    _report_oddities(dataset, pairs)


def _deciding(dataset: Dataset) -> dict[str, str]:
    """The facts of a dataset that its pictures follow from: not the words, nor whose they are."""
    words = ("title", "source", "warnings", "patients", "patients_unknown")
    return {
        one.name: repr(getattr(dataset, one.name))
        for one in fields(dataset)
        if one.name not in words
    }


def _jobs(
    dataset: str,
    cases: Sequence[Case],
    recipe: str,
    workers: Workers,
    failed: dict[str, Exception],
) -> list[Job[Work]]:
    """A job for each case whose files can be read; why the others cannot goes into ``failed``."""
    jobs = []
    readers = _readers(dataset, cases, workers)
    for outcome in executor.run(_made_from, cases, readers, f"read {dataset}"):
        case = outcome.job
        if outcome.error is not None:
            failed[case.id] = outcome.error
        elif outcome.result is not None:
            digest, made_from = outcome.result
            own = fingerprints.fingerprint(recipe, made_from)
            jobs.append(Job(case.id, own, Work(case, digest)))
    return jobs


def _readers(dataset: str, cases: Sequence[Case], workers: Workers) -> Workers:
    """Who reads the files for their digests: the workers, unless starting them takes longer.

    Of files behind a URL, the inventory states the digests.
    """
    if listed.inventory_of(paths.raw(dataset)) is not None:
        return 1
    left = _QUICKLY_READ
    for case in cases:
        with suppress(Problem, OSError):  # which reading reports
            left -= sum(file.stat().st_size for file in raw.files(case))
        if left < 0:
            return workers
    return 1


def _made_from(case: Case) -> tuple[str, object]:
    """The sha256 of a case's files, and all that its pictures are made from.

    Whose they are is not part of it: :func:`_stated` brings that up to date. The digest of every
    file stands by the file's role, so that labels that two raters exchange are other labels.
    Raises :class:`Problem` or OSError for files that cannot be read.
    """
    roles = raw.files_by_role(case)
    source_digest, digests = listed.digests([file for _, files in roles for file in files])
    each = iter(digests)
    by_role = [(role, [next(each) for _ in files]) for role, files in roles]
    chosen = [volume_of(one) for one in (*case.pictures.values(), *case.labels.values())]
    stated = (case.id, case.unlabelled, case.annotated_slices)
    return source_digest, (*stated, by_role, chosen)


def _present(
    dataset: Dataset, decision: Decision, names: Pseudonyms, job: Job[Work], pair: Pair
) -> Pair:
    """A pair that is kept, with the facts of its row that no pixel follows from as they are now.

    They are what is stated of its patient, the place of its picture, the licence's name, and the
    votes for a label table.
    """
    picture = places.relative(job.content.case.first, names.dataset, pair.slice_index)
    return replace(
        _stated(names, job.content.case, pair),
        source=names.of("source", picture),
        licence=dataset.source.licence.name,
        label_evidence=decision.evidence or pair.label_evidence,
    )


def _stated(names: Pseudonyms, case: Case, pair: Pair) -> Pair:
    """A pair with patient, official split and strata as they are stated now.

    It is of the present conversion: that it was kept for a failed case holds no longer.
    """
    if _EARLIER in pair.findings:
        others = [one for one in findings.from_json(pair.findings) if one.code != _EARLIER]
        pair = replace(pair, findings=findings.to_json(others))
    return replace(
        pair,
        patient=names.of("patient", case.patient),
        official_split=case.split or "",
        strata=manifest.strata_text(case.strata),
    )


def _earlier(names: Pseudonyms, cases: Mapping[str, Case], pair: Pair) -> Pair:
    """A pair of an earlier run, kept for a case that failed: marked, and of the patient stated now.

    ``cases`` are those that are listed, by their names in the manifest.
    """
    case = cases.get(pair.case)
    pair = pair if case is None else _stated(names, case, pair)
    several = [*findings.from_json(pair.findings), findings.finding(_EARLIER, findings.PAIR)]
    return replace(pair, findings=findings.to_json(several))


def _keep_identities(
    names: Pseudonyms,
    cases: Sequence[Case],
    dataset: Dataset,
    settings: params.Params,
    workers: Workers,
) -> None:
    """Tables for all cases, also kept ones whose table is gone or old, and for no others."""
    left = [case for case in cases if not identities.kept(names, case)]
    task = partial(_instances, dataset, settings.limits, settings.convert.dicom)
    for case, uids in executor.results(task, left, workers, f"identities of {names.dataset}"):
        identities.write(names, case, uids)
    identities.keep_only(names, cases)


def _instances(
    dataset: Dataset, limits: Limits, tolerances: Tolerances, case: Case
) -> Sequence[str]:
    """The SOPInstanceUIDs of a case's slices."""
    with brought(case) as here:
        image = reader.read_image(here.case.first, limits, tolerances)
        return image.slice_uids(dataset.plane)


def _warn_of_what_split_refuses(dataset: str, cases: Sequence[Case], settings: Split) -> None:
    """Say before hours of work that split will not have the patients that it needs."""
    try:
        raw.require_patients(dataset, cases, settings)
    except Problem as problem:
        _LOG.warning("convert %s: warning: split will refuse this: %s", dataset, problem)


def _warn_of_two_raters(dataset: str, cases: Sequence[Case], raters: str) -> None:
    """Say that these fusions give the intersection of two raters, and what else there is."""
    two = sum(len(case.labels) == 2 for case in cases)
    if two and raters in fusion.BOTH_ALIKE:
        _LOG.warning(
            "convert %s: warning: of the two raters of %d of %d cases, %s keeps only what both drew"
            " alike; convert.raters can be union (all that either drew) or agreed (where they"
            " disagree, nobody annotated)",
            dataset,
            two,
            len(cases),
            raters,
        )


def _report_oddities(dataset: str, pairs: Sequence[Pair]) -> None:
    """Log in how many cases resampling took much of a class, and in how many labels look odd."""
    shrunk = {pair.case for pair in pairs if '"class-shrunk"' in pair.findings}
    suspicious = {pair.case for pair in pairs if pair.suspicion}
    total = len({pair.case for pair in pairs})
    if shrunk:
        message = (
            f"convert {dataset}: warning: resampling took more than {resample.DOUBTFUL:.0%} of a"
            f" class from the labels of {len(shrunk)} of {total} cases, such as {min(shrunk)}; the"
            " manifest and the report have the volumes"
        )
        _LOG.warning(identities.explained(dataset, message))
    if suspicious:
        message = (
            f"convert {dataset}: the labels of {len(suspicious)} of {total} cases look suspicious,"
            f" such as {min(suspicious)}; the manifest and the report say why"
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
    workers: Workers,
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
    with brought(case) as here:
        image = reader.read_image(here.case.first, limits, tolerances)
        drawn = next(iter(here.case.labels.values()))
        label, _ = decode.read_raw(dataset, drawn, limits, tolerances)
        if not label.array.any() or label.array.shape != image.array.shape:
            return ""
        verdict = tables.probe(dataset, image.array, label.array)
        return verdict.table if verdict.sure else ""
