"""What lies in a folder of DICOM files, and what is odd about each series.

Files in nested folders are read whatever their names, and grouped by SeriesInstanceUID. The
rules are those of :mod:`pipeline.volumes.dicom.checks`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.runtime import files as runtime_files
from pipeline.volumes.dicom import checks, header, packed, several
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.of_files import is_capture, is_localizer
from pipeline.volumes.dicom.of_places import UNEVEN
from pipeline.volumes.dicom.rules import Match
from pipeline.volumes.findings import finding

_SHOWN = 3  # suffixes in one line
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".rar", ".tar", ".tgz")
_REMEDIES = (
    ((".nii", ".nii.gz", ".mgz"), "NIfTI and MGZ are read file by file: name the file itself."),
    ((".tar.gz", ".tar.xz", ".tgz", ".tar"), "These are archives: unpack them (tar -xf FILE)."),
    ((".zip",), "These are archives: unpack them (unzip FILE)."),
    (packed.ENDINGS, "They hold no DICOM that gzip compressed: are they damaged? Copy them again."),
    ((".gz",), "If it is DICOM, compressed with gzip: unpack it (gunzip -r {folder})."),
    (_PACKED, "Unpack them."),
)


@dataclass(frozen=True)
class Series:
    """The pictures of one volume, by position along their normal, and what rules match.

    They are all of one SeriesInstanceUID or, of a series that holds several volumes, those of one:
    ``key`` says which, such as "echo 2". ``left_out`` states why the series is no volume and
    nobody misses it; "" for a volume.
    """

    uid: str
    slices: tuple[Instance, ...]
    matches: tuple[Match, ...]
    left_out: str = ""
    key: str = ""

    @property
    def refused(self) -> tuple[Match, ...]:
        """The matches that stand in the way."""
        return tuple(one for one in self.matches if one.refused)

    @property
    def uneven(self) -> bool:
        """Whether its slices have no one spacing."""
        return any(one.finding.code == UNEVEN for one in self.matches)

    @property
    def folder(self) -> Path:
        """The folder below which all its files lie."""
        parents = {one.file.parent for one in self.slices}
        if len(parents) == 1:
            return parents.pop()
        common = os.path.commonpath([os.path.normpath(one.absolute()) for one in parents])
        absolute = any(one.is_absolute() for one in parents)
        return Path(common if absolute else os.path.relpath(common))

    @property
    def facts(self) -> str:
        """Where it lies, UID, modality, number of files and size in pixels."""
        rows, columns = self.slices[0].shape
        files = {one.file for one in self.slices}
        modality = self.slices[0].modality or "no modality"
        count = f"{len(files)} file{'s' if len(files) > 1 else ''} of {columns}x{rows}"
        frames = f", {len(self.slices)} frames" if self.slices[0].frame is not None else ""
        which = f", {self.key}" if self.key else ""
        return f"{self.folder}: {modality}, {count}{frames}, {self.uid or 'no UID'}{which}"


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


def examine(folder: Path, *, limits: Limits = Limits(), tolerances: Tolerances = USUAL) -> Folder:
    """Look at every file below ``folder``; pipes and devices are not opened.

    A series whose slices are larger than ``limits`` is refused. Raises :class:`Problem` where
    there is no DICOM at all.
    """
    sorted_out = _SortedOut()
    for file in paths.entries_below(folder):
        if not file.name.startswith("."):
            sorted_out.add(file, limits)
    if not (sorted_out.pictures or sorted_out.damaged or sorted_out.others):
        raise _without_dicom(folder, sorted_out.suffixes)
    by_uid = sorted(sorted_out.pictures.items())
    series = tuple(
        one
        for uid, slices in by_uid
        for one in all_judged(uid, slices, limits, tolerances=tolerances)
    )
    others = sorted((sorted_out.others + sorted_out.foreign).items())
    return Folder(series, tuple(others), tuple(sorted_out.damaged))


@dataclass
class _SortedOut:
    """The files of a folder: pictures by series, damaged ones, and counts of all others.

    ``others`` are DICOM, ``foreign`` are not, ``suffixes`` are those of the foreign.
    """

    pictures: dict[str, list[Instance]] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    suffixes: Counter[str] = field(default_factory=Counter)
    damaged: list[Problem] = field(default_factory=list)

    def add(self, file: Path, limits: Limits) -> None:
        if strange := runtime_files.kind(file):
            self.foreign[strange] += 1
            return
        try:
            content = header.read_all(file, limits)
        except Problem as problem:
            self.damaged.append(problem)
            return
        if content == header.FOREIGN:
            suffix = _suffix(file)
            self.suffixes[suffix] += 1
            packed = suffix.endswith(_PACKED)
            self.foreign[f"packed ({suffix})" if packed else content] += 1
        elif isinstance(content, str):
            self.others[content] += 1
        else:
            self.pictures.setdefault(content[0].series, []).extend(content)


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
    counts = [
        f"{count:,} file{'s' * (count > 1)} {suffix or 'without suffix'}"
        for suffix, count in ranking[:_SHOWN]
    ]
    contents = ", ".join([*counts, *(["..."] if len(ranking) > _SHOWN else [])])
    usual = ranking[0][0] if ranking else ""
    remedies = (remedy for endings, remedy in _REMEDIES if usual.endswith(endings))
    otherwise = "" if contents else "Is everything unpacked, and the folder the right one?"
    return Problem(
        f"expected DICOM files, got {contents}" if contents else "expected DICOM files, found none",
        where=folder,
        remedy=next(remedies, otherwise).format(folder=folder),
    )


def only_volume(
    folder: Path, *, limits: Limits = Limits(), key: str = "", tolerances: Tolerances = USUAL
) -> Series:
    """The one volume below ``folder``, with what was left out among its matches.

    ``key``: which one, where a series holds several. Raises :class:`Problem` where there is none
    or more than one, or where it is refused.
    """
    content = examine(folder, limits=limits, tolerances=tolerances)
    if content.damaged:
        raise content.damaged[0]
    left_out = [f"{kind} ({count})" for kind, count in content.others] + [
        f"{one.left_out} ({len(one.slices)})" for one in content.series if one.left_out
    ]
    volumes = content.volumes
    if not volumes:
        raise Problem(f"expected a series of slices, got only {', '.join(left_out)}", where=folder)
    one_series = len({one.uid for one in volumes}) == 1
    if one_series or (key and [one.key for one in volumes].count(key) == 1):
        volumes = (chosen(volumes, key, folder),)
        others = "volumes of the same series" if one_series else "other volumes"
        if len(content.volumes) > 1:
            left_out.append(f"{others} ({len(content.volumes) - 1})")
    if len(volumes) > 1:
        facts = "; ".join(one.facts for one in volumes)
        raise Problem(
            f"expected one volume, got {len(volumes)} ({facts})",
            where=folder,
            remedy="Keep one series per folder: move the others out, or let the adapter name"
            " the folder of the right one.",
        )
    [series] = volumes
    if series.refused:
        raise refusal(series, folder)
    if left_out:
        beside = Match(finding("left-out", what=", ".join(left_out)))
        return replace(series, matches=(*series.matches, beside))
    return series


def chosen(volumes: Sequence[Series], key: str, where: Path) -> Series:
    """The volume of one series that ``key`` names; the only one without a key.

    Raises :class:`Problem` that lists the keys where there is none such.
    """
    keys = [one.key for one in volumes]
    if key in keys:
        return volumes[keys.index(key)]
    if key and keys == [""]:
        raise Problem(
            f"expected a series of several volumes, one of them {key!r}, got a series of one",
            where=where,
            remedy="Name the folder itself as the case's image.",
        )
    wanted = f"the volume {key!r}" if key else "one volume"
    raise Problem(
        f"expected {wanted}, got a series of {len(keys)}: {several.listed(keys)}",
        where=where,
        remedy=f"Name one of them: OneVolume(folder, {keys[0]!r}) as the image of a case, or"
        f" predict --volume {keys[0]!r}.",
    )


def refusal(series: Series, folder: Path | None = None) -> Problem:
    """Why a series that is refused is, below ``folder`` (that of its files, if not given)."""
    refused = series.refused
    first = refused[0]
    several = len(first.files) > 1
    also = f"; also {', '.join(one.finding.heading for one in refused[1:])}" if refused[1:] else ""
    return Problem(
        f"{first}{first.names if several else ''}{also}",
        where=first.files[0] if len(first.files) == 1 else folder or series.folder,
        remedy=first.remedy,
    )


def all_judged(
    uid: str, slices: Sequence[Instance], limits: Limits, tolerances: Tolerances = USUAL
) -> tuple[Series, ...]:
    """The volumes that ``slices`` of one SeriesInstanceUID, in any order, are; mostly one."""
    left_out = _left_out(slices)
    if left_out:
        return (Series(uid, tuple(slices), (), left_out),)
    kept, beside = _without_overviews(slices)
    series = []
    for key, part in several.parts(kept, tolerances.same_place_mm).items():
        ordered, matches = checks.of_series(part, limits, tolerances)
        matches = _without_numbers(matches) if key or beside else matches
        series.append(Series(uid, tuple(ordered), (*matches, *beside), key=key))
    return tuple(series)


def judged(uid: str, slices: Sequence[Instance], limits: Limits) -> Series:
    """The first of these volumes."""
    return all_judged(uid, slices, limits)[0]


def _without_overviews(slices: Sequence[Instance]) -> tuple[Sequence[Instance], tuple[Match, ...]]:
    """The slices of a series, and a note of the localizers and captures among them."""
    kept = [one for one in slices if not (is_localizer(one) or is_capture(one))]
    if not kept or len(kept) == len(slices):
        return slices, ()
    localizers = sum(map(is_localizer, slices))
    counts = {"localizer": localizers, "capture": len(slices) - len(kept) - localizers}
    what = ", ".join(f"{kind} ({count})" for kind, count in counts.items() if count)
    return kept, (Match(finding("left-out", what=what)),)


def _without_numbers(matches: Sequence[Match]) -> list[Match]:
    """Numbers run through all that a series holds, so that those of one volume have gaps."""
    return [one for one in matches if one.finding.code != "number-gaps"]


def _left_out(slices: Sequence[Instance]) -> str:
    """Why a series that is no volume is not missed; "" for what has to be read or refused."""
    if all(is_localizer(one) for one in slices):
        return "localizer series"
    if all(any("DOSE" in part for part in one.image_type) for one in slices):
        return "dose report"
    placeless = all(one.position is None or one.orientation is None for one in slices)
    if placeless and all("Secondary Capture" in one.kind for one in slices):
        return "secondary capture"
    return ""
