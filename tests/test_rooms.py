"""Each room builds on the rooms before it, so that a scan passes them in one direction."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.runtime.imports import imported
from tests.conftest import PROJECT

ORDER = {
    "pipeline": (
        "paths", "runtime", "params", "volumes", "labels", "sources", "virtual", "warps", "pairs",
        "structure", "splits", "audits", "pages",
    ),
    "model": (
        "params", "network_input", "regions", "number_format", "normalization", "flexunet",
        "inference", "delivery", "provenance", "training", "scoring", "folds",
        "planning",
    ),
}  # fmt: skip
"""The rooms of a floor (packages, and modules that stand alone), lowest first; verbs are above."""
VERBS = {
    "pipeline": (
        "api",
        "audit",
        "augment",
        "check",
        "convert",
        "doctor",
        "drift",
        "fetch",
        "report",
        "split",
    ),
    "model": (
        "compare",
        "crossvalidate",
        "ensemble",
        "evaluate",
        "export",
        "inspect",
        "learningcurve",
        "plan",
        "predict",
        "preflight",
        "train",
    ),
}
DOORS = ("__init__", "__main__", "cli")
MODULES = [
    file.relative_to(PROJECT) for floor in ORDER for file in sorted((PROJECT / floor).rglob("*.py"))
]


def room(parts: tuple[str, ...]) -> str:
    """Of ("pipeline", "volumes", "nifti"): volumes; "" for a floor itself."""
    return parts[1] if len(parts) > 1 else ""


def test_every_room_and_verb_of_a_floor_is_listed() -> None:
    for floor, rooms in ORDER.items():
        listed = {*rooms, *VERBS[floor], *DOORS}
        there = {path.stem for path in (PROJECT / floor).iterdir() if path.suffix in ("", ".py")}
        assert there - {"__pycache__", *DOORS} == listed - {*DOORS}


@pytest.mark.parametrize(
    "file", [file for file in MODULES if room(file.with_suffix("").parts) in ORDER[file.parts[0]]],
    ids=str,
)  # fmt: skip
def test_a_room_builds_on_lower_rooms_alone(file: Path) -> None:
    floor, here = file.parts[0], room(file.with_suffix("").parts)
    rooms = ORDER[floor]
    used = {room(tuple(name.split("."))) for name in imported(file) if name.startswith(f"{floor}.")}
    above = {name for name in used - {here} if name not in rooms[: rooms.index(here)]}
    assert not above


@pytest.mark.parametrize("floor", VERBS)
def test_verbs_do_not_call_each_other(floor: str) -> None:
    for verb in VERBS[floor]:
        names = imported(Path(floor) / f"{verb}.py")
        used = {room(tuple(name.split("."))) for name in names if name.startswith(f"{floor}.")}
        assert not used & set(VERBS[floor]), verb
