"""Which input a number stands for: the same one in every process, by the seed alone."""

from __future__ import annotations

import re
import zlib

import numpy as np

from tests.fuzz import readers
from tests.fuzz.trees import Input

_TURNS = (1, 1, 1, 1, 2, 3)  # mutations, one after the other
_TRIES = 50  # a mutation does not fit every input


class Maker:
    """The inputs of one reader. The first ones are its seeds, untouched."""

    def __init__(self, name: str) -> None:
        self.reader = readers.find(name)
        self.seeds = self.reader.seeds()
        weights = np.array([one.weight for one in self.reader.mutations])
        self._shares = weights / weights.sum()

    def made(self, seed: int, number: int) -> Input:
        """Input ``number`` of the campaign of ``seed``."""
        if number < len(self.seeds):
            return self.seeds[number]
        rng = np.random.default_rng([seed, zlib.crc32(self.reader.name.encode()), number])
        made = self.seeds[int(rng.integers(len(self.seeds)))]
        left = int(rng.choice(_TURNS))
        for _try in range(_TRIES):
            chosen = self.reader.mutations[int(rng.choice(len(self._shares), p=self._shares))]
            try:
                changed = chosen.apply(rng, made, self.seeds)
            except Exception:  # what was harmed before may not be taken apart any more
                if not made.recipe:
                    raise
                continue
            if changed is not None:
                made, left = changed, left - 1
            if not left:
                break
        return made


def sort_of(recipe: tuple[str, ...]) -> str:
    """What was done last, without names and numbers."""
    return re.sub(r"[0-9]+", "", recipe[-1].partition(": ")[2])[:40] if recipe else ""
