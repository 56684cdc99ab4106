"""Every score against an independent implementation, on random and on degenerate masks.

Distances: scipy's distance transform and SimpleITK's where the grid is straight, every pair
of points where it is sheared. Overlaps: scikit-learn. Components: SimpleITK.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn.metrics import confusion_matrix, f1_score, jaccard_score, precision_score, recall_score

from model.scoring import scores
from model.scoring.scores import BINS, EMPTY_POLICY, SCORES, Calibration, Lesions, Overlap, Surfaces
from pipeline.volumes.volume import Grid, slices
from tests.support.every import every

CLASSES = 4
SHAPE = (7, 11, 9)
SIDES = (5.0, 0.5, 0.8)  # mm of a slice, a row and a column
STEPS = np.diag(SIDES)
TILT = np.array([[0, 0, 0.8], [0.6, 0.5, 0], [1.2, 0, 0]])  # as a tilted gantry shears it
TOLERANCE = 2.0
Mask = NDArray[np.bool_]


def _ids(seed: int, shape: tuple[int, ...] = SHAPE, classes: int = CLASSES) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.uint8)


def _blobs(seed: int, share: float = 0.25) -> Mask:
    """Smooth random shapes, some of them at the border."""
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    smooth = ndimage.gaussian_filter(noise, (0.7, 1.5, 1.5))
    return np.asarray(smooth > np.quantile(smooth, 1 - share), bool)


def _none() -> Mask:
    return np.zeros(SHAPE, bool)


def _one_voxel() -> Mask:
    mask = _none()
    mask[3, 5, 4] = True
    return mask


def _corner() -> Mask:
    mask = _none()
    mask[-1, -1, -1] = True
    return mask


def _at_border() -> Mask:
    mask = _none()
    mask[:3, :, :4] = True
    return mask


def _all() -> Mask:
    return np.ones(SHAPE, bool)


def _ring() -> Mask:
    mask = _none()
    mask[2:5, 2:9, 2:8] = True
    mask[3, 4:7, 4:6] = False
    return mask


DEGENERATE = [_none, _one_voxel, _corner, _at_border, _all, _ring]
PAIRS = [(one(), other()) for one in DEGENERATE for other in DEGENERATE]
NAMES = [f"{one.__name__}{other.__name__}" for one in DEGENERATE for other in DEGENERATE]
on_degenerate = every(("truth", "guess"), PAIRS)
on_random = every("seed", range(6))


def by_transform(truth: Mask, guess: Mask) -> Surfaces:
    """scipy's exact Euclidean distance transform of each surface, on the whole grid."""
    one, other = (_itk_surface(mask) for mask in (truth, guess))
    far = [
        ndimage.distance_transform_edt(~edge, SIDES) if edge.any() else np.full(SHAPE, np.inf)
        for edge in (one, other)
    ]
    return Surfaces(far[1][one], far[0][other])


def by_itk(truth: Mask, guess: Mask) -> Surfaces:
    """SimpleITK's Maurer distance map of each surface."""

    def far(edge: Mask) -> NDArray[np.float64]:
        if not edge.any():
            return np.full(SHAPE, np.inf)
        image = sitk.GetImageFromArray(edge.astype(np.uint8))
        image.SetSpacing(SIDES[::-1])
        distances = sitk.SignedMaurerDistanceMap(image, False, False, True)
        return np.maximum(sitk.GetArrayFromImage(distances), 0).astype(np.float64)

    one, other = (_itk_surface(mask) for mask in (truth, guess))
    return Surfaces(far(other)[one], far(one)[other])


def by_every_pair(truth: Mask, guess: Mask, steps: NDArray[np.float64] = STEPS) -> Surfaces:
    """The distance of every surface voxel to every other."""
    one, other = (np.argwhere(_itk_surface(mask)) @ steps.T for mask in (truth, guess))
    if not len(one) or not len(other):
        return Surfaces(np.full(len(one), np.inf), np.full(len(other), np.inf))
    table = cdist(one, other)
    return Surfaces(table.min(axis=1), table.min(axis=0))


