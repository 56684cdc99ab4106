"""Findings are records: their JSON comes back whole, and each has words with all its numbers."""

from __future__ import annotations

import json
import math
import string
from dataclasses import replace

import numpy as np
import pytest

from pipeline.volumes import findings
from pipeline.volumes.findings import DOUBT, HANDLED, KINDS, LABEL, Finding, finding

TILT = finding("gantry-tilt", degrees=12.34, aside_mm=1.0)
DISAGREE = finding("spacing-disagrees", step_mm=5.0, stated_mm=2.5)
RESAMPLED = finding("resampled", LABEL, from_grid="4x4x4 voxels", to_grid="8x8x8 voxels")


def numbers_of(code: str) -> dict[str, float]:
    """A number for every one that the sentence of a kind shows."""
    parsed = string.Formatter().parse(KINDS[code].sentence)
    return {name: 3 if spec != ":," else 3000 for _, name, spec, _ in parsed if name}


@pytest.mark.parametrize("code", KINDS)
def test_every_kind_has_words_and_comes_back_from_json(code: str) -> None:
    one = finding(code, **numbers_of(code))
    words = findings.text(one)
    assert words.startswith(KINDS[code].heading)
    assert "{" not in words
    assert findings.from_json(findings.to_json([one])) == (one,)


@pytest.mark.parametrize("code", KINDS)
def test_codes_are_short_words_with_hyphens(code: str) -> None:
    assert code == code.strip("-").lower()
    assert set(code) <= {*string.ascii_lowercase, "-"}


def test_a_code_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a code of a finding, got 'odd'"):
        Finding("odd", DOUBT)


def test_what_is_about_a_label_says_so_in_front() -> None:
    assert findings.text(RESAMPLED).startswith("label: resampled: by nearest neighbour from 4x4x4")
    assert findings.text(replace(TILT, about=LABEL)).startswith("label: gantry tilt: 12.3 degrees")


def test_words_are_chosen_by_severity() -> None:
    several = (TILT, DISAGREE, RESAMPLED)
    assert findings.texts(several, DOUBT) == findings.text(DISAGREE)
    assert findings.texts(several, HANDLED) == f"{TILT}; {RESAMPLED}"
    assert findings.texts(several) == f"{TILT}; {DISAGREE}; {RESAMPLED}"


def test_no_finding_is_an_empty_text() -> None:
    assert findings.to_json([]) == ""
    assert findings.from_json("") == ()
    assert findings.texts([], DOUBT) == ""


def test_a_finding_that_two_files_share_stands_once() -> None:
    assert findings.from_json(findings.to_json([TILT, DISAGREE, replace(TILT)])) == (TILT, DISAGREE)
    other = finding("gantry-tilt", degrees=3.0, aside_mm=1.0)
    assert findings.from_json(findings.to_json([TILT, other])) == (TILT, other)


def test_the_json_is_plain_and_names_everything() -> None:
    [record] = json.loads(findings.to_json([TILT]))
    assert record == {
        "code": "gantry-tilt",
        "severity": "handled",
        "about": "image",
        "numbers": {"degrees": 12.34, "aside_mm": 1.0},
    }


def test_numbers_are_rounded_so_that_machines_agree() -> None:
    one = finding("gantry-tilt", degrees=np.float64(1 / 3), aside_mm=np.float32(2 / 3))
    assert one.numbers == {"degrees": 0.333333, "aside_mm": 0.666667}
    assert {type(value) for value in one.numbers.values()} == {float}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_numbers_that_json_does_not_have_come_back(value: float) -> None:
    content = findings.to_json([finding("single-slice", thickness_mm=value)])
    json.loads(content, parse_constant=pytest.fail)
    [back] = findings.from_json(content)
    assert repr(back.numbers["thickness_mm"]) == repr(value)
    assert findings.text(back)


@pytest.mark.parametrize(
    "content",
    ["gantry tilt: 3 degrees", "3", "[3]", "{}x", '[{"code": "odd"}]', "[" * 100_000],
)
def test_what_is_no_list_of_findings_is_an_error(content: str) -> None:
    with pytest.raises(
        ValueError,
        match=r"list of findings|Expecting|Extra data",
    ):
        findings.from_json(content)
