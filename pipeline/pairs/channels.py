"""The channels of a picture: MR sequences on one grid, or one CT in several windows.

What convert makes pictures of, and what a network is shown of a new scan, is made here: once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Problem, Window
from pipeline.pairs.canvas import Canvas
from pipeline.volumes import volume, windows
from pipeline.volumes.arrays import Image8
from pipeline.volumes.volume import SAME_GRID, Grid, Volume

_PLANE = "axial"  # in which grids are compared; any would do
Images = Volume | Mapping[str, Volume]
"""One scan, or those of a case by the names of their channels, in order and on one grid."""


@dataclass(frozen=True)
class Channel:
    """One channel of a picture: its name, and the window of a CT (None: percentiles).

    ``own``: whether it is a scan of its own, which may be missing; else it is a window of the one
    scan.
    """

    name: str
    window: Window | None = None
    own: bool = True


def of(dataset: Dataset, wanted: Mapping[str, tuple[float, float]]) -> tuple[Channel, ...]:
    """The channels of a dataset's pictures, with the windows ``wanted``; none of grey pictures.

    Raises :class:`Problem` for windows of what has no HU, or of several pictures.
    """
    if not wanted:
        return tuple(Channel(name, dataset.window) for name in dataset.channels)
    if dataset.modality != "CT" or dataset.channels:
        what = f"an {dataset.modality}" if dataset.modality != "CT" else "several pictures"
        raise Problem(
            f"expected no windows for {what}, got {', '.join(wanted)}",
            where=f"convert.windows of {dataset.title}",
            remedy="Leave them out: a CT of one picture has windows in HU.",
        )
    return tuple(Channel(name, Window(*values), own=False) for name, values in wanted.items())


def first(images: Images) -> Volume:
    """The first scan, whose geometry and instances are those of the case."""
    return next(iter(images.values())) if isinstance(images, Mapping) else images


@dataclass(frozen=True)
class View:
    """The slices (N, rows, columns) of a channel, and which of their values become 0 and 255."""

    stack: NDArray[Any]
    window: tuple[float, float]

    def in_8_bits(self, index: int) -> Image8:
        """Slice ``index`` as whole greys (rows, columns) on its own grid."""
        return np.rint(volume.to_8_bit(self.stack[index], self.window)).astype(np.uint8)


@dataclass(frozen=True)
class Views:
    """A case as its pictures show it; a channel that it lacks is None.

    A picture shows so many ``neighbours`` on either side of its slice too. ``in_8_bits``: greys are
    rounded on the scan's own grid, as convert keeps them, before a picture is drawn.
    """

    channels: tuple[Channel, ...]
    every: tuple[View | None, ...]
    canvas: Canvas
    neighbours: int = 0
    in_8_bits: bool = False
    _drawn: dict[int, Image8] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        images: Images,
        channels: Sequence[Channel],
        plane: str,
        bounds: tuple[float, float] | None,
        percentiles: tuple[float, float],
        image_px: int,
        own_grey: bool = False,
        neighbours: int = 0,
        field_mm: float = 0.0,
        in_8_bits: bool = False,
    ) -> Views:
        """Of a case in ``plane``; ``bounds``, ``percentiles``, ``own_grey``: as in
        :func:`pipeline.volumes.windows.window_of`. ``field_mm``: as in :meth:`Canvas.fit`.

        Raises :class:`Problem` for scans of other channels than these, or of several grids.
        """
        scans = _by_channel(images, channels)

        def view(scan: Volume | None, within: tuple[float, float] | None) -> View | None:
            if scan is None:
                return None
            shown = windows.window_of(scan.array, own_grey, within, percentiles)
            return View(volume.slices(scan.array, plane), shown)

        every = (
            tuple(
                view(scans[one.name], one.window.bounds if one.window else None) for one in channels
            )
            if channels
            else (view(scans[""], bounds),)
        )
        one = first(images)
        stack = volume.slices(one.array, plane)
        spacing = volume.slice_spacing(one.grid, plane)
        canvas = Canvas.fit((stack.shape[1], stack.shape[2]), spacing, image_px, field_mm)
        return cls(tuple(channels), every, canvas, neighbours, in_8_bits)

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def shown(self) -> View:
        """The first channel that is there: what people see."""
        return next(one for one in self.every if one is not None)

    @property
    def stack(self) -> NDArray[Any]:
        """Its slices."""
        return self.shown.stack

    @property
    def window(self) -> tuple[float, float]:
        """Its window."""
        return self.shown.window

    @property
    def absent(self) -> tuple[str, ...]:
        """The names of the channels that the case lacks."""
        pairs = zip(self.channels, self.every, strict=True) if self.channels else ()
        return tuple(channel.name for channel, view in pairs if view is None)

    @property
    def bounds(self) -> tuple[float, ...]:
        """The values shown as 0 and 255 of each channel in turn, 0 and 0 of those that lack.

        Nothing of grey pictures.
        """
        windows = [(0.0, 0.0) if view is None else view.window for view in self.every]
        return tuple(value for one in windows for value in one) if self.channels else ()

    def picture(self, index: int) -> Image8:
        """Slice ``index``: (px, px) uint8 of grey pictures, else (px, px, channels).

        A channel that is not there is 0 everywhere. With neighbours, (px, px, channels of all
        slices): those of the slices ``index`` - neighbours to ``index`` + neighbours, in order;
        beyond the first and the last slice, these are repeated.
        """
        if not self.neighbours:
            return self._slice(index)
        around = range(index - self.neighbours, index + self.neighbours + 1)
        inside = [min(max(at, 0), len(self) - 1) for at in around]
        return np.concatenate([np.atleast_3d(self._kept(at)) for at in inside], axis=2)

    def _kept(self, index: int) -> Image8:
        """Slice ``index``, drawn once for all pictures in a row that show it."""
        if index not in self._drawn:
            while len(self._drawn) > 2 * self.neighbours:
                del self._drawn[next(iter(self._drawn))]
            self._drawn[index] = self._slice(index)
        return self._drawn[index]

    def _slice(self, index: int) -> Image8:
        if not self.channels:
            return self._grey(self.shown, index)
        picture = np.zeros((self.canvas.px, self.canvas.px, len(self.channels)), np.uint8)
        for at, view in enumerate(self.every):
            if view is not None:
                picture[..., at] = self._grey(view, index)
        return picture

    def _grey(self, view: View, index: int) -> Image8:
        native = (
            view.in_8_bits(index)
            if self.in_8_bits
            else volume.to_8_bit(view.stack[index], view.window)
        )
        return np.rint(self.canvas.image(native)).astype(np.uint8)


def require_one_grid(scans: Mapping[str, Volume], where: Mapping[str, object]) -> None:
    """Raises :class:`Problem` that names two scans unless all lie on one grid in the world.

    They may store their axes in another order. ``where``: their paths.
    """
    (name, one), *others = scans.items()
    for other_name, other in others:
        if not _same_places(one, other):
            raise Problem(
                f"expected the channels of a case on one grid, got {name} of"
                f" {volume.described(one.grid)} and {other_name} of"
                f" {volume.described(other.grid)}{_apart(one, other)}",
                where=where[other_name],
                remedy=f"Resample it onto the grid of {where[name]}, or leave it out.",
            )


def _by_channel(images: Images, channels: Sequence[Channel]) -> dict[str, Volume | None]:
    """Of every channel its scan, None where it is missing; of grey pictures, that named ""."""
    given = dict(images) if isinstance(images, Mapping) else {"": images}
    own = [one.name for one in channels if one.own]
    if own:
        strange = sorted(given.keys() - set(own))
        if strange or not given:
            raise Problem(
                f"expected scans of the channels {', '.join(own)}, got"
                f" {', '.join(strange).strip() or 'one without a name'}",
                remedy="State which scan is which channel.",
            )
        return {name: given.get(name) for name in own}
    if channels and given.keys() == {one.name for one in channels}:  # as convert keeps windows
        return {one.name: given[one.name] for one in channels}
    if len(given) != 1:
        raise Problem(f"expected one scan, got {len(given)}: {', '.join(given)}")
    (scan,) = given.values()
    return {one.name: scan for one in channels} or {"": scan}


def _same_places(one: Volume, other: Volume) -> bool:
    if one.array.shape != other.array.shape or bool(one.uneven) != bool(other.uneven):
        return False
    near = SAME_GRID * min(one.grid.spacing)
    if one.uneven and other.uneven:
        theirs = other.uneven.places
        theirs = theirs if np.dot(one.uneven.normal, other.uneven.normal) > 0 else theirs[::-1]
        if np.abs(one.uneven.places - theirs).max() > near:
            return False
    return _world(one).distance(_world(other)) <= near


def _apart(one: Volume, other: Volume) -> str:
    if one.array.shape != other.array.shape:
        return ""
    far = _world(one).distance(_world(other))
    return f", whose corners lie up to {far:.3g} mm apart"


def _world(scan: Volume) -> Grid:
    """The grid of the scan's array as slices of one plane, whatever order it is stored in."""
    n, rows, columns = volume.slices(scan.array, _PLANE).shape
    return Grid((n, rows, columns), scan.grid.world(_PLANE))
