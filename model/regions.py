"""Connected regions of a mask, and what a mask encloses: NumPy alone.

A mask is kept as its runs, the stretches of a row in it, and regions are sets of runs. So memory
goes with the runs, not with the voxels, and a mask may come slab by slab.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

_VOXELS, _RUNS = 1 << 22, 1 << 16  # at once
_SPARSE = 32  # places of a mask for each run, where runs are few

Amount = float | NDArray[np.float64]
"""What a voxel counts: the same everywhere, or by its slice (N,)."""
Mask = NDArray[np.bool_]
Whole = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Runs:
    """The runs of a mask (N, rows, columns), in C order: where they start, and where they stop.

    A place is a number: columns count 1, and each row and each slice has one more than it shows,
    so that what ends a row never touches what begins the next.
    """

    shape: tuple[int, int, int]
    starts: Whole
    stops: Whole

    def lengths(self, of: Any = slice(None)) -> Whole:
        """Voxels of the runs."""
        lengths: Whole = self.stops[of] - self.starts[of]
        return lengths

    def places(self, of: Any = slice(None)) -> tuple[Whole, Whole, Whole]:
        """Slice, row and first column of the runs."""
        _, rows, columns = self.shape
        lines, column = np.divmod(self.starts[of], columns + 1)
        index, row = np.divmod(lines, rows + 1)
        return index, row, column


@dataclass(frozen=True)
class Regions:
    """The connected regions of a mask (N, rows, columns), numbered by their first voxel in C order.

    ``sizes`` (count,): voxels; ``of_run``: the region of each run.
    """

    runs: Runs
    of_run: Whole
    sizes: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.sizes)

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """The mean place (count, 3) of each region's voxels: slice, row and column."""
        index, row, column = self.runs.places()
        lengths = self.runs.lengths().astype(np.float64)
        sums = [
            np.bincount(self.of_run, place * lengths, self.count)
            for place in (index, row, column + (lengths - 1) / 2)
        ]
        return np.stack(sums, axis=1) / self.sizes[:, None]

    @cached_property
    def spans(self) -> NDArray[np.int64]:
        """The first and the last slice (count, 2) of each region."""
        index = self.runs.places()[0]
        spans = np.empty((self.count, 2), np.int64)
        spans[self.of_run[::-1], 0] = index[::-1]  # of what is assigned twice, the last stays
        spans[self.of_run, 1] = index
        return spans

    def amounts(self, of_voxel: Amount) -> NDArray[np.float64]:
        """What the voxels of each region (count,) come to."""
        if isinstance(of_voxel, float):
            return np.multiply(self.sizes, of_voxel, dtype=np.float64)
        index, _, _ = self.runs.places()
        weights = self.runs.lengths() * of_voxel[index]
        # of no region, bincount counts in integers
        return np.bincount(self.of_run, weights, self.count).astype(np.float64, copy=False)

    def paint(self, stack: NDArray[np.uint8], which: Mask, value: int) -> None:
        """Set the voxels of the regions ``which`` (count,) to ``value``, in ``stack`` itself."""
        for _, *place in self.voxels(which):
            stack[tuple(place)] = value

    def voxels(self, which: Mask) -> Iterator[tuple[Whole, Whole, Whole, Whole]]:
        """Of the regions ``which`` (count,), some voxels at a time.

        The region of each, its slice, its row and its column.
        """
        chosen = np.flatnonzero(which[self.of_run])
        for part in _batches(self.runs.lengths(chosen)):
            of = chosen[part]
            lengths = self.runs.lengths(of)
            index, row, column = (np.repeat(place, lengths) for place in self.runs.places(of))
            region: Whole = np.repeat(self.of_run[of], lengths)
            yield region, index, row, column + _counted(lengths)

    def voxels_in(self, other: Runs) -> NDArray[np.int64]:
        """How many voxels of each region (count,) another mask of the same shape has, too."""
        voxels = np.zeros(self.count, np.int64)
        for here, both in self._shared(other):
            np.add.at(voxels, self.of_run[here], both)
        return voxels

    def amounts_in(self, other: Runs, of_voxel: Amount) -> NDArray[np.float64]:
        """What the voxels come to that :meth:`voxels_in` counts, (count,)."""
        if isinstance(of_voxel, float):
            return np.multiply(self.voxels_in(other), of_voxel, dtype=np.float64)
        amounts = np.zeros(self.count)
        index, _, _ = self.runs.places()
        for here, both in self._shared(other):
            np.add.at(amounts, self.of_run[here], both * of_voxel[index[here]])
        return amounts

    def _shared(self, other: Runs) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64]]]:
        """Runs, and how many voxels each shares with a run of ``other``, some at a time."""
        ours = self.runs
        for part in _parts(len(ours.starts)):
            here, there = _touching(ours, part, other, 0, 0)
            ends = np.minimum(ours.stops[here], other.stops[there])
            both = ends - np.maximum(ours.starts[here], other.starts[there])
            yield here, both.astype(np.int64)


