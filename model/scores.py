"""What a prediction is worth: per class of one case, on the source's own grid, in mm and ml.

Label maps are stacks (slices, rows, columns) of class ids, and ``steps`` (3, 3) holds, as
columns, how many mm one slice, one row and one column lead in x, y and z. Distances are taken
between these places, so that spacing may differ between axes and a sheared grid (a tilted
gantry) is measured as it stands.

Pictures without geometry are *planar*: their slices are no volume, so surfaces and lesions are
those of each slice, and a pixel's side stands for the mm that nobody states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

BINS = 15
"""Bins of confidence, as in Guo et al., ICML 2017."""

EMPTY_POLICY = (
    "a class that is neither in the truth nor in the prediction of a case has no score there"
    " (left out of means, counted as both_empty); in only one of the two, Dice, IoU, NSD and"
    " lesion F1 are 0 and HD95 does not exist (left out, counted as no_surface); sensitivity and"
    " relative volume error need a truth, precision a prediction"
)

Stack = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Overlap:
    """Voxel counts of one class in one case, and the scores that follow from them."""

    truth: int
    predicted: int
    both: int

    @property
    def dice(self) -> float:
        """2 |T and P| / (|T| + |P|); NaN if both are empty (Dice, Ecology 26, 1945)."""
        return _ratio(2 * self.both, self.truth + self.predicted)

    @property
    def iou(self) -> float:
        """|T and P| / |T or P|; NaN if both are empty (Jaccard, 1912)."""
        return _ratio(self.both, self.truth + self.predicted - self.both)

    @property
    def sensitivity(self) -> float:
        """|T and P| / |T|; NaN without a truth."""
        return _ratio(self.both, self.truth)

    @property
    def precision(self) -> float:
        """|T and P| / |P|; NaN without a prediction."""
        return _ratio(self.both, self.predicted)

    @property
    def relative_volume_error(self) -> float:
        """(|P| - |T|) / |T|, negative where too little was found; NaN without a truth."""
        return _ratio(self.predicted - self.truth, self.truth)


@dataclass(frozen=True)
class Surfaces:
    """Distances in mm from each surface voxel of one mask to the other mask's surface.

    A surface voxel is one of the mask with a side neighbour (6 in 3-D, 4 in 2-D) that is not
    of it; beyond the border of the picture is outside. Infinite where the other has none.
    """

    of_truth: Floats
    of_predicted: Floats

    @property
    def hd95(self) -> float:
        """The larger of the two 95th percentiles (Huttenlocher et al., PAMI 15, 1993, robust form).

        NaN if a mask is empty.
        """
        known = [each[np.isfinite(each)] for each in (self.of_truth, self.of_predicted)]
        if not all(each.size for each in known):
            return math.nan
        return max(float(np.percentile(each, 95)) for each in known)

    def nsd(self, tolerance_mm: float) -> float:
        """The share of both surfaces within ``tolerance_mm`` of the other; NaN if both are empty.

        Normalised surface distance (Nikolov et al., J Med Internet Res 23, 2021), which counts
        surface voxels as Metrics Reloaded and MONAI do, not areas.
        """
        both = np.concatenate([self.of_truth, self.of_predicted])
        return float((both <= tolerance_mm).mean()) if both.size else math.nan


@dataclass(frozen=True)
class Lesions:
    """Connected components (26 neighbours in 3-D, 8 in 2-D) of truth and prediction.

    A lesion is ``found`` if the prediction has one voxel of it or more; a component of the
    prediction that touches no lesion is ``false`` (Hernandez Petzsche et al., Sci Data 9, 2022:
    the ISLES challenge). One blob over many lesions finds all of them: Dice must stand beside.
    """

    truth: int
    predicted: int
    found: int
    false: int

    @property
    def f1(self) -> float:
        """2 found / (2 found + missed + false); NaN if there are no lesions at all."""
        missed = self.truth - self.found
        return _ratio(2 * self.found, 2 * self.found + missed + self.false)


@dataclass(frozen=True)
class Healthy:
    """Slices whose truth lacks the class: how many, how many of them were marked, voxels there."""

    slices: int
    marked: int
    voxels: int


@dataclass(frozen=True)
class ClassScores:
    """Everything about one class in one case. ``voxel_ml``: a voxel's volume."""

    overlap: Overlap
    hd95_mm: float
    nsd: float
    lesions: Lesions
    healthy: Healthy
    voxel_ml: float

    @property
    def truth_ml(self) -> float:
        """Volume of the truth."""
        return self.overlap.truth * self.voxel_ml

    @property
    def predicted_ml(self) -> float:
        """Volume of the prediction."""
        return self.overlap.predicted * self.voxel_ml

    @property
    def both_empty(self) -> bool:
        """Whether the class is neither in the truth nor in the prediction."""
        return not (self.overlap.truth or self.overlap.predicted)

    def row(self) -> dict[str, float]:
        """Every score by its name, in the order of :data:`SCORES`; NaN where it does not exist."""
        overlap = self.overlap
        error = math.nan if self.both_empty else self.predicted_ml - self.truth_ml
        return {
            "dice": overlap.dice,
            "iou": overlap.iou,
            "sensitivity": overlap.sensitivity,
            "precision": overlap.precision,
            "volume_error_ml": error,
            "relative_volume_error": overlap.relative_volume_error,
            "hd95_mm": self.hd95_mm,
            "nsd": self.nsd,
            "lesion_f1": self.lesions.f1,
        }


