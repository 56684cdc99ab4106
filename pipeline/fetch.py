"""fetch: fill ``data/raw/<dataset>``, or say where to get it and where to put it; then verify."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, Case, Dataset, Problem, RemoteFile, printable
from pipeline import paths
from pipeline.params.limits import Limits
from pipeline.runtime import executor, files, locks
from pipeline.sources import listing as raw
from pipeline.sources import staging, tally
from pipeline.sources.download import download
from pipeline.sources.unpack import unpack
from pipeline.virtual import cohorts
from pipeline.volumes import hounsfield, reader

_TOLD = 8  # folders named in one line


def fetch(dataset: str, workers: int, limits: Limits = Limits(), subset: bool = False) -> None:
    """Bring the raw data of ``dataset`` and read every file of it once.

    ``subset`` states that fewer cases than published are meant to be here; the number is recorded
    beside the folder, and later runs expect it. Raises :class:`Problem` if a download fails, a
    gated dataset is not there yet, cases are missing that nobody left out on purpose, a file is
    missing, damaged or larger than ``limits`` allow, or there are fewer patients than splits.
    """
    adapter = datasets_spec.load(dataset)
    _tell_terms(adapter)
    folder, source = paths.raw(dataset), adapter.dataset.source
    if source.recipe:
        if cohorts.missing(source.recipe, folder):
            with locks.alone(folder):
                cohorts.make(source.recipe, folder, workers)
    elif not raw.filled(folder):
        if source.instructions:
            print(f"  To get it: {source.instructions}")
            print(f"  Unpack it in {folder} so that it looks like this:\n\n{adapter.layout}")
            raise Problem(
                "expected the unpacked download, found no files",
                where=folder,
                remedy="How to get it is printed above.",
            )
        with locks.alone(folder):
            _bring(source.files, folder)
    listing = raw.listing(adapter)
    raw.log_renamed(listing, f"fetch {dataset}")
    found = len(listing.cases) + len(listing.faults)
    whole = _require_count(adapter, found, subset)
    _verify(adapter, listing, workers, limits, whole)
    _record_subset(adapter, found, subset)


def _tell_terms(adapter: Adapter) -> None:
    source, licence = adapter.dataset.source, adapter.dataset.source.licence
    may = "may" if licence.redistribute else "may not"
    use = "commercial use allowed" if licence.commercial else "no commercial use"
    print(f"{adapter.dataset.title}: {source.homepage}")
    print(f"  Licence: {licence.name}; derived pictures {may} be passed on; {use}.")
    if licence.note:
        print(f"  Note: {licence.note}.")
    print(f"  Cite: {source.citation}")
    for warning in adapter.dataset.warnings:
        print(f"  Warning: {warning}.")


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
        print(f"  Downloaded: {archive}, {size:,} bytes, sha256:{sha256}{unpinned}")
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


def _require_count(adapter: Adapter, found: int, subset: bool) -> bool:
    """Whether all published cases are here. Raises :class:`Problem` if some are missing unasked."""
    source, folder = adapter.dataset.source, paths.raw(adapter.name)
    if found > source.cases > 0:
        print(f"fetch {adapter.name}: warning: {source.cases} cases are published", file=sys.stderr)
    if found >= source.cases:
        return source.cases > 0
    stated = _stated_subset(folder)
    if subset or found == stated:
        return False
    anyway = f"python -m pipeline fetch {adapter.name} --subset"
    rest = "Unpack the rest of the download"
    if source.files:
        rest = "A stopped download of an earlier version leaves it so: move it away and fetch again"
    raise Problem(
        f"expected {source.cases} published cases, got {found}"
        if stated is None
        else f"expected the {stated} cases of the stated subset, got {found}",
        where=folder,
        remedy=f"{rest}; or, if the others are left out on purpose, run: {anyway}",
    )


def _stated_subset(folder: Path) -> int | None:
    record = _subset_record(folder)
    text = record.read_text("utf-8").strip() if files.is_regular(record) else ""
    return int(text) if text.isdecimal() else None


def _record_subset(adapter: Adapter, found: int, subset: bool) -> None:
    record = _subset_record(paths.raw(adapter.name))
    if found >= adapter.dataset.source.cases:
        record.unlink(missing_ok=True)
    elif subset:
        with files.replacing(record) as place:
            place.write_text(f"{found}\n", "utf-8")
        print(f"  Recorded in {record}: these {found} cases are a subset on purpose.")


def _subset_record(folder: Path) -> Path:
    """Beside the folder, which may be a link to where nothing can be written."""
    return folder.with_name(f".{folder.name}.subset")


def _verify(
    adapter: Adapter, listing: raw.Listing, workers: int, limits: Limits, whole: bool
) -> None:
    """Read every file once, and count who shows what; raises :class:`Problem` for what is amiss."""
    cases, faults = listing.cases, sorted(listing.faults)
    for name in faults:
        print(f"verify {adapter.name}: {name}: {listing.faults[name]}", file=sys.stderr)
    doubts: list[str] = []
    handled: dict[str, list[str]] = {}
    count = tally.Tally(adapter.dataset)
    task = partial(_read_all, adapter.dataset, limits)
    for outcome in executor.run(task, cases, workers, f"verify {adapter.name}"):
        case, seen = outcome.job, outcome.result
        if seen is None:
            faults.append(case.id)
            print(f"verify {adapter.name}: {case.id}: {outcome.error}", file=sys.stderr)
            continue
        count.add(case, seen.shown)
        doubts += [f"{case.id}: {seen.doubt}"] * bool(seen.doubt)
        for finding in seen.findings:
            handled.setdefault(finding.partition(":")[0], []).append(f"{case.id}: {finding}")
    for kind, volumes in sorted(handled.items()):
        told = printable(f"{kind} in {len(volumes)} volumes, such as {volumes[0]}")
        print(f"  Handled: {told}")
    folder, source = paths.raw(adapter.name), adapter.dataset.source
    if faults:
        total = len(cases) + len(listing.faults)
        raise Problem(
            f"expected {total} complete cases, got {len(faults)} with missing or damaged files"
            f" ({', '.join(faults[:3])}{', ...' if len(faults) > 3 else ''})",
            where=folder,
            remedy="Delete the named cases and fetch again."
            if source.recipe
            else "Download or unpack the named files again.",
        )
    patients = len({case.patient for case in cases})
    published = f" of {source.cases} published" if source.cases else ""
    print(
        f"  {'Verified' if whole else 'Readable'}: {len(cases)}{published} cases, {patients}"
        f" patients, in {folder}: every file can be read"
        " (grids and label values are checked by convert)."
    )
    for line in count.table():
        print(f"    {line}")
    unused = raw.unused(adapter, cases)
    if unused:
        told = ", ".join(
            f"{count} in {printable(folder)}" for folder, count in list(unused.items())[:_TOLD]
        )
        more = f" and {len(unused) - _TOLD} more folders" if len(unused) > _TOLD else ""
        print(f"  Left out: {sum(unused.values())} files that belong to no case: {told}{more}.")
    warnings = list(count.warnings())
    if doubts:
        warnings.append(f"convert will refuse {len(doubts)} labels, such as {doubts[0]}")
    for warning in warnings:
        print(f"fetch {adapter.name}: warning: {warning}", file=sys.stderr)
    if patients < len(SPLITS):
        raise Problem(
            f"expected at least {len(SPLITS)} patients, one for each of {', '.join(SPLITS)}, got"
            f" {patients}",
            where=folder,
            remedy="Add patients: fewer cannot be split.",
        )


def _read_all(dataset: Dataset, limits: Limits, case: Case) -> tally.Seen:
    """What the files of a case show, all raters together; raises for what is refused."""
    raw.files(case)
    image = hounsfield.confirmed(dataset, reader.read_image(case.image, limits), case.image)
    seen = [tally.read(dataset, label, limits) for label in case.labels.values()]
    return tally.Seen(
        (*image.findings, *(finding for one in seen for finding in one.findings)),
        frozenset[str]().union(*(one.shown for one in seen)),
        next((one.doubt for one in seen if one.doubt), ""),
    )
