"""The volumes that one DICOM series may hold: echoes, b-values, time points, kinds of picture.

A series holds several where most places have more than one picture. The headers then have to say
which belong together: each of :data:`_MARKS` is asked in order, until every place has one picture
in each part. A part's key says by what it differs, such as "echo 2" or "magnitude, echo 1".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.volumes.dicom.geometry import ordered, position_of, vector
from pipeline.volumes.dicom.header import Instance

_SAME_DIRECTION = 1e-3  # of a cosine
_MOST = 0.5  # share of places with several pictures, from which on a series holds several volumes
_KINDS = {
    "M": "magnitude",
    "P": "phase",
    "R": "real",
    "I": "imaginary",
    "M_FFE": "magnitude",
    "M_SE": "magnitude",
    "M_IR": "magnitude",
    "PHASE MAP": "phase",
}
"""Scanners' words in ImageType, and what people call them."""
_RUN = 4  # consecutive numbers from which on a list of keys is shortened

Part = list[Instance]
Parts = dict[str, Part]


@dataclass(frozen=True)
class _Mark:
    """A header's word by which volumes differ: how it is read, and how its values are called."""

    of: Callable[[Instance], str]
    names: Callable[[Iterable[str]], Mapping[str, str]]

    def named(self, slices: Sequence[Instance]) -> Callable[[Instance], str]:
        """What the value of each of ``slices`` is called among them."""
        names = self.names({self.of(one) for one in slices})
        return lambda one: names[self.of(one)]


def parts(slices: Sequence[Instance], same_place_mm: float) -> Parts:
    """Key -> the pictures of a volume; {"": all} for a series that holds one.

    That is also what is left to other rules: pictures without a place, places of which few have
    several pictures, and pictures that no header distinguishes.
    """
    whole = {"": list(slices)}
    if any(None in (one.position, one.orientation, one.spacing) for one in slices):
        return whole
    if not all(map(_has_normal, slices)):
        return whole
    if not _is_one_direction(slices):
        return _of_stacks(slices) or whole
    places = _places(slices, same_place_mm)
    if sum(len(place) > 1 for place in places) < _MOST * len(places):
        return whole
    found = _split(list(slices), [mark.named(slices) for mark in _MARKS], same_place_mm)
    return dict(sorted(found.items(), key=lambda one: _order(one[0])))


def listed(keys: Sequence[str]) -> str:
    """Keys for people; a run of numbers is shortened.

    >>> listed(["magnitude", "phase"]), listed([f"time {number}" for number in range(1, 41)])
    ('magnitude, phase', 'time 1 to time 40')
    """
    shown: list[str] = []
    at = 0
    while at < len(keys):
        end = at
        while end + 1 < len(keys) and keys[end + 1] == _next(keys[end]):
            end += 1
        run = [keys[at], f"to {keys[end]}"] if end - at + 1 >= _RUN else list(keys[at : end + 1])
        shown += [" ".join(run)] if end - at + 1 >= _RUN else run
        at = end + 1
    return ", ".join(shown)


def _next(key: str) -> str:
    words, _, number = key.rpartition(" ")
    return f"{words} {int(number) + 1}" if number.isdigit() else ""


def _order(key: str) -> list[tuple[str, float]]:
    """Keys in the order of their words, and of their numbers where they have some."""
    order = []
    for part in key.split(", "):
        words, _, number = part.rpartition(" ")
        order.append((words, float(number)) if _is_number(number) and words else (part, 0.0))
    return order


def _places(slices: Sequence[Instance], same_place_mm: float) -> list[Part]:
    """The pictures at each place."""
    places: list[Part] = []
    for one in ordered(slices):
        here = places[-1][0] if places else None
        if here is None or np.abs(position_of(one) - position_of(here)).max() >= same_place_mm:
            places.append([one])
        else:
            places[-1].append(one)
    return places


def _of_stacks(slices: Sequence[Instance]) -> Parts:
    """The stacks of a series, if each has a direction of its own; else none."""
    stacks: Parts = defaultdict(list)
    for one in slices:
        stacks[f"stack {dict(one.varies).get('StackID', '')}"].append(one)
    if "stack " in stacks or not all(map(_is_one_direction, stacks.values())):
        return {}
    return dict(sorted(stacks.items(), key=lambda one: _order(one[0])))


def _has_normal(one: Instance) -> bool:
    axes = vector(one.orientation).reshape(2, 3)
    return bool(np.linalg.norm(np.cross(*axes)) > _SAME_DIRECTION)


def _is_one_direction(slices: Sequence[Instance]) -> bool:
    directions = np.array([one.orientation for one in slices], float)
    return bool(np.abs(directions - directions[0]).max() <= _SAME_DIRECTION)


