"""The series doctor: what lies in a folder of DICOM files, and what is odd about each series.

Files are found in nested folders whatever their names, and grouped by SeriesInstanceUID. The
rules are those of :mod:`pipeline.findings`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline import findings, instance, paths
from pipeline.findings import HANDLED, REFUSED, Finding
from pipeline.instance import Instance


@dataclass(frozen=True)
class Series:
    """The pictures of one SeriesInstanceUID, by position along their normal, and the findings.

    ``left_out`` says why the series is no volume and nobody misses it; "" for a volume.
    """

    uid: str
    slices: tuple[Instance, ...]
    findings: tuple[Finding, ...]
    left_out: str = ""

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.action == REFUSED)

    @property
    def facts(self) -> str:
        """Where it lies, UID, modality, number of files and size in pixels."""
        rows, columns = self.slices[0].shape
        files = {one.file for one in self.slices}
        where = os.path.commonpath([file.parent for file in files])
        modality = self.slices[0].modality or "no modality"
        count = f"{len(files)} file{'s' if len(files) > 1 else ''} of {columns}x{rows}"
        return f"{where}: {modality}, {count}, {self.uid or 'no UID'}"


@dataclass(frozen=True)
class Folder:
    """What lies below a folder: its series, which other files were left out, by kind, and
    what is wrong with the files that should be DICOM and cannot be read."""

    series: tuple[Series, ...]
    others: tuple[tuple[str, int], ...]
    damaged: tuple[Problem, ...]

    @property
    def volumes(self) -> tuple[Series, ...]:
        """The series that are to be read as volumes."""
        return tuple(one for one in self.series if not one.left_out)


def examine(folder: Path) -> Folder:
    """Look at every file below ``folder``.

    Raises :class:`Problem` where there is no DICOM at all.
    """
    pictures: dict[str, list[Instance]] = {}
    others: Counter[str] = Counter()
    damaged = []
    for file in paths.files_below(folder):
        if file.name.startswith("."):
            continue
        try:
            found = instance.read(file)
        except Problem as problem:
            damaged.append(problem)
            continue
        if isinstance(found, str):
            others[found] += 1
        else:
            pictures.setdefault(found.series, []).append(found)
    if not pictures and not damaged and not set(others) - {instance.FOREIGN}:
        raise Problem("expected DICOM files, found none", where=folder)
    series = tuple(_examined(uid, slices) for uid, slices in sorted(pictures.items()))
    return Folder(series, tuple(sorted(others.items())), tuple(damaged))


def only_volume(folder: Path) -> Series:
    """The one series below ``folder`` that is a volume, with what was left out among its findings.

    Raises :class:`Problem` where there is none or more than one, or where it is refused.
    """
    found = examine(folder)
    if found.damaged:
        raise found.damaged[0]
    left_out = [f"{kind} ({count})" for kind, count in found.others] + [
        f"{one.left_out} ({len(one.slices)})" for one in found.series if one.left_out
    ]
    if not found.volumes:
        raise Problem(f"expected a series of slices, got only {', '.join(left_out)}", where=folder)
    if len(found.volumes) > 1:
        told = "; ".join(one.facts for one in found.volumes)
        raise Problem(
            f"expected one series, got {len(found.volumes)} ({told})",
            where=folder,
            remedy="Keep one series per folder: move the others out, or let the adapter name"
            " the folder of the right one.",
        )
    [series] = found.volumes
    if series.refused:
        raise _problem(series.refused, folder)
    if left_out:
        beside = Finding("left out", ", ".join(left_out), HANDLED)
        return replace(series, findings=(*series.findings, beside))
    return series


def _problem(refused: Sequence[Finding], folder: Path) -> Problem:
    first = refused[0]
    several = len(first.files) > 1
    also = f"; also {', '.join(one.kind for one in refused[1:])}" if refused[1:] else ""
    return Problem(
        f"{first}{first.names if several else ''}{also}",
        where=first.files[0] if len(first.files) == 1 else folder,
        remedy=first.remedy,
    )


def _examined(uid: str, slices: Sequence[Instance]) -> Series:
    left_out = _left_out(slices)
    if left_out:
        return Series(uid, tuple(slices), (), left_out)
    unfit = findings.of_files(slices) or findings.of_likeness(slices)
    if unfit:
        return Series(uid, tuple(slices), tuple(unfit))
    single, twins = findings.without_twins(findings.ordered(slices))
    if any(twin.action == REFUSED for twin in twins):
        return Series(uid, tuple(single), tuple(twins))
    found = (*twins, *findings.of_places(single), *findings.of_values(single))
    return Series(uid, tuple(single), found)


def _left_out(slices: Sequence[Instance]) -> str:
    """Why a series that is no volume is not missed; "" for what has to be read or refused."""
    if all(findings.is_localizer(one) for one in slices):
        return "localizer series"
    if all(any("DOSE" in part for part in one.image_type) for one in slices):
        return "dose report"
    placeless = all(one.position is None or one.orientation is None for one in slices)
    if placeless and all("Secondary Capture" in one.kind for one in slices):
        return "secondary capture"
    return ""
