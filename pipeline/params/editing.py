"""The text of a parameter file, changed line by line: what is not asked for stays byte for byte.

A YAML library that writes would write the whole file anew: quotes, columns and blank lines would
change with it. Here PyYAML only states where each key lies, and lines are put in or replaced there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import yaml

from datasets_spec.contract import Problem
from pipeline.params.strict_yaml import StrictLoader

Path = tuple[str, ...]
"""The keys that lead to a value: ("datasets", "aisd", "train", "epochs")."""

_BREAKS = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What PyYAML counts as the end of a line."""
_STEP = 2  # columns from a mapping to one within it
_MERGE = "tag:yaml.org,2002:merge"
_REMEDY = (
    "Write it out below its own key, a line for each of its keys, or have the plan shown only."
)


class _Plain(yaml.SafeDumper):
    """Writes a list that stands in several places in each of them, without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True)
class Leaf:
    """A value to be written, and the comment beside it ("": none)."""

    value: Any
    comment: str = ""


def written(text: str, leaves: Mapping[Path, Leaf | None]) -> str:
    """``text`` with every leaf in its place; None takes one out, with what it leaves empty.

    Mappings above a leaf are made where there are none, and those in one line are opened into
    several. Raises :class:`Problem` where a mapping above a leaf is an alias or merged from one: a
    line below it would change what it stands for elsewhere.

    >>> written("a: 1\\nb: {c: 2}  # mine\\n", {("b", "d"): Leaf(3, "new")})
    'a: 1\\nb:  # mine\\n  c: 2\\n  d: 3  # new\\n'
    """
    for path, leaf in leaves.items():
        text = _without(text, path) if leaf is None else _with(text, path, leaf)
    return text


def content(text: str) -> Any:
    """What a text says."""
    return yaml.load(text, StrictLoader)  # noqa: S506  # a SafeLoader


def require_same(before: str, after: str, changed: Collection[Path], file: object) -> None:
    """Raises :class:`Problem` where two texts say something else of what is not below ``changed``.

    An entry that others refer to changes for them too.
    """
    old, new = (_own(content(text)) for text in (before, after))
    for path in changed:
        for one in (old, new):
            _forget(one, path)
    if _own(old) != _own(new):
        raise Problem(
            "expected to change the lines of this dataset alone, but others refer to them",
            where=file,
            remedy="Take the anchors (&) out of its entry, or have the plan shown only.",
        )


def _forget(content: Any, path: Path) -> None:
    for key in path[:-1]:
        content = content.get(key) if isinstance(content, dict) else None
    if isinstance(content, dict):
        content.pop(path[-1], None)


def _own(content: Any) -> Any:
    """A copy that shares nothing, as aliases do, without the mappings in it that hold nothing."""
    if not isinstance(content, dict):
        return content
    parts = {key: _own(one) for key, one in content.items()}
    return {key: one for key, one in parts.items() if one not in ({}, None)}


def comments(text: str, above: Path) -> dict[Path, str]:
    """What stands behind the ``#`` on the line of every key below ``above``, "" for nothing."""
    place = _Place.of(text, above)
    if place.missing or not isinstance(place.node, yaml.MappingNode) or place.aliased:
        return {}
    lines = _lines(text)
    return {
        path: lines[mark.line][mark.column :].partition(" # ")[2].strip()
        for path, mark in _ends(place.node, above)
    }


def scalar(value: Any) -> str:
    """A value in one line of YAML."""
    shown: str = yaml.dump(
        value, Dumper=_Plain, default_flow_style=True, width=10**6, sort_keys=False
    )
    return shown.removesuffix("\n...\n").rstrip("\n")


def _with(text: str, path: Path, leaf: Leaf) -> str:
    place = _Place.of(text, path)
    if place.missing:
        place = place.opened()
        new = _block(place.missing, leaf, place.column)
        return place.inserted(new)
    first, last = place.span()
    return _spliced(place.text, first, last + 1, _block(path[-1:], leaf, place.column))