def _itk_surface(mask: Mask) -> Mask:
    """Voxels of the mask that a cross of 6 neighbours removes, by SimpleITK."""
    image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
    inner = sitk.BinaryErode(image, (1, 1, 1), sitk.sitkCross)
    return mask & (sitk.GetArrayFromImage(inner)[1:-1, 1:-1, 1:-1] == 0)


def _assert_same(got: Surfaces, wanted: Surfaces) -> None:
    np.testing.assert_allclose(np.sort(got.of_truth), np.sort(wanted.of_truth), rtol=1e-5)
    np.testing.assert_allclose(np.sort(got.of_predicted), np.sort(wanted.of_predicted), rtol=1e-5)


@on_random
@every("reference", [by_transform, by_itk, by_every_pair])
def test_distances_agree_on_random_masks(
    reference: Callable[[Mask, Mask], Surfaces], seed: int
) -> None:
    truth, guess = _blobs(seed), _blobs(seed + 100)
    _assert_same(scores.surfaces(truth, guess, STEPS, False), reference(truth, guess))


@on_degenerate
@every("reference", [by_transform, by_every_pair])
def test_distances_agree_on_degenerate_masks(
    reference: Callable[[Mask, Mask], Surfaces], truth: Mask, guess: Mask
) -> None:
    got = scores.surfaces(truth, guess, STEPS, False)
    wanted = reference(truth, guess)
    _assert_same(got, wanted)
    assert got.hd95 == pytest.approx(wanted.hd95, nan_ok=True)
    for tolerance in (0, 0.5, 2, 100):
        assert got.nsd(tolerance) == pytest.approx(wanted.nsd(tolerance), nan_ok=True)


@on_random
def test_distances_in_a_sheared_grid_are_those_between_places(seed: int) -> None:
    truth, guess = _blobs(seed), _blobs(seed + 100)
    got = scores.surfaces(truth, guess, TILT, False)
    _assert_same(got, by_every_pair(truth, guess, TILT))
    straight = scores.surfaces(truth, guess, np.diag(np.linalg.norm(TILT, axis=0)), False)
    assert not np.allclose(got.of_truth, straight.of_truth)


@on_random
def test_planar_distances_are_those_of_each_slice(seed: int) -> None:
    truth, guess = _blobs(seed), _blobs(seed + 100)
    guess[2] = False
    got = scores.surfaces(truth, guess, np.eye(3), True)
    parts = []
    for one, other in zip(truth, guess, strict=True):
        edges = [mask & ~ndimage.binary_erosion(mask) for mask in (one, other)]
        points = [np.argwhere(edge).astype(float) for edge in edges]
        table = cdist(*points) if len(points[0]) and len(points[1]) else None
        parts.append(
            [
                np.full(len(p), np.inf) if table is None else table.min(axis=1 - axis)
                for axis, p in enumerate(points)
            ]
        )
    _assert_same(got, Surfaces(*(np.concatenate(part) for part in zip(*parts, strict=True))))
    assert np.isinf(got.of_truth).any()
    assert math.isfinite(got.hd95)


def test_a_single_slice_is_a_plane_not_all_surface() -> None:
    truth = np.zeros((1, 9, 9), np.uint8)
    truth[0, 1:8, 1:8] = 1
    guess = np.zeros_like(truth)
    guess[0, 2:9, 1:8] = 1
    (one,) = scores.score(truth, guess, 2, STEPS, False, 0.0)
    (other,) = scores.score(truth, guess, 2, STEPS, True, 0.0)
    assert one == other
    assert one.hd95_mm == SIDES[1]
    assert one.nsd == pytest.approx(24 / 48)  # 12 of the 24 surface voxels of each lie on both


def test_hd95_is_the_larger_of_both_directions() -> None:
    distances = Surfaces(np.zeros(100), np.arange(101.0))
    assert distances.hd95 == 95
    assert Surfaces(distances.of_predicted, distances.of_truth).hd95 == 95


