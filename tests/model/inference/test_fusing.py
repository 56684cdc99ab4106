"""Several networks' probabilities as one: equal weights, other weights, the order of sums."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.inference import fusing, scans
from model.inference.member import Member, viewed
from model.inference.scans import every, slabs
from pipeline.volumes import volume
from pipeline.volumes.volume import Grid, Volume
from tests.support.members import by_brightness, member

PLANES = {
    "one": ("axial", "axial", "axial"),
    "three": ("axial", "coronal", "sagittal"),
    "mixed": ("coronal", "axial", "coronal"),
}
WEIGHTS = fusing.normalised([2.0, 5.0, 3.0])


@pytest.fixture
def image() -> Volume:
    rng = np.random.default_rng(0)
    grid = Grid((14, 11, 9), np.diag([1.0, 1.2, 2.0, 1.0]))
    return Volume(rng.normal(100, 30, grid.shape).astype(np.float32), grid)


def turned(by: int) -> Member:
    """A network that takes other greys for bright."""

    def run(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return by_brightness(pictures + np.uint8(by))

    return member(run=run)


def members(planes: tuple[str, ...]) -> list[Member]:
    made = [turned(60 * at) for at in range(len(planes))]
    return [
        Member(one.file, one.digest, member(plane).facts, one.run, ())
        for one, plane in zip(made, planes, strict=True)
    ]


def alone(one: Member, image: Volume, scratch: Path) -> NDArray[np.float32]:
    """Probabilities (classes, X, Y, Z) of one network."""
    parts = [slab.probability for slab in slabs([one], image, scratch)]
    whole = np.concatenate(parts, axis=1)
    return np.stack([volume.unslice(each, one.facts.plane) for each in whole])


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighed"])
@pytest.mark.parametrize("planes", PLANES.values(), ids=PLANES)
def test_all_together_are_the_weighed_geometric_mean(
    planes: tuple[str, ...], weights: fusing.Weights | None, image: Volume, tmp_path: Path
) -> None:
    several, each = members(planes), fusing.of_each(weights, len(planes))
    found = list(slabs(several, image, tmp_path, uncertain=True, weights=weights))
    got = np.concatenate([one.probability for one in found], axis=1)
    answers = np.stack([alone(one, image, tmp_path) for one in several])
    raised = np.prod(answers ** each[:, None, None, None, None], axis=0)
    affinity = raised.sum(axis=0)

    def in_plane(whole: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([volume.slices(one, planes[0]) for one in whole])

    np.testing.assert_allclose(got, in_plane(raised / affinity), atol=1e-6)
    assert np.abs(raised / affinity - answers.mean(axis=0)).max() > 0.01
    apart = np.concatenate([one.disagreement for one in found if one.disagreement is not None])
    np.testing.assert_allclose(apart, in_plane((1 - affinity)[None])[0], atol=1e-6)
    assert 0.1 < apart.max() < 1


def test_networks_that_agree_stay_and_one_that_is_sure_counts_for_more() -> None:
    agreed = np.float32([[0.2, 0.9], [0.8, 0.1]])
    np.testing.assert_allclose(fusing.fused([agreed] * 3, [""] * 3, None), agreed, rtol=1e-6)
    sure, unsure = np.float32([0.999, 0.001]), np.float32([0.4, 0.6])
    one = fusing.fused([sure, unsure, unsure], [""] * 3, None)
    assert one[0] > (sure[0] + 2 * unsure[0]) / 3
    impossible = np.float32([0.0, 1.0])
    both = fusing.fused([impossible, 1 - impossible], [""] * 2, None)
    np.testing.assert_allclose(both, 0.5)  # neither rules a class out for good


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighed"])
@pytest.mark.parametrize("planes", PLANES.values(), ids=PLANES)
def test_what_is_fused_of_single_answers_is_the_same_to_the_last_bit(
    planes: tuple[str, ...],
    weights: fusing.Weights | None,
    image: Volume,
    tmp_path: Path,
) -> None:
    """So that scores, which need every single answer, are those of what predict writes."""
    several = members(planes)
    wanted = np.concatenate(
        [one.probability for one in slabs(several, image, tmp_path, weights=weights)], axis=1
    )
    seen = [viewed(image, one.facts) for one in several]
    parts = [
        fusing.fused(answers, planes, weights)
        for _, answers in every(several, seen, image.array.shape, tmp_path)
    ]
    assert np.array_equal(np.concatenate(parts, axis=1), wanted)


def test_a_slice_without_a_picture_is_background(image: Volume, tmp_path: Path) -> None:
    class Some:
        def __init__(self) -> None:
            self.all = viewed(image, member().facts)
            self.canvas = self.all.canvas

        def picture(self, index: int) -> NDArray[np.uint8] | None:
            return self.all.picture(index) if index % 3 else None

    parts = [part for _, part in every([member()], [Some()], image.array.shape, tmp_path)]
    found, wanted = np.concatenate(parts, axis=2)[0], alone(member(), image, tmp_path)
    for index in range(found.shape[1]):
        if index % 3:
            in_plane = np.stack([volume.slices(one, "axial")[index] for one in wanted])
            assert np.array_equal(found[:, index], in_plane)
        else:
            assert (found[0, index] == 1).all()
            assert not found[1:, index].any()


def test_what_is_left_of_weights_adds_up_to_one() -> None:
    left = fusing.of_some(WEIGHTS, [0, 2])
    assert left is not None
    np.testing.assert_allclose(left, [0.4, 0.6])
    assert fusing.of_some(None, [0]) is None


def test_single_answers_of_three_planes_take_the_memory_of_slabs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait on the disk, whatever the number of networks and of voxels."""
    monkeypatch.setattr(scans, "_SLAB_BYTES", 1 << 19)
    monkeypatch.setattr(scans, "_MAPPED_BYTES", 1 << 19)
    shape, several = (96, 96, 96), members(PLANES["three"])
    image = Volume(np.zeros(shape, np.uint8), Grid(shape, np.eye(4)))
    seen = [viewed(image, one.facts) for one in several]
    whole = 4 * len(several) * len(several[0].facts.label_map) * image.array.size
    tracemalloc.start()
    try:
        for _, answers in every(several, seen, shape, tmp_path):
            assert answers.nbytes < whole / 8
            del answers
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < whole / 3
    assert not list(tmp_path.iterdir())