SCORES = (
    "dice",
    "iou",
    "sensitivity",
    "precision",
    "volume_error_ml",
    "relative_volume_error",
    "hd95_mm",
    "nsd",
    "lesion_f1",
)
"""The names in :meth:`ClassScores.row`, in order."""


def score(
    truth: Stack, predicted: Stack, classes: int, steps: Floats, planar: bool, tolerance_mm: float
) -> tuple[ClassScores, ...]:
    """The scores of every foreground class of two label maps (N, H, W): class 1, 2, ..."""
    counts = overlaps(confusion(truth, predicted, classes))
    planar = planar or len(truth) == 1  # a single slice has no neighbours to be bounded by
    return tuple(
        _class_scores(
            truth == label, predicted == label, counts[label], steps, planar, tolerance_mm
        )
        for label in range(1, classes)
    )


def voxel_ml(steps: Floats) -> float:
    """The volume of a voxel in millilitres."""
    return abs(float(np.linalg.det(steps))) / 1000


def confusion(truth: Stack, predicted: Stack, classes: int) -> NDArray[np.int64]:
    """Voxels by class of the truth (rows) and of the prediction (columns), background first."""
    pairs = truth.ravel().astype(np.intp) * classes + predicted.ravel()
    table = np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    return table.astype(np.int64)


def overlaps(table: NDArray[np.int64]) -> list[Overlap]:
    """One :class:`Overlap` per class id, background included, of a confusion matrix."""
    return [
        Overlap(int(table[c].sum()), int(table[:, c].sum()), int(table[c, c]))
        for c in range(len(table))
    ]


def surfaces(truth: Mask, predicted: Mask, steps: Floats, planar: bool) -> Surfaces:
    """The distances between the surfaces of two masks (N, H, W)."""
    one, other = _surface(truth, planar), _surface(predicted, planar)
    if not planar:
        return _distances(one, other, steps)
    slices = [
        _distances(one[one[:, 0] == index], other[other[:, 0] == index], steps)
        for index in range(len(truth))
    ]
    nothing = np.empty(0)
    return Surfaces(
        np.concatenate([nothing, *(each.of_truth for each in slices)]),
        np.concatenate([nothing, *(each.of_predicted for each in slices)]),
    )


def lesions(truth: Mask, predicted: Mask, planar: bool) -> Lesions:
    """Which connected components of ``truth`` (N, H, W) were found, which found ones are false."""
    drawn, count = components(truth, planar)
    guessed, guesses = components(predicted, planar)
    met = truth & predicted
    found = len(np.unique(drawn[met]))
    return Lesions(count, guesses, found, guesses - len(np.unique(guessed[met])))


