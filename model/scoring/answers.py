"""One case -> what the network answers, on the source's own grid, beside what each rater drew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from datasets_spec.contract import LabelMap
from model.inference.member import Member
from model.inference.sampling import Probabilities, class_ids
from model.network_input import labels_at
from model.scoring import reference
from model.scoring.scores import Calibration, Stack
from pipeline import paths
from pipeline.pairs import manifest, png, truth_record
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.manifest import Pair
from pipeline.pairs.truth import KeptTruth
from pipeline.params.limits import Limits
from pipeline.volumes.volume import Ml

Drawings = Sequence[Sequence[Pair]]
"""The slices of one case by rater: the same pictures, once for each who drew them."""

Means = dict[str, list[float]]


@dataclass
class Beside:
    """The network beside what one rater drew: the truth (N, H, W), and sums over the pictures.

    ``reference`` holds the values of each annotated slice by the names in
    :data:`reference.METRICS`, ``reference_background`` those of an all-background mask.
    """

    truth: Stack
    calibration: Calibration = field(default_factory=Calibration.none)
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
        return None if self.kept.record.uneven else self.kept.grid.world(self.kept.plane)

    @property
    def planar(self) -> bool:
        """Whether the source is pictures without geometry."""
        return self.kept.record.source == truth_record.PICTURES


def cases(pairs: Sequence[Pair], split: str, dataset: str) -> Iterable[Drawings]:
    """Case by case; raters apart where split kept other slices of one than of the other."""

    def pictures(slices: Sequence[Pair]) -> tuple[str, list[tuple[int, str]]]:
        return slices[0].case, [(pair.slice_index, pair.image_digest) for pair in slices]

    by_rater = manifest.grouped([pair for pair in pairs if pair.split == split], "case", "rater")
    found = [list(drawings) for _, drawings in groupby(by_rater, pictures)]
    return tqdm(found, f"evaluate {dataset}: {split}", unit="case", disable=None, leave=False)


def answer(member: Member, drawings: Drawings, label_map: LabelMap, limits: Limits) -> Answer:
    """Ask the network about every slice of a case, some at a time.

    Raises :class:`Problem` if the labels that convert kept of the case are not there.
    """
    first = drawings[0][0]
    kept = KeptTruth.of(paths.converted(first.dataset), first, limits)
    beside = [Beside(kept.stack(slices[0].rater)) for slices in drawings]
    stack = np.zeros(beside[0].truth.shape, np.uint8)  # of what split left out: background
    sampler = member.sampler(Canvas.of(first.canvas))
    by_slice = list(zip(*drawings, strict=True))
    for batch in _batches(by_slice, member.at_once):
        predicted = _ask(member, batch, beside, label_map)
        for (pair, *_), one in zip(batch, predicted, strict=True):
            stack[pair.slice_index] = class_ids(sampler(one))
    return Answer(kept, stack, len(stack) - len(drawings[0]), beside, kept.grid.steps(first.plane))


def _ask(
    member: Member, batch: Drawings, beside: Sequence[Beside], label_map: LabelMap
) -> Probabilities:
    """Probabilities of some pictures, each given once per rater; sums go to ``beside``."""
    folder = paths.dataset(batch[0][0].dataset) / batch[0][0].split
    predicted = member.of_pictures(
        [png.read_image(folder / pair.image, pair.depth) for pair, *_ in batch]
    )
    background = np.zeros_like(predicted)
    background[..., 0] = 1
    for one, pairs in zip(beside, zip(*batch, strict=True), strict=True):
        masks = [png.read_mask(folder / pair.mask, label_map) for pair in pairs]
        truth = np.stack([labels_at(ids, predicted.shape[1]) for ids in masks])
        unlabelled = pairs[0].unlabelled
        guesses = (one.reference, predicted), (one.reference_background, background)
        for (means, guess), name in product(guesses, reference.METRICS):
            values = reference.METRICS[name](truth, guess, unlabelled)
            means.setdefault(name, []).extend(values[np.isfinite(values)].tolist())
        one.calibration += Calibration.of(truth, predicted, unlabelled)
    return predicted


def _batches(slices: Drawings, count: int) -> Iterator[Drawings]:
    for start in range(0, len(slices), count):
        yield slices[start : start + count]
