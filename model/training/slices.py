"""What a network learns from and is judged by: pairs of the split, or slices of the kept scans.

Either is a list of rows, as in the manifest, and a way to read what a row shows. The rows of kept
scans are all slices in the network's plane of the cases that train and valid have, once per rater,
at the network's size; of those without foreground a split keeps its share (``split.empty_slices``),
drawn by plane and slice.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from datasets_spec.contract import IGNORED, Dataset, Problem
from model.params import Network, Params, Train
from pipeline import paths
from pipeline.pairs import channels, kept_scan, manifest, truth_record
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.channels import Channel, Views
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.limits import Limits
from pipeline.runtime import keys
from pipeline.splits import placement, thinning
from pipeline.volumes import volume
from pipeline.volumes.arrays import Image8

_OWN = "Let train.plane be own and train.network.field_mm be 0, or train.source be pairs."


@dataclass(frozen=True)
class Slices:
    """Rows to learn from and to be judged by, and how they are read.

    ``cases`` are the pairs of the manifest whose cases valid judges. Without ``read``, the rows are
    pairs, whose pictures lie in the folders of their splits.
    """

    train: list[Pair]
    valid: list[Pair]
    cases: list[Pair]
    read: KeptSlices | None = None


def of(dataset: str, facts: Dataset, settings: Params) -> Slices:
    """What ``train.source`` says of ``data/dataset/<dataset>``.

    Raises :class:`Problem` if a split is empty, if what convert kept of a case is not there, and
    for another plane or a field of view where slices have no one spacing or no mm.
    """
    folder = paths.dataset(dataset)
    pairs = manifest.read(folder)
    if settings.train.source == "pairs":
        pairs = learnt_from(dataset, pairs, settings.train)
        of_train, of_valid = (_of_split(pairs, split, folder) for split in ("train", "valid"))
        return Slices(of_train, of_valid, of_valid)
    pairs = folded(dataset, [pair for pair in pairs if not pair.parent], settings)
    pairs = learnt_from(dataset, pairs, settings.train)
    read = KeptSlices.of(dataset, facts, settings)
    _require_one_spacing(pairs, read.plane)
    theirs = {split: _of_split(pairs, split, folder) for split in ("train", "valid")}
    of_train, of_valid = (
        [
            row
            for row in _progress(read.rows(theirs[split]), f"labels {dataset}: {split}")
            if not row.unannotated and thinning.kept(dataset, row, split, settings.split)
        ]
        for split in ("train", "valid")
    )
    return Slices(of_train, of_valid, theirs["valid"], read)


def folded(dataset: str, pairs: Sequence[Pair], settings: Params) -> list[Pair]:
    """``pairs``, those of train and valid dealt anew where ``train.folds`` asks for it."""
    wanted = settings.train
    if not wanted.folds:
        return list(pairs)
    dealt = [pair for pair in pairs if pair.split in ("train", "valid")]
    judged = placement.fold(dataset, dealt, settings.split, wanted.folds, wanted.fold)
    others = [pair for pair in pairs if pair.split not in ("train", "valid")]
    where = {True: "valid", False: "train"}
    return [*others, *(replace(one, split=where[one.patient in judged]) for one in dealt)]


def learnt_from(dataset: str, pairs: Sequence[Pair], wanted: Train) -> list[Pair]:
    """``pairs``, of train those of the first ``train.patients`` alone, where that is not 0.

    Raises :class:`Problem` where train has fewer.
    """
    if not wanted.patients:
        return list(pairs)
    names = {pair.patient for pair in pairs if pair.split == "train"}
    if wanted.patients > len(names):
        raise Problem(
            f"expected at most the {len(names)} patients of train, got {wanted.patients}",
            where=f"train.patients of {dataset}",
            remedy="Lower it; 0 takes all of them.",
        )
    order = sorted(names, key=lambda name: (keys.key(wanted.seed, dataset, name, "learnt"), name))
    chosen = set(order[: wanted.patients])
    return [pair for pair in pairs if pair.split != "train" or pair.patient in chosen]


class KeptSlices:
    """Reads rows of kept scans: slices in ``plane``, as ``network`` is shown them.

    One case is in memory, the last that was asked about; so rows are read case by case. It may be
    called by several threads.
    """

    def __init__(
        self,
        converted: Path,
        plane: str,
        network: Network,
        several: Sequence[Channel],
        limits: Limits = Limits(),
    ) -> None:
        self.plane, self.network = plane, network
        self._converted, self._channels, self._limits = converted, several, limits
        self._scan: tuple[str, Views] | None = None
        self._truth: tuple[tuple[str, str], Image8] | None = None
        self._one = threading.Lock()

    @classmethod
    def of(cls, dataset: str, facts: Dataset, settings: Params) -> KeptSlices:
        """As ``settings`` want them of a dataset."""
        plane = facts.plane if settings.train.plane == "own" else settings.train.plane
        several = channels.of(facts, settings.convert.in_hu)
        network = settings.train.network
        return cls(paths.converted(dataset), plane, network, several, settings.limits)

    def __call__(self, row: Pair) -> tuple[Image8, Image8]:
        """What a row shows: its image and its class ids, both at ``whole_px``.

        Raises :class:`Problem` if the case is not as convert kept it.
        """
        with self._one:
            views = self._views_of(row)
            native = self._stack(row)[row.slice_index]
            return views.picture(row.slice_index), views.canvas.mask(native)

    def views(self, pair: Pair) -> Views:
        """The case of a pair as the network is shown it."""
        network = self.network
        return Views.of(
            kept_scan.images(self._converted, pair, self._limits),
            self._channels,
            self.plane,
            None,
            (0.0, 100.0),
            network.whole_px,
            own_grey=True,
            neighbours=network.neighbours,
            field_mm=network.field_mm,
            in_8_bits=True,
        )

    def rows(self, pairs: Sequence[Pair]) -> Iterator[list[Pair]]:
        """All slices of the cases of ``pairs``, a case and rater at a time, by their labels alone.

        Counts of pixels are those at the network's size.
        """
        for members in manifest.grouped(pairs, "case", "rater"):
            yield self._rows(members[0])

    def _rows(self, first: Pair) -> list[Pair]:
        of_plane = replace(first, plane=self.plane)
        kept = KeptTruth.of(self._converted, of_plane, self._limits)
        self._require_geometry(first, kept)
        stack, network = kept.stack(first.rater), self.network
        spacing = volume.slice_spacing(kept.grid, self.plane)
        shape = (stack.shape[1], stack.shape[2])
        canvas = Canvas.fit(shape, spacing, network.whole_px, network.field_mm)
        name = "_".join([first.case, *([f"r{first.rater}"] if first.rater else []), self.plane])
        common = replace(
            of_plane,
            canvas=canvas.values(),
            image="",
            mask="",
            image_digest="",
            mask_digest="",
            more_digests="",
            source="",
            sop_instance_uid="",
            likeness="",
        )
        found = []
        for index, native in enumerate(stack):
            counts = np.bincount(canvas.mask(native).ravel(), minlength=IGNORED + 1)
            row = replace(
                common,
                id=f"{name}_{index:04d}",
                slice_index=index,
                class_pixels=tuple(counts[: len(first.class_pixels)].tolist()),
                ignored_pixels=int(counts[IGNORED]),
            )
            found.append(row)
        return found

    def _require_geometry(self, first: Pair, kept: KeptTruth) -> None:
        """Raises :class:`Problem` for what needs mm of a case that has none."""
        planar = kept.record.source == truth_record.PICTURES
        if planar and (self.plane != first.plane or self.network.field_mm):
            raise Problem(
                f"expected slices in the plane {first.plane} and no field of view of pictures that"
                f" state no mm, got {self.plane} and {self.network.field_mm:g} mm",
                where=f"train: {first.case}",
                remedy=_OWN,
            )

    def _views_of(self, row: Pair) -> Views:
        if self._scan is None or self._scan[0] != row.case:
            self._scan = None  # before the next is read
            self._scan = row.case, self.views(row)
        return self._scan[1]

    def _stack(self, row: Pair) -> Image8:
        drawn = row.case, row.rater
        if self._truth is None or self._truth[0] != drawn:
            kept = KeptTruth.of(self._converted, row, self._limits)
            self._truth = drawn, kept.stack(row.rater)
        return self._truth[1]


def _require_one_spacing(pairs: Sequence[Pair], plane: str) -> None:
    """Raises :class:`Problem` for a case of any split that slices in ``plane`` would cut across.

    That of test would else come to light after the training.
    """
    for pair in pairs:
        if pair.place and pair.plane != plane:
            raise Problem(
                f"expected slices in the plane {pair.plane} of a series of uneven spacing, got"
                f" {plane}",
                where=f"train: {pair.case}",
                remedy=_OWN,
            )


def _of_split(pairs: Sequence[Pair], split: str, folder: Path) -> list[Pair]:
    members = [pair for pair in pairs if pair.split == split]
    if not members:
        raise Problem(
            f"expected pairs of the split {split!r}, found none",
            where=folder,
            remedy="Check split.empty_slices and that the patients have labels.",
        )
    return members


def _progress(cases: Iterator[list[Pair]], title: str) -> Iterator[Pair]:
    """The rows of all cases, beside a bar."""
    for rows in tqdm(cases, title, unit="case", disable=None, leave=False):
        yield from rows