def components(mask: Mask, planar: bool) -> tuple[NDArray[np.int32], int]:
    """Numbers 1, 2, ... of connected parts of ``mask`` (N, H, W), and how many there are."""
    near = np.ones((3, 3, 3), bool)
    if planar:
        near[[0, 2]] = False
    numbers, count = ndimage.label(mask, near)
    return numbers, int(count)


def box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box that holds all of ``mask``; nothing of it is kept where it is empty."""
    found = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        found.append(slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0))
    return tuple(found)


@dataclass(frozen=True)
class Calibration:
    """Pixels, summed confidence and right answers in :data:`BINS` equal bins of confidence."""

    pixels: Floats
    confidence: Floats
    right: Floats

    @classmethod
    def of(cls, truth: Stack, probability: NDArray[np.float32]) -> Calibration:
        """From ids (B, H, W) and p (B, H, W, C), over the pixels that matter.

        Those whose truth or likeliest class is foreground: the rest is air and healthy tissue
        that any model is sure of, and would hide all else.
        """
        guess = probability.argmax(axis=-1)
        matters = (truth > 0) | (guess > 0)
        confidence = probability.max(axis=-1)[matters].astype(np.float64)
        right = (truth == guess)[matters]
        place = np.minimum((confidence * BINS).astype(np.intp), BINS - 1)
        weights = (np.ones(len(place)), confidence, right.astype(np.float64))
        pixels, sums, hits = (np.bincount(place, w, BINS).astype(np.float64) for w in weights)
        return cls(pixels, sums, hits)

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(
            self.pixels + other.pixels,
            self.confidence + other.confidence,
            self.right + other.right,
        )

    @classmethod
    def none(cls) -> Calibration:
        """Of no pixels."""
        return cls(np.zeros(BINS), np.zeros(BINS), np.zeros(BINS))

    @property
    def ece(self) -> float:
        """Expected calibration error: mean |right - confidence| of the bins, by their pixels.

        Guo et al., ICML 2017, of the likeliest class; NaN without pixels.
        """
        total = float(self.pixels.sum())
        return _ratio(float(np.abs(self.right - self.confidence).sum()), total)


def _class_scores(
    truth: Mask, predicted: Mask, overlap: Overlap, steps: Floats, planar: bool, tolerance_mm: float
) -> ClassScores:
    without = ~truth.any(axis=(1, 2))
    false = np.count_nonzero(predicted[without], axis=(1, 2))
    healthy = Healthy(int(without.sum()), int((false > 0).sum()), int(false.sum()))
    near = box(truth | predicted)
    truth, predicted = truth[near], predicted[near]
    distances = surfaces(truth, predicted, steps, planar)
    return ClassScores(
        overlap,
        distances.hd95,
        distances.nsd(tolerance_mm),
        lesions(truth, predicted, planar),
        healthy,
        voxel_ml(steps),
    )


def _surface(mask: Mask, planar: bool) -> NDArray[np.intp]:
    """Indices (points, 3) of the voxels of ``mask`` that have a side neighbour outside it."""
    near = ndimage.generate_binary_structure(3, 1)
    if planar:
        near[[0, 2]] = False
    return np.argwhere(mask & ~ndimage.binary_erosion(mask, near))


def _distances(one: NDArray[np.intp], other: NDArray[np.intp], steps: Floats) -> Surfaces:
    """How far in mm each voxel of one surface is from the nearest one of the other.

    A search tree over the surfaces costs what the surfaces cost, not what the volume does, and
    knows no grid: it measures in a sheared one too, where a distance transform cannot.
    """
    if not len(one) or not len(other):
        return Surfaces(np.full(len(one), np.inf), np.full(len(other), np.inf))
    here, there = one @ steps.T, other @ steps.T
    return Surfaces(cKDTree(there).query(here)[0], cKDTree(here).query(there)[0])


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
