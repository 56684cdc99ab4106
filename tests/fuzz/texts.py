"""JSON, YAML and CSV: hostile values at any place of a structure, and texts that no one writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import yaml

from tests.fuzz.mutations import Mutation, Random, anything, pick, target
from tests.fuzz.trees import Input

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, 1e-320, 0.5, -0.5, float("nan"),
    float("inf"), "", " ", "1e-3", "auto", "../..", "/etc/passwd", "a\nb", "\x1b[31m", "x" * 500,
    "$(touch escaped)", "'; touch escaped; '", "<script>alert(1)</script>", "=1+1", "\u202e",
    "__import__('os').system('touch escaped')", [], {}, [[]], [None], {"": None}, {"a": {"b": 1}},
    [0, 0, 0], [1e400, 2], list(range(100)), "ünï", "\ud800", "NaN", "2026-11-21",
)  # fmt: skip
_JSON_TEXTS: dict[str, str] = {
    "nested lists": "[" * 100_000,
    "nested and closed": "[" * 3000 + "]" * 3000,
    "nested mappings": '{"a":' * 100_000,
    "a long whole number": '{"labels": ' + "9" * 5000 + "}",
    "NaN": '{"labels": NaN}',
    "a list": "[]",
    "a number": "7",
    "null": "null",
    "two values": "{} {}",
    "one quote": '"',
}
_YAML_TEXTS: dict[str, str] = {
    "nested lists": "[" * 20_000,
    "nested mappings": "{a: " * 5_000,
    "nested and closed": "datasets: " + "[" * 900 + "]" * 900 + "\n",
    "indented": "\n".join(" " * depth + "a:" for depth in range(2000)),
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "datasets: *j\n",
    "itself": "datasets: &a\n  virtual_mni152: *a\n",
    "a long whole number": "datasets:\n  virtual_mni152:\nsplit:\n  seed: " + "9" * 5000 + "\n",
    "an object": "datasets: !!python/object/apply:os.system ['touch escaped']\n",
    "a tag": "datasets: !!binary x\n",
    "a set": "datasets: !!set {virtual_mni152}\n",
    "a date": "datasets: 2026-11-21\n",
    "base 60": "datasets:\n  virtual_mni152:\nsplit: {seed: 190:20:30}\n",
    "two documents": "datasets:\n---\ndatasets:\n",
    "a mapping as key": "? {a: 1}\n: 2\n",
    "a list as key": "? [1, 2]\n: 2\n",
    "a key twice": "datasets:\n  virtual_mni152:\n  virtual_mni152:\n",
    "merged itself": "a: &a\n  <<: *a\n",
    "merged text": "datasets: {<<: text}\n",
    "tabs": "datasets:\n\tvirtual_mni152:\n",
    "an alias of nothing": "datasets: *nothing\n",
    "a control character": "datasets: \x07\n",
    "a shell's name": "datasets:\n  $(touch escaped):\n",
    "a path as name": "datasets:\n  ../../escaped:\n",
    "a whole number as name": "datasets:\n  7:\n",
    "nothing as name": "datasets:\n  null:\n",
    "a list": "- a\n",
    "nothing": "",
}


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all keys and items in a structure, itself () among them."""
    found = [path]
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(part, (*path, key))
    return found


def harmed(rng: Random, value: Any) -> tuple[Any, str]:
    """A structure of JSON's kinds with one to three harms done to it, and what they are."""
    words = []
    value = json.loads(json.dumps(value))
    for _turn in range(int(pick(rng, (1, 1, 1, 2, 3)))):
        paths = places(value)
        path = paths[int(rng.integers(len(paths)))]
        new: Any = pick(rng, _VALUES)
        if not path:
            if rng.random() < 0.1:
                return new, f"all is {new!r:.60}"
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        last = path[-1]
        harm = int(rng.integers(6))
        if harm == 0:
            del holder[last]
            words.append(f"{path} left out")
        elif harm == 1 and isinstance(holder, dict):
            holder[str(new)] = holder.pop(last)
            words.append(f"{path} renamed to {str(new)!r:.60}")
        elif harm == 2 and isinstance(holder, list):
            holder.insert(last, new)
            words.append(f"{new!r:.60} inserted at {path}")
        elif harm == 3:
            holder[last] = [holder[last]]
            words.append(f"{path} in a list")
        else:
            holder[last] = new
            words.append(f"{path} = {new!r:.60}")
    return value, ", ".join(words) or "nothing"


