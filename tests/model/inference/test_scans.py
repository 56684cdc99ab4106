"""A scan and some members -> probabilities in the scan's own grid."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.inference import scans
from model.inference.member import Member, viewed
from model.inference.scans import slabs
from pipeline.volumes import volume
from pipeline.volumes.volume import Grid, Volume
from tests.support.members import by_brightness, member

AFFINES = {
    "RAS": np.diag([1.0, 1.0, 2.0, 1.0]),
    "LPS": np.diag([-1.0, -1.0, 2.0, 1.0]),
    "PSR": np.array([[0, 0, 1.5, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]),
}
PLANES = ("axial", "coronal", "sagittal")


@pytest.fixture(params=AFFINES)
def image(request: pytest.FixtureRequest) -> Volume:
    """A smooth scan, in various axis orders."""
    shape = (14, 11, 9)
    x, y, z = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    own = (100 + 90 * np.sin(x) * np.cos(y) + 20 * z).astype(np.float32)
    grid = Grid(shape, AFFINES[request.param])
    return Volume(grid.to_ras(own), grid)


def all_of(members: list[Member], image: Volume, scratch: Path) -> NDArray[np.float32]:
    """Probabilities (classes, X, Y, Z) in RAS+."""
    plane = members[0].facts.plane
    parts = [slab.probability for slab in slabs(members, image, scratch)]
    return np.stack([volume.unslice(one, plane) for one in np.concatenate(parts, axis=1)])


def pool(alone: list[NDArray[np.float32]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The geometric mean of probabilities, and the sum that makes it probabilities."""
    raised = np.exp(np.mean([np.log(np.maximum(one, 1e-7)) for one in alone], axis=0))
    affinity = raised.sum(axis=0)
    return raised / affinity, affinity


@pytest.mark.parametrize("plane", PLANES)
def test_every_slice_is_asked_about_once_in_order(
    plane: str, image: Volume, tmp_path: Path
) -> None:
    count = 0

    def done(slices: int) -> None:
        nonlocal count
        count += slices

    rows = [slab.at for slab in slabs([member(plane)], image, tmp_path, done=done)]
    length = len(volume.slices(image.array, plane))
    assert [one.start for one in rows] == [0, *(one.stop for one in rows[:-1])]
    assert rows[-1].stop == count == length


@pytest.mark.parametrize("plane", PLANES)
def test_an_answer_stands_where_its_voxel_is(plane: str, image: Volume, tmp_path: Path) -> None:
    """A network that only looks at brightness follows the scan's own values, in every plane."""
    low, high = np.percentile(image.array, (0.5, 99.5))
    bright = np.clip((image.array - low) / (high - low), 0, 1)
    found = all_of([member(plane, px=64)], image, tmp_path)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    assert np.abs(found[2] - 0.8 * bright - 0.05).max() < 0.12
    assert np.abs(found[2] - 0.8 * bright - 0.05).mean() < 0.02


def test_members_of_several_planes_are_one_in_the_scans_grid(image: Volume, tmp_path: Path) -> None:
    members = [member(plane) for plane in PLANES]
    alone = [all_of([one], image, tmp_path) for one in members]
    np.testing.assert_allclose(all_of(members, image, tmp_path), pool(alone)[0], atol=1e-6)
    assert not list(tmp_path.iterdir())


def test_members_of_one_plane_are_averaged(image: Volume, tmp_path: Path) -> None:
    def opposite(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return by_brightness(255 - pictures)

    both = [member("coronal"), member("coronal", opposite)]
    alone = [all_of([one], image, tmp_path) for one in both]
    assert np.abs(alone[0] - alone[1]).max() > 0.5
    np.testing.assert_allclose(all_of(both, image, tmp_path), pool(alone)[0], atol=1e-6)


@pytest.mark.parametrize("planes", [("axial",), ("axial", "axial"), ("axial", "coronal")])
def test_entropy_and_disagreement_follow_their_formulas(
    planes: tuple[str, ...], image: Volume, tmp_path: Path
) -> None:
    def entropy(p: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(-(p * np.log(p)).sum(axis=0) / np.log(len(p)))

    def sure(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return by_brightness(np.where(pictures > 99, 255, 60).astype(np.uint8))

    members = [
        member(plane, run) for plane, run in zip(planes, (by_brightness, sure), strict=False)
    ]
    alone = [all_of([one], image, tmp_path) for one in members]
    parts = list(slabs(members, image, tmp_path, uncertain=True))
    got = np.concatenate([one.entropy for one in parts if one.entropy is not None])
    whole, affinity = pool(alone)
    wanted = entropy(whole)
    np.testing.assert_allclose(volume.unslice(got, planes[0]), wanted, atol=1e-5)
    if len(members) == 1:
        assert all(one.disagreement is None for one in parts)
        return
    apart = np.concatenate([one.disagreement for one in parts if one.disagreement is not None])
    np.testing.assert_allclose(volume.unslice(apart, planes[0]), 1 - affinity, atol=1e-5)
    assert apart.max() > 0.01


@pytest.mark.parametrize("planes", [("axial",), ("coronal", "axial")])
def test_the_size_of_a_slab_changes_nothing(
    planes: tuple[str, ...], image: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [member(plane) for plane in planes]
    whole = all_of(members, image, tmp_path)
    monkeypatch.setattr(scans, "_SLAB_BYTES", 1)
    monkeypatch.setattr(Member, "at_once", 2)
    assert len(list(slabs(members, image, tmp_path))) > 3
    np.testing.assert_array_equal(all_of(members, image, tmp_path), whole)


@pytest.mark.parametrize("first", PLANES)
@pytest.mark.parametrize("second", PLANES)
def test_sums_of_several_planes_are_mapped_in_parts(
    first: str, second: str, image: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map of the whole file would hold all probabilities of the scan in memory."""
    members = [member(first), member(second), member("axial"), member("coronal")]
    whole = list(slabs(members, image, tmp_path, uncertain=True))
    mapped, real = [], np.memmap

    def counted(*arguments: Any) -> NDArray[np.float32]:
        part = real(*arguments)
        mapped.append(part.nbytes)
        return part

    of_x = 4 * image.array[0].size
    monkeypatch.setattr(scans, "_MAPPED_BYTES", 3 * of_x)
    monkeypatch.setattr(scans.np, "memmap", counted)
    parts = list(slabs(members, image, tmp_path, uncertain=True))
    assert max(mapped) == 3 * of_x
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)
        np.testing.assert_array_equal(one.entropy, other.entropy)


def test_entropy_takes_no_more_than_some_slices_of_memory() -> None:
    probability = np.full((3, 64, 64, 64), 1 / 3, np.float32)
    tracemalloc.start()
    found = scans._entropy(probability)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, 1, atol=1e-6)
    assert peak < found.nbytes + probability.nbytes / 4


def test_a_constant_scan_is_no_error(tmp_path: Path) -> None:
    grid = Grid((8, 8, 3), np.eye(4))
    found = all_of([member()], Volume(np.zeros((8, 8, 3), np.float32), grid), tmp_path)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)


def test_a_picture_is_that_of_convert(image: Volume) -> None:
    view = viewed(image, member().facts)
    assert view.picture(0).shape == (64, 64)
    assert view.picture(0).dtype == np.uint8