@given(seed=st.integers(0, 10_000), share=st.floats(0.01, 0.9))
@settings(max_examples=30, deadline=None)
def test_a_moved_mask_is_as_far_as_it_was_moved(seed: int, share: float) -> None:
    mask = np.zeros((9, 15, 15), bool)
    mask[1:8, 2:13, 2:13] = _blobs(seed, share)[:, :11, :9].repeat(2, axis=2)[..., :11]
    assume(mask.any())
    moved = np.roll(mask, 1, axis=0)
    distances = scores.surfaces(mask, moved, STEPS, False)
    assert distances.hd95 <= SIDES[0]
    assert distances.nsd(SIDES[0]) == 1
    same = scores.surfaces(mask, mask, STEPS, False)
    assert (same.hd95, same.nsd(0)) == (0, 1)


@on_random
@every(
    ("score", "reference"),
    [
        ("dice", f1_score),
        ("iou", jaccard_score),
        ("sensitivity", recall_score),
        ("precision", precision_score),
    ],
)
def test_overlaps_agree_with_scikit_learn(score: str, reference: Any, seed: int) -> None:
    truth, guess = _ids(seed), _ids(seed + 100)
    guess[:4] = truth[:4]
    table = scores.confusion(truth, guess, CLASSES)
    np.testing.assert_array_equal(table, confusion_matrix(truth.ravel(), guess.ravel()))
    got = [getattr(overlap, score) for overlap in scores.overlaps(table)]
    wanted = reference(truth.ravel(), guess.ravel(), average=None, labels=range(CLASSES))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


@on_random
def test_overlaps_agree_with_simpleitk(seed: int) -> None:
    truth, guess = _ids(seed), _ids(seed + 100)
    judge = sitk.LabelOverlapMeasuresImageFilter()
    judge.Execute(sitk.GetImageFromArray(guess), sitk.GetImageFromArray(truth))
    found = scores.score(truth, guess, CLASSES, STEPS, False, TOLERANCE)
    for label, one in enumerate(found, start=1):
        row = one.row()
        assert row["dice"] == pytest.approx(judge.GetDiceCoefficient(label))
        assert row["iou"] == pytest.approx(judge.GetJaccardCoefficient(label))
        volumes = int((truth == label).sum()), int((guess == label).sum())
        wanted = (volumes[1] - volumes[0]) / volumes[0]
        assert row["relative_volume_error"] == pytest.approx(wanted)
        assert row["volume_error_ml"] == pytest.approx((volumes[1] - volumes[0]) * 0.002)


def test_confusion_holds_for_255_classes() -> None:
    truth = np.arange(255, dtype=np.uint8)
    assert scores.overlaps(scores.confusion(truth, truth, 255)) == [Overlap(1, 1, 1)] * 255


