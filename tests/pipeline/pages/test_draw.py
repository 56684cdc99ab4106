"""Outlines are those of OpenCV's morphology."""

from __future__ import annotations

import cv2
import numpy as np

from datasets_spec.contract import IGNORED, IGNORED_COLOUR, LabelMap
from pipeline.labels import colours
from pipeline.pages import draw
from tests.support.every import every


@every("shape", [(1, 1), (1, 9), (2, 3), (40, 57), (64, 64)])
def test_outlines_are_where_erosion_and_dilation_differ(
    label_map: LabelMap, shape: tuple[int, int]
) -> None:
    for seed, share in enumerate([0.0, 0.03, 0.5, 0.97, 1.0]):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, shape).astype(np.uint8)
        drawn = (rng.random(shape) < share) * rng.integers(1, len(label_map), shape)
        ids = cv2.medianBlur(drawn.astype(np.uint8), 3)
        eroded = cv2.erode(ids, np.ones((3, 3), np.uint8), iterations=2)
        grown = cv2.dilate(ids, np.ones((3, 3), np.uint8))
        edge = ((eroded != ids) | (grown != ids)) & (ids > 0)
        wanted = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
        wanted[edge] = colours.colourise(ids, label_map)[edge]
        np.testing.assert_array_equal(draw.outlined(image, ids, label_map), wanted)


def test_what_nobody_annotated_is_hatched_and_no_class(label_map: LabelMap) -> None:
    image = np.full((40, 40), 200, np.uint8)
    ids = np.zeros((40, 40), np.uint8)
    ids[5:15, 5:15] = 1
    plain = draw.outlined(image, ids, label_map)
    ids[20:, :] = IGNORED
    rgb = draw.outlined(image, ids, label_map)
    np.testing.assert_array_equal(rgb[:20], plain[:20])
    hatched = (rgb[20:] == IGNORED_COLOUR).all(axis=-1)
    assert 0 < hatched.mean() < 0.2
    assert (rgb[20:][~hatched] == 200).all()
    np.testing.assert_array_equal(draw.hatched(image, ids)[20:] == 64, hatched)
