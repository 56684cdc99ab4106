"""fetch: fill ``data/raw/<dataset>``, or say where to get it and where to put it; then verify."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pooch
import requests

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import Case, Dataset, Problem, RemoteFile
from pipeline import executor, hounsfield, labels, locks, paths, raw, virtual

_TOLD = 8  # folders named in one line


def fetch(dataset: str, workers: int) -> None:
    """Bring the raw data of ``dataset`` and read every file of it once.

    Raises :class:`Problem` if a download fails, a gated dataset is not there yet, or
    a file is missing or damaged.
    """
    adapter = datasets_spec.load(dataset)
    _tell_terms(adapter)
    folder, source = paths.raw(dataset), adapter.dataset.source
    if source.recipe:
        with locks.alone(folder):
            virtual.make(source.recipe, folder, workers)
    elif not raw.filled(folder):
        if source.instructions:
            print(f"  To get it: {source.instructions}")
            print(f"  Unpack it in {folder} so that it looks like this:\n\n{adapter.layout}")
            raise Problem(
                "expected the unpacked download, found no files",
                where=folder,
                remedy="How to get it is told above.",
            )
        with locks.alone(folder):
            for file in source.files:
                _download(file, folder)
    _verify(adapter, workers)


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


def _download(file: RemoteFile, folder: Path) -> None:
    processor = None
    if file.unpack:
        unpack = pooch.Unzip if file.url.endswith(".zip") else pooch.Untar
        processor = unpack(extract_dir=str(folder.resolve()))
    name = file.url.rsplit("/", 1)[-1]
    try:
        pooch.retrieve(
            file.url,
            known_hash=file.digest,
            fname=name,
            path=(paths.DATA / "downloads" if file.unpack else folder).resolve(),
            processor=processor,
            progressbar=sys.stderr.isatty(),
        )
    except (requests.RequestException, ValueError, OSError) as error:
        raise Problem(
            f"expected a download with {file.digest}, got {' '.join(str(error).split())}",
            where=file.url,
            remedy=f"Try again, or download it by hand and unpack it in {folder}.",
        ) from None


def _verify(adapter: Adapter, workers: int) -> None:
    cases = raw.cases(adapter)
    faults = []
    handled: dict[str, list[str]] = {}
    task = partial(_read_all, adapter.dataset)
    for outcome in executor.run(task, cases, workers, f"verify {adapter.name}"):
        if outcome.error is not None:
            faults.append(outcome.job.id)
            print(f"verify {adapter.name}: {outcome.job.id}: {outcome.error}", file=sys.stderr)
        for finding in outcome.result or ():
            handled.setdefault(finding.partition(":")[0], []).append(f"{outcome.job.id}: {finding}")
    for kind, volumes in sorted(handled.items()):
        print(f"  Handled: {kind} in {len(volumes)} volumes, such as {volumes[0]}")
    patients = len({case.patient for case in cases})
    if faults:
        raise Problem(
            f"expected {len(cases)} complete cases, got {len(faults)} with missing or damaged"
            f" files ({', '.join(faults[:3])}{', ...' if len(faults) > 3 else ''})",
            where=paths.raw(adapter.name),
            remedy="Delete the named cases and fetch again."
            if adapter.dataset.source.recipe
            else "Download or unpack the named files again.",
        )
    published = adapter.dataset.source.cases
    of = f" of {published} published" if published else ""
    print(
        f"  Verified: {len(cases)}{of} cases, {patients} patients, in {paths.raw(adapter.name)}:"
        " every file can be read (grids and label values are checked by convert)."
    )
    if len(cases) < published:
        print("  Warning: the rest is not here. If that is not meant, unpack the download again.")
    unused = raw.unused(adapter, cases)
    if unused:
        told = ", ".join(f"{count} in {folder}" for folder, count in list(unused.items())[:_TOLD])
        more = f" and {len(unused) - _TOLD} more folders" if len(unused) > _TOLD else ""
        print(f"  Left out: {sum(unused.values())} files that belong to no case: {told}{more}.")


def _read_all(dataset: Dataset, case: Case) -> tuple[str, ...]:
    """What was handled in the files of a case; raises for what is refused."""
    raw.files(case)
    image = hounsfield.confirmed(dataset, labels.read_image(case.image), case.image)
    drawn = map(labels.read_image, case.labels.values())
    return tuple(told for volume in (image, *drawn) for told in volume.findings)
