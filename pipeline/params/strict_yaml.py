"""The one loader of YAML: plain values only, each key once, nothing that unfolds without end."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.params.values import shown

MOST_NODES, DEEPEST = 100_000, 32
"""Values and levels of a parameter file with its aliases written out; ours: 2,000 and 11."""
_MOST_BITS = 63  # of a whole number: what numpy and Parquet can hold


class StrictLoader(yaml.SafeLoader):
    """YAML whose every value can be read, and walked without end or surprise.

    No key stands twice in one mapping (the second would win in silence). Nesting is limited, and
    so is what the aliases unfold to, since ten lines of them can stand for a billion values.
    """

    _depth = 0

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        count, levels = _extent(node, {})
        if count > MOST_NODES or levels > DEEPEST:
            raise yaml.YAMLError(
                f"aliases that unfold to more than {MOST_NODES:,} values or {DEEPEST} levels"
            )
        return self.construct_document(node)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self._depth == DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST} levels", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {shown(key.value)} twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int) and value.bit_length() > _MOST_BITS:
                raise ValueError(f"a number of {value.bit_length()} bits")
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise yaml.MarkedYAMLError(
                problem=f"a value that cannot be read ({error})", problem_mark=node.start_mark
            ) from None
        return value


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Values and levels of a node with its aliases written out; more than allowed if endless."""
    if id(node) not in known:
        known[id(node)] = (MOST_NODES + 1, DEEPEST + 1)  # until it is left: met again inside
        parts = [node.value] if isinstance(node, yaml.SequenceNode) else []
        parts = node.value if isinstance(node, yaml.MappingNode) else parts
        below = [_extent(child, known) for part in parts for child in part]
        known[id(node)] = (
            1 + sum(count for count, _ in below),
            1 + max((levels for _, levels in below), default=0),
        )
    return known[id(node)]