@pytest.fixture(params=[1, 2, 16], autouse=True)
def slab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing depends on how many slices are looked at together."""
    monkeypatch.setattr(scores, "_SLAB", request.param)


@on_random
def test_lesions_agree_with_a_loop_over_components(seed: int) -> None:
    truth, guess = _blobs(seed, 0.06), _blobs(seed + 100, 0.06)
    guess |= np.roll(truth, 2, axis=1) & _blobs(seed + 200)
    parts = []
    for mask in (truth, guess):
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        numbers = sitk.GetArrayFromImage(sitk.ConnectedComponent(image, True))
        parts.append([numbers == number for number in range(1, int(numbers.max()) + 1)])
    found = sum(bool((lesion & guess).any()) for lesion in parts[0])
    false = sum(not (lesion & truth).any() for lesion in parts[1])
    wanted = Lesions(len(parts[0]), len(parts[1]), found, false)
    assert scores.lesions(truth, guess, False) == wanted
    missed = len(parts[0]) - found
    assert wanted.f1 == pytest.approx(found / (found + (missed + false) / 2))


def test_lesions_touching_at_a_corner_are_one_in_3d_and_two_when_planar() -> None:
    mask = _none()
    mask[2, 2, 2] = mask[3, 3, 3] = True
    assert scores.lesions(mask, mask, False).truth == 1
    assert scores.lesions(mask, mask, True).truth == 2


def test_one_blob_over_two_lesions_finds_both() -> None:
    truth = _none()
    truth[3, 2, 2] = truth[3, 8, 2] = True
    guess = _none()
    guess[3, 2:9, 2] = True
    assert scores.lesions(truth, guess, False) == Lesions(2, 1, 2, 0)
    assert scores.lesions(truth, guess, False).f1 == 1


NAN = math.nan
EMPTY: list[tuple[Callable[[], Mask], Callable[[], Mask], dict[str, float]]] = [
    (_none, _none, dict.fromkeys(SCORES, NAN)),
    (
        _none,
        _one_voxel,
        {
            "dice": 0,
            "iou": 0,
            "sensitivity": NAN,
            "precision": 0,
            "volume_error_ml": 0.002,
            "relative_volume_error": NAN,
            "hd95_mm": NAN,
            "nsd": 0,
            "lesion_f1": 0,
        },
    ),
    (
        _one_voxel,
        _none,
        {
            "dice": 0,
            "iou": 0,
            "sensitivity": 0,
            "precision": NAN,
            "volume_error_ml": -0.002,
            "relative_volume_error": -1,
            "hd95_mm": NAN,
            "nsd": 0,
            "lesion_f1": 0,
        },
    ),
    (
        _one_voxel,
        _one_voxel,
        {
            "dice": 1,
            "iou": 1,
            "sensitivity": 1,
            "precision": 1,
            "volume_error_ml": 0,
            "relative_volume_error": 0,
            "hd95_mm": 0,
            "nsd": 1,
            "lesion_f1": 1,
        },
    ),
]


@every("planar", [False, True])
@every(("truth", "guess", "wanted"), EMPTY)
def test_empty_masks_score_as_the_policy_says(
    truth: Callable[[], Mask], guess: Callable[[], Mask], wanted: dict[str, float], planar: bool
) -> None:
    masks = truth().astype(np.uint8), guess().astype(np.uint8)
    (one,) = scores.score(*masks, 2, STEPS, planar, TOLERANCE)
    assert list(one.row()) == list(SCORES)
    assert one.row() == pytest.approx(wanted, nan_ok=True)
    assert one.both_empty == (not masks[0].any() and not masks[1].any())


def test_the_policy_names_every_score_that_can_be_missing() -> None:
    for word in ("Dice", "IoU", "NSD", "lesion F1", "HD95", "sensitivity", "volume", "precision"):
        assert word in EMPTY_POLICY


def test_negative_slices_count_what_is_marked_on_them() -> None:
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:4, 3:6, 3:6] = 1
    guess = truth.copy()
    guess[0, :2, :2] = 1
    guess[6, 0, 0] = 1
    (one,) = scores.score(truth, guess, 2, STEPS, False, TOLERANCE)
    assert (one.negative.slices, one.negative.marked) == (5, 2)
    assert one.negative.ml == pytest.approx(5 * 0.002)


@pytest.mark.parametrize("planar", [False, True])
def test_scores_do_not_depend_on_how_much_air_is_around(planar: bool) -> None:
    truth, guess = _ids(1) * _blobs(1), _ids(2) * _blobs(2)
    around = [np.pad(ids, 3) for ids in (truth, guess)]
    bare = scores.score(truth, guess, CLASSES, STEPS, planar, TOLERANCE)
    padded = scores.score(*around, CLASSES, STEPS, planar, TOLERANCE)
    assert [one.row() for one in bare] == [one.row() for one in padded]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_steps_lead_from_slice_to_slice_in_any_grid(plane: str) -> None:
    rng = np.random.default_rng(7)
    shape = (4, 5, 6)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0.1, -0.9, 0.2], [0.1, 0.3, 4.8], [-0.6, 0.0, 1.1]])
    affine[:3, 3] = rng.normal(size=3)
    grid = Grid(shape, affine)
    places = np.indices(shape).reshape(3, -1).T @ affine[:3, :3].T
    stacks = [
        slices(grid.to_ras(places[:, axis].reshape(shape)), plane)[..., None] for axis in range(3)
    ]
    stack = np.concatenate(stacks, axis=-1)  # mm at (slice, row, column)
    steps = grid.steps(plane)
    for axis in range(3):
        moved = np.diff(stack, axis=axis).reshape(-1, 3)
        np.testing.assert_allclose(moved, np.broadcast_to(steps[:, axis], moved.shape), atol=1e-12)


def _calibrated(seed: int, shift: float) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Two classes; the second is right with the stated probability, less ``shift``."""
    rng = np.random.default_rng(seed)
    stated = rng.uniform(0.5, 1, (4, 200, 200)).astype(np.float32)
    truth = (rng.random(stated.shape) < stated - shift).astype(np.uint8)
    return truth, np.stack([1 - stated, stated], axis=-1)


