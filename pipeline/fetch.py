"""fetch: fill ``data/raw/<dataset>``, or explain where to get it and put it; then verify."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, Case, Dataset, Problem, RemoteFile, printable
from pipeline import paths
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.runtime import executor, files, locks
from pipeline.runtime.executor import Workers
from pipeline.sources import inventory, listed, staging, tally
from pipeline.sources import listing as raw
from pipeline.sources.brought import brought, verified
from pipeline.sources.download import download
from pipeline.sources.unpack import unpack
from pipeline.virtual import cohorts
from pipeline.volumes import hounsfield, reader, volume
from pipeline.volumes.findings import DOUBT, HANDLED, Finding

_LOG = logging.getLogger(__name__)
_NAMED = 8  # folders in one line
_EXAMPLES = 3
_KEEP_S = 60.0  # of reading objects, at the least, lies between two writes of what it brought
_HEADINGS = {HANDLED: "Handled", DOUBT: "In doubt"}


def fetch(
    dataset: str,
    workers: Workers,
    limits: Limits = Limits(),
    subset: bool = False,
    tolerances: Tolerances = USUAL,
    url: str = "",
) -> None:
    """Bring the raw data of ``dataset`` and read every file of it once.

    Data behind ``url``, or where an earlier run has listed it, stays there: it is listed anew, and
    what is new or has changed is read. ``subset`` states that fewer cases than published are meant
    to be here; the number is recorded beside the folder, and later runs expect it.

    Raises :class:`Problem` if a download fails, a gated dataset is not there yet, cases are missing
    that nobody left out on purpose, a file is missing, damaged or larger than ``limits`` allow, or
    there are fewer patients than splits.
    """
    adapter = datasets_spec.load(dataset)
    _log_terms(adapter)
    folder, source = paths.raw(dataset), adapter.dataset.source
    if url or inventory.read(folder) is not None:
        with locks.alone(folder):
            _list_objects(folder, url)
    elif source.recipe:
        if cohorts.missing(source.recipe, folder):
            with locks.alone(folder):
                cohorts.make(source.recipe, folder, workers)
    elif not raw.filled(folder):
        if source.instructions:
            _LOG.info("  To get it: %s", source.instructions)
            _LOG.info("  Unpack it in %s so that it looks like this:\n\n%s", folder, adapter.layout)
            raise Problem(
                "expected the unpacked download, found no files",
                where=folder,
                remedy="How to get it is printed above.",
            )
        with locks.alone(folder):
            _bring(source.files, folder)
    listing = raw.listing(adapter)
    raw.log_renamed(listing, f"fetch {dataset}")
    here = len(listing.cases) + len(listing.faults)
    whole = _require_count(adapter, here, subset)
    _verify(adapter, listing, workers, limits, tolerances, whole)
    _record_subset(adapter, here, subset)


def _log_terms(adapter: Adapter) -> None:
    source, licence = adapter.dataset.source, adapter.dataset.source.licence
    may = "may" if licence.redistribute else "may not"
    use = "commercial use allowed" if licence.commercial else "no commercial use"
    _LOG.info("%s: %s", adapter.dataset.title, source.homepage)
    _LOG.info("  Licence: %s; derived pictures %s be passed on; %s.", licence.name, may, use)
    if licence.note:
        _LOG.info("  Note: %s.", licence.note)
    _LOG.info("  Cite: %s", source.citation)
    for warning in adapter.dataset.warnings:
        _LOG.info("  Warning: %s.", warning)


def _bring(remote: Sequence[RemoteFile], folder: Path) -> None:
    """Download all files, then unpack them beside what ``folder`` holds, then move them into it."""
    staging.finish(folder)
    if raw.filled(folder):  # by that, or by another run just now
        return
    archives = [paths.DOWNLOADS / file.name for file in remote]
    for file, archive in zip(remote, archives, strict=True):
        with locks.alone(archive):
            sha256 = download(file, archive)
        unpinned = "" if "sha256" in file.digests else " (to pin it, state it in the adapter)"
        size = archive.stat().st_size
        _LOG.info("  Downloaded: %s, %s bytes, sha256:%s%s", archive, f"{size:,}", sha256, unpinned)
    place = staging.begin(folder, "download", resume=False)
    try:
        for file, archive in zip(remote, archives, strict=True):
            if file.unpack:
                unpack(archive, place)
            else:
                shutil.move(archive, place / file.name)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    staging.deliver(place)


def _list_objects(folder: Path, url: str) -> None:
    found = inventory.listed(folder, url)
    inventory.write(found)
    size = sum(one.size for one in found.objects.values())
    _LOG.info("  Listed: %s: %d objects, %s bytes", found.url, len(found.objects), f"{size:,}")


def _require_count(adapter: Adapter, here: int, subset: bool) -> bool:
    """Whether all published cases are here. Raises :class:`Problem` if some are missing unasked."""
    source, folder = adapter.dataset.source, paths.raw(adapter.name)
    if here > source.cases > 0:
        _LOG.warning("fetch %s: warning: %d cases are published", adapter.name, source.cases)
    if here >= source.cases:
        return source.cases > 0
    stated = _stated_subset(folder)
    if subset or here == stated:
        return False
    anyway = f"python -m pipeline fetch {adapter.name} --subset"
    rest = "Unpack the rest of the download"
    if source.files:
        rest = "A stopped download of an earlier version leaves it so: move it away and fetch again"
    raise Problem(
        f"expected {source.cases} published cases, got {here}"
        if stated is None
        else f"expected the {stated} cases of the stated subset, got {here}",
        where=listed.where(folder),
        remedy=f"{rest}; or, if the others are left out on purpose, run: {anyway}",
    )


def _stated_subset(folder: Path) -> int | None:
    record = _subset_record(folder)
    text = record.read_text("utf-8").strip() if files.is_regular(record) else ""
    return int(text) if text.isdecimal() else None


def _record_subset(adapter: Adapter, here: int, subset: bool) -> None:
    record = _subset_record(paths.raw(adapter.name))
    if here >= adapter.dataset.source.cases:
        record.unlink(missing_ok=True)
    elif subset:
        with files.replacing(record) as place:
            place.write_text(f"{here}\n", "utf-8")
        _LOG.info("  Recorded in %s: these %d cases are a subset on purpose.", record, here)


def _subset_record(folder: Path) -> Path:
    """Beside the folder, which may be a link to where nothing can be written."""
    return folder.with_name(f".{folder.name}.subset")


@dataclass
class _Read:
    """What reading every case brought: the count of classes, and what is odd about them.

    ``doubts``: labels that convert will refuse. ``findings``: example cases by severity and code.
    """

    count: tally.Tally
    faults: list[str]
    doubts: list[str] = field(default_factory=list)
    findings: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, case: Case, seen: tally.Seen) -> None:
        self.count.add(case, seen.shown)
        if seen.doubt:
            self.doubts.append(f"{case.id}: {seen.doubt}")
        for one in seen.findings:
            volumes = self.findings.setdefault((one.severity, one.code), [])
            volumes.append(f"{case.id}: {one}")


def _verify(
    adapter: Adapter,
    listing: raw.Listing,
    workers: Workers,
    limits: Limits,
    tolerances: Tolerances,
    whole: bool,
) -> None:
    """Read every file once, and count who shows what; raises :class:`Problem` for what is amiss."""
    new = [case for case in listing.cases if not verified(case)]
    try:
        read = _read_cases(adapter, listing, new, workers, limits, tolerances)
    finally:
        _keep_digests(adapter.name)
    _log_findings(read.findings)
    if read.faults:
        raise _faulty(adapter, listing, read.faults)
    _log_counts(adapter, listing.cases, read.count, whole, len(listing.cases) - len(new))
    warnings = list(read.count.warnings()) if len(new) == len(listing.cases) else []
    if read.doubts:
        warnings.append(f"convert will refuse {len(read.doubts)} labels, such as {read.doubts[0]}")
    for warning in warnings:
        _LOG.warning("fetch %s: warning: %s", adapter.name, warning)
    patients = len({case.patient for case in listing.cases})
    if patients < len(SPLITS):
        raise Problem(
            f"expected at least {len(SPLITS)} patients, one for each of {', '.join(SPLITS)}, got"
            f" {patients}",
            where=listed.where(paths.raw(adapter.name)),
            remedy="Add patients: fewer cannot be split.",
        )


def _read_cases(
    adapter: Adapter,
    listing: raw.Listing,
    cases: Sequence[Case],
    workers: Workers,
    limits: Limits,
    tolerances: Tolerances,
) -> _Read:
    """Every file of ``cases``, read once; what fails is logged, as are the listing's faults."""
    read = _Read(tally.Tally(adapter.dataset), sorted(listing.faults))
    for name in read.faults:
        _LOG.error("verify %s: %s: %s", adapter.name, name, listing.faults[name])
    task = partial(_read_all, adapter.dataset, limits, tolerances)
    objects = listed.inventory_of(paths.raw(adapter.name))
    kept_at, pause = time.monotonic(), _KEEP_S
    for outcome in executor.run(task, cases, workers, f"verify {adapter.name}"):
        if outcome.result is None:
            read.faults.append(outcome.job.id)
            _LOG.error("verify %s: %s: %s", adapter.name, outcome.job.id, outcome.error)
            continue
        seen, digests = outcome.result
        read.add(outcome.job, seen)
        if objects is not None:
            objects.learn(digests)
            begin = time.monotonic()
            if begin - kept_at > pause:
                _keep_digests(adapter.name)
                kept_at = time.monotonic()
                pause = max(_KEEP_S, 20 * (kept_at - begin))
    return read


