"""A rule that labels obey, in code, in JSON and in words.

Directions are those of the patient: x to the right, y to the front, z upwards (RAS+).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_spec.contract import Problem

DIVIDED, ONCE, NESTED, APART = "divided", "once", "nested", "apart"
KINDS = {DIVIDED: 2, ONCE: 1, NESTED: 2, APART: 2}
"""The kinds of rules, and of how many classes each is."""
_PLANES = ("sagittal", "coronal", "axial")  # perpendicular to x, y and z
_SIDES = (("left", "right"), ("posterior", "anterior"), ("inferior", "superior"))
_UNIT = 1e-3  # how far a normal's length may be off 1


@dataclass(frozen=True)
class LabelRule:
    """A rule of one class, or of two.

    ``kind``: :data:`DIVIDED`: the first class lies on the side of a plane to which ``normal``
    (x, y, z in RAS+, of length 1) points, the second on the other; the plane's place is every
    patient's own and, where ``free``, so is its direction, ``normal`` being the mean.
    :data:`ONCE`: the class is one piece. :data:`NESTED`: the second class borders on nothing but
    the first. :data:`APART`: the two never touch. Raises ValueError for what is no rule.
    """

    kind: str
    classes: tuple[int, ...]
    normal: tuple[float, ...] = ()
    free: bool = False

    def __post_init__(self) -> None:
        if len(set(self.classes)) != KINDS.get(self.kind) or min(self.classes) < 1:
            raise ValueError(f"no rule {self.kind!r} of the classes {self.classes}")
        if len(self.normal) != (3 if self.kind == DIVIDED else 0):
            raise ValueError(f"a normal of {len(self.normal)} numbers for a rule {self.kind!r}")
        if self.normal and not abs(math.hypot(*self.normal) - 1) < _UNIT:
            raise ValueError(f"a normal of length {math.hypot(*self.normal)}")

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> LabelRule:
        """From JSON: a card's, or a model's. Raises LookupError, TypeError or ValueError."""
        return cls(
            str(stated["kind"]),
            tuple(int(one) for one in stated["classes"]),
            tuple(float(one) for one in stated["normal"]),
            bool(stated["free"]),
        )

    @property
    def plane(self) -> str:
        """Of :data:`DIVIDED`: sagittal, coronal, axial, or the direction of another plane."""
        if self.free:
            return "a plane of its own direction in each patient"
        if 1 in map(abs, self.normal):
            name = _PLANES[[abs(one) for one in self.normal].index(1)]
            return f"{'an' if name == 'axial' else 'a'} {name} plane"
        return f"an oblique plane (normal {', '.join(f'{one:.2f}' for one in self.normal)})"

    @property
    def side(self) -> str:
        """Of :data:`DIVIDED`: where the first class lies, by the largest part of the normal."""
        axis = max(range(3), key=lambda at: abs(self.normal[at]))
        return _SIDES[axis][self.normal[axis] > 0]

    def in_words(self, names: Sequence[str]) -> str:
        """A clause; ``names``: those of all classes by their ids.

        >>> names = ("background", "head", "tail")
        >>> LabelRule("divided", (1, 2), (0.0, 1.0, 0.0)).in_words(names)
        'head and tail are divided by a coronal plane, head on the anterior side'
        >>> LabelRule("nested", (1, 2)).in_words(names)
        'tail lies inside head and borders on nothing else'
        """
        first, *others = (names[one] for one in self.classes)
        if self.kind == ONCE:
            return f"{first} is one piece"
        [second] = others
        if self.kind == NESTED:
            return f"{second} lies inside {first} and borders on nothing else"
        if self.kind == APART:
            return f"{first} and {second} lie side by side and never touch"
        return f"{first} and {second} are divided by {self.plane}, {first} on the {self.side} side"


def of_card(file: Path) -> tuple[LabelRule, ...]:
    """Those that a dataset's card states; none without a card, or from before cards stated any.

    Raises :class:`Problem` for a card of nonsense.
    """
    if not file.is_file():
        return ()
    try:
        stated = json.loads(file.read_text("utf-8")).get("label_rules", {"rules": []})
        return tuple(LabelRule.of(one) for one in stated["rules"])
    except (AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise Problem(
            f"expected the label rules of the dataset, got {type(error).__name__}: {error}",
            where=file,
            remedy=f"Run: python -m pipeline split {file.parent.name}",
        ) from error