@pytest.mark.parametrize("shift", [0, 0.1, 0.3])
def test_calibration_error_is_how_far_confidence_is_off(shift: float) -> None:
    assert Calibration.of(*_calibrated(3, shift)).ece == pytest.approx(shift, abs=0.01)


def test_calibration_agrees_with_a_loop_over_bins() -> None:
    truth = _ids(5, (2, 30, 30), 3)
    weights = np.random.default_rng(5).random((2, 30, 30, 3)).astype(np.float32) ** 3
    probability = weights / weights.sum(axis=-1, keepdims=True)
    guess, confidence = probability.argmax(axis=-1), probability.max(axis=-1)
    matters = (truth > 0) | (guess > 0)
    wanted = 0.0
    for low in np.arange(BINS) / BINS:
        inside = matters & (confidence >= low) & (confidence < low + 1 / BINS)
        if inside.any():
            right = (truth == guess)[inside].mean()
            wanted += inside.sum() / matters.sum() * abs(right - confidence[inside].mean())
    assert Calibration.of(truth, probability).ece == pytest.approx(wanted, abs=1e-6)


def test_calibration_of_parts_adds_up_to_that_of_all() -> None:
    truth, probability = _calibrated(1, 0.2)
    parts = Calibration.none()
    for one, other in zip(truth[:, None], probability[:, None], strict=True):
        parts += Calibration.of(one, other)
    assert parts.ece == pytest.approx(Calibration.of(truth, probability).ece)


def test_calibration_leaves_sure_background_out() -> None:
    truth = np.zeros((1, 9, 9), np.uint8)
    probability = np.zeros((1, 9, 9, 2), np.float32)
    probability[..., 0] = 1
    assert math.isnan(Calibration.of(truth, probability).ece)
    assert math.isnan(Calibration.none().ece)


@given(
    seed=st.integers(0, 9999),
    times=st.lists(st.integers(1, 4), min_size=SHAPE[0], max_size=SHAPE[0]),
)
@settings(max_examples=25, deadline=None)
def test_slices_of_several_thicknesses_score_as_so_many_thin_ones(
    seed: int, times: list[int]
) -> None:
    """A slice that is three times as thick is worth three slices."""
    truth, guess = _ids(seed), np.where(_blobs(seed), _ids(seed), 0).astype(np.uint8)
    thin = scores.voxel_ml(STEPS)
    found = scores.score(
        truth, guess, CLASSES, STEPS, False, TOLERANCE, thin * np.array(times, float)
    )
    many = (np.repeat(ids, times, axis=0) for ids in (truth, guess))
    for one, other in zip(found, scores.score(*many, CLASSES, STEPS, False, 1.0), strict=True):
        assert not one.even
        wanted = other.row()
        for name, value in one.row().items():
            if name in ("hd95_mm", "nsd"):
                assert math.isnan(value)
            else:
                assert value == pytest.approx(wanted[name], nan_ok=True)
        assert one.volumes.truth == pytest.approx(other.volumes.truth)
        assert one.negative.ml == pytest.approx(other.negative.ml)
        assert one.dice == pytest.approx(other.dice, nan_ok=True)
        assert one.overlap.truth == (truth == 1 + found.index(one)).sum()
