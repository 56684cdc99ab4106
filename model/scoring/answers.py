"""One case -> what the network answers, on the source's own grid, beside what each rater drew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets_spec.contract import LabelMap
from model.inference import scans
from model.inference.member import Member, viewed
from model.inference.sampling import Probabilities, class_ids
from model.network_input import labels_at
from model.scoring import reference
from model.scoring.scores import Calibration, Stack
from pipeline import paths
from pipeline.pairs import channels, kept_scan, manifest, pictures, truth_record
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.limits import Limits
from pipeline.volumes import volume
from pipeline.volumes.volume import Grid, Ml

Drawings = Sequence[Sequence[Pair]]
"""The slices of one case by rater: the same pictures, once for each who drew them."""

Means = dict[str, list[float]]
T = TypeVar("T")
Look = Callable[[Sequence[Stack], Probabilities, Probabilities], object]
"""Called with every slice: what each rater drew (rows, columns), the network's own probabilities
and calibrated ones (classes, rows, columns), all on the source's grid."""


@dataclass
class Beside:
    """The network beside what one rater drew: the truth (N, H, W), and sums over the pictures.

    ``calibration`` is that of the network's own probabilities, ``calibrated`` that of the
    calibrated ones. ``reference`` holds the values of each annotated slice by the names in
    :data:`reference.METRICS`, ``reference_background`` those of an all-background mask.
    """

    truth: Stack
    calibration: Calibration = field(default_factory=Calibration.none)
    calibrated: Calibration = field(default_factory=Calibration.none)
    reference: Means = field(default_factory=dict)
    reference_background: Means = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the network answers to one case; stacks are (N, H, W).

    ``beside`` is in the order of the drawings. ``missing``: slices that split left out, which
    count as background. ``steps`` (3, 3): see :mod:`model.scoring.scores`.
    """

    kept: KeptTruth
    predicted: Stack
    missing: int
    beside: Sequence[Beside]
    steps: NDArray[np.float64]

    @property
    def voxel_ml(self) -> Ml:
        """As :attr:`pipeline.volumes.volume.Volume.voxel_ml` of the source."""
        return self.kept.voxel_ml

    @property
    def world(self) -> NDArray[np.float64] | None:
        """The affine (4, 4) of the stacks' indices to mm; None of slices without one spacing."""
        return world(self.kept)

    @property
    def planar(self) -> bool:
        """Whether the source is pictures without geometry."""
        return self.kept.record.source == truth_record.PICTURES


def world(kept: KeptTruth) -> NDArray[np.float64] | None:
    """The affine (4, 4) of a case's slices, rows and columns to mm; None without one spacing."""
    return None if kept.record.uneven else kept.grid.world(kept.plane)


def cases(pairs: Sequence[Pair], split: str, dataset: str) -> Iterable[Drawings]:
    """:func:`by_case`, with a progress bar."""
    found = by_case(pairs, split)
    return tqdm(found, f"evaluate {dataset}: {split}", unit="case", disable=None, leave=False)


def by_case(pairs: Sequence[Pair], split: str) -> list[Drawings]:
    """Case by case; raters apart where split kept other slices of one than of the other."""

    def pictures(slices: Sequence[Pair]) -> tuple[str, list[tuple[int, str]]]:
        return slices[0].case, [(pair.slice_index, pair.image_digest) for pair in slices]

    by_rater = manifest.grouped([pair for pair in pairs if pair.split == split], "case", "rater")
    return [list(drawings) for _, drawings in groupby(by_rater, pictures)]


def asked(member: Member, drawings: Drawings) -> int:
    """How many slices of a case the network is asked about."""
    if member.facts.source == "pairs":
        return len(drawings[0])
    return slices_of(drawings[0][0], member.facts.plane)


def slices_of(pair: Pair, plane: str) -> int:
    """How many slices the scan of a pair has in a plane."""
    grid = Grid(pair.source_shape, np.reshape(pair.affine, (4, 4)))
    upright = grid.to_ras(np.broadcast_to(np.False_, pair.source_shape))
    return len(volume.slices(upright, plane))


