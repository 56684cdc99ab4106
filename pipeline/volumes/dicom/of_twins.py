"""Rules about DICOM files at one place: one slice, or several that contradict each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets_spec.contract import Problem
from pipeline.params.dicom import USUAL, Tolerances
from pipeline.volumes.dicom import pixels, rules
from pipeline.volumes.dicom.geometry import depth_of, normal_of, position_of
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.dicom.rules import Evidence, Match, SeriesRule, Slices, files_of

_SHOWN = 3  # odd values or places in one line


@dataclass(frozen=True)
class _Twins:
    """Slices of their own places, and files at the same: like the slice kept there, or not.

    ``places`` counts the further files at each depth, in mm; ``problem`` says why files could not
    be compared.
    """

    kept: list[Instance]
    same: list[Instance]
    differing: list[Instance]
    places: Counter[float]
    problem: Problem | None = None

    @property
    def at_mm(self) -> str:
        return ", ".join(f"{place:g}" for place in sorted(self.places)[:_SHOWN])

    @property
    def everywhere(self) -> bool:
        return len(self.places) == len(self.kept)


def _of_undecodable(twins: _Twins) -> Evidence | None:
    return Evidence({"problem": twins.problem.what}) if twins.problem else None


def _of_conflicts(everywhere: bool) -> Callable[[_Twins], Evidence | None]:
    def check(twins: _Twins) -> Evidence | None:
        if not twins.differing or twins.everywhere != everywhere:
            return None
        return Evidence({"at_mm": twins.at_mm}, files_of(twins.differing))

    return check


def _of_repeats(twins: _Twins) -> Evidence | None:
    if not twins.same:
        return None
    return Evidence({"files": len(twins.same), "at_mm": twins.at_mm}, files_of(twins.same))


_SAME_PLACE = f"{USUAL.same_place_mm:g} mm"
TWINS: tuple[SeriesRule[_Twins], ...] = (
    SeriesRule(
        code="undecodable-pixels",
        asks="files at one position can be decoded, to compare them",
        reason="which of them is the slice is unknown",
        remedy="The file may be damaged; export or download it again.",
        check=_of_undecodable,
    ),
    SeriesRule(
        code="several-volumes",
        asks="not every position has several different pictures",
        tolerance=_SAME_PLACE,
        reason="they are time points, echoes or diffusion weightings, each a volume of its own",
        remedy="No header says which pictures belong together: keep one volume in the folder.",
        check=_of_conflicts(everywhere=True),
    ),
    SeriesRule(
        code="conflicting-slices",
        asks="files at one position hold the same pixels",
        tolerance=_SAME_PLACE,
        reason="one of them does not belong there",
        remedy="Take the wrong one out.",
        check=_of_conflicts(everywhere=False),
    ),
    SeriesRule(
        code="repeated-slices",
        asks="every position has one file",
        tolerance=_SAME_PLACE,
        reason="a slice that was exported twice is kept once",
        check=_of_repeats,
    ),
)


def without_twins(
    ordered: Slices, tolerances: Tolerances = USUAL
) -> tuple[list[Instance], list[Match]]:
    """Slices of their own places. Files at one place are one slice only if their pixels agree."""
    twins = _twins(ordered, tolerances.same_place_mm)
    matches = rules.until_refused(TWINS, twins)
    return (list(ordered) if any(one.refused for one in matches) else twins.kept), matches


def _twins(ordered: Slices, same_place_mm: float) -> _Twins:
    normal = normal_of(ordered[0])
    twins = _Twins([], [], [], Counter())
    for one in ordered:
        last = twins.kept[-1] if twins.kept else None
        if last is None or np.abs(position_of(one) - position_of(last)).max() >= same_place_mm:
            twins.kept.append(one)
            continue
        twins.places[round(depth_of(last, normal), 1)] += 1
        try:
            same = np.array_equal(pixels.pixels(one), pixels.pixels(last))
        except Problem as problem:
            return _Twins([], [], [], Counter(), problem)
        if same:
            twins.same.append(one)
        else:
            twins.differing.extend([last, one])
    return twins
