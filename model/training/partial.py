"""What nobody annotated, as training sees it: pixels of which more than one class is possible.

A voxel that nobody annotated may be of any class: it has the id
:data:`~datasets_spec.contract.IGNORED`, and costs nothing. Where a class was not annotated in a
case, what was drawn as background is background or that class: batches give such pixels a *code*,
254, 253, ..., one for each distinct set of classes that were not annotated together, and losses
take the probability of the whole set (the marginal loss of Shi et al., Medical Image Analysis 70,
2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED, Problem
from pipeline.pairs.manifest import Pair


@dataclass(frozen=True)
class Codes:
    """Which classes each id in a batch may be.

    ``sets``: the distinct sets of foreground classes that were not annotated in some case, the
    first of which has the code 254. ``partial``: whether any pixel's class is not known.
    """

    classes: int
    sets: tuple[tuple[int, ...], ...] = ()
    partial: bool = False

    @classmethod
    def of(cls, pairs: Sequence[Pair], classes: int) -> Codes:
        """For the masks of ``pairs``. Raises :class:`Problem` for more codes than there are ids."""
        sets = sorted({pair.unlabelled for pair in pairs} - {()})
        if classes + len(sets) > IGNORED:
            raise Problem(
                f"expected at most {IGNORED - classes} different sets of classes that nobody"
                f" annotated, got {len(sets)}",
                where="train",
            )
        unknown = any(pair.ignored_pixels or pair.unlabelled for pair in pairs)
        return cls(classes, tuple(sets), unknown)

    def encoded(self, ids: NDArray[np.uint8], unlabelled: tuple[int, ...]) -> NDArray[np.uint8]:
        """Class ids of a mask whose background may be ``unlabelled``, with its code there."""
        if not unlabelled:
            return ids
        code = IGNORED - 1 - self.sets.index(unlabelled)
        return np.where(ids == 0, np.uint8(code), ids)

    @property
    def table(self) -> NDArray[np.float32]:
        """(256, classes): 1 for each class that a pixel of an id may be."""
        allowed = np.zeros((IGNORED + 1, self.classes), np.float32)
        allowed[: self.classes] = np.eye(self.classes)
        for number, unlabelled in enumerate(self.sets):
            allowed[IGNORED - 1 - number, [0, *unlabelled]] = 1
        allowed[IGNORED] = 1
        return allowed


@dataclass(frozen=True)
class Partial:
    """The truth of a batch of which not every class is known.

    ``allowed`` (B, H, W, C): 1 for each class that a pixel may be; ``counts`` (B, H, W): 1 where
    that are not all; ``sure``: 1 where it is one alone.
    """

    allowed: Any
    counts: Any
    sure: Any

    @classmethod
    def of(cls, ids: Any, table: NDArray[np.float32]) -> Partial:
        """From ids (B, H, W), codes among them, and :attr:`Codes.table`."""
        allowed = ops.take(ops.convert_to_tensor(table), ops.cast(ids, "int32"), axis=0)
        several = ops.sum(allowed, axis=-1)
        counts = ops.cast(several < table.shape[1], "float32")
        return cls(allowed, counts, ops.cast(several == 1, "float32"))

    @property
    def likely(self) -> Any:
        """The first class (B, H, W) that a pixel may be: of a set, the background."""
        return ops.argmax(self.allowed, axis=-1)

    @property
    def drawn(self) -> Any:
        """(B, H, W, C): 1 for the class of the pixels that are sure."""
        return self.allowed * self.sure[..., None]

    @property
    def judged(self) -> Any:
        """(B, H, W, C): 0 for each class that a pixel may be, but need not."""
        return 1.0 - self.allowed * (1.0 - self.sure[..., None])
