"""Weights of an ensemble's planes: kept only where they clearly gain on patients left out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.inference import fusing
from model.scoring import weigh
from model.scoring.voxels import Sample

PLANES = ["axial", "coronal", "sagittal"]
CLASSES, SHAPE = 3, (12, 12)


def answers(
    truth: NDArray[np.uint8], rng: np.random.Generator, evidence: list[float]
) -> list[NDArray[np.float32]]:
    """What each plane's network says (classes, rows, columns): it sees the truth in noise, and as
    clearly as ``evidence`` says; 0 is noise alone, of which it is as sure as the others."""
    found = []
    for clearly in evidence:
        logits = rng.normal(0, 1.5, (CLASSES, *SHAPE))
        for label in range(CLASSES):
            logits[label] += clearly * (truth == label)
        shares = np.exp(logits - logits.max(axis=0))
        found.append((shares / shares.sum(axis=0)).astype(np.float32))
    return found


def sample(patients: int, evidence: list[float], seed: int = 0) -> Sample:
    rng, made = np.random.default_rng(seed), Sample()
    for number in range(patients):
        truth = rng.integers(0, CLASSES, SHAPE).astype(np.uint8)
        made.begin(f"p{number}")
        made.add(truth, answers(truth, rng, evidence), 1)
    return made


def test_a_plane_that_sees_more_counts_for_more() -> None:
    choice = weigh.choose(sample(12, [1.0, 3.0, 0.0]), PLANES, 0)
    assert choice is not None
    assert choice.kept
    assert choice.low > 0
    assert list(choice.of_plane) == PLANES
    assert sum(choice.of_plane.values()) == pytest.approx(1)
    # the best weights of independent evidence are as the evidence is
    np.testing.assert_allclose(list(choice.of_plane.values()), [0.25, 0.75, 0], atol=0.04)


@pytest.mark.parametrize("seed", range(5))
def test_where_all_see_alike_equal_weights_stay(seed: int) -> None:
    choice = weigh.choose(sample(10, [2.0, 2.0, 2.0], seed), PLANES, 0)
    assert choice is not None
    assert not choice.kept
    np.testing.assert_allclose(list(choice.of_plane.values()), 1 / 3, atol=0.05)


def test_a_gain_on_few_patients_chooses_nothing() -> None:
    choice = weigh.choose(sample(4, [1.0, 3.0, 0.0]), PLANES, 0)
    assert choice is not None
    assert choice.gain > 0
    assert not choice.kept
    assert weigh.choose(sample(1, [1.0, 3.0, 0.0]), PLANES, 0) is None
    assert weigh.choose(sample(9, [1.0]), PLANES[:1], 0) is None


def test_the_slope_is_that_of_the_loss() -> None:
    [(_, voxels), *_] = sample(2, [1.0, 2.0, 0.5]).cases()
    weights, step = np.array([0.3, 0.9, 0.1]), 1e-5
    _, slope = weigh._sloped(weights, voxels)
    for voice, own in enumerate(np.eye(3) * step):
        ahead, behind = (weigh._loss(voxels, weights + sign * own) for sign in (1, -1))
        assert slope[voice] == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


def test_networks_of_one_plane_are_one_voice_and_share_its_weight() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, CLASSES, SHAPE).astype(np.uint8)
    own = np.stack(answers(truth, rng, [1.0, 1.0, 2.0]))
    coronal, axial = weigh.voices(own, ["axial", "coronal", "axial"], ["coronal", "axial"])
    np.testing.assert_array_equal(coronal, own[1])
    np.testing.assert_array_equal(axial, fusing.fused(own[[0, 2]], ["axial"] * 2, None))
    weights = weigh.of_members({"axial": 0.6, "coronal": 0.4}, ["axial", "coronal", "axial"])
    np.testing.assert_allclose(weights, [0.3, 0.4, 0.3], rtol=1e-6)
