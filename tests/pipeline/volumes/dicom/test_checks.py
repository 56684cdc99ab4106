"""The table of DICOM rules: what each asks, how far it may be off, and what to do."""

from __future__ import annotations

import pytest

from pipeline.params.dicom import USUAL
from pipeline.volumes.dicom import checks
from pipeline.volumes.findings import REFUSED

RULES = {rule.code: rule for rule in checks.RULES}


def test_every_rule_is_a_line_of_the_documentation() -> None:
    head, ruler, *lines = checks.rules_table().splitlines()
    cells = [line.count("|") for line in (head, ruler, *lines)]
    assert len(lines) == len(checks.RULES) > 30
    assert set(cells) == {8}
    for rule, line in zip(checks.RULES, lines, strict=True):
        assert f"| `{rule.code}` | {rule.severity} | {rule.asks} |" in line


def test_no_code_has_two_rules() -> None:
    assert len(RULES) == len(checks.RULES)


@pytest.mark.parametrize("code", RULES)
def test_a_rule_that_refuses_says_what_to_do(code: str) -> None:
    rule = RULES[code]
    assert bool(rule.remedy) == (rule.severity == REFUSED)
    assert rule.asks
    assert rule.reason


@pytest.mark.parametrize(
    ("code", "tolerance"),
    [
        ("mixed-size", USUAL.same_spacing),
        ("mixed-orientation", USUAL.same_direction),
        ("repeated-slices", USUAL.same_place_mm),
        ("off-line", USUAL.off_line_mm),
        ("gantry-tilt", USUAL.tilt_degrees),
    ],
)
def test_the_table_states_the_tolerance_that_is_used(code: str, tolerance: float) -> None:
    assert f"{tolerance:g}" in RULES[code].tolerance
