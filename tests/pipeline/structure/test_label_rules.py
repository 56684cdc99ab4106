"""Label rules in JSON and in words."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from pipeline.structure import label_rules
from pipeline.structure.label_rules import APART, DIVIDED, NESTED, ONCE, LabelRule
from tests.conftest import Refused
from tests.support.anatomy import CORE, HEAD, NAMES, SHELL, TAIL
from tests.support.every import every

WORDS = {
    LabelRule(DIVIDED, (HEAD, TAIL), (0.0, 1.0, 0.0)): "head and tail are divided by a coronal"
    " plane, head on the anterior side",
    LabelRule(DIVIDED, (HEAD, TAIL), (-1.0, 0.0, 0.0)): "head and tail are divided by a sagittal"
    " plane, head on the left side",
    LabelRule(DIVIDED, (HEAD, TAIL), (0.0, 0.0, 1.0)): "head and tail are divided by an axial"
    " plane, head on the superior side",
    LabelRule(DIVIDED, (HEAD, TAIL), (0.0, 0.6, -0.8)): "head and tail are divided by an oblique"
    " plane (normal 0.00, 0.60, -0.80), head on the inferior side",
    LabelRule(DIVIDED, (HEAD, TAIL), (0.0, -1.0, 0.0), True): "head and tail are divided by a plane"
    " of its own direction in each patient, head on the posterior side",
    LabelRule(ONCE, (CORE,)): "core is one piece",
    LabelRule(NESTED, (SHELL, CORE)): "core lies inside shell and borders on nothing else",
    LabelRule(APART, (HEAD, SHELL)): "head and shell lie side by side and never touch",
}


@every(["rule", "words"], WORDS.items())
def test_a_rule_has_words_and_survives_json(rule: LabelRule, words: str) -> None:
    assert rule.in_words(NAMES) == words
    assert LabelRule.of(json.loads(json.dumps(asdict(rule)))) == rule


SOUND = asdict(LabelRule(DIVIDED, (1, 2), (0.0, 1.0, 0.0)))
NONSENSE = [
    {"kind": "twisted"},
    {"classes": [1]},
    {"classes": [1, 1]},
    {"classes": [0, 1]},
    {"classes": ["one", 2]},
    {"classes": 3},
    {"normal": [0.0, 1.0]},
    {"normal": [0.0, 1.0, 1.0]},
    {"normal": [0.0, math.nan, 1.0]},
    {"normal": []},
    {"kind": "once", "classes": [1]},  # with a normal
]


@every("change", NONSENSE)
def test_nonsense_is_no_rule(change: dict[str, Any]) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        LabelRule.of(SOUND | change)


def test_a_card_states_rules_or_none(tmp_path: Path, refused: Refused) -> None:
    file = tmp_path / "dataset.json"
    assert label_rules.of_card(file) == ()
    for content, rules in (
        ({}, ()),
        ({"label_rules": {"rules": []}}, ()),
        ({"label_rules": {"rules": [SOUND | {"sentence": "words"}]}}, (LabelRule.of(SOUND),)),
    ):
        file.write_text(json.dumps(content), "utf-8")
        assert label_rules.of_card(file) == rules
    for text in ("[]", "{", '{"label_rules": 3}', '{"label_rules": {"rules": [{}]}}'):
        file.write_text(text, "utf-8")
        assert refused(lambda: label_rules.of_card(file)).where == str(file)
