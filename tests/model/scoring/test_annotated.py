"""What nobody annotated is not scored, and what somebody did is scored as if it were all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from datasets_spec.contract import IGNORED
from model.inference.rules import Rule, apply
from model.scoring import reference, scores
from model.scoring.postprocess import LEAST_PATIENTS, RULES, Search
from model.scoring.scores import SCORES, Calibration, ClassScores, Lesions, Negative
from tests.support.blocks import VOXEL_ML, block
from tests.support.every import every

CLASSES = 4
SHAPE = (7, 11, 9)
STEPS = np.diag([5.0, 0.5, 0.8])
Ids = NDArray[np.uint8]


def _drawn(seed: int) -> Ids:
    """Smooth regions of all classes."""
    noise = np.random.default_rng(seed).normal(size=(CLASSES, *SHAPE))
    return ndimage.gaussian_filter(noise, (0, 0.7, 1.5, 1.5)).argmax(axis=0).astype(np.uint8)


def _somewhere(seed: int) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(SHAPE) < 0.2


def _scored(
    truth: Ids, guess: Ids, unlabelled: tuple[int, ...] = (), planar: bool = False
) -> tuple[ClassScores, ...]:
    return scores.score(truth, guess, CLASSES, STEPS, planar, 1.0, unlabelled=unlabelled)


def _rows(*of: ClassScores) -> list[dict[str, float]]:
    return [one.row() for one in of]


def _same(one: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    assert len(one) == len(other) > 0
    for here, there in zip(one, other, strict=True):
        assert here == pytest.approx(there, nan_ok=True)


@every("seed", range(5))
def test_counts_are_those_of_the_annotated_voxels(seed: int) -> None:
    truth, guess, ignored = _drawn(seed), _drawn(seed + 50), _somewhere(seed)
    partly = np.where(ignored, np.uint8(IGNORED), truth)
    table = scores.confusion(partly, guess, CLASSES)
    listed = [np.array([one[~ignored]])[None] for one in (truth, guess)]
    np.testing.assert_array_equal(table, scores.confusion(*listed, CLASSES))
    assert table.sum() == np.count_nonzero(~ignored)
    for one, overlap in zip(_scored(partly, guess), scores.overlaps(table)[1:], strict=True):
        assert one.overlap == overlap


@every("planar", [False, True])
@every("seed", range(3))
def test_what_is_predicted_where_nobody_annotated_changes_no_score(seed: int, planar: bool) -> None:
    """But for lesions, whose parts it may join."""
    truth, guess, ignored = _drawn(seed), _drawn(seed + 50), _somewhere(seed)
    partly = np.where(ignored, np.uint8(IGNORED), truth)
    other = np.where(ignored, (guess + 1) % CLASSES, guess).astype(np.uint8)
    rows = [_rows(*_scored(partly, one, planar=planar)) for one in (guess, other)]
    for row in (*rows[0], *rows[1]):
        assert all(math.isfinite(value) for value in row.values())
        del row["lesion_f1"]
    _same(*rows)
    assert (scores.confusion(partly, guess, CLASSES) == scores.confusion(partly, other, 4)).all()


@every("seed", range(3))
def test_distances_take_the_prediction_for_right_where_nobody_annotated(seed: int) -> None:
    truth, guess, ignored = _drawn(seed), _drawn(seed + 50), _somewhere(seed)
    partly = np.where(ignored, np.uint8(IGNORED), truth)
    background = [np.where(ignored, np.uint8(0), one) for one in (truth, guess)]
    for one, other in zip(_scored(partly, guess), _scored(*background), strict=True):
        assert (one.hd95_mm, one.nsd) == (other.hd95_mm, other.nsd)


def test_a_predicted_lesion_may_hang_together_by_what_nobody_annotated() -> None:
    truth, guess = np.zeros((1, 9, 20), np.uint8), np.zeros((1, 9, 20), np.uint8)
    truth[0, 3:6, 2:5], truth[0, 3:6, 5:8] = 1, IGNORED
    guess[0, 3:6, 3:10] = 1  # beyond the rim that nobody annotated
    assert _scored(truth, guess)[0].lesions == Lesions(1, 1, 1, 0)
    truth[0, :, 12:] = IGNORED
    guess[0, 2:4, 15:18] = 1  # where it cannot be told
    assert _scored(truth, guess)[0].lesions == Lesions(1, 1, 1, 0)
    guess[0, 8, 0] = 1
    assert _scored(truth, guess)[0].lesions == Lesions(1, 2, 1, 1)


def test_whole_slices_without_annotation_leave_no_distances_in_a_volume() -> None:
    truth, guess = _drawn(1), _drawn(51)
    kept = np.arange(len(truth)) % 3 == 0
    partly = truth.copy()
    partly[~kept] = IGNORED
    for one, whole in zip(_scored(partly, guess), _scored(truth[kept], guess[kept]), strict=True):
        assert one.overlap == whole.overlap
        assert one.negative == whole.negative
        assert not one.whole
        assert not one.no_surface
        row = one.row()
        missing = {name for name in SCORES if math.isnan(row[name])}
        assert missing == {"hd95_mm", "nsd", "lesion_f1"}
    flat = _scored(partly, guess, planar=True)
    _same(_rows(*flat), _rows(*_scored(truth[kept], guess[kept], planar=True)))


@every("unlabelled", [(1,), (2, 3)])
def test_a_class_that_nobody_annotated_has_no_score_and_harms_no_other(
    unlabelled: tuple[int, ...],
) -> None:
    truth, guess = _drawn(2), _drawn(52)
    truth[np.isin(truth, unlabelled)] = 0
    found = _scored(truth, guess, unlabelled)
    table = scores.confusion(truth, guess, CLASSES, unlabelled)
    for label, one in enumerate(found, 1):
        if label in unlabelled:
            assert not one.annotated
            assert not one.both_empty
            assert not one.no_surface
            assert one.negative == Negative(0, 0, 0.0)
            assert all(math.isnan(value) for value in one.row().values())
            assert table[0, label] == table[label].sum() == 0
        else:
            _same(_rows(one), _rows(_scored(truth, guess)[label - 1]))
            assert table[label, unlabelled[0]] > 0
    plain = scores.confusion(truth, guess, CLASSES)
    assert table[0, 0] == plain[0, 0] + plain[0, list(unlabelled)].sum()


def _probabilities(seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    weights = np.random.default_rng(seed).random((*shape, CLASSES)) ** 3
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_calibration_leaves_out_what_nobody_annotated() -> None:
    truth, p = _drawn(3), _probabilities(3, SHAPE)
    ignored = _somewhere(3)
    partly = np.where(ignored, np.uint8(IGNORED), truth)
    alone = Calibration.of(truth[~ignored][None, None], p[~ignored][None, None])
    np.testing.assert_allclose(Calibration.of(partly, p).pixels, alone.pixels)
    np.testing.assert_allclose(Calibration.of(partly, p).confidence, alone.confidence)
    truth[truth == 2] = 0
    unsure = (truth == 0) & (p.argmax(axis=-1) == 2)
    left = Calibration.of(truth[~unsure][None, None], p[~unsure][None, None])
    np.testing.assert_allclose(Calibration.of(truth, p, (2,)).pixels, left.pixels)


@pytest.mark.parametrize("name", reference.METRICS)
def test_the_reference_metrics_are_over_the_annotated_pixels(name: str) -> None:
    metric, truth, p = reference.METRICS[name], _drawn(4), _probabilities(4, SHAPE)
    ignored = _somewhere(4)
    ignored[2] = True
    partly = np.where(ignored, np.uint8(IGNORED), truth)
    got = metric(partly, p)
    for index in range(len(truth)):
        here = ~ignored[index]
        if not here.any():
            assert math.isnan(got[index])
            continue
        alone = metric(truth[index][here][None, None], p[index][here][None, None])
        assert got[index] == pytest.approx(alone[0], rel=1e-6)
    truth[truth == 3] = 0
    merged = p.copy()
    merged[..., 0] += np.where(truth == 0, merged[..., 3], 0)
    merged[..., 3] = np.where(truth == 0, 0, merged[..., 3])
    np.testing.assert_allclose(metric(truth, p, (3,)), metric(truth, merged), rtol=1e-6)


@every("seed", range(4))
@every("planar", [False, True])
def test_rules_are_judged_by_the_annotated_voxels(seed: int, planar: bool) -> None:
    truth, guess, ignored = _drawn(seed), _drawn(seed + 50), _somewhere(seed)
    partly = np.where(ignored, np.uint8(IGNORED), truth)
    search = Search(CLASSES)
    search.add("p", partly, guess, VOXEL_ML, planar, (3,))
    for label in (1, 2):
        [dice] = search._dice[label]
        for rule, got in zip(RULES, dice, strict=True):
            corrected = apply(guess, {label: rule}, VOXEL_ML, planar)
            table = scores.confusion(partly, corrected, CLASSES)
            assert got == pytest.approx(scores.overlaps(table)[label].dice)
    assert all(math.isnan(dice) for dice in search._dice[3][0])
    plain = np.mean([search._dice[label][0][0] for label in (1, 2)])
    assert search.plain_dice() == pytest.approx([plain])


def test_cases_that_do_not_show_a_class_do_not_choose_its_rule() -> None:
    searches = Search(3), Search(3)
    for number in range(2 * LEAST_PATIENTS):
        guess = block()
        guess[0, 0, 0] = 1
        unlabelled = (1,) if number < LEAST_PATIENTS else ()
        searches[0].add(f"p{number}", block(), guess, VOXEL_ML, False, unlabelled)
        if not unlabelled:
            searches[1].add(f"p{number}", block(), guess, VOXEL_ML, False)
    some, alone = (search.choose(1)[1] for search in searches)
    assert some == alone
    assert some.patients == LEAST_PATIENTS
    assert some.rule == Rule(smallest_ml=0.01)
    nobody = Search(2)
    nobody.add("p", block(), block(), VOXEL_ML, False, (1,))
    assert nobody.choose(1) == {}
    assert np.isnan(nobody.plain_dice()).all()