def _without(text: str, path: Path) -> str:
    place = _Place.of(text, path)
    if place.missing:
        return text
    if len(place.mapping.value) == 1 and len(path) > 1:
        if len(path) == 2:  # a section stays, and stays a mapping
            return _with(text, path[:1], Leaf({}))
        return _without(text, path[:-1])
    if place.mapping.flow_style:
        raise _cannot(path, "a mapping in one line")
    first, last = place.span()
    return _spliced(text, first, last + 1, [])


@dataclass(frozen=True)
class _Place:
    """Where a path leads in a text: as far as there are keys.

    ``mapping`` is the innermost mapping on the way, and ``at`` the number of the path's key in it
    (-1 where it is not there); ``missing`` are the keys from there on. ``end`` is the line on
    which something else begins, and ``node`` the value at the path's end. ``aliased``: that value
    stands elsewhere.
    """

    text: str
    path: Path
    mapping: yaml.MappingNode
    at: int
    missing: Path
    end: int
    node: yaml.Node
    aliased: bool

    @classmethod
    def of(cls, text: str, path: Path) -> _Place:
        root = _root(text)
        if not isinstance(root, yaml.MappingNode):
            raise _cannot(path, "no mapping")
        end = root.end_mark.line + (root.end_mark.column > 0)
        mapping, aliased = root, False
        for depth, name in enumerate(path):
            at = _index(mapping, name)
            if at < 0:
                _require_own(mapping, path[: depth + 1], last=depth + 1 == len(path))
                return cls(text, path, mapping, -1, path[depth:], end, mapping, aliased)
            key, node = mapping.value[at]
            if at + 1 < len(mapping.value):
                end = mapping.value[at + 1][0].start_mark.line
            aliased = node.start_mark.index < key.start_mark.index
            if depth + 1 == len(path):
                return cls(text, path, mapping, at, (), end, node, aliased)
            if aliased:
                raise _cannot(path[: depth + 1], "an alias")
            if not isinstance(node, yaml.MappingNode):
                if not _is_null(node):
                    raise _cannot(path[: depth + 1], "no mapping")
                return cls(text, path, mapping, at, path[depth + 1 :], end, node, False)
            mapping = node
        raise AssertionError(path)

    @property
    def column(self) -> int:
        """Where the keys of the mapping begin, or those of a new one below it."""
        first = self.mapping.value[0][0].start_mark.column if self.mapping.value else 0
        return int(first) + (_STEP if self.at >= 0 and self.missing else 0)

    def span(self) -> tuple[int, int]:
        """The first and the last line of the key and its value."""
        lines = _lines(self.text)
        key = self.mapping.value[self.at][0]
        if self.mapping.flow_style:
            raise _cannot(self.path, "a mapping in one line")
        first, last = int(key.start_mark.line), self.end - 1
        while last > first and _is_idle(lines[last]):
            last -= 1
        return first, last

    def opened(self) -> _Place:
        """The place in a text whose mapping has a line for each key."""
        if self.at >= 0:  # of a null: what stands for it goes
            start, stop = self.node.start_mark.index, self.node.end_mark.index
            if self.text[start:stop].startswith(("&", "!")):
                raise _cannot(self.path[: -len(self.missing)], "an anchor or a tag of nothing")
            kept = self.text[:start].rstrip(" ") if stop > start else self.text[:start]
            text = kept + self.text[stop:]
            return self if text == self.text else _Place.of(text, self.path)
        if not self.mapping.flow_style:
            return self
        above = self.path[: -len(self.missing)]
        return _Place.of(_unfolded(self.text, self.mapping, _Place.of(self.text, above)), self.path)

    def inserted(self, new: Sequence[str]) -> str:
        """The text with lines behind the last that the mapping has."""
        lines = _lines(self.text)
        first = self.mapping.value[self.at][0].start_mark.line if self.mapping.value else -1
        last = self.end - 1
        while last > first and _is_idle(lines[last]):
            last -= 1
        return _spliced(self.text, last + 1, last + 1, new)


@lru_cache(maxsize=2)
def _root(text: str) -> yaml.Node | None:
    """The node of a text, which several leaves are looked for in."""
    node: yaml.Node | None = StrictLoader(text).get_single_node()
    return node


