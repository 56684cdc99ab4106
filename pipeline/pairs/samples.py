"""The pairs of a dataset folder as arrays, read one at a time, for use in other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Label, LabelMap, Problem
from pipeline import paths
from pipeline.pairs import manifest, pictures
from pipeline.pairs.manifest import Pair


class Sample(NamedTuple):
    """A pair: its row of the manifest, an image and class ids (H, W), both uint8.

    The image is (H, W), or (H, W, channels) where the row names several. Where nobody annotated,
    the class id is :data:`datasets_spec.contract.IGNORED`.
    """

    row: Pair
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]


class Samples(Sequence[Sample]):
    """The pairs of one split, or of all splits, sorted by id; pictures are read when asked for.

    ``rows`` are the rows of the manifest, ``label_map`` the classes of the masks.
    """

    def __init__(self, folder: Path, rows: Sequence[Pair], label_map: LabelMap) -> None:
        self.folder, self.rows, self.label_map = folder, tuple(rows), label_map

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> Samples: ...
    def __getitem__(self, index: int | slice) -> Sample | Samples:
        """A pair, or a part of the pairs. Raises :class:`Problem` for an unreadable picture."""
        if isinstance(index, slice):
            return Samples(self.folder, self.rows[index], self.label_map)
        row = self.rows[index]
        mask = pictures.mask(self.folder, row, self.label_map)
        return Sample(row, pictures.image(self.folder, row), mask)


def open_folder(folder: Path, split: str = "") -> Samples:
    """The pairs of ``data/dataset/<name>``, of one ``split`` or, without one, of all.

    Raises :class:`Problem` if the folder has no manifest or no card, or no pairs of ``split``.
    """
    rows = [row for row in manifest.read(folder) if split in ("", row.split)]
    if not rows:
        raise Problem(f"expected pairs of the split {split!r}, found none", where=folder)
    return Samples(folder, rows, _label_map(folder / paths.CARD))


def _label_map(card: Path) -> LabelMap:
    """The label map that a dataset card states."""
    try:
        labels = json.loads(card.read_text("utf-8"))["labels"]
        return LabelMap(
            tuple(
                Label(one["id"], one["name"], tuple(one["colour"]), one["meaning"])
                for one in labels
            )
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise Problem(
            f"expected a dataset card with a label map, got {type(error).__name__}: {error}",
            where=card,
            remedy="Open a folder that split has made, data/dataset/<name>.",
        ) from None
