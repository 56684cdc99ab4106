"""Pairs from disk to the model, streamed: nothing is held but the batches under way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from pipeline import colors
from pipeline.manifest import Pair
from pipeline.params import Network

Grey = NDArray[np.uint8]
Fresh = Callable[[Pair, int, Grey, Grey], tuple[Grey, Grey]]
"""What an epoch shows of a pair: pair, epoch, image (H, W) and ids (H, W) -> image and ids."""

_THREADS = 2
_AHEAD = 8  # batches


def picture_at(image: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """A grey picture (H, H) at (px, px): area averaging when it shrinks, linear when it grows."""
    if len(image) == px:
        return image
    how = cv2.INTER_AREA if px < len(image) else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (px, px), interpolation=how), np.uint8)


def labels_at(ids: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Class ids (H, H) at (px, px): the id under each pixel's centre."""
    index = ((np.arange(px) + 0.5) * len(ids) / px).astype(np.intp)
    return ids[np.ix_(index, index)]


def model_input(pictures: Sequence[NDArray[np.uint8]], network: Network) -> NDArray[np.uint8]:
    """Grey pictures of any size -> (B, px, px, channels) uint8."""
    batch = np.stack([picture_at(picture, network.image_px) for picture in pictures])
    return np.repeat(batch[..., None], network.channels, axis=-1)


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # untyped library
    """Batches of (pictures (B, px, px, channels) uint8, class ids (B, px, px) uint8).

    ``folder`` holds the split's ``images`` and ``masks``. With a ``seed`` the order is
    shuffled anew each epoch, by seed and epoch alone, and an incomplete last batch is
    filled up from the front; without, every pair comes once, in order. With ``online``
    every pair is shown as what that gives for the epoch, before it is brought to the
    network's size; it is called by several threads.
    """

    def __init__(
        self,
        folder: Path,
        pairs: Sequence[Pair],
        label_map: LabelMap,
        network: Network,
        batch_pairs: int,
        seed: int | None = None,
        steps: int = 0,
        online: Fresh | None = None,
    ) -> None:
        super().__init__(workers=_THREADS, max_queue_size=_AHEAD)
        self._folder, self._pairs = folder, list(pairs)
        self._label_map, self._network = label_map, network
        self._batch, self._seed, self._steps = batch_pairs, seed, steps
        self._online = online
        self._epoch = 0
        self._order = self._drawn()

    def __len__(self) -> int:
        whole = -(-len(self._pairs) // self._batch)
        return min(whole, self._steps) if self._steps else whole

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        shown = [self._shown(self._pairs[position]) for position in chosen]
        px = self._network.image_px
        pictures = model_input([image for image, _ in shown], self._network)
        return pictures, np.stack([labels_at(ids, px) for _, ids in shown])

    def _shown(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image = colors.read_image(self._folder / pair.image)
        ids = colors.read_mask(self._folder / pair.mask, self._label_map)
        return self._online(pair, self._epoch, image, ids) if self._online else (image, ids)

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order, and its variants."""
        self._epoch += 1
        self._order = self._drawn()

    def _drawn(self) -> NDArray[np.intp]:
        count = len(self._pairs)
        if self._seed is None:
            return np.arange(count)
        order = np.random.default_rng((self._seed, self._epoch)).permutation(count)
        return np.resize(order, -(-count // self._batch) * self._batch)
