"""Which scans are the sequences of one case: decided by their names alone, or not at all.

A pattern, such as ``sub-*_T1w.nii.gz``, states which names are of a channel. It is compared with
the name of a file or a DICOM folder or, where it has a "/", with its path below the input. Scans
are of one case where ``{case}`` in their patterns, or else what each ``*`` stands for, is the same
text and, of a pattern without "/", where they lie in the same folder. ``?`` and ``[Tt]`` stand for
one character and do not count.

Without patterns, a channel's name is looked for as a word in the names, the last part of the path
first; whatever else the path says has to be the same for the scans of one case. Where no name has
such a word, the endings ``_0000``, ``_0001``, ... of nnU-Net are the first, the second, ...
channel.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_spec.contract import Problem
from pipeline.volumes import scan_names
from pipeline.volumes.scan_names import Place
from pipeline.volumes.search import PICTURE, Scan

_MOST = 4  # names in a message
_CASE = "{case}"
_STATE = "State which is which, such as --channel {}='*_{}.nii.gz'."
_WILDCARD = re.compile(r"\*|\?|\[[^]]+\]|\{case\}")
_SEPARATORS = "_-. "
_Key = tuple[str, ...]
_Places = Mapping[str, tuple[Scan, str, str]]
"""Name -> scan, the folder of its input, and its path below that."""


@dataclass(frozen=True)
class Group:
    """What is predicted together: its name, and its scans by channel ("" where one scan is all)."""

    name: str
    scans: Mapping[str, Scan]

    @property
    def first(self) -> Scan:
        """The scan whose geometry and name the results have."""
        return next(iter(self.scans.values()))


def stated(options: Sequence[str]) -> dict[str, str]:
    """Channel -> pattern, of texts NAME=PATTERN. Raises :class:`Problem` for anything else.

    >>> stated(["t1w=*_T1w.nii.gz"])
    {'t1w': '*_T1w.nii.gz'}
    """
    patterns: dict[str, str] = {}
    for one in options:
        name, _, pattern = one.partition("=")
        if not name or not pattern or name in patterns:
            raise Problem(
                f"expected a different NAME=PATTERN each time, got {one!r}",
                where="--channel",
                remedy="Quote it, so that the shell leaves * alone: --channel t1w='*_T1w.nii.gz'",
            )
        patterns[name] = pattern
    return patterns


def alone(scans: Sequence[Scan]) -> list[Group]:
    """Every scan by itself."""
    return [Group(one.name, {"": one}) for one in scans]


def grouped(
    scans: Sequence[Scan],
    sequences: Sequence[str],
    patterns: Mapping[str, str],
    inputs: Sequence[Path],
    reserved: Collection[str] = (),
) -> tuple[list[Group], list[Scan]]:
    """The scans of each case by channel, in the order of ``sequences``, and those of none.

    Raises :class:`Problem` that lists the names where a scan fits two channels or two scans are
    the same channel of a case, where a pattern is of no channel, and where nothing fits at all.
    """
    _require_known(patterns, sequences)
    volumes = [one for one in scans if one.kind != PICTURE]
    places = {one.name: (one, *_below(one, inputs)) for one in volumes}
    keys = _by_pattern(places, patterns) if patterns else _by_word(places, sequences)
    _require_matches(places, keys, patterns)
    cases: dict[_Key, dict[str, Scan]] = defaultdict(dict)
    for name, (channel, key) in keys.items():
        one = places[name][0]
        other = cases[key].setdefault(channel, one)
        if other is not one:
            raise Problem(
                f"expected one scan of the channel {channel} in a case, got {_named([other, one])}",
                remedy=_STATE.format(channel, channel),
            )
    if not cases:
        example = f", such as {volumes[0].path}" if volumes else ""
        raise Problem(
            f"expected scans of the channels {', '.join(sequences)}, got none among"
            f" {len(volumes)} scans{example}",
            remedy=_STATE.format(sequences[0], sequences[0]),
        )
    _require_agreement(list(cases.values()))
    names = scan_names.unique([Place(Path(*key)) for key in cases], reserved)
    groups = [
        Group(name, {one: case[one] for one in sequences if one in case})
        for name, case in zip(names, cases.values(), strict=True)
    ]
    return sorted(groups, key=lambda one: one.name), [one for one in scans if one.name not in keys]


def _require_agreement(cases: Sequence[Mapping[str, Scan]]) -> None:
    """Raises :class:`Problem` for scans of several channels of which no two are of one case.

    Their names differ in more than the channel, such as by the number of the series.
    """
    found = {channel: one for case in cases for channel, one in case.items()}
    if len(found) > 1 and all(len(case) == 1 for case in cases):
        raise Problem(
            "expected names that differ in nothing but the channel for the scans of a case, got"
            f" {_named(list(found.values()))} and no two that agree",
            remedy="State what scans of a case have in common, such as --channel"
            " t1w='{case}/*T1w*'; where no {case} does, each * has to stand for the same.",
        )


def _require_matches(
    places: _Places, keys: Mapping[str, tuple[str, _Key]], patterns: Mapping[str, str]
) -> None:
    """Raises :class:`Problem` for a pattern that no scan fits, with what it was compared with."""
    fitting = {channel for channel, _ in keys.values()}
    for channel, pattern in patterns.items():
        if channel in fitting:
            continue
        paths = [path for _, _, path in places.values()]
        compared = [path if "/" in pattern else Path(path).name for path in paths]
        example = f", such as {compared[0]}" if compared else ""
        raise Problem(
            f"expected a scan of the channel {channel}, got none among {len(compared)}{example}"
            f" that fits {pattern!r}",
            where="--channel",
            remedy="Correct the pattern (* and {case} stand for a part of one name or folder),"
            " or leave it out where no case has this channel.",
        )


def _require_known(patterns: Mapping[str, str], sequences: Sequence[str]) -> None:
    for name, pattern in patterns.items():
        if name not in sequences:
            raise Problem(
                f"expected channels among {', '.join(sequences)}, got {name!r}", where="--channel"
            )
        if pattern.count(_CASE) > 1:
            raise Problem(f"expected {_CASE} once, got {pattern!r}", where=f"--channel {name}")


def _below(scan: Scan, inputs: Sequence[Path]) -> tuple[str, str]:
    """The folder of the input that a scan lies below, and its path there."""
    path = Path(scan_names.normal(scan.path))
    for one in inputs:
        folder = Path(scan_names.normal(one))
        if path != folder and path.is_relative_to(folder):
            return str(folder), path.relative_to(folder).as_posix()
    return str(path.parent), path.name


def _by_pattern(places: _Places, patterns: Mapping[str, str]) -> dict[str, tuple[str, _Key]]:
    """Channel and case of every scan, by its name, that a pattern fits."""
    found = {}
    for name, (scan, folder, path) in places.items():
        fitting = [
            (channel, (folder, *key))
            for channel, pattern in patterns.items()
            if (key := _matched(pattern, path)) is not None
        ]
        _require_one([channel for channel, _ in fitting], scan)
        if fitting:
            found[name] = fitting[0]
    return found


def _matched(pattern: str, path: str) -> _Key | None:
    """What a path has where the pattern has {case} or, without it, *; None: no match."""
    parent, _, name = path.rpartition("/")
    whole = "/" in pattern
    text, expression, end = path if whole else name, "", 0
    for wildcard in _WILDCARD.finditer(pattern):
        expression += re.escape(pattern[end : wildcard.start()])
        expression += _expression(wildcard[0], wildcard[0] == (_CASE if _CASE in pattern else "*"))
        end = wildcard.end()
    match = re.fullmatch(expression + re.escape(pattern[end:]), text)
    if match is None:
        return None
    inner = parent.split("/") if parent and not whole else []
    return (*inner, *match.groups())


def _expression(wildcard: str, captured: bool) -> str:
    """A wildcard of a pattern as a regular expression."""
    plain = {"*": "[^/]*", "?": "[^/]", _CASE: "[^/]+"}.get(wildcard)
    plain = plain or wildcard.replace("[!", "[^").replace("\\", "\\\\")
    return f"({plain})" if captured else f"(?:{plain})"


def _by_word(places: _Places, sequences: Sequence[str]) -> dict[str, tuple[str, _Key]]:
    """Channel and case of every scan, by its name, whose path has the name of a channel."""
    words = {name: _word(re.escape(name)) for name in sequences}
    numbers = {name: re.compile(f"_{at:04d}$") for at, name in enumerate(sequences)}
    for ways in (words, numbers):
        found = {
            name: (channel, (folder, *key))
            for name, (scan, folder, path) in places.items()
            for channel, key in _fits(scan, path, ways)
        }
        if found:
            return found
    return {}


def _word(text: str) -> re.Pattern[str]:
    return re.compile(f"(?<![a-z0-9]){text}(?![a-z0-9])", re.IGNORECASE)


def _fits(scan: Scan, path: str, ways: Mapping[str, re.Pattern[str]]) -> Iterator[tuple[str, _Key]]:
    """The channel of a path, and what is left of it; nothing where it has none."""
    parts = path.split("/")
    parts[-1] = parts[-1][: len(parts[-1]) - len(_ending(scan))]
    for at in reversed(range(len(parts))):
        fitting = [channel for channel, way in ways.items() if way.search(parts[at])]
        _require_one(fitting, scan)
        for channel in fitting:
            pieces = [one.strip(_SEPARATORS) for one in ways[channel].split(parts[at])]
            left = "_".join(filter(None, pieces))
            yield channel, (*parts[:at], *filter(None, [left]), *parts[at + 1 :])
            return


def _ending(scan: Scan) -> str:
    """What a file's name ends in, as it is written there; "" of a folder."""
    return "" if scan.series is not None else scan_names.ending(scan.path)


def _require_one(channels: Sequence[str], scan: Scan) -> None:
    if len(channels) > 1:
        raise Problem(
            f"expected a scan of one channel, got one that may be {' or '.join(channels)}",
            where=scan.path,
            remedy=_STATE.format(channels[0], channels[0]),
        )


def _named(scans: Sequence[Scan]) -> str:
    return " and ".join(str(one.path) for one in scans[:_MOST])
