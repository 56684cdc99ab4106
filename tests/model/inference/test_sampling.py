"""From the network's size to a scan's own grid in one interpolation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.inference.sampling import Sampler, class_ids
from pipeline.pairs.canvas import Canvas

SQUARE = (1.0, 1.0)


def random(side: int, classes: int) -> NDArray[np.float32]:
    values = np.random.default_rng(side).random((side, side, classes)).astype(np.float32)
    return values / values.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("px", [8, 16, 40, 64])
@pytest.mark.parametrize("side", [16, 40, 130])
def test_a_square_slice_is_sampled_as_opencv_resizes(side: int, px: int) -> None:
    canvas = Canvas.fit((side, side), SQUARE, side)
    sampled = Sampler.of(canvas, px)(random(px, 3))
    wanted = cv2.resize(random(px, 3), (side, side), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(sampled, wanted.transpose(2, 0, 1), atol=2e-6)


@pytest.mark.parametrize("canvas_px", [64, 512])
@pytest.mark.parametrize(("shape", "sides"), [((50, 36), SQUARE), ((20, 41), (3.0, 0.7))])
def test_a_plane_stays_a_plane(
    shape: tuple[int, int], sides: tuple[float, float], canvas_px: int
) -> None:
    """Linear in millimetres before, linear in millimetres after, whatever the padding."""
    canvas, px = Canvas.fit(shape, sides, canvas_px), 32
    of_network = (np.arange(px) + 0.5) * canvas_px / px
    plane = (of_network[:, None] + 2 * of_network[None]).astype(np.float32)
    sampled = Sampler.of(canvas, px)(plane[..., None])[0]
    rows = (np.arange(shape[0]) + 0.5) * canvas.row_scale + canvas.row_offset
    columns = (np.arange(shape[1]) + 0.5) * canvas.col_scale + canvas.col_offset
    wanted = rows[:, None] + 2 * columns[None]
    low, high = of_network[0], of_network[-1]  # beyond the outermost centres it is constant
    inside = ((rows >= low) & (rows <= high))[:, None] & (columns >= low) & (columns <= high)
    assert inside.mean() > 0.8
    np.testing.assert_allclose(sampled[inside], wanted[inside], rtol=1e-5)


def test_a_network_at_the_slices_own_size_is_not_resampled() -> None:
    sampler = Sampler.of(Canvas.fit((64, 64), SQUARE, 64), 64)
    assert sampler.rows is None
    assert sampler.columns is None
    probability = random(64, 4)
    np.testing.assert_array_equal(sampler(probability), probability.transpose(2, 0, 1))


@pytest.mark.parametrize("step", [1, 7, 100])
def test_rows_may_be_sampled_some_at_a_time(step: int) -> None:
    sampler, probability = Sampler.of(Canvas.fit((50, 36), SQUARE, 64), 16), random(16, 3)
    wide = sampler.wide(probability)
    strips = [sampler.tall(wide, slice(start, start + step)) for start in range(0, 50, step)]
    np.testing.assert_allclose(np.concatenate(strips, axis=1), sampler(probability), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_the_likeliest_class_is_the_first_of_the_highest(classes: int) -> None:
    probability = np.random.default_rng(0).integers(0, 4, (classes, 30, 20)).astype(np.float32)
    np.testing.assert_array_equal(class_ids(probability), probability.argmax(axis=0))
