"""Several networks' probabilities as one: equal weights, weights by class, the order of sums."""

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
WEIGHTS = np.array([[0.2, 0.5, 0.0], [0.3, 0.25, 1.0], [0.5, 0.25, 0.0]])


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


@pytest.mark.parametrize("planes", PLANES.values(), ids=PLANES)
def test_weights_hold_class_by_class(
    planes: tuple[str, ...], image: Volume, tmp_path: Path
) -> None:
    several, weights = members(planes), fusing.normalised(WEIGHTS)
    found = list(slabs(several, image, tmp_path, uncertain=True, weights=weights))
    got = np.concatenate([one.probability for one in found], axis=1)
    answers = np.stack([alone(one, image, tmp_path) for one in several])
    wanted = np.einsum("mc,mcxyz->cxyz", weights, answers)
    wanted /= wanted.sum(axis=0)
    in_plane = np.stack([volume.slices(one, planes[0]) for one in wanted])
    np.testing.assert_allclose(got, in_plane, atol=1e-6)
    assert np.abs(wanted - answers.mean(axis=0)).max() > 0.05
    assert all(one.disagreement is not None for one in found)


@pytest.mark.parametrize("weights", [None, fusing.normalised(WEIGHTS)], ids=["equal", "weighed"])
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
    weights = fusing.normalised(WEIGHTS)
    left = fusing.of_some(weights, [0, 2])
    assert left is not None
    np.testing.assert_allclose(left.sum(axis=0), 1)
    np.testing.assert_allclose(left[:, 2], 0.5)  # of nothing but zeros
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
