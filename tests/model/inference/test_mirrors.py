"""Test-time augmentation by mirror images that training saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.inference import mirrors


@pytest.mark.parametrize(
    ("steps", "axes"),
    [
        ([], ()),
        ([{"HorizontalFlip": None}], ("horizontal",)),
        ([{"albumentations.VerticalFlip": {"p": 0.5}}], ("vertical",)),
        ([{"Rotate": {"degrees": 90}}, {"Flip": {"axis": "vertical"}}], ("vertical",)),
        ([{"Flip": {"axis": "horizontal"}}, {"VerticalFlip": None}], ("horizontal", "vertical")),
        ([{"Elastic": {"sd_px": 4.0, "sigma_px": 16.0}}], ()),
    ],
)
def test_axes_are_those_that_a_variant_mirrors(
    steps: list[dict[str, Any]], axes: tuple[str, ...]
) -> None:
    assert (
        mirrors.seen({"variants": {"first": steps, "other": [{"Shear": {"ratio": 0.1}}]}}) == axes
    )


@pytest.mark.parametrize("axes", [(), ("horizontal",), ("vertical",), ("horizontal", "vertical")])
def test_a_network_that_follows_the_picture_answers_the_same(axes: tuple[str, ...]) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 1)).astype(np.uint8)
    asked: list[NDArray[np.uint8]] = []

    def run(seen: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(seen)
        return (seen / 255).astype(np.float32)

    np.testing.assert_allclose(mirrors.asked(run, pictures, axes), pictures / 255, atol=1e-6)
    assert len(asked) == 2 ** len(axes)
    assert len({one.tobytes() for one in asked}) == len(asked)


def test_the_mean_is_taken_where_each_pixel_is() -> None:
    """One that marks the left half whatever it sees marks both halves by half."""

    def left(seen: NDArray[np.uint8]) -> NDArray[np.float32]:
        answer = np.zeros((*seen.shape[:3], 2), np.float32)
        answer[:, :, :3, 1] = 1
        return answer

    pictures = np.zeros((1, 6, 6, 1), np.uint8)
    assert (mirrors.asked(left, pictures, ("horizontal",))[..., 1] == 0.5).all()
    np.testing.assert_array_equal(mirrors.asked(left, pictures, ("vertical",)), left(pictures))
