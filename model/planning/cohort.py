"""What decides a plan, of a dataset: sizes, classes and patients, as the manifest states them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from datasets_spec.contract import LESIONS, PLANES, Dataset
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.volumes import profile
from pipeline.volumes.profile import Profile

Triple = tuple[float, float, float]
ACROSS = {plane: profile.PLANES.index(plane) for plane in PLANES}
"""The axis of RAS+ along which the slices of a plane lie one after another."""
_MOST = 95.0  # percentile of the cases for what nearly all of them fit into


@dataclass(frozen=True)
class Class:
    """A foreground class: how many patients show it, the share of the slices that do, and its
    median volume in a case that has it, in ml; None where that is not known."""

    name: str
    lesion: bool
    patients: int
    slices: float | None
    ml: float | None = None


@dataclass(frozen=True)
class Cohort:
    """A dataset in numbers; three numbers are those of the axes x, y, z of RAS+.

    ``shape``: voxels of the median case. ``spacing``: mm of the median case, None where some are
    pictures, whose pixels have no known size. ``extent``: mm that 95 % of the cases do not exceed.
    ``uneven``: some series have no one spacing. ``kept``: convert has kept the scans. ``slices``
    counts those of the dataset's own plane, ``shown`` the share with foreground. ``lacking``: the
    share of cases that lack a channel. ``raters``: the most of a case. ``ceilings``: the mean Dice
    that is left of the labels, drawn with so many times fewer pixels along a side, on the source's
    grid.
    """

    modality: str
    plane: str
    channels: int
    patients: int
    cases: int
    slices: int
    shown: float
    shape: tuple[int, int, int]
    classes: tuple[Class, ...]
    spacing: Triple | None = None
    extent: Triple | None = None
    uneven: bool = False
    kept: bool = False
    lacking: float = 0.0
    raters: int = 1
    ceilings: Mapping[float, float] = field(default_factory=dict)

    def across(self, plane: str) -> float:
        """The distance of a plane's slices in mm; of pictures 0."""
        return self.spacing[ACROSS[plane]] if self.spacing else 0.0

    def within(self, plane: str) -> float:
        """The finer side of a pixel of a plane's slices in mm; of pictures 1."""
        return min(self._beside(self.spacing, plane)) if self.spacing else 1.0

    def side(self, plane: str) -> float:
        """The longer side of a plane's slices in mm; of pictures in pixels."""
        return max(self._beside(self.extent or self.shape, plane))

    def count(self, plane: str) -> int:
        """About how many slices of a plane all cases have."""
        if plane == self.plane:
            return self.slices
        return self.shape[ACROSS[plane]] * self.cases

    @property
    def anisotropy(self) -> float:
        """The largest spacing over the smallest; of pictures without end."""
        return max(self.spacing) / min(self.spacing) if self.spacing else float("inf")

    @staticmethod
    def _beside(three: Sequence[float], plane: str) -> list[float]:
        return [one for axis, one in enumerate(three) if axis != ACROSS[plane]]


def of(facts: Dataset, pairs: Sequence[Pair], ceilings: Mapping[float, float]) -> Cohort:
    """The cohort of a dataset whose manifest has these rows; variants do not count.

    ``ceilings`` are those of :func:`model.planning.ceilings.measured`.
    """
    own = [pair for pair in pairs if not pair.parent]
    firsts = [members[0] for members in manifest.grouped(own, "case")]
    profiles = [profile.from_json(pair.profile) for pair in firsts]
    flat = any(one.geometry is None for one in profiles)
    return Cohort(
        modality=facts.modality,
        plane=firsts[0].plane,
        channels=firsts[0].depth,
        patients=len({pair.patient for pair in own}),
        cases=len(firsts),
        slices=len({(pair.case, pair.slice_index) for pair in own}),
        shown=sum(not pair.empty for pair in own) / len(own),
        shape=_shape(profiles),
        classes=_classes(facts, own),
        spacing=None
        if flat
        else _median([one.geometry.spacing for one in profiles if one.geometry]),
        extent=None if flat else _most([one.geometry.extent for one in profiles if one.geometry]),
        uneven=any(pair.place for pair in firsts),
        kept=all(pair.scan for pair in own),
        lacking=sum(not all(pair.present) for pair in firsts) / len(firsts),
        raters=max(pair.raters for pair in firsts),
        ceilings=ceilings,
    )


def _classes(facts: Dataset, own: Sequence[Pair]) -> tuple[Class, ...]:
    """Every foreground class, from the pixels that the pairs show of it."""
    found = []
    cases = manifest.grouped(own, "case", "rater")
    for label in facts.label_map.foreground:
        showing = [pair for pair in own if pair.class_pixels[label.id]]
        volumes = [one for one in (_ml(case, label.id) for case in cases) if one]
        found.append(
            Class(
                label.name,
                label.tissue in LESIONS,
                len({pair.patient for pair in showing}),
                len(showing) / len(own),
                statistics.median(volumes) if volumes else None,
            )
        )
    return tuple(found)


def _ml(case: Sequence[Pair], label: int) -> float | None:
    """How large a class of a case is; None where it has none or no size is known."""
    pixels = sum(pair.class_pixels[label] for pair in case)
    first = case[0]
    geometry = profile.from_json(first.profile).geometry
    if not pixels or geometry is None:
        return None
    _, _, _, row_scale, col_scale, _, _ = first.canvas
    voxel = float(np.prod(geometry.spacing))
    return pixels / (row_scale * col_scale) * voxel / 1000


def _shape(profiles: Sequence[Profile]) -> tuple[int, int, int]:
    x, y, z = np.median([one.shape for one in profiles], axis=0)
    return int(x), int(y), int(z)


def _median(values: Sequence[Triple]) -> Triple:
    x, y, z = np.median(values, axis=0)
    return float(x), float(y), float(z)


def _most(values: Sequence[Triple]) -> Triple:
    x, y, z = np.percentile(values, _MOST, axis=0)
    return float(x), float(y), float(z)