def _split(
    group: Part,
    marks: Sequence[Callable[[Instance], str]],
    same_place_mm: float,
) -> Parts:
    """The parts of a group by the first mark that distinguishes pictures at one place.

    ``marks``: what each calls a picture in the whole series, so that "echo 2" is the same in all
    parts.
    """
    places = _places(group, same_place_mm)
    if all(len(place) == 1 for place in places):
        return {"": group}
    most = max(map(len, places))
    for at, name in enumerate(marks):
        names = {name(one) for one in group}
        here = any(len({name(one) for one in place}) > 1 for place in places)
        if not here or len(names) > most:
            continue
        split: Parts = {}
        for own in names:
            theirs = [one for one in group if name(one) == own]
            for key, part in _split(theirs, marks[at + 1 :], same_place_mm).items():
                split[", ".join(filter(None, (own, key)))] = part
        return split
    return _by_time(group, places)


def _by_time(group: Part, places: Sequence[Part]) -> Parts:
    """Time points by when each picture was acquired, if every place was taken equally often."""
    count = len(places[0])
    by_time = [sorted(place, key=_acquired) for place in places]
    for place in by_time:
        times = {_acquired(one) for one in place}
        if not len(times) == len(place) == count or "" in times:
            return {"": group}
    return {f"time {at + 1}": [place[at] for place in by_time] for at in range(count)}


def _acquired(one: Instance) -> str:
    stated = dict(one.varies)
    together = stated.get("AcquisitionDate", "") + stated.get("AcquisitionTime", "")
    return stated.get("AcquisitionDateTime") or (together if "AcquisitionTime" in stated else "")


def _stated(*tags: str) -> Callable[[Instance], str]:
    """The value of the first of some tags that has one."""

    def of(one: Instance) -> str:
        values = dict(one.varies)
        return next((values[tag] for tag in tags if values.get(tag)), "")

    return of


def _kind(one: Instance) -> str:
    """What kind of picture ImageType and ComplexImageComponent state."""
    return "\\".join((*one.image_type, dict(one.varies).get("ComplexImageComponent", "")))


def _kinds(values: Iterable[str]) -> Mapping[str, str]:
    """The words by which values of several words differ."""
    several = {value: value.split("\\") for value in sorted(values)}
    longest = max(map(len, several.values()))
    for words in several.values():
        words += [""] * (longest - len(words))
    differing = [at for at in range(longest) if len({words[at] for words in several.values()}) > 1]
    for at in differing:  # one word is enough, if it is a different one each time
        if len({words[at] for words in several.values()}) == len(several):
            differing = [at]
            break
    return {
        value: " ".join(
            _KINDS.get(words[at], words[at].lower().replace("_", " "))
            for at in differing
            if words[at]
        )
        or "other"
        for value, words in several.items()
    }


def _ranked(word: str) -> Callable[[Iterable[str]], Mapping[str, str]]:
    """Values by number: 1, 2, ... in their order."""

    def names(values: Iterable[str]) -> Mapping[str, str]:
        ascending = sorted(filter(None, values), key=_value)
        return {"": f"{word} 0"} | {
            value: f"{word} {number}" for number, value in enumerate(ascending, 1)
        }

    return names


def _counted(word: str) -> Callable[[Iterable[str]], Mapping[str, str]]:
    """Values under their own number, or by rank where they are none."""

    def names(values: Iterable[str]) -> Mapping[str, str]:
        if all(_is_number(value or "0") for value in values):
            return {value: f"{word} {float(value or 0):g}" for value in values}
        return _ranked(word)(values)

    return names


def _worded(word: str) -> Callable[[Iterable[str]], Mapping[str, str]]:
    return lambda values: {value: f"{word} {value or 'none'}" for value in values}


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _value(text: str) -> tuple[float, str]:
    return (float(text) if _is_number(text) else -math.inf, text)


_MARKS = (
    _Mark(_stated("StackID"), _counted("stack")),
    _Mark(_kind, _kinds),
    _Mark(_stated("EchoTime", "EchoNumbers"), _ranked("echo")),
    _Mark(_stated("InversionTime"), _ranked("inversion")),
    _Mark(_stated("DiffusionBValue"), _counted("b")),
    _Mark(_stated("DiffusionGradientOrientation"), _ranked("direction")),
    _Mark(_stated("TemporalPositionIdentifier"), _counted("time")),
    _Mark(_stated("TriggerTime"), _ranked("trigger")),
    _Mark(_stated("ConvolutionKernel"), _worded("kernel")),
    _Mark(_stated("AcquisitionNumber"), _ranked("acquisition")),
)
"""By what volumes of one series differ, in the order in which it is asked."""