def _encoded(rng: Random, text: str) -> tuple[bytes, str]:
    kind = str(pick(rng, ("utf-8",) * 12 + ("utf-16", "utf-8-sig", "latin-1", "nul")))
    if kind == "nul":
        return text.encode("utf-8", "surrogatepass") + b"\0", ", a zero byte at the end"
    errors = "surrogatepass" if kind.startswith("utf") else "replace"
    return text.encode(kind, errors), "" if kind == "utf-8" else f", as {kind}"


def hostile_json(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """Another value, key or depth in a JSON file."""
    file = target(rng, made, (".json",))
    if file is None:
        return None
    if rng.random() < 0.15:
        words = str(pick(rng, list(_JSON_TEXTS)))
        return made.with_entry(file, _JSON_TEXTS[words].encode(), words)
    try:
        value, words = harmed(rng, json.loads(made.content(file)))
    except (ValueError, RecursionError):
        return None
    content, how = _encoded(rng, json.dumps(value))
    return made.with_entry(file, content, words + how)


def hostile_yaml(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """Another value, key, tag, alias or depth in a YAML file."""
    file = target(rng, made, (".yaml",))
    if file is None:
        return None
    if rng.random() < 0.2:
        words = str(pick(rng, list(_YAML_TEXTS)))
        text = _YAML_TEXTS[words]
        if rng.random() < 0.3:
            text = made.content(file).decode() + text
            words = f"at the end, {words}"
        return made.with_entry(file, text.encode("utf-8", "surrogatepass"), words)
    try:
        value, words = harmed(rng, yaml.safe_load(made.content(file)))
    except (yaml.YAMLError, TypeError, ValueError, RecursionError):
        return None
    content, how = _encoded(rng, yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
    return made.with_entry(file, content, words + how)


_CELLS = (
    "", "nan", "inf", "-inf", "1e400", "-1", "abc", "0x10", "1_000", "1,5", "x" * 200_000, "\0",
    "a\nb", '"', "=1+1", "<script>alert(1)</script>", "\x1b[31m", "ünï", "9" * 5000, "1" * 30,
)  # fmt: skip


def hostile_csv(rng: Random, made: Input, _: Sequence[Input]) -> Input | None:
    """Other cells, columns or rows in a CSV file."""
    file = target(rng, made, (".csv",))
    if file is None:
        return None
    try:
        rows = list(csv.reader(io.StringIO(made.content(file).decode())))
    except (UnicodeDecodeError, csv.Error):
        return None
    if not rows or not rows[0]:
        return None
    row = int(rng.integers(len(rows)))
    column = int(rng.integers(len(rows[0])))
    cell = str(pick(rng, _CELLS))
    harm = int(rng.integers(8))
    words = f"row {row}, column {column} ({rows[0][column]})"
    if harm == 0:
        rows = [[*one[:column], *one[column + 1 :]] for one in rows]
        words = f"column {rows[0]} without {words}"
    elif harm == 1:
        rows[row] = rows[row][:column]
        words += ": the row ends there"
    elif harm == 2:
        rows[row] = [*rows[row], cell, cell]
        words += f": two more cells of {cell!r:.40}"
    elif harm == 3:
        rows = rows[:1] if rng.random() < 0.5 else rows + rows[1:]
        words = "no rows" if len(rows) == 1 else "all rows twice"
    elif column < len(rows[row]):
        rows[row][column] = cell
        words += f" = {cell!r:.40}"
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    content, how = _encoded(rng, stream.getvalue())
    return made.with_entry(file, content, words + how)


MUTATIONS = (
    *anything(),
    Mutation("JSON", hostile_json, 6.0),
    Mutation("YAML", hostile_yaml, 8.0),
    Mutation("CSV", hostile_csv, 6.0),
)
