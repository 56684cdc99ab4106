"""Every option of every verb has an effect: with another value, the verb is called otherwise."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import datasets_spec
from pipeline import __main__ as door
from pipeline import paths
from tests.conftest import PROJECT

ONE, OTHER = datasets_spec.names()[:2]
CALLED = {
    "fetch": "pipeline.fetch.fetch",
    "convert": "pipeline.convert.convert",
    "augment": "pipeline.augment.augment",
    "split": "pipeline.split.split",
    "doctor": "pipeline.doctor.doctor",
    "report": "pipeline.report.report",
    "check": "pipeline.check.check",
    "audit": "pipeline.audit.audit",
    "drift": "pipeline.drift.drift",
}
VALUES = {
    "folder": ("one", "other"),
    "dataset": (ONE, OTHER),
    "url": ("", "--from=s3://bucket/raw"),
    "params": ("--params=one.yaml", "--params=other.yaml"),
    "workers": ("", "--workers=1001"),
    "cluster": ("", "--cluster=tcp://scheduler:8786"),
    "patient": ("--patient=^a", "--patient=^b"),
    "subset": ("", "--subset"),
    "all": ("", "--all"),
    "suggest": ("--suggest=one.csv", "--suggest=other.csv"),
    "debug": ("", "--debug"),
}


def parsers() -> dict[str, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser()
    verbs = parser.add_subparsers()
    door.add_verbs(verbs, "prog")
    return dict(verbs.choices)


OPTIONS = [
    (verb, action.dest)
    for verb, parser in parsers().items()
    for action in parser._actions
    if action.dest != "help"
]


def test_every_verb_is_here() -> None:
    assert {verb for verb, _ in OPTIONS} == set(CALLED)
    assert {option for _, option in OPTIONS} == set(VALUES)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> list[str]:
    """What verbs are called with, instead of being called."""
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    content["datasets"] = {ONE: None, OTHER: None}
    Path("one.yaml").write_text(yaml.safe_dump(content), "utf-8")
    content["convert"]["image_px"], content["limits"]["voxels"] = 64, 10
    Path("other.yaml").write_text(yaml.safe_dump(content), "utf-8")
    recorded: list[str] = []

    def record(*arguments: Any, **named: Any) -> list[Any]:
        recorded.append(repr((arguments, sorted(named.items()))))
        return []

    for name in CALLED.values():
        monkeypatch.setattr(name, record)

    def guarded(action: Callable[[], None], debug: bool) -> int:
        recorded.append(f"debug {debug}")
        action()
        return 0

    monkeypatch.setattr(door, "guarded", guarded)
    return recorded


@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_an_option_changes_what_the_verb_is_called_with(
    calls: list[str], verb: str, option: str
) -> None:
    others = [VALUES[one][0] for v, one in OPTIONS if v == verb and one != option]
    seen = []
    for value in VALUES[option]:
        calls.clear()
        door.main([verb, *filter(None, [*others, value])])
        assert len(calls) > 1
        seen.append(list(calls))
    assert seen[0] != seen[1]