def answer(
    member: Member,
    drawings: Drawings,
    label_map: LabelMap,
    limits: Limits,
    look: Look = lambda *_: None,
) -> Answer:
    """Ask the network about every slice of a case, some at a time.

    What it learnt from is what it is shown: the pictures of the split or, of any plane, slices of
    the kept scan. Raises :class:`Problem` if labels or scan that convert kept are not there.
    """
    first = drawings[0][0]
    kept = KeptTruth.of(paths.converted(first.dataset), first, limits)
    beside = [Beside(kept.stack(slices[0].rater)) for slices in drawings]
    if member.facts.source == "scans":
        stack, missing = _of_scan(member, first, beside, limits, look), 0
    else:
        stack = _of_pairs(member, drawings, beside, label_map, look)
        missing = len(stack) - len(drawings[0])
    return Answer(kept, stack, missing, beside, kept.grid.steps(first.plane))


def _of_pairs(
    member: Member,
    drawings: Drawings,
    beside: Sequence[Beside],
    label_map: LabelMap,
    look: Look,
) -> Stack:
    """Class ids (N, H, W) from the pictures of the split; sums go to ``beside``."""
    first = drawings[0][0]
    folder = paths.dataset(first.dataset)
    stack = np.zeros(beside[0].truth.shape, np.uint8)  # of what split left out: background
    sampler = member.sampler(Canvas.of(first.canvas))
    by_slice = list(zip(*drawings, strict=True))
    for batch in _batches(by_slice, member.at_once):
        predicted = member.of_pictures([pictures.image(folder, pair) for pair, *_ in batch])
        for one, pairs in zip(beside, zip(*batch, strict=True), strict=True):
            masks = [pictures.mask(folder, pair, label_map) for pair in pairs]
            truth = np.stack([labels_at(ids, predicted.shape[1]) for ids in masks])
            _compare(member, one, truth, predicted, first.unlabelled)
        for (pair, *_), one_slice in zip(batch, predicted, strict=True):
            own = sampler(one_slice)
            probability = member.temperatures(own)
            stack[pair.slice_index] = class_ids(probability)
            look([each.truth[pair.slice_index] for each in beside], own, probability)
    return stack


def _of_scan(
    member: Member, first: Pair, beside: Sequence[Beside], limits: Limits, look: Look
) -> Stack:
    """Class ids (N, H, W) in the dataset's plane, by slices of the network's; sums as above.

    The slices of a batch are those that a prediction of the scan itself has in it, and so are the
    answers, to the last bit.
    """
    plane = member.facts.plane
    images = kept_scan.images(paths.converted(first.dataset), first, limits)
    scans.require_own_plane([member], channels.first(images))
    views = viewed(images, member.facts, own_grey=True)
    truths = [volume.slices(volume.unslice(one.truth, first.plane), plane) for one in beside]
    sampler, canvas = member.sampler(views.canvas), views.canvas
    stack = np.empty(truths[0].shape, np.uint8)
    for batch in _batches(range(len(views)), member.at_once):
        predicted = member.of_pictures([views.picture(index) for index in batch])
        for one, truth in zip(beside, truths, strict=True):
            drawn = np.stack([canvas.mask(truth[index]) for index in batch])
            _compare(member, one, drawn, predicted, first.unlabelled)
        for index, one_slice in zip(batch, predicted, strict=True):
            own = sampler(one_slice)
            probability = member.temperatures(own)
            stack[index] = class_ids(probability)
            look([truth[index] for truth in truths], own, probability)
    return volume.slices(volume.unslice(stack, plane), first.plane)


def _compare(
    member: Member,
    one: Beside,
    truth: Stack,
    predicted: Probabilities,
    unlabelled: tuple[int, ...],
) -> None:
    """Add to a rater's sums what some pictures give, at the network's size."""
    background = np.zeros_like(predicted)
    background[..., 0] = 1
    calibrated = np.moveaxis(member.temperatures(np.moveaxis(predicted, -1, 0)), 0, -1)
    guesses = (one.reference, predicted), (one.reference_background, background)
    for (means, guess), name in product(guesses, reference.METRICS):
        values = reference.METRICS[name](truth, guess, unlabelled)
        means.setdefault(name, []).extend(values[np.isfinite(values)].tolist())
    one.calibration += Calibration.of(truth, predicted, unlabelled)
    one.calibrated += Calibration.of(truth, calibrated, unlabelled)


def _batches(slices: Sequence[T], count: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(slices), count):
        yield slices[start : start + count]
