"""Is a scan like those that a model was trained on? Compared in numbers, each oddity with its own.

What training scans have in common travels in the model file: for every feature of their profiles
(:mod:`pipeline.volumes.profile`) its range over patients, and the mean histogram of their greys.
A range is widened before a scan counts as odd: with n patients by 1 + 2/n times a tolerance of the
feature's own and 2/n times its width, since few patients say little about the next one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.volumes import hounsfield
from pipeline.volumes import profile as profiles
from pipeline.volumes.profile import Geometry, Profile

WARN, REFUSE = "warn", "refuse"
QUANTILES = (0.05, 0.5, 0.95)
_ANY_MODALITY = ("", "OT")  # what files state that do not know
_FEW_VALUES = 16  # different ones in a label map
_AIR_BELOW = -500  # HU, and no value of an MR
_PADDING_HU = -1024  # every window shows this and all below as black
_GREYS_TOLERANCE = 10.0  # of 255, by which mean histograms may differ
_GREY_STEP = 256 / profiles.BINS
_DIGITS = 6


@dataclass(frozen=True)
class Oddity:
    """How a scan is unlike those of the training, in a sentence with its numbers.

    ``severity`` is :data:`WARN` or, for what cannot be right, :data:`REFUSE`.
    """

    code: str
    severity: str
    sentence: str


@dataclass(frozen=True)
class _Feature:
    """One number of a profile (None where it has none), and by how much it may leave the range.

    ``tolerance`` is a factor where ``ratio``, else in the feature's own unit. ``only``: the
    modality of models that it means something for, "" for all.
    """

    code: str
    words: str
    unit: str
    of: Callable[[Profile], float | None]
    tolerance: float
    ratio: bool = False
    only: str = ""

    def shown(self, value: float) -> str:
        if self.unit == "%":
            return f"{100 * value:.0f} %"
        return f"{value:.3g}{self.unit}" if abs(value) < 1000 else f"{value:.0f}{self.unit}"


def _placed(of: Callable[[Geometry], float]) -> Callable[[Profile], float | None]:
    return lambda one: None if one.geometry is None else of(one.geometry)


def _along(name: str, axis: int) -> Callable[[Profile], float | None]:
    return _placed(lambda one: float(getattr(one, name)[axis]))


def _value(index: int) -> Callable[[Profile], float | None]:
    """A percentile of the values in HU, padding below air as air; those of pictures are greys."""
    return lambda one: None if one.geometry is None else max(one.percentiles[index], _PADDING_HU)


def _pixel(one: Geometry) -> float:
    """The side of a pixel in mm: the mean of both sides beside the distance of slices."""
    return (sum(one.spacing) - max(one.spacing)) / 2


_WIDTHS = (("x", "from right to left"), ("y", "from front to back"), ("z", "from top to bottom"))
_EXTENT, _BODY = "extent-", "body-"
FEATURES = (
    _Feature("thickness", "slice thickness", " mm", _placed(lambda one: one.thickness), 1.2, True),
    _Feature("pixel", "pixel size", " mm", _placed(_pixel), 1.35, True),
    *(
        _Feature(f"{_EXTENT}{axis}", f"field of view {way}", " mm", _along("extent", at), 1.3, True)
        for at, (axis, way) in enumerate(_WIDTHS)
    ),
    *(
        _Feature(f"{_BODY}{axis}", f"body {way}", " mm", _along("body", at), 1.3, True)
        for at, (axis, way) in enumerate(_WIDTHS)
    ),
    _Feature("oblique", "slices turned", " degrees", _placed(lambda one: one.oblique), 10.0),
    _Feature("shear", "gantry tilted (shear)", " degrees", _placed(lambda one: one.shear), 10.0),
    _Feature("body", "share of the picture that is body", "%", lambda one: one.body, 0.12),
    _Feature("below", "share at or below the window", "%", lambda one: one.below, 0.12, only="CT"),
    _Feature("above", "share at or above the window", "%", lambda one: one.above, 0.08, only="CT"),
    _Feature("lowest", "lowest values (5th percentile)", " HU", _value(1), 150.0, only="CT"),
    _Feature("highest", "highest values (99.5th percentile)", " HU", _value(-1), 700.0, only="CT"),
)
"""All numbers that are compared."""
OF_CONTRAST = ("greys", "inverted", "body")
"""The codes of what another sequence of the same head may differ in."""
FEATURE = {one.code: one for one in FEATURES}


@dataclass(frozen=True)
class Known:
    """What the profiles of a model's training scans have in common.

    ``ranges``: of each feature by its code. ``values``: the fewest different values in a scan,
    ``least`` the smallest of their lowest percentiles, ``verdicts`` those on the values as HU.
    ``greys``: the mean histogram over patients, ``apart`` by how many greys each patient's differs
    from the mean of the others, in ascending order. ``planes``: all that there are.
    """

    patients: int
    ranges: Mapping[str, tuple[float, float]]
    values: int
    least: float
    verdicts: tuple[str, ...]
    greys: tuple[float, ...]
    apart: tuple[float, ...]
    planes: tuple[str, ...]


def known(scans: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """What training scans have in common, as JSON; ``scans`` are (patient, profile's JSON).

    Those of a case's pairs may come many times, and an empty profile counts as none. Without any
    profile there is nothing to know: {}. Beside what is compared, the JSON states the
    :data:`QUANTILES` of each feature. Raises ValueError for what is no profile.
    """
    texts = sorted({(patient, text) for patient, text in scans if text})
    by_patient: dict[str, list[Profile]] = {}
    for patient, text in texts:
        by_patient.setdefault(patient, []).append(profiles.from_json(text))
    if not by_patient:
        return {}
    every = [one for several in by_patient.values() for one in several]
    features = {
        feature.code: [value for one in every if (value := feature.of(one)) is not None]
        for feature in FEATURES
    }
    greys = np.array(
        [np.mean([one.greys for one in several], 0) for several in by_patient.values()]
    )
    others = (greys.sum(0) - greys) / max(1, len(greys) - 1)
    apart = [_apart(*pair) for pair in zip(greys, others, strict=True)] if len(greys) > 1 else []
    places = [one.geometry for one in every if one.geometry is not None]
    return {
        "patients": len(by_patient),
        "ranges": {
            code: _rounded((min(all_), max(all_))) for code, all_ in features.items() if all_
        },
        "quantiles": {
            code: _rounded(np.quantile(all_, QUANTILES)) for code, all_ in features.items() if all_
        },
        "values": min(one.values for one in every),
        "least": min(one.percentiles[0] for one in every),
        "greys": _rounded(greys.mean(0)),
        "apart": _rounded(sorted(apart)),
        "planes": sorted({one.plane for one in places}),
        "verdicts": sorted({one.hu for one in every}),
    }


def checked(content: object) -> Known | None:
    """What :func:`known` made, typed; None for {}. Raises ValueError for anything else."""
    if content == {}:
        return None
    try:
        if not isinstance(content, Mapping):
            raise TypeError(f"a {type(content).__name__}")
        return Known(
            patients=int(content["patients"]),
            ranges={str(code): _pair(ends) for code, ends in content["ranges"].items()},
            values=int(content["values"]),
            least=float(content["least"]),
            greys=_finite(content["greys"], profiles.BINS),
            apart=_finite(content["apart"]),
            planes=tuple(str(one) for one in content["planes"]),
            verdicts=tuple(str(one) for one in content["verdicts"]),
        )
    except (AttributeError, KeyError, TypeError, OverflowError, ValueError) as error:
        raise ValueError(f"no description of training scans: {error!r:.200}") from None


def oddities(profile: Profile, known: Mapping[str, Any], modality: str) -> tuple[Oddity, ...]:
    """How a scan differs from those that a model of ``modality`` (CT, MR) knows.

    ``known`` is what :func:`known` made; of {}, only what cannot be right is asked. Those refused
    come first. Raises ValueError for a description that is none.
    """
    theirs = checked(known)
    if profile.values == 1:
        value = f"every value is {profile.percentiles[0]:g}: there is no picture"
        return (Oddity("constant", REFUSE, value),)
    wrong = _impossible(profile, theirs, modality)
    if theirs is None:
        return tuple(wrong)
    if profile.values <= _FEW_VALUES < theirs.values:
        few = Oddity(
            "label-map",
            WARN,
            f"{profile.values} different values, as in a label map; the training scans have"
            f" {theirs.values} or more",
        )
        return (*wrong, few)
    air = _of_air(profile, theirs, modality)
    greys = _of_greys(profile, theirs, may_be_inverted=air is None)
    odd = [_of_plane(profile, theirs), air or _of_hu(profile, theirs, modality), greys]
    for feature in FEATURES:
        known_as = {one.code for one in odd if one is not None}
        instead = {"no-air"} if feature.code == "lowest" else {feature.code.replace(_BODY, _EXTENT)}
        if feature.only in ("", modality) and not known_as & instead:
            odd.append(_of_feature(feature, profile, theirs))
    return (*wrong, *(one for one in odd if one is not None))


def _impossible(profile: Profile, theirs: Known | None, modality: str) -> list[Oddity]:
    """What cannot be right: another modality, by header or values, and values that are no HU.

    A picture's values are greys, and tell nothing of HU.
    """
    wrong = []
    if profile.modality not in (*_ANY_MODALITY, modality):
        words = f"modality {profile.modality}; the training scans have {modality}"
        wrong.append(Oddity("modality", REFUSE, words))
    if profile.geometry is None:
        return wrong
    shifted = profile.hu == hounsfield.SHIFTED
    if modality == "CT" and shifted:
        words = f"values about {profile.hu_shift:+d} HU away from where a CT has air and tissue"
        wrong.append(Oddity("shifted", REFUSE, words))
    elif modality == "CT" and profile.unscaled and profile.hu != hounsfield.RIGHT:
        words = (
            "neither RescaleSlope nor RescaleIntercept, and values that cannot be confirmed as HU"
        )
        wrong.append(Oddity("unscaled", REFUSE, words))
    least = profile.percentiles[0]
    has_air = profile.hu == hounsfield.RIGHT and least < _AIR_BELOW
    if modality != "CT" and has_air and (theirs is None or theirs.least > _AIR_BELOW):
        words = f"values of a CT, with air at {least:.0f} HU; the training scans are {modality}"
        stated = profile.modality == modality  # an MR's values may be rescaled to anything
        wrong.append(Oddity("ct-values", WARN if stated else REFUSE, words))
    elif modality != "CT" and shifted and theirs and hounsfield.SHIFTED not in theirs.verdicts:
        words = f"values like those of a CT, {profile.hu_shift:+d} HU away; the training scans are"
        wrong.append(Oddity("ct-values", WARN, f"{words} {modality}"))
    return wrong


def _of_air(profile: Profile, theirs: Known, modality: str) -> Oddity | None:
    """A scan without air for a model of CT scans with air: an MR, or a CT cut off at 0 HU."""
    lowest = FEATURE["lowest"].of(profile)
    if modality != "CT" or lowest is None or "lowest" not in theirs.ranges:
        return None
    low, high = theirs.ranges["lowest"]
    if high > _AIR_BELOW or lowest <= _AIR_BELOW / 2:
        return None
    words = f"no air (is it a CT, in HU?): the lowest values are {lowest:.0f}"
    return Oddity("no-air", WARN, f"{words}; the training scans have {low:.0f} to {high:.0f} HU")


def _of_plane(profile: Profile, theirs: Known) -> Oddity | None:
    """Slices of another plane; among voxels that are cubes the thickness is judged alone."""
    plane = "" if profile.geometry is None else profile.geometry.plane
    if not plane or not theirs.planes or "" in theirs.planes or plane in theirs.planes:
        return None
    words = f"{plane} slices; the training scans have {', '.join(theirs.planes)} ones"
    return Oddity("plane", WARN, words)


def _of_feature(feature: _Feature, profile: Profile, theirs: Known) -> Oddity | None:
    value = feature.of(profile)
    if value is None or feature.code not in theirs.ranges:
        return None
    low, high = theirs.ranges[feature.code]
    least, most = _widened(feature, low, high, theirs.patients)
    if least <= value <= most:
        return None
    first, last = feature.shown(low), feature.shown(high)
    span = last if first == last else f"{first.removesuffix(feature.unit).strip()} to {last}"
    words = f"{feature.words} {feature.shown(value)}; the training scans have {span}"
    return Oddity(feature.code, WARN, words)


def _widened(feature: _Feature, low: float, high: float, patients: int) -> tuple[float, float]:
    """The range from ``low`` to ``high`` of so many patients, as far as the next may leave it."""
    few = 2 / max(1, patients)
    if not feature.ratio:
        slack = (1 + few) * feature.tolerance + few * (high - low)
        return low - slack, high + slack
    if low <= 0:
        return -math.inf, math.inf
    factor = math.exp((1 + few) * math.log(feature.tolerance) + few * math.log(high / low))
    return low / factor, high * factor


def _of_hu(profile: Profile, theirs: Known, modality: str) -> Oddity | None:
    """Values that may be no HU, for a model of CT scans whose values are."""
    in_doubt = profile.geometry is not None and profile.hu == hounsfield.UNDECIDED
    if modality != "CT" or not in_doubt or hounsfield.UNDECIDED in theirs.verdicts:
        return None
    words = "values that cannot be confirmed as HU; those of the training scans can"
    return Oddity("hu-in-doubt", WARN, words)


def _of_greys(profile: Profile, theirs: Known, may_be_inverted: bool) -> Oddity | None:
    """Greys that are spread otherwise than those of the training, or the other way round."""
    ours, mean = np.array(profile.greys), np.array(theirs.greys)
    most = theirs.apart[-1] if theirs.apart else 0.0
    limit = (1 + 2 / max(1, theirs.patients)) * (_GREYS_TOLERANCE + 1.5 * most)
    apart, turned = _apart(ours, mean), _apart(ours[::-1], mean)
    if apart <= limit:
        return None
    if may_be_inverted and turned <= limit and turned < apart / 2:
        words = (
            f"greys look inverted: {apart:.0f} of 255 from the training scans', {turned:.0f} when"
        )
        return Oddity("inverted", WARN, f"{words} dark and bright are exchanged")
    words = f"greys differ by {apart:.0f} of 255 from the training scans' mean, theirs by up to"
    return Oddity("greys", WARN, f"{words} {most:.0f}")


def _apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How many greys of 255 have to be moved on average to make one histogram of another.

    The earth mover's distance in one dimension: the area between both cumulated histograms.
    """
    return float(np.abs(np.cumsum(one - other)).sum()) * _GREY_STEP


def _rounded(numbers: Iterable[float]) -> list[float]:
    return [float(f"{float(number):.{_DIGITS}g}") for number in numbers]


def _finite(numbers: Any, count: int | None = None) -> tuple[float, ...]:
    found = tuple(float(number) for number in numbers)
    if not all(map(math.isfinite, found)) or (count is not None and len(found) != count):
        raise ValueError(f"{numbers!r:.100}")
    return found


def _pair(ends: Any) -> tuple[float, float]:
    low, high = _finite(ends, 2)
    return low, high
