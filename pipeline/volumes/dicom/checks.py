"""What is odd about one DICOM series: the order in which the rules are asked, and their table.

Each rule stands in the module of what it is about: files, likeness, twins, places, values, padding.
Every match becomes a :class:`~pipeline.volumes.findings.Finding`. Nothing is decoded but files at
one place.
"""

from __future__ import annotations

from pipeline.params.dicom import USUAL, Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import geometry
from pipeline.volumes.dicom.of_files import FILES, of_files
from pipeline.volumes.dicom.of_likeness import LIKENESS, has_own_frames, of_likeness
from pipeline.volumes.dicom.of_padding import PADDING
from pipeline.volumes.dicom.of_photometric import PHOTOMETRIC
from pipeline.volumes.dicom.of_places import PLACES, UNEVEN, of_places
from pipeline.volumes.dicom.of_twins import TWINS, without_twins
from pipeline.volumes.dicom.of_values import VALUES, of_values
from pipeline.volumes.dicom.rules import Evidence, Match, Rule, Slices
from pipeline.volumes.findings import KINDS

RULES: tuple[Rule, ...] = (
    *FILES,
    *LIKENESS,
    *TWINS,
    *PLACES,
    *VALUES,
    *PHOTOMETRIC,
    *PADDING,
)
"""All rules, in the order in which they are asked."""
_COLUMNS = ("Rule", "Code", "Severity", "Expected", "Tolerance", "Why", "What to do")
_RULE_OFF = ("---",) * len(_COLUMNS)


def of_series(
    slices: Slices, limits: Limits, tolerances: Tolerances = USUAL
) -> tuple[Slices, list[Match]]:
    """The slices of a series in order, repeated ones left out, and what the rules match.

    What is refused ends the questions: later rules rely on what earlier ones ask.
    """
    unfit = of_files(slices, limits) or of_likeness(slices, tolerances)
    if unfit:
        return slices, unfit
    single, twins = without_twins(geometry.ordered(slices), tolerances)
    if any(twin.refused for twin in twins):
        return single, twins
    places = of_places(single, tolerances)
    if has_own_frames(single) and any(one.finding.code == UNEVEN for one in places):
        return single, [_frames_of(single)]
    return single, [*twins, *places, *of_values(single)]


def _frames_of(slices: Slices) -> Match:
    """The refusal of frames of reference that differ, where positions do not make up for it."""
    rule = next(one for one in LIKENESS if one.code == "mixed-frame-of-reference")
    count = len(slices)
    return rule.match(Evidence({"distinct": count, "files": count - 1, "of": count}))


def rules_table() -> str:
    """All rules about DICOM series as a Markdown table, in the order in which they are asked."""
    rows = [
        (
            KINDS[rule.code].heading,
            f"`{rule.code}`",
            rule.severity.value,
            rule.asks,
            rule.tolerance or "-",
            rule.reason,
            rule.remedy or "-",
        )
        for rule in RULES
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (_COLUMNS, _RULE_OFF, *rows))
