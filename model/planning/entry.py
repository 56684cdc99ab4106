"""Which lines of a parameter file a plan has written, and which are people's.

Behind every line that a plan writes stands ``# plan <value>: <reason>``. Where the value is still
that of the comment, a later plan may replace it; where it is another, somebody has changed it, and
where there is no such comment, somebody has written it: these are stated, and win. Values of
several parts stand in the comment as the first digits of their sha256.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from model.planning.rules import Choice
from model.planning.whole import Plan
from pipeline.params import editing
from pipeline.params.editing import Leaf, Path

_PLANNED = re.compile(r"plan ([^:]*): ")
_WHOLE = ("variants", "windows")  # replaced whole, so they are one value
_DIGITS = 8


def stated(text: str, above: Path) -> dict[Path, Any]:
    """The values that people have written below ``above``, by their path from there."""
    return {path: value for path, value, planned in _values(text, above) if not planned}


def planned(text: str, above: Path) -> set[Path]:
    """The paths from ``above`` of the values that a plan has written and nobody has changed."""
    return {path for path, _, own in _values(text, above) if own}


def changes(text: str, dataset: str, plan: Plan) -> dict[Path, Leaf | None]:
    """What makes a parameter file say what a plan says: a leaf for each line; None removes one."""
    places: dict[Path, Mapping[Path, Choice]] = {("datasets", dataset): plan.entry}
    places |= {("members", name): own for name, own in plan.members.items()}
    places["ensembles", dataset] = {(): plan.ensemble} if plan.ensemble else {}
    places |= {("members", name): {} for name in _members(text, dataset) - set(plan.members)}
    found: dict[Path, Leaf | None] = {}
    for above, wanted in places.items():
        theirs, ours = stated(text, above), planned(text, above)
        if theirs and not wanted:  # of a network that the plan lacks: somebody has made it theirs
            continue
        for path, choice in wanted.items():
            if not any(_overlap(path, other) for other in theirs):
                found[above + path] = Leaf(choice.value, _comment(choice))
        found |= {above + path: None for path in sorted(ours - set(wanted))}
    return found


def mark(value: Any) -> str:
    """How a value stands in its comment."""
    if isinstance(value, dict | list) and value:
        content = json.dumps(value, sort_keys=True).encode()
        return hashlib.sha256(content).hexdigest()[:_DIGITS]
    return editing.scalar(value)


def _comment(choice: Choice) -> str:
    return f"plan {mark(choice.value)}: {choice.reason}"


def _overlap(one: Path, other: Path) -> bool:
    """Whether one of two paths leads to the other's, or they are the same."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _values(text: str, above: Path) -> Iterator[tuple[Path, Any, bool]]:
    """Path from ``above``, value, and whether a plan has written it, of every value there."""
    value = editing.content(text)
    for key in above:
        if not isinstance(value, dict) or key not in value:
            return
        value = value[key]
    comments = editing.comments(text, above[:-1])
    depth = len(above) - 1
    for path, one in _leaves(value, above, comments):
        match = _PLANNED.match(comments.get(path, ""))
        yield path[depth + 1 :], one, bool(match and match[1] == mark(one))


def _leaves(value: Any, path: Path, comments: Mapping[Path, str]) -> Iterator[tuple[Path, Any]]:
    """Every value that a plan would write, or people, as one."""
    planned = _PLANNED.match(comments.get(path, ""))
    if isinstance(value, dict) and not planned and path[-1] not in _WHOLE:
        for key, one in value.items():
            yield from _leaves(one, (*path, str(key)), comments)
    elif value is not None:
        yield path, value


def _members(text: str, dataset: str) -> set[str]:
    """The members of a dataset of which a plan has written that they are its."""
    section = editing.content(text).get("members") or {}
    return {
        name
        for name, own in section.items()
        if isinstance(own, dict)
        and own.get("dataset") == dataset
        and ("dataset",) in planned(text, ("members", name))
    }
