"""A scan and one or several models -> probabilities in the scan's own grid, by slabs.

Models of one plane are asked slab by slab, and nothing but the slab is held. Models of several
planes see the scan in several orders, so their sums wait in a file without a name until all
were asked.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Problem
from model.inference import fusing
from model.inference.fusing import Weights
from model.inference.member import Member, viewed
from model.inference.sampling import Probabilities
from model.inference.temperature import NONE, Temperatures
from pipeline.pairs import channels
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.channels import Images
from pipeline.volumes import volume
from pipeline.volumes.arrays import Image8
from pipeline.volumes.volume import Volume

_SLAB_BYTES = 1 << 26  # of probabilities in a scan's own grid
_MAPPED_BYTES = 1 << 26  # of a file at once
_FLOAT = np.dtype(np.float32)
Done = Callable[[int], object]
"""Called with the number of slices that a model was asked about since the last call."""


class Slices(Protocol):
    """All slices of a scan in one plane as a network is shown them, each by its index."""

    @property
    def canvas(self) -> Canvas:
        """How a slice becomes a picture."""

    def picture(self, index: int) -> Image8 | None:
        """That of a slice; None of one that counts as background without being asked about."""


@dataclass(frozen=True)
class Slab:
    """Neighbouring slices in the first model's plane: which, and (classes, n, rows, columns).

    ``entropy`` (n, rows, columns) is that of the probabilities, as a share of the most there can
    be, log(classes). ``disagreement`` is 1 less the models' affinity
    (:mod:`model.inference.fusing`): 0 where they agree, 1 where each rules out what another is sure
    of; of two it is the square of their Hellinger distance. None where they were not asked for.
    """

    at: slice
    probability: Probabilities
    entropy: NDArray[np.float32] | None
    disagreement: NDArray[np.float32] | None


def slabs(
    members: Sequence[Member],
    images: Images,
    scratch: Path,
    own_grey: bool = False,
    uncertain: bool = False,
    done: Done = lambda _: None,
    weights: Weights | None = None,
    temperatures: Temperatures = NONE,
) -> Iterator[Slab]:
    """The members' probabilities as one, for all slices of a scan, in order.

    ``images``: the scan or, for models of several sequences, those of a case. ``scratch`` is a
    folder with room for as many float32 numbers a voxel as there are classes, where the members are
    of several planes. ``weights``: see :mod:`model.inference.fusing`; None are equal ones.
    ``temperatures``: what calibrates them together. Raises :class:`Problem` if the scan's slices
    have no one spacing and a member is of another plane than theirs.
    """
    image = channels.first(images)
    require_own_plane(members, image)
    voices = [
        _Voice(member, viewed(images, member.facts, own_grey), weight)
        for member, weight in zip(members, fusing.of_each(weights, len(members)), strict=True)
    ]
    shape, planes = image.array.shape, _planes(members)
    whole = _Whole(len(members) > 1, temperatures, uncertain)
    if len(planes) == 1:
        for at, total in _sums(voices, shape, done):
            yield whole.slab(at, total)
            del total  # before the next is computed
        return
    with tempfile.TemporaryFile(dir=scratch) as file:
        sums = _Sums(file, (len(members[0].facts.label_map), *shape))
        for plane in planes:
            of_plane = [one for one in voices if one.member.facts.plane == plane]
            for at, total in _sums(of_plane, shape, done):
                sums.add(plane, at, list(total))
                del total
        for at in _steps(members, shape, planes[0]):
            found = sums.get(planes[0], at)
            yield whole.slab(at, found)
            del found


def every(
    members: Sequence[Member],
    seen: Sequence[Slices],
    shape: tuple[int, ...],
    scratch: Path,
    done: Done = lambda _: None,
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """What each member answers to what it is shown, by slabs of the first one's plane.

    ``shape`` (X, Y, Z) is the scan's, in RAS+ order; ``scratch`` a folder with room for members x
    classes float32 numbers a voxel. Yields slices of the first member's plane with their answers
    (members, classes, n, rows, columns), which :func:`fusing.fused` makes those of :func:`slabs`.
    """
    classes, planes = len(members[0].facts.label_map), _planes(members)
    with tempfile.TemporaryFile(dir=scratch) as file:
        sums = _Sums(file, (len(members) * classes, *shape))
        for number, (member, slices) in enumerate(zip(members, seen, strict=True)):
            plane = member.facts.plane
            of_plane = [one for one in members if one.facts.plane == plane]
            for at in _steps(of_plane, shape, plane):
                sums.add(plane, at, list(_asked(member, slices, at, done)), number * classes)
        for at in _steps(members, shape, planes[0], len(members)):
            found = sums.get(planes[0], at)
            yield at, found.reshape(len(members), classes, *found.shape[1:])
            del found


@dataclass(frozen=True)
class _Voice:
    """A member, the slices that it is shown, and its weight."""

    member: Member
    slices: Slices
    weight: np.float32


def _planes(members: Sequence[Member]) -> list[str]:
    return list(dict.fromkeys(member.facts.plane for member in members))


def require_own_plane(members: Sequence[Member], image: Volume) -> None:
    """Raises :class:`Problem` for slices without one spacing that a member would cut across.

    Its pictures would be distorted.
    """
    own, _ = image.grid.third
    others = [one for one in members if image.uneven and one.facts.plane != own]
    if others:
        raise Problem(
            f"expected models of {own} slices, as those of this series of uneven spacing are, got"
            f" one of {others[0].facts.plane} slices",
            where=others[0].file,
            remedy=f"Take a model of {own} slices, or resample the series to one spacing.",
        )


def _steps(
    members: Sequence[Member], shape: tuple[int, ...], plane: str, parts: int = 1
) -> Iterator[slice]:
    """Slabs of whole batches in ``plane``; with ``parts``, of as many times fewer slices."""
    count, rows, columns = _stack(shape, plane)
    of_slice = 4 * len(members[0].facts.label_map) * rows * columns
    batch = max(member.at_once for member in members)
    step = max(_SLAB_BYTES // of_slice // batch, 1) * batch
    step = max(step // parts, 1)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


def _stack(shape: tuple[int, ...], plane: str) -> tuple[int, ...]:
    """The shape (N, rows, columns) of the slices in ``plane`` of a scan (X, Y, Z)."""
    return volume.slices(np.broadcast_to(np.False_, shape), plane).shape


def _sums(
    voices: Sequence[_Voice], shape: tuple[int, ...], done: Done
) -> Iterator[tuple[slice, Probabilities]]:
    """Slab by slab the sum of what the members' answers are together."""
    members = [one.member for one in voices]
    for at in _steps(members, shape, members[0].facts.plane):
        total: Probabilities | None = None
        for one in voices:
            answer = fusing.part(_asked(one.member, one.slices, at, done), one.weight)
            total = answer if total is None else np.add(total, answer, out=total)
            del answer
        assert total is not None
        yield at, total


