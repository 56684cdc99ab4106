"""The variants of a dataset's pairs, and the keys that they are drawn from.

Offline, every variant of a pair is made once, from the key (seed, dataset, pair, variant).
Online, each epoch shows a pair unchanged or as one of its variants: the key (seed, dataset,
pair, "online", epoch) chooses among them, all equally likely, and the variant is drawn
from (seed, dataset, pair, variant, "epoch", epoch). It may be drawn at a network's size: what is
bent is then what ``augment`` would bend, seen at that size.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.pairs.manifest import Pair
from pipeline.params.augment import Augment
from pipeline.runtime import keys
from pipeline.volumes.arrays import Image8
from pipeline.warps import chains

ORIGINAL = ""
"""The name of the unchanged pair among its variants."""


class Variants:
    """The variants of ``augment.variants`` for one dataset. Threads may share it.

    ``image_px``: the side of the square pictures that lengths in pixels are stated for, those of
    the dataset; 0 is that of each picture itself.
    Raises :class:`Problem` for transforms that do not fit, or not pictures of so many ``channels``.
    """

    def __init__(
        self, dataset: str, settings: Augment, channels: int = 1, image_px: int = 0
    ) -> None:
        self._dataset, self._settings = dataset, settings
        self._reference = (image_px, image_px) if image_px else None
        self._chains = {
            name: chains.chain(steps, f"augment.variants.{name}")
            for name, steps in settings.variants.items()
        }
        for name, chain in self._chains.items() if channels > 1 else ():
            chains.require_channels(
                chain, settings.variants[name], channels, f"augment.variants.{name}"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all variants, without the original."""
        return tuple(self._chains)

    def wanted(self, pair: Pair) -> bool:
        """Whether variants are made of ``pair``: not of variants, nor of empty slices if so set.

        Nor of what nobody annotated.
        """
        if pair.parent or pair.unannotated:
            return False
        return self._settings.empty_slices or not pair.empty

    def key(self, pair_id: str, name: str, epoch: int | None = None) -> tuple[object, ...]:
        """The key that a variant is drawn from; ``epoch`` None is offline."""
        parts = (self._settings.seed, self._dataset, pair_id, name)
        return parts if epoch is None else (*parts, "epoch", epoch)

    def choice(self, pair_id: str, epoch: int) -> str:
        """The variant, or ORIGINAL, that ``epoch`` shows of a pair."""
        names = (ORIGINAL, *self._chains)
        key = keys.key(self._settings.seed, self._dataset, pair_id, "online", epoch)
        return names[key % len(names)]

    def make(
        self, name: str, key: tuple[object, ...], image: Image8, mask: Image8
    ) -> tuple[Image8, Image8]:
        """The variant ``name`` of a pair uint8, (H, W) and (H, W) or, of several channels,
        (H, W, channels), drawn from ``key``. A channel that is 0 everywhere stays so.
        """
        bent, ids = chains.apply(self._chains[name], key, image, mask, self._reference)
        if image.ndim == 3 and (absent := _absent(image)).any():
            bent = np.where(absent, np.uint8(0), bent)
        return bent, ids

    def fresh(self, pair: Pair, epoch: int, image: Image8, mask: Image8) -> tuple[Image8, Image8]:
        """The pictures that ``epoch`` shows of ``pair``; augmented pairs stay as they are."""
        name = self.choice(pair.id, epoch)
        if name == ORIGINAL or not self.wanted(pair):
            return image, mask
        return self.make(name, self.key(pair.id, name, epoch), image, mask)


def _absent(image: Image8) -> NDArray[np.bool_]:
    """Of an image (H, W, channels), the channels that are 0 everywhere."""
    height, width, channels = image.shape
    # many times as fast as any() along these axes
    columns = cv2.reduce(image.reshape(height, -1), 0, cv2.REDUCE_MAX)
    return np.asarray(columns.reshape(width, channels).max(axis=0) == 0, np.bool_)
