"""Parameter files changed line by line: what is written, and that all else stays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from pipeline.params import editing
from pipeline.params.editing import Leaf, Path
from tests.conftest import PROJECT, Refused

BLOCK = """\
# what this file is
presets:
  q: &q {a: 1}
datasets:
  x:  # mine

  # of y
  y:
    train:   {epochs: 3,  network: {image_px: 64}}   # short
    split:
      mini_test: 2
      # last words of split

  z: *q
convert: {}
"""
STEPS = {"moved": [{"Flip": {"axis": "horizontal", "p": 0.5}}, {"Blur": None}]}
Changes = Mapping[Path, Leaf | None]

CASES: dict[str, tuple[str, Changes, str]] = {
    "an empty entry gets a block, and its comment stays": (
        BLOCK,
        {("datasets", "x", "train", "epochs"): Leaf(5, "why")},
        BLOCK.replace("  x:  # mine\n", "  x:  # mine\n    train:\n      epochs: 5  # why\n"),
    ),
    "braces are opened, values as they were written, the comment behind the key": (
        BLOCK,
        {("datasets", "y", "train", "network", "field_mm"): Leaf(64.0)},
        BLOCK.replace(
            "    train:   {epochs: 3,  network: {image_px: 64}}   # short\n",
            "    train:   # short\n      epochs: 3\n      network:\n        image_px: 64\n"
            "        field_mm: 64.0\n",
        ),
    ),
    "a line goes behind the last of its mapping, before comments": (
        BLOCK,
        {("datasets", "y", "split", "seed"): Leaf(1)},
        BLOCK.replace("mini_test: 2\n", "mini_test: 2\n      seed: 1\n"),
    ),
    "a mapping of steps has a line for each": (
        BLOCK,
        {("datasets", "x", "variants"): Leaf(STEPS, "plan 1: a")},
        BLOCK.replace(
            "  x:  # mine\n",
            "  x:  # mine\n    variants:  # plan 1: a\n      moved:\n"
            "        - Flip: {axis: horizontal, p: 0.5}\n        - Blur: null\n",
        ),
    ),
    "a new section at the end": (
        BLOCK,
        {("members", "x_coronal", "dataset"): Leaf("x")},
        BLOCK + "members:\n  x_coronal:\n    dataset: x\n",
    ),
    "an empty mapping in braces": (
        "members: {}  # none\nlast: 1\n",
        {("members", "m", "dataset"): Leaf("x")},
        "members:  # none\n  m:\n    dataset: x\nlast: 1\n",
    ),
    "line ends of other systems": (
        "datasets:\r\n  x:\r\n  y:\r\n",
        {("datasets", "x", "train", "epochs"): Leaf(5, "why")},
        "datasets:\r\n  x:\r\n    train:\r\n      epochs: 5  # why\r\n  y:\r\n",
    ),
    "no line end at the end": (
        "datasets:\n  x: ~",
        {("datasets", "x", "a"): Leaf(True)},
        "datasets:\n  x:\n    a: true\n",
    ),
    "a null that is written out": (
        "datasets:\n  x: null # yes\n  y: 1\n",
        {("datasets", "x", "a"): Leaf("bfloat16")},
        "datasets:\n  x: # yes\n    a: bfloat16\n  y: 1\n",
    ),
    "a value with all that belongs to it is replaced": (
        "x:\n  a:\n    - 1\n    - 2\n\n  # of b\n  b: 2\n",
        {("x", "a"): Leaf([3], "new")},
        "x:\n  a: [3]  # new\n\n  # of b\n  b: 2\n",
    ),
    "everything within braces within braces": (
        "datasets: {x: , y: {train: {<<: *q, b: 2}}}\n".replace("*q", "{a: 1}"),
        {("datasets", "y", "train", "c"): Leaf(3)},
        "datasets:\n  x:\n  y:\n    train:\n      <<: {a: 1}\n      b: 2\n      c: 3\n",
    ),
    "an anchor stays where it was": (
        "a: &a {b: 1}\nx: *a\n",
        {("a", "c"): Leaf(2)},
        "a: &a\n  b: 1\n  c: 2\nx: *a\n",
    ),
    "a merge is added to": (
        "q: &q {a: 1}\nx:\n  <<: *q\n  b: 2\n",
        {("x", "c"): Leaf(3)},
        "q: &q {a: 1}\nx:\n  <<: *q\n  b: 2\n  c: 3\n",
    ),
    "a document with a start and an end": (
        "---\nx:\n  b: 2\n...\n",
        {("x", "c"): Leaf(3)},
        "---\nx:\n  b: 2\n  c: 3\n...\n",
    ),
    "a line taken out": (
        "x:\n  b: 2  # gone\n  c: 3\n",
        {("x", "b"): None},
        "x:\n  c: 3\n",
    ),
    "the last line of a member taken out, and of a section": (
        "members:\n  m:\n    dataset: x\nend: 1\n",
        {("members", "m", "dataset"): None},
        "members: {}\nend: 1\n",
    ),
    "a line that is not there": ("x: 1\n", {("y", "z"): None}, "x: 1\n"),
    "text that YAML would take for something else": (
        "x:\n",
        {("x", "a"): Leaf("no"), ("x", "b"): Leaf("1.5"), ("x", "c"): Leaf(1e-05)},
        "x:\n  a: 'no'\n  b: '1.5'\n  c: 1.0e-05\n",
    ),
}


@pytest.mark.parametrize(("text", "changes", "wanted"), CASES.values(), ids=CASES)
def test_what_is_written_and_nothing_else(text: str, changes: Changes, wanted: str) -> None:
    assert editing.written(text, changes) == wanted
    assert editing.written(wanted, changes) == wanted  # again changes nothing
    content = yaml.safe_load(wanted)
    for path, leaf in changes.items():
        assert value(content, path) == (None if leaf is None else leaf.value)


def value(content: Any, path: Path) -> Any:
    for key in path:
        content = (content or {}).get(key)
    return content


@pytest.mark.parametrize(
    ("text", "path", "got"),
    [
        ("q: &q {a: {b: 1}}\nx: *q\n", ("x", "a", "c"), "an alias"),
        ("q: &q {a: {b: 1}}\nx:\n  <<: *q\n", ("x", "a", "c"), "merged from elsewhere"),
        ("x: 3\n", ("x", "a"), "no mapping"),
        ("x: {a: 1, # one\n  b: 2}\n", ("x", "c"), "comments within braces"),
        ("[1, 2]\n", ("x", "c"), "no mapping"),
    ],
)
def test_what_cannot_be_changed_line_by_line(
    text: str, path: Path, got: str, refused: Refused
) -> None:
    problem = refused(lambda: editing.written(text, {path: Leaf(1)}))
    assert got in problem.what


def test_comments_are_those_behind_the_value() -> None:
    text = "x:\n  a: 1  # one # more\n  b: 'no # comment'\n  c:  # of c\n    d: {e: 1} # of d\n"
    assert editing.comments(text, ("x",)) == {
        ("x", "a"): "one # more",
        ("x", "b"): "",
        ("x", "c"): "of c",
        ("x", "c", "d"): "of d",
        ("x", "c", "d", "e"): "of d",
    }
    assert editing.comments(text, ("y",)) == {}


def test_the_projects_own_file_keeps_every_other_line() -> None:
    text = (PROJECT / "params.yaml").read_text("utf-8")
    leaves: dict[Path, Leaf | None] = {
        ("datasets", "virtual_ncct", "train", "network", "channels"): Leaf(3, "plan 3: x"),
        ("datasets", "virtual_mni152", "train", "epochs"): Leaf(20, "plan 20: x"),
    }
    new = editing.written(text, leaves)
    added = [line for line in new.splitlines() if line.endswith(": x")]
    assert len(added) == 2
    without = [line for line in new.splitlines() if line not in added]
    assert [one for one in without if one.strip() not in ("network:", "train:")] == [
        one for one in text.splitlines() if one.strip() not in ("network:", "train:")
    ]
    assert editing.written(new, dict.fromkeys(leaves)).count(": x") == 0