def runs(mask: Mask | Iterable[Mask]) -> Runs:
    """The runs of a mask (N, rows, columns), whole or slab by slab (n, rows, columns)."""
    starts: list[Whole] = [np.empty(0, np.int32)]
    stops: list[Whole] = [np.empty(0, np.int32)]
    slices = rows = columns = 0
    for whole in [mask] if isinstance(mask, np.ndarray) else mask:
        for slab in slabs(whole):
            count, rows, columns = slab.shape
            if slab.any():
                places = _changes(slab) + slices * (rows + 1) * (columns + 1)
                starts.append(_small(places[::2]))
                stops.append(_small(places[1::2]))
            slices += count
    return Runs((slices, rows, columns), np.concatenate(starts), np.concatenate(stops))


def regions(mask: Mask | Iterable[Mask] | Runs, *, corners: bool, planar: bool) -> Regions:
    """The connected regions of a mask (N, rows, columns), whole, slab by slab or as its runs.

    Neighbours share a side (6, and 4 when ``planar``, slice by slice) or, with ``corners``, a side,
    an edge or a corner (26 and 8).
    """
    of = mask if isinstance(mask, Runs) else runs(mask)
    _, rows, columns = of.shape
    line, whole = columns + 1, (rows + 1) * (columns + 1)
    above = [] if planar else [whole - line, whole, whole + line] if corners else [whole]
    parents = np.arange(len(of.starts), dtype=np.int32)
    for part in _parts(len(parents)):
        for step in (line, *above):
            _join(parents, *_touching(of, part, of, step, int(corners)))
        parents[part] = _roots(parents, parents[part])
    first = np.empty(len(parents), bool)  # of its region
    for part in _parts(len(parents)):
        first[part] = parents[part] == np.arange(part.start, part.stop)
        parents[part] = _roots(parents, parents[part])
    numbers = np.cumsum(first, dtype=np.int32) - np.int32(1)
    count = int(np.count_nonzero(first))
    sizes = np.zeros(count, np.int64)
    for part in _parts(len(parents)):
        parents[part] = numbers[parents[part]]
        np.add.at(sizes, parents[part], of.lengths(part).astype(np.int64))
    return Regions(of, parents, sizes)


def holes(mask: Mask, planar: bool) -> Mask:
    """What ``mask`` (N, rows, columns) encloses: parts of its outside that do not reach the border.

    Parts of the outside hang together by their sides (6 neighbours; 4 when planar, slice by slice).
    """
    outside = regions((~slab for slab in slabs(mask)), corners=False, planar=planar)
    slices, rows, columns = mask.shape
    index, row, column = outside.runs.places()
    border = (row == 0) | (row == rows - 1) | (column == 0)
    border |= column + outside.runs.lengths() == columns
    if not planar:
        border |= (index == 0) | (index == slices - 1)
    closed = np.ones(outside.count, bool)
    closed[outside.of_run[border]] = False
    enclosed = np.zeros(mask.shape, np.uint8)
    outside.paint(enclosed, closed, 1)
    return enclosed.view(bool)


def box(ids: NDArray[np.uint8], label: int) -> tuple[slice, ...]:
    """The smallest box of a stack (N, rows, columns) that holds all of a class; empty for none."""
    sides = [np.zeros(length, bool) for length in ids.shape]
    start = 0
    for slab in slabs(ids):
        here = slab == label
        sides[0][start : start + len(here)] = here.any(axis=(1, 2))
        across = here.any(axis=0)
        sides[1] |= across.any(axis=1)
        sides[2] |= across.any(axis=0)
        start += len(here)
    if not sides[0].any():
        return (slice(0),) * 3
    return tuple(slice(int(s.argmax()), len(s) - int(s[::-1].argmax())) for s in sides)