def _unfolded(text: str, node: yaml.MappingNode, place: _Place) -> str:
    """``text`` with a mapping in braces as lines below its key; each value stays as written."""
    start, stop = node.start_mark.index, node.end_mark.index
    brace = text.index("{", start)
    if place.mapping.flow_style:
        opened = _unfolded(text, place.mapping, _Place.of(text, place.path[:-1]))
        again = _Place.of(opened, place.path)
        assert isinstance(again.node, yaml.MappingNode)
        return _unfolded(opened, again.node, again)
    inside = text[brace + 1 : stop - 1]
    if "#" in inside and _BREAKS.search(inside):
        raise _cannot(place.path, "comments within braces")
    rest = text[stop:]
    tail = rest[: len(rest) - len(rest.lstrip(" \t"))] + _BREAKS.split(rest.lstrip(" \t"), 1)[0]
    key = place.mapping.value[place.at][0]
    indent = " " * (key.start_mark.column + _STEP)
    edges = [*(one.start_mark.index for one, _ in node.value), stop - 1]
    items = [" ".join(text[begin:end].split()).rstrip(", ") for begin, end in pairwise(edges)]
    items = [one if ":" in one else f"{one}:" for one in items]
    head = text[:brace].rstrip(" \t")
    below = "".join(_ending(text) + indent + one for one in items)
    return head + tail.rstrip() + below + text[stop + len(tail) :]


def _block(keys: Path, leaf: Leaf, column: int) -> list[str]:
    """The lines of a leaf below mappings of their own."""
    lines = [" " * (column + _STEP * depth) + f"{key}:" for depth, key in enumerate(keys)]
    below = list(_nested(leaf.value, column + _STEP * len(keys)))
    if not below:
        lines[-1] += f" {scalar(leaf.value)}"
    lines[-1] += f"  # {leaf.comment}" if leaf.comment else ""
    return lines + below


def _nested(value: Any, column: int) -> Iterator[str]:
    """A mapping or a list of mappings, a line for each entry; nothing of what fits behind a key."""
    pad = " " * column
    if (
        isinstance(value, Mapping)
        and value
        and any(isinstance(one, list) for one in value.values())
    ):
        for key, one in value.items():
            yield f"{pad}{key}:"
            yield from (f"{pad}  - {scalar(item)[1:-1]}" for item in one)


def _spliced(text: str, start: int, stop: int, new: Sequence[str]) -> str:
    """``text`` with ``new`` for its lines from ``start`` to before ``stop``."""
    lines, ending = _lines(text), _ending(text)
    if new and start and lines[start - 1] and not _BREAKS.search(lines[start - 1]):
        lines[start - 1] += ending
    lines[start:stop] = [one + ending for one in new]
    return "".join(lines)


def _lines(text: str) -> list[str]:
    """The lines of a text with their ends."""
    ends = [one.end() for one in _BREAKS.finditer(text)]
    starts = [0, *ends]
    found = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    return found if found[-1] else found[:-1]


def _ending(text: str) -> str:
    """How the lines of a text end."""
    first = _BREAKS.search(text)
    return first[0] if first else "\n"


def _is_idle(line: str) -> bool:
    """Whether a line is blank or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _index(mapping: yaml.MappingNode, name: str) -> int:
    names = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in mapping.value]
    return names.index(name) if name in names else -1


def _ends(mapping: yaml.MappingNode, above: Path) -> Iterator[tuple[Path, Any]]:
    """For every key below a mapping that stands there itself: where, in its line, it or its value
    ends."""
    for key, node in mapping.value:
        path = (*above, str(key.value))
        own = node.start_mark.index > key.start_mark.index
        yield (
            path,
            node.end_mark if own and node.end_mark.line == key.end_mark.line else key.end_mark,
        )
        if own and isinstance(node, yaml.MappingNode):
            yield from _ends(node, path)


def _require_own(mapping: yaml.MappingNode, path: Path, last: bool) -> None:
    """Raises :class:`Problem` where a new mapping would hide one that is merged in."""
    if not last and any(key.tag == _MERGE for key, _ in mapping.value):
        raise _cannot(path[:-1], "keys that are merged from elsewhere (<<)")


def _cannot(path: Path, got: str) -> Problem:
    return Problem(
        f"expected a mapping with a line for each key, got {got}",
        where=f"{': '.join(path)} of the parameter file",
        remedy=_REMEDY,
    )
