"""The series doctor: what lies in a folder of DICOM files, and what is odd about each series.

Files are found in nested folders whatever their names, and grouped by SeriesInstanceUID. The
rules are those of :mod:`pipeline.volumes.dicom.checks`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.params.limits import Limits
from pipeline.runtime import files as runtime_files
from pipeline.volumes.dicom import checks, header
from pipeline.volumes.dicom.checks import HANDLED, REFUSED, Finding
from pipeline.volumes.dicom.header import Instance

_SHOWN = 3  # suffixes in one line
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz")
_REMEDIES = (
    ((".nii", ".nii.gz", ".mgz"), "NIfTI and MGZ are read file by file: name the file itself."),
    ((".tar.gz", ".tar.xz", ".tgz", ".tar"), "These are archives: unpack them (tar -xf FILE)."),
    ((".zip",), "These are archives: unpack them (unzip FILE)."),
    ((".gz",), "DICOM compressed with gzip: unpack them (gunzip -r {folder})."),
    (_PACKED, "Unpack them."),
)


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


def examine(folder: Path, *, limits: Limits = Limits()) -> Folder:
    """Look at every file below ``folder``; pipes and devices are not opened.

    A series whose slices are larger than ``limits`` is refused. Raises :class:`Problem` where
    there is no DICOM at all.
    """
    pictures: dict[str, list[Instance]] = {}
    others: Counter[str] = Counter()
    foreign: Counter[str] = Counter()
    suffixes: Counter[str] = Counter()
    damaged = []
    for file in paths.entries_below(folder):
        if file.name.startswith("."):
            continue
        if strange := runtime_files.kind(file):
            foreign[strange] += 1
            continue
        try:
            found = header.read(file, limits)
        except Problem as problem:
            damaged.append(problem)
            continue
        if found == header.FOREIGN:
            suffix = _suffix(file)
            suffixes[suffix] += 1
            foreign[f"packed ({suffix})" if suffix.endswith(_PACKED) else found] += 1
        elif isinstance(found, str):
            others[found] += 1
        else:
            pictures.setdefault(found.series, []).append(found)
    if not (pictures or damaged or others):
        raise _without_dicom(folder, suffixes)
    series = tuple(_examined(uid, slices, limits) for uid, slices in sorted(pictures.items()))
    return Folder(series, tuple(sorted((others + foreign).items())), tuple(damaged))


def _suffix(file: Path) -> str:
    """What a file's name ends in, such as ".dcm.gz"; "" where that is a number of a UID."""
    known = [part for part in file.suffixes[-2:] if part[1:2].isalpha()]
    last = file.suffix.lower()
    if last in _PACKED or last == ".nii":
        return "".join(known).lower()
    return last if known and known[-1] == file.suffix else ""


def _without_dicom(folder: Path, suffixes: Counter[str]) -> Problem:
    """What a folder without DICOM holds instead, by suffix, and what to do about it."""
    ranking = suffixes.most_common()
    told = [
        f"{count:,} file{'s' * (count > 1)} {suffix or 'without suffix'}"
        for suffix, count in ranking[:_SHOWN]
    ]
    found = ", ".join([*told, *(["..."] if len(ranking) > _SHOWN else [])])
    usual = ranking[0][0] if ranking else ""
    remedies = (remedy for endings, remedy in _REMEDIES if usual.endswith(endings))
    return Problem(
        f"expected DICOM files, got {found}" if found else "expected DICOM files, found none",
        where=folder,
        remedy=next(remedies, "").format(folder=folder),
    )


def only_volume(folder: Path, *, limits: Limits = Limits()) -> Series:
    """The one series below ``folder`` that is a volume, with what was left out among its findings.

    Raises :class:`Problem` where there is none or more than one, or where it is refused.
    """
    found = examine(folder, limits=limits)
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


def _examined(uid: str, slices: Sequence[Instance], limits: Limits) -> Series:
    left_out = _left_out(slices)
    if left_out:
        return Series(uid, tuple(slices), (), left_out)
    unfit = checks.of_files(slices, limits) or checks.of_likeness(slices)
    if unfit:
        return Series(uid, tuple(slices), tuple(unfit))
    try:
        single, twins = checks.without_twins(checks.ordered(slices))
    except Problem as problem:  # files at one place are decoded to compare them
        unread = Finding("unreadable pixels", problem.what, REFUSED, (), problem.remedy)
        return Series(uid, tuple(slices), (unread,))
    if any(twin.action == REFUSED for twin in twins):
        return Series(uid, tuple(single), tuple(twins))
    found = (*twins, *checks.of_places(single), *checks.of_values(single))
    return Series(uid, tuple(single), found)


def _left_out(slices: Sequence[Instance]) -> str:
    """Why a series that is no volume is not missed; "" for what has to be read or refused."""
    if all(checks.is_localizer(one) for one in slices):
        return "localizer series"
    if all(any("DOSE" in part for part in one.image_type) for one in slices):
        return "dose report"
    placeless = all(one.position is None or one.orientation is None for one in slices)
    if placeless and all("Secondary Capture" in one.kind for one in slices):
        return "secondary capture"
    return ""
