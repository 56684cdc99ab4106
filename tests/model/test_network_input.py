"""Pictures shrink to the bytes of OpenCV, grow to the same but for rounding, and are stacked."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.network_input import picture_at, stacked
from model.params import Network
from tests.conftest import Refused
from tests.support.every import every


def _pictures(px: int) -> list[NDArray[np.uint8]]:
    """Noise, a smooth one, one of few values (whose means are often halves), and the extremes."""
    rng = np.random.default_rng(px)
    noise = rng.integers(0, 256, (px, px)).astype(np.uint8)
    few = rng.integers(0, 3, (px, px)).astype(np.uint8)
    return [noise, cv2.GaussianBlur(noise, (0, 0), 3), few, np.full((px, px), 255, np.uint8)]


@every("factor", [2, 3, 4, 5, 6, 7, 8, 12, 16, 17, 33])
def test_by_a_whole_factor_a_picture_shrinks_to_opencvs_bytes(factor: int) -> None:
    for picture in _pictures(24 * factor):
        wanted = cv2.resize(picture, (24, 24), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(picture_at(picture, 24), wanted)


@every(
    ("native", "px"), [(512, 96), (512, 384), (300, 299), (511, 64), (77, 13), (5, 3), (1000, 3)]
)
def test_by_any_factor_a_picture_shrinks_to_opencvs_bytes(native: int, px: int) -> None:
    """Each sum is made in the same order, so even the rounding is the same."""
    for picture in _pictures(native):
        wanted = cv2.resize(picture, (px, px), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(picture_at(picture, px), wanted)


@every(("native", "px"), [(256, 512), (512, 768), (100, 333), (77, 78), (1, 5)])
def test_a_picture_grows_as_opencvs_within_a_grey_level(native: int, px: int) -> None:
    for picture in _pictures(native):
        wanted = cv2.resize(picture, (px, px), interpolation=cv2.INTER_LINEAR).astype(int)
        assert np.abs(picture_at(picture, px) - wanted).max() <= 1


@pytest.mark.parametrize("px", [32, 48, 96])
def test_a_view_is_taken_as_its_copy(px: int) -> None:
    view = np.random.default_rng(0).integers(0, 256, (130, 70)).astype(np.uint8)[1:129:2, 3:67].T
    assert not view.flags.c_contiguous
    np.testing.assert_array_equal(picture_at(view, px), picture_at(view.copy(), px))


@pytest.mark.parametrize(
    ("shape", "channels", "neighbours", "order"),
    [
        ((8, 8), 3, 0, (0, 0, 0)),
        ((8, 8), 1, 1, (0, 0, 0)),
        ((8, 8, 3), 1, 1, (0, 1, 2)),
        ((8, 8, 3), 3, 1, (0, 0, 0, 1, 1, 1, 2, 2, 2)),
        ((8, 8, 3), 3, 0, (0, 1, 2)),
        ((8, 8, 6), 2, 1, (0, 1, 2, 3, 4, 5)),
    ],
)
def test_slices_come_one_after_the_other_each_with_its_channels(
    shape: tuple[int, ...], channels: int, neighbours: int, order: tuple[int, ...]
) -> None:
    network = Network(8, channels, 2, 3, 2, 1, 0.0, "relu", "none", neighbours=neighbours)
    picture = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    seen = stacked([picture], network)
    assert seen.shape == (1, 8, 8, network.inputs)
    np.testing.assert_array_equal(seen[0], np.atleast_3d(picture)[..., list(order)])


def test_pictures_of_other_channels_are_refused(refused: Refused) -> None:
    network = Network(8, 2, 2, 3, 2, 1, 0.0, "relu", "none", neighbours=1)
    picture = np.zeros((8, 8, 4), np.uint8)
    assert "6 channels" in refused(lambda: stacked([picture], network)).what