def within(of_voxel: Amount, slices: slice) -> Amount:
    """``of_voxel`` of some slices alone."""
    return of_voxel if isinstance(of_voxel, float) else of_voxel[slices]


def slabs(stack: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Some slices of a stack (N, rows, columns) at a time, as views; at least one slab."""
    step = max(1, _VOXELS // max(1, stack.shape[1] * stack.shape[2]))
    return (stack[start : start + step] for start in range(0, max(1, len(stack)), step))


def _parts(count: int) -> Iterator[slice]:
    """Parts of so many runs."""
    return (slice(start, min(start + _RUNS, count)) for start in range(0, count, _RUNS))


def _changes(slab: Mask) -> NDArray[np.int64]:
    """Where runs of a slab (n, rows, columns) start and stop, by turns, as places."""
    slices, rows, columns = slab.shape
    padded = np.zeros(slab.size + slices * rows + 1, bool)
    padded[:-1].reshape(slices, rows, columns + 1)[..., 1:] = slab
    changes: NDArray[np.int64] = np.flatnonzero(padded[1:] != padded[:-1])
    changes += changes // (rows * (columns + 1)) * (columns + 1)  # a slice has one row more
    return changes


def _small(places: NDArray[np.int64]) -> Whole:
    """In half the memory, where that holds them."""
    fits = not len(places) or places[-1] < 1 << 30
    return places.astype(np.int32) if fits else places


def _touching(
    ours: Runs, part: slice, other: Runs, step: int, reach: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Runs of a part of ``ours`` with each of ``other`` that they touch ``step`` places before.

    ``reach``: how far a run reaches beyond its ends.
    """
    first = _before(other.stops, ours.starts[part] - (step + reach - 1))
    last = _before(other.starts, ours.stops[part] - (step - reach))
    counts = np.maximum(last - first, 0)
    here = np.repeat(np.arange(part.start, part.start + len(counts)), counts)
    return here, np.repeat(first, counts) + _counted(counts)


def _before(places: Whole, keys: Whole) -> NDArray[np.intp]:
    """How many of ``places`` are below each key; both ascend."""
    least, most = int(keys[0]), int(keys[-1])
    start, stop = np.searchsorted(places, [least, most])
    near = places[start:stop]
    if most - least > _SPARSE * len(keys):
        below: NDArray[np.intp] = np.searchsorted(near, keys)
    else:  # counting is faster than searching
        seen = np.zeros(most - least + 1, bool)
        seen[near - (least - 1)] = True
        below = np.cumsum(seen, dtype=np.int32)[keys - least].astype(np.intp)
    below += start
    return below


def _join(parents: NDArray[np.int32], one: NDArray[Any], other: NDArray[Any]) -> None:
    """Unite the trees of each pair of nodes; a root is always the lowest of its tree.

    All pairs at once: the higher root of each is hung below the lower, what was hung is
    flattened, and pairs that are apart still come again.
    """
    while len(one):
        one, other = _roots(parents, one), _roots(parents, other)
        apart = one != other
        one, other = one[apart], other[apart]
        one, other = np.maximum(one, other), np.minimum(one, other)
        parents[one] = other
        above = parents[one]
        while ((higher := parents[above]) != above).any():
            parents[one] = above = higher


def _roots(parents: NDArray[np.int32], nodes: NDArray[Any]) -> NDArray[np.int32]:
    roots: NDArray[np.int32] = parents[nodes]
    while ((higher := parents[roots]) != roots).any():
        roots = higher
    return roots


def _counted(lengths: Whole) -> NDArray[np.intp]:
    """0, 1, ... up to each length, one after the other."""
    ends = np.cumsum(lengths, dtype=np.intp)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) - np.repeat(ends - lengths, lengths)


def _batches(lengths: Whole) -> Iterator[slice]:
    """Parts of runs with some voxels together, or one run alone."""
    ends = np.cumsum(lengths, dtype=np.int64)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _VOXELS // 4, "right")))
        yield slice(start, stop)
        start = stop