def _keep_digests(dataset: str) -> None:
    """Write what reading has brought of objects behind a URL, also when the run is stopped."""
    objects = listed.inventory_of(paths.raw(dataset))
    if objects is not None:
        inventory.write(objects)


def _log_findings(by_code: dict[tuple[str, str], list[str]]) -> None:
    """A line for each kind of finding: what was handled, and what leaves a doubt."""
    for severity, heading in _HEADINGS.items():
        for (its, code), volumes in sorted(by_code.items()):
            if its == severity:
                kind = code.replace("-", " ")
                words = f"{kind} in {len(volumes)} volumes, such as {volumes[0]}"
                _LOG.info("  %s: %s", heading, printable(words))


def _faulty(adapter: Adapter, listing: raw.Listing, faults: Sequence[str]) -> Problem:
    total = len(listing.cases) + len(listing.faults)
    return Problem(
        f"expected {total} complete cases, got {len(faults)} that cannot be used"
        f" ({', '.join(faults[:_EXAMPLES])}{', ...' if len(faults) > _EXAMPLES else ''}); each is"
        " named above with the reason",
        where=listed.where(paths.raw(adapter.name)),
        remedy="Delete the named cases and fetch again."
        if adapter.dataset.source.recipe
        else "Correct what is named; download or unpack files that are missing or damaged again.",
    )


