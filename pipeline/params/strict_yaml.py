"""The one loader of YAML: plain values, no key twice, and a limit on what aliases expand to."""

from __future__ import annotations

from typing import Any

import yaml

from pipeline.params.values import shown

MOST_NODES, DEEPEST = 100_000, 32
"""Values and levels of a parameter file with its aliases expanded; params.yaml has 2,000 and 11."""
_MOST_BITS = 63  # of a whole number: what numpy and Parquet can hold


class StrictLoader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, deep nesting and exploding aliases.

    A duplicate key would silently win over the first. Ten lines of aliases can stand for a
    billion values, so their expansion is limited as nesting is.
    """

    _depth = 0

    def get_single_data(self) -> Any:
        node = self.get_single_node()
        if node is None:
            return None
        count, levels = _extent(node, {})
        if count > MOST_NODES or levels > DEEPEST:
            raise yaml.YAMLError(
                f"aliases that expand to more than {MOST_NODES:,} values or {DEEPEST} levels"
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
    """Values and levels of a node with its aliases expanded; above the limits if it is endless."""
    if id(node) not in known:
        known[id(node)] = (MOST_NODES + 1, DEEPEST + 1)  # kept if it contains itself
        parts = [node.value] if isinstance(node, yaml.SequenceNode) else []
        parts = node.value if isinstance(node, yaml.MappingNode) else parts
        below = [_extent(child, known) for part in parts for child in part]
        known[id(node)] = (
            1 + sum(count for count, _ in below),
            1 + max((levels for _, levels in below), default=0),
        )
    return known[id(node)]