def _asked(member: Member, slices: Slices, at: slice, done: Done) -> Probabilities:
    """(classes, n, rows, columns) of some slices, in batches of the member's own size."""
    sampler = member.sampler(slices.canvas)
    shape = (slices.canvas.height, slices.canvas.width)
    answer = np.empty((len(member.facts.label_map), at.stop - at.start, *shape), np.float32)
    for start in range(at.start, at.stop, member.at_once):
        chosen = range(start, min(start + member.at_once, at.stop))
        pictures = {
            index: picture for index in chosen if (picture := slices.picture(index)) is not None
        }
        for index in set(chosen) - set(pictures):
            answer[:, index - at.start] = 0
            answer[0, index - at.start] = 1
        guesses = member.of_pictures(list(pictures.values())) if pictures else ()
        for index, guess in zip(pictures, guesses, strict=True):
            answer[:, index - at.start] = member.temperatures(sampler(guess))
        done(len(chosen))
    return answer


@dataclass(frozen=True)
class _Whole:
    """How the sum over all members becomes what they answer together."""

    several: bool
    temperatures: Temperatures
    uncertain: bool

    def slab(self, at: slice, total: Probabilities) -> Slab:
        """The slab of this sum, which is changed."""
        affinity = fusing.pooled(total) if self.several else None
        calibrated = self.temperatures(total)
        if not self.uncertain:
            return Slab(at, calibrated, None, None)
        apart = None if affinity is None else np.clip(1 - affinity, 0, 1)
        return Slab(at, calibrated, _entropy(calibrated), apart)


def _entropy(probability: Probabilities) -> NDArray[np.float32]:
    """The entropy of (classes, n, ...) as a share of log(classes): 0 sure, 1 all equally likely.

    Slice by slice, because what it computes on the way is several times as large as the slices.
    """
    share = np.empty(probability.shape[1:], np.float32)
    most = np.float32(np.log(len(probability)))
    for index in range(probability.shape[1]):
        here = probability[:, index]
        safe = np.maximum(here, np.finfo(np.float32).tiny)
        share[index] = np.clip(-(here * np.log(safe)).sum(axis=0) / most, 0, 1)
    return share


class _Sums:
    """Numbers (channels, X, Y, Z) in a file, of which slabs in any plane are added to and read.

    Pages of a map count as memory while it stays, and a slab of thin slices touches all pages. So
    a part of the file is mapped at a time.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        self._file, self._shape = file, shape
        count = math.prod(shape) * _FLOAT.itemsize
        file.truncate(count)
        if hasattr(os, "posix_fallocate"):  # a full disk would end a program that maps the file
            os.posix_fallocate(file.fileno(), 0, count)

    def add(
        self, plane: str, at: slice, values: Sequence[NDArray[np.float32]], first: int = 0
    ) -> None:
        """Add ``values`` (channels, n, rows, columns) to some slices in ``plane``.

        They are the channels from ``first`` on.
        """
        for channel, own in enumerate(values, first):
            for here, mapped in self._parts(channel, plane, at):
                mapped += volume.unslice(own, plane)[here]

    def get(self, plane: str, at: slice) -> NDArray[np.float32]:
        """(channels, n, rows, columns) of some slices in ``plane``."""
        sides = list(self._shape[1:])
        sides[volume.slice_axis(plane)] = at.stop - at.start
        shape = volume.slices(np.empty(sides, bool), plane).shape
        found = np.empty((self._shape[0], *shape), _FLOAT)
        for channel, own in enumerate(found):
            for here, mapped in self._parts(channel, plane, at):
                volume.unslice(own, plane)[here] = mapped
        return found

    def _parts(
        self, channel: int, plane: str, at: slice
    ) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Which x of a slab, counted from its first, and its voxels there, in RAS+ order."""
        _, *sides = self._shape
        axis = volume.slice_axis(plane)
        first, last = (at.start, at.stop) if axis == 0 else (0, sides[0])
        of_x = sides[1] * sides[2] * _FLOAT.itemsize
        step = max(1, _MAPPED_BYTES // of_x)
        for start in range(first, last, step):
            stop = min(start + step, last)
            offset = (channel * sides[0] + start) * of_x
            shape = (stop - start, *sides[1:])
            mapped = np.memmap(self._file, _FLOAT, "r+", offset, shape)
            which = (slice(None), *((at,) if axis == 1 else (slice(None), at) if axis else ()))
            yield slice(start - first, stop - first), mapped[which]
