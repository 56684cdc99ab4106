"""Labels that a network speaks against: the soft minimum, and which slices are named, and how."""

from __future__ import annotations

import numpy as np
import pytest

from datasets_spec.contract import IGNORED
from model.scoring import doubts
from model.scoring.doubts import OfLabels
from tests.support.every import every

CLASSES = 3


def _given(truth: np.ndarray, p: np.ndarray, unlabelled: tuple[int, ...] = ()) -> np.ndarray:
    labels = OfLabels(1, unlabelled)
    for index in range(len(truth)):
        labels.add([truth[index]], p[:, index])
    return labels.stacks(len(truth))[0]


def _sure(ids: np.ndarray, share: float = 0.9) -> np.ndarray:
    """Probabilities (classes, N, rows, columns) of a network that is so sure of ``ids``."""
    rest = (1 - share) / (CLASSES - 1)
    return np.stack([np.where(ids == one, share, rest) for one in range(CLASSES)]).astype(
        np.float32
    )


@every(
    ("step", "power", "quality"),
    [
        (5, 1.0, 0.1102571861879972),
        (11, 0.1, 0.8287884511890671),
        (17, 0.01, 0.9895523462645026),
        (20, 3.0, 0.033109606864047396),
    ],
)
def test_the_soft_minimum_is_what_cleanlab_gives(step: int, power: float, quality: float) -> None:
    """cleanlab 2.9.0, get_label_quality_scores of a picture of 6 x 8 pixels of one class."""
    p = ((np.arange(48) * step % 49 + 1) / 50) ** power
    assert doubts.soft_minimum(p) == pytest.approx(quality, rel=1e-12)


def test_the_soft_minimum_weighs_by_a_softmax() -> None:
    """Its formula, in other words: a mean weighed by a softmax of 1 - score."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        p = rng.beta(5, 1, 400)
        softmax = np.exp((1 - p) / 0.1) / np.exp((1 - p) / 0.1).sum()
        assert doubts.soft_minimum(p) == pytest.approx(np.dot(p, softmax))
        assert p.min() < doubts.soft_minimum(p) < p.mean()


def test_a_wrong_slice_is_named_with_what_is_drawn_and_what_is_seen() -> None:
    seen = np.zeros((4, 20, 20), np.uint8)
    seen[1:3, 5:10, 5:10] = 1
    truth = seen.copy()
    truth[2, 5:10, 5:10] = 2
    found = list(doubts.of_case(_given(truth, _sure(seen)), truth, seen, 0.5))
    [one] = found
    assert (one.slice_index, one.drawn, one.seen, one.voxels, one.ml) == (2, 2, 1, 25, 12.5)
    assert one.confidence == pytest.approx(0.95, abs=0.01)
    assert one.doubt == pytest.approx(25 * 0.95 / 5, rel=0.01)
    assert one.soft_minimum < 0.5


def test_an_unsure_border_is_in_less_doubt_than_a_missing_part() -> None:
    """A long border that is a voxel off, of a large structure, and a small one that is missing."""
    seen = np.zeros((2, 40, 40), np.uint8)
    seen[0, 5:35, 5:35] = 1
    seen[1, 5:9, 5:9] = 1
    truth = seen.copy()
    truth[0, :, 34] = 0
    truth[1] = 0
    border, missing = doubts.of_case(_given(truth, _sure(seen)), truth, seen, 1.0)
    assert border.voxels > missing.voxels
    assert border.doubt == 0
    assert missing.doubt == pytest.approx(16 * 0.95 / 4, rel=0.01)


def test_the_more_is_wrong_the_more_is_in_doubt() -> None:
    seen = np.zeros((3, 20, 20), np.uint8)
    seen[:, 5:10, 5:10] = 1
    truth = seen.copy()
    truth[1, 5, 5:7] = 0
    truth[2, 5:10, 5:10] = 0
    few, many = doubts.of_case(_given(truth, _sure(seen)), truth, seen, 1.0)
    assert (few.slice_index, many.slice_index) == (1, 2)
    assert few.doubt < many.doubt


def test_each_slice_weighs_by_its_own_volume() -> None:
    seen = np.zeros((2, 8, 8), np.uint8)
    truth = seen.copy()
    truth[:, 2:4, 2:4] = 1
    each = doubts.of_case(_given(truth, _sure(seen)), truth, seen, np.array([0.25, 2.0]))
    assert [one.ml for one in each] == [1.0, 8.0]


def test_what_nobody_annotated_is_in_no_doubt() -> None:
    seen = np.ones((1, 8, 8), np.uint8)
    ignored = np.full((1, 8, 8), IGNORED, np.uint8)
    assert not list(doubts.of_case(_given(ignored, _sure(seen)), ignored, seen, 1.0))
    background = np.zeros((1, 8, 8), np.uint8)
    given = _given(background, _sure(seen, share=1.0), unlabelled=(1,))
    assert not list(doubts.of_case(given, background, seen, 1.0))


def test_slices_that_the_network_was_not_asked_about_are_in_no_doubt() -> None:
    labels = OfLabels(1, ())
    truth = np.ones((5, 5), np.uint8)
    labels.add([truth], _sure(np.zeros((1, 5, 5), np.uint8))[:, 0])
    [stack] = labels.stacks(3, [1])
    assert (stack[[0, 2]] == 255).all()
    assert (stack[1] < 255).all()
