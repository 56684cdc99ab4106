"""The section ``augment``: variants of pairs, and when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.params.values import expect, one_of

_MARKS = str.maketrans("", "", "._-")


@dataclass(frozen=True)
class Augment:
    """Warped variants of every pair, and when they are made."""

    seed: int
    """Seeds everything that is drawn at random."""
    empty_slices: bool
    """Whether slices without any foreground get variants too."""
    variants: dict[str, list[dict[str, Any]]]
    """Name of each variant -> its steps, `{Step: {argument: value}}`, applied in order. A
    dataset's entry replaces them whole."""
    mode: str = "offline"
    """`offline` trains on the originals and the variants on disk; `online` on the originals only,
    each shown in each epoch unchanged or as a variant newly drawn at the network's size; `both` on
    the variants on disk and, as `online` does, on the originals."""

    def __post_init__(self) -> None:
        one_of("mode", self.mode, ("offline", "online", "both"))
        for name, steps in self.variants.items():
            expect(
                name[:1].isalnum() and name.translate(_MARKS).isalnum() and "__" not in name,
                f"variants.{name}",
                "a name of letters, digits, '.', '-' and '_' (it becomes a file's prefix)",
                name,
            )
            for step in steps:
                arguments = next(iter(step.values()), None)
                expect(
                    len(step) == 1 and (arguments is None or isinstance(arguments, dict)),
                    f"variants.{name}",
                    "steps of the form {Transform: {argument: value}}",
                    step,
                )
