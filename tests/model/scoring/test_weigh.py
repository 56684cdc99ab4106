"""Weights of an ensemble's networks: few to choose from, and kept only where they clearly gain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.inference import fusing
from model.inference.sampling import class_ids
from model.scoring import weigh
from tests.support.members import LABELS, member

CLASSES = len(LABELS)
ROWS = weigh.candidates(["axial", "coronal", "axial"])


def case(truth: NDArray[np.uint8], patient: str = "p", unlabelled: tuple[int, ...] = ()) -> Any:
    """A case of three networks, one rater and even slices."""
    pair = SimpleNamespace(unlabelled=unlabelled, patient=patient)
    return SimpleNamespace(
        members=[member()] * 3,
        truths=[truth],
        drawings=[[pair]],
        kept=SimpleNamespace(voxel_ml=0.001),
    )


def answers(seed: int) -> NDArray[np.float32]:
    """Three networks' probabilities of 4 slices."""
    drawn = np.random.default_rng(seed).random((3, CLASSES, 4, 9, 8)).astype(np.float32)
    return drawn / drawn.sum(axis=1, keepdims=True)


def test_candidates_leave_out_halve_or_double_one_group_each_once() -> None:
    assert [row.tolist() for row in weigh.candidates(["a", "b"])] == [
        [0.5, 0.5],
        [0.0, 1.0],
        pytest.approx([1 / 3, 2 / 3]),
        pytest.approx([2 / 3, 1 / 3]),
        [1.0, 0.0],
    ]
    assert len(weigh.candidates(["a", "a"])) == 1
    assert len(ROWS) == 5
    for row in ROWS:
        assert row[0] == row[2]  # those of one plane weigh alike
        assert row.sum() == pytest.approx(1)


def test_the_dice_of_a_candidate_is_that_of_the_class_ids_it_leads_to() -> None:
    truth = np.random.default_rng(1).integers(0, CLASSES, (4, 9, 8)).astype(np.uint8)
    found, seen = answers(2), case(truth)
    counted = weigh.OfCase(seen, ROWS)
    for at in (slice(0, 3), slice(3, 4)):
        counted.look(at, found[:, :, at], np.empty(0, np.float32))
    for number, row in enumerate(ROWS):
        for label in range(1, CLASSES):
            weights = np.full((3, CLASSES), 1 / 3)
            weights[:, label] = row
            weights[:, 0] = weights[:, 1:].mean(axis=1)
            planes = ["axial", "coronal", "axial"]
            ids = class_ids(fusing.fused(found, planes, fusing.normalised(weights)))
            both = ((ids == label) & (truth == label)).sum()
            dice = 2 * both / ((ids == label).sum() + (truth == label).sum())
            assert counted.dice()[0, number, label - 1] == pytest.approx(dice)
    assert len(np.unique(counted.dice().round(4))) > len(ROWS)


def search(gain: float, patients: int, noise: float) -> weigh.Search:
    """One whose third candidate is better for the second class, by ``gain`` in the mean."""
    made = weigh.Search(ROWS, LABELS)
    rng = np.random.default_rng(3)
    for number in range(patients):
        dice = 0.6 + rng.normal(0, noise, (1, len(ROWS), CLASSES - 1))
        dice[0, 2, 1] += gain
        counted = SimpleNamespace(
            dice=lambda dice=dice: dice, case=case(np.zeros((1, 1, 1), np.uint8), f"p{number}")
        )
        made.add(counted)  # type: ignore[arg-type]
    return made


def test_a_clear_gain_of_one_class_is_kept_for_this_class_alone() -> None:
    choices = search(0.05, 12, 0.01).choose(0)
    assert not choices[1].kept
    assert choices[2].kept
    assert choices[2].row.tolist() == ROWS[2].tolist()
    assert choices[2].gain == pytest.approx(0.05, abs=0.01)
    weights = weigh.table(choices, 3, CLASSES)
    assert weights is not None
    np.testing.assert_allclose(weights[:, 1], 1 / 3)
    np.testing.assert_allclose(weights[:, 2], ROWS[2], atol=1e-6)
    np.testing.assert_allclose(weights[:, 0], (ROWS[2] + 1 / 3) / 2, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_noise_chooses_nothing(seed: int) -> None:
    """The best of several is better by chance; patients left out of the choice are not."""
    made = weigh.Search(ROWS, LABELS)
    rng = np.random.default_rng(seed)
    for number in range(10):
        dice = 0.6 + rng.normal(0, 0.05, (1, len(ROWS), CLASSES - 1))
        counted: Any = SimpleNamespace(
            dice=lambda dice=dice: dice, case=case(np.zeros((1, 1, 1), np.uint8), f"p{number}")
        )
        made.add(counted)
    assert weigh.table(made.choose(0), 3, CLASSES) is None


def test_a_gain_on_few_patients_chooses_nothing() -> None:
    assert weigh.table(search(0.2, 4, 0.001).choose(0), 3, CLASSES) is None


def test_a_class_that_nobody_annotated_has_no_say() -> None:
    truth = np.zeros((4, 9, 8), np.uint8)
    counted = weigh.OfCase(case(truth, unlabelled=(2,)), ROWS)
    counted.look(slice(0, 4), answers(5), np.empty(0, np.float32))
    assert np.isnan(counted.dice()[0, :, 1]).all()
    assert np.isfinite(counted.dice()[0, :, 0]).all()


def test_of_the_networks_that_may_judge_a_case_weights_add_up_to_one() -> None:
    for row, left in zip(ROWS, weigh.among(ROWS, [0, 2]), strict=True):
        assert left.sum() == pytest.approx(1)
        assert left[0] == left[1], row