def _log_counts(
    adapter: Adapter, cases: Sequence[Case], count: tally.Tally, whole: bool, unread: int
) -> None:
    """How many cases and patients are here, who shows what, and which files no case needs.

    Where ``unread`` cases were not read again, who shows what is not known of all.
    """
    source = adapter.dataset.source
    published = f" of {source.cases} published" if source.cases else ""
    _LOG.info(
        "  %s: %d%s cases, %d patients, in %s: every file can be read (grids and label values are"
        " checked by convert).",
        "Verified" if whole else "Readable",
        len(cases),
        published,
        len({case.patient for case in cases}),
        listed.where(paths.raw(adapter.name)),
    )
    if unread:
        _LOG.info("  Not read again: %d cases, unchanged since they were verified.", unread)
    for line in [] if unread else count.table():
        _LOG.info("    %s", line)
    unused = raw.unused(adapter, cases)
    if unused:
        _LOG.info(
            "  Left out: %d files that belong to no case: %s.",
            sum(unused.values()),
            _some(f"{files} in {printable(folder)}" for folder, files in unused.items()),
        )


def _some(folders: Iterable[str]) -> str:
    named = list(folders)
    more = f" and {len(named) - _NAMED} more folders" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def _read_all(
    dataset: Dataset, limits: Limits, tolerances: Tolerances, case: Case
) -> tuple[tally.Seen, Mapping[str, str]]:
    """What a case's files show, and the sha256 of those behind a URL.

    Raises for what is refused.
    """
    with brought(case) as here:
        return _seen(dataset, limits, tolerances, here.case), here.digests


def _seen(dataset: Dataset, limits: Limits, tolerances: Tolerances, case: Case) -> tally.Seen:
    """What the files of a case show, all raters together."""
    raw.files(case)
    noted: list[Finding] = []
    for picture in case.pictures.values():
        image = hounsfield.confirmed(
            dataset, reader.read_image(picture, limits, tolerances), picture
        )
        volume.require_own_plane(image, dataset.plane, picture)
        noted += image.findings
    seen = [tally.read(dataset, label, limits) for label in case.labels.values()]
    of_labels: Iterable[Finding] = (finding for one in seen for finding in one.findings)
    return tally.Seen(
        (*noted, *of_labels),
        frozenset[str]().union(*(one.shown for one in seen)),
        next((one.doubt for one in seen if one.doubt), ""),
    )
