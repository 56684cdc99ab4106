"""Pairs from disk to the model, streamed: nothing is held but the batches under way."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets_spec.contract import LabelMap
from model.network_input import labels_at, picture_at, stacked
from model.params import Network
from model.training import parts
from model.training.devices import Share
from model.training.partial import Codes
from pipeline.pairs import pictures
from pipeline.pairs.manifest import Pair
from pipeline.runtime.shards import is_url

Grey = NDArray[np.uint8]
Fresh = Callable[[Pair, int, Grey, Grey], tuple[Grey, Grey]]
"""What an epoch shows of a pair: pair, epoch, image and ids (H, W) -> image and ids.

An image is (H, W), or (H, W, channels) of a pair that names several."""

Read = Callable[[Pair], tuple[Grey, Grey]]
"""A row -> its image and its class ids, both at the size of whole pictures."""

_LOG = logging.getLogger(__name__)
_THREADS = min(max(2, os.cpu_count() or 2), 8)
_AHEAD = 8  # batches
_RESERVE = 2**30  # bytes of the disk that are left to others
_STRIDE = 2**26  # bytes that are kept before the disk is asked again
_ALONE = Share()


class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # untyped library
    """Batches of (pictures (B, px, px, channels) uint8, class ids (B, px, px) uint8).

    ``folder`` is that of the pairs' manifest. With a ``seed`` the order is
    shuffled anew each epoch, by seed and epoch alone, and an incomplete last batch is
    filled up from the front; more ``steps`` than that show all pairs again, in another order and as
    other variants. Without, every pair comes once, in order. With ``online``
    every pair is shown as what that gives for the epoch, whole and at the network's size; it is
    called by several threads. The share ``foreground_oversampling`` of an epoch, spread evenly over
    its batches, gives way to pairs that show the foreground classes in turn, drawn by the same key.
    ``share``: every process reads its part of each batch, and of one that is not complete, all;
    see :meth:`passes`. With a folder ``scratch``, pictures larger
    than the network's are decoded once: see :class:`_Cache`. Of several channels, each that a pair
    has is 0 everywhere with the probability ``channel_dropout``, drawn by seed, epoch and the place
    in the epoch, but never all of them.

    A network that sees parts is shown, with a ``seed``, one part of each pair, drawn by seed, epoch
    and the place in the epoch; where a pair stands for a class, a part with a pixel of it. Without,
    it is shown all parts of every pair, edge to edge: see :mod:`model.training.parts`.

    With ``read``, rows are read by it instead of from the folder, slowly: so :meth:`fill` first.

    Pixels of which not one class is known have the ids that ``codes`` gives them; those of the
    ``pairs``, if there are none.
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
        foreground_oversampling: float = 0.0,
        share: Share = _ALONE,
        scratch: Path | None = None,
        codes: Codes | None = None,
        channel_dropout: float = 0.0,
        read: Read | None = None,
    ) -> None:
        super().__init__(workers=_THREADS, max_queue_size=_AHEAD)
        self._folder, self._pairs = folder, list(pairs)
        self._label_map, self._network = label_map, network
        self._batch, self._seed, self._steps = batch_pairs, seed, steps
        self._turns = 1
        self._online, self._share, self._reader = online, share, read
        self._codes = codes or Codes.of(pairs, len(label_map))
        self._oversampling = foreground_oversampling
        self._present = np.array([pair.present for pair in self._pairs])
        self._channel_dropout = channel_dropout if seed is not None else 0.0
        depth = self._present.shape[1] * (2 * network.neighbours + 1)
        self._cache = (
            _Cache(scratch, len(self._pairs), network.whole_px, depth) if scratch else None
        )
        self._grid = [(0, 0)] if seed is not None else parts.edge_to_edge(network)
        if seed is not None and steps > self._once:
            self._turns = -(-steps * batch_pairs // len(self._pairs))
        self.show(0)

    def __len__(self) -> int:
        return self._steps or self._once

    @property
    def _once(self) -> int:
        """The batches in which everything is shown once."""
        return -(-len(self._pairs) * len(self._grid) // self._batch)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        places = range(index * self._batch, min((index + 1) * self._batch, len(self._order)))
        if len(places) == self._batch:
            places = self._share.part(places)
        shown: list[tuple[Grey, Grey]] = []
        for (turn, position), same in groupby(places, self._shown_at):
            image, ids = self._whole(position, turn)
            shown += [self._heard(place, *self._part(place, image, ids)) for place in same]
        pictures = stacked([image for image, _ in shown], self._network)
        return pictures, np.stack([ids for _, ids in shown])

    def _part(self, place: int, image: Grey, ids: Grey) -> tuple[Grey, Grey]:
        """What a place shows of its pair, at the network's size."""
        px = self._network.image_px
        if px == len(image):
            return image, ids
        if self._seed is None:
            row, column = self._grid[self._order[place] % len(self._grid)]
        else:
            row, column = parts.drawn(ids, px, int(self._stands_for[place]), self._chances[place])
        seen = slice(row, row + px), slice(column, column + px)
        return image[seen].copy(), ids[seen].copy()  # a view would hold the whole

    def _heard(self, place: int, image: Grey, ids: Grey) -> tuple[Grey, Grey]:
        """What a place shows, without the channels that are dropped there."""
        if image.ndim == 2 or not self._dropped[place].any():
            return image, ids
        dropped = np.tile(self._dropped[place], 2 * self._network.neighbours + 1)
        return np.where(dropped, np.uint8(0), image), ids

    def _shown_at(self, place: int) -> tuple[int, int]:
        """How often all pairs came before in the epoch, and the position of a place's pair."""
        turn = min(place // len(self._pairs), self._turns - 1) if self._turns > 1 else 0
        return turn, self._order[place] // len(self._grid)

    def _whole(self, position: int, turn: int) -> tuple[Grey, Grey]:
        """What the epoch shows of the pair at a position, at the size of whole pictures."""
        pair = self._pairs[position]
        image, ids = self._read(position)
        if self._online:
            image, ids = self._online(pair, self._epoch * self._turns + turn, image, ids)
        return image, self._codes.encoded(ids, pair.unlabelled)

    def _read(self, position: int) -> tuple[Grey, Grey]:
        """The pair at a position, at the size of whole pictures."""
        if self._cache and (kept := self._cache.get(position)):
            return kept
        pair, px = self._pairs[position], self._network.whole_px
        if self._reader:
            image, ids = self._reader(pair)
        else:
            image = pictures.image(self._folder, pair)
            ids = pictures.mask(self._folder, pair, self._label_map)
        small = picture_at(image, px), labels_at(ids, px)
        dear = self._reader or is_url(pair.shard)
        if self._cache and (dear or px < len(image) or self._network.picture_px):
            self._cache.put(position, *small)
        return small

    def fill(self, title: str) -> None:
        """Read every row once, in order, so that a case is in memory once."""
        for position in tqdm(range(len(self._pairs)), title, disable=None, leave=False):
            self._read(position)
        if self._cache and (lacking := len(self._pairs) - self._cache.count):
            _LOG.warning(
                "  %s: warning: the disk has no room for %d of %d slices; each time one is shown,"
                " its case is read again",
                title,
                lacking,
                len(self._pairs),
            )

    def passes(self) -> Iterator[tuple[keras.utils.PyDataset, AbstractContextManager[None]]]:
        """The batches to judge by, and how devices are to be shown them.

        Several devices have a part each of every complete batch. What is left over comes in a pass
        of its own, in which each has all of it, so that every pair counts once, as with one device.
        """
        complete = len(self._order) // self._batch
        if not self._share.distribution or complete == len(self):
            yield self, nullcontext()
            return
        if complete:
            yield _Some(self, range(complete)), nullcontext()
        yield _Some(self, range(complete, len(self))), self._share.whole()

    def show(self, epoch: int) -> None:
        """Draw the order of an epoch, counted from 0, and its variants.

        Keras' own ``on_epoch_end`` comes before, after or amid the reading ahead.
        """
        self._epoch = epoch
        self._order, self._stands_for = self._drawn()
        rng = np.random.default_rng((self._seed or 0, epoch, 3))
        self._chances = rng.random((len(self._order), parts.CHANCES))
        self._dropped = self._silenced()

    def _silenced(self) -> NDArray[np.bool_]:
        """Of every place the channels (places, channels) that are dropped."""
        present = self._present[self._order // len(self._grid)]
        rng = np.random.default_rng((self._seed or 0, self._epoch, 4))
        drawn = np.where(present, rng.random(present.shape), -1.0)
        dropped: NDArray[np.bool_] = present & (drawn < self._channel_dropout)
        dropped[np.arange(len(drawn)), drawn.argmax(axis=1)] = False  # one is always there
        return dropped

    def _drawn(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """What each place shows, and the class that it is there for, or 0."""
        count = len(self._pairs) * len(self._grid)
        whole = max(self._once, len(self)) * self._batch
        if self._seed is None:
            # mirrored devices need equal parts; all others show no pair twice
            order = np.resize(np.arange(count), whole if self._share.strategy else count)
            return order, np.zeros_like(order)
        rng = np.random.default_rng((self._seed, self._epoch))
        order = np.concatenate([rng.permutation(count) for _ in range(self._turns)])
        order = np.resize(order, whole)
        return order, self._favour_classes(order.reshape(-1, self._batch)).ravel()

    def _favour_classes(self, order: NDArray[np.intp]) -> NDArray[np.intp]:
        """Let the first places of the batches (rows) show the foreground classes in turn.

        What a batch cannot have of a share, a part of a place, later ones have. Returns the class
        that each place shows, or 0.
        """
        classes = np.zeros_like(order)
        if not self._oversampling:
            return classes
        shown = np.array([pair.class_pixels for pair in self._pairs])[:, 1:] > 0
        labels = np.flatnonzero(shown.any(axis=0)) + 1
        showing = [np.flatnonzero(shown[:, label - 1]) for label in labels]
        if not showing:
            return classes
        so_far = np.rint(self._oversampling * self._batch * np.arange(len(order) + 1))
        places = np.arange(self._batch) < np.diff(so_far)[:, None]
        rng = np.random.default_rng((self._seed or 0, self._epoch, 1))
        drawn = np.arange(np.count_nonzero(places))
        turn = drawn % len(showing)
        for number, positions in enumerate(showing):
            mine = turn == number
            drawn[mine] = rng.choice(positions, np.count_nonzero(mine))
        order[places] = drawn
        classes[places] = labels[turn]
        return classes


class _Some(keras.utils.PyDataset):  # type: ignore[misc]  # untyped library
    """Some batches of others."""

    def __init__(self, batches: Batches, numbers: range) -> None:
        super().__init__(workers=batches.workers, max_queue_size=batches.max_queue_size)
        self._batches, self._numbers = batches, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self._batches[self._numbers[index]]


class _Cache:
    """Pairs at the network's size, in a file without a name, which ends with the process.

    To decode a pair of 512 x 512 takes half as long as a step of a small network with it. The
    file is read, not mapped, so the process does not grow. It leaves :data:`_RESERVE` of the disk
    free; where writing fails all the same, it gives its room back and keeps nothing more.
    """

    def __init__(self, folder: Path, pairs: int, px: int, channels: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by the next line
        weakref.finalize(self, file.close)
        self._number, self._folder = file.fileno(), folder
        self._shape = (channels + 1, px, px)
        self._kept = np.zeros(pairs, bool)
        self._writing = threading.Lock()
        self._ended = False
        self._roomy, self._unasked = False, 0

    @property
    def count(self) -> int:
        """How many pairs are kept."""
        return int(np.count_nonzero(self._kept))

    def get(self, position: int) -> tuple[Grey, Grey] | None:
        """Image and ids as they were put, or None."""
        if not self._kept[position]:
            return None
        size = math.prod(self._shape)
        content = os.pread(self._number, size, int(position) * size)
        if len(content) < size:  # given back since
            return None
        *channels, ids = np.frombuffer(content, np.uint8).reshape(self._shape)
        return (np.stack(channels, axis=-1) if channels[1:] else channels[0]), ids

    def put(self, position: int, image: Grey, ids: Grey) -> None:
        """Keep image (px, px) or (px, px, channels) and ids (px, px), if there is room; several
        threads may."""
        content = np.dstack([image, ids]).transpose(2, 0, 1).tobytes()
        with self._writing:
            if self._ended:
                return
            try:
                if self._has_room(len(content)):
                    written = os.pwrite(self._number, content, int(position) * len(content))
                    self._kept[position] = written == len(content)
            except OSError:
                self._ended = True
                self._kept[:] = False
                os.ftruncate(self._number, 0)

    def _has_room(self, more: int) -> bool:
        """Whether the disk keeps its reserve; it is asked once for :data:`_STRIDE` bytes."""
        self._unasked -= more
        if self._unasked < 0:
            self._unasked = _STRIDE
            self._roomy = shutil.disk_usage(self._folder).free >= _RESERVE + _STRIDE
        return self._roomy
