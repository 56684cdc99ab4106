"""The reference projects' published predictions, judged by our scores: what their .99 stands for.

They publish sample pictures, masks and predictions beside their code; the figures below were
measured on these samples before this project began. Skipped where they are not here. A picture
has no geometry, so each is a planar case of one slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.scoring import scores
from model.scoring.bootstrap import mean_over
from model.scoring.reference import dice_coef_multiclass
from tests.conftest import PROJECT

SAMPLES = PROJECT.parent / "shared" / "data" / "seed_pairs"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLES.is_dir(), reason="the reference projects' samples are not here"),
]

WHITE = ((0, 0, 0), (255, 255, 255))
BLEEDS = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (0, 255, 0))
TISSUES = (
    *((0, 0, 0), (10, 180, 10), (255, 255, 255), (128, 128, 128)),
    *((0, 128, 255), (255, 255, 0), (180, 100, 100)),
)


@dataclass(frozen=True)
class Sample:
    """A folder, its classes' colours, and Dice as known: of all pixels pooled, and per picture.

    ``near``: how far ours may be off, since only half of three of the samples is here.
    """

    name: str
    colours: tuple[tuple[int, int, int], ...]
    pooled: float
    per_picture: float
    near: float


KNOWN = (
    Sample("MBH-Seg25", BLEEDS, 0.78, 0.43, 0.005),
    Sample("Full-Head-T1W", TISSUES, 0.91, 0.76, 0.015),
    Sample("PHE-SICH-CT-IDS", WHITE, 0.80, 0.76, 0.06),
    Sample("AISD", WHITE, 0.86, 0.55, 0.06),
)


def _nearest_class(file: Path, colours: tuple[tuple[int, int, int], ...]) -> NDArray[np.uint8]:
    """Class ids (1, H, W): their masks hold thousands of colours of no class."""
    rgb = np.asarray(Image.open(file).convert("RGB"), int)
    away = [((rgb - colour) ** 2).sum(axis=-1) for colour in colours]
    return np.argmin(away, axis=0).astype(np.uint8)[None]


@pytest.mark.parametrize("sample", KNOWN, ids=lambda sample: sample.name)
def test_their_predictions_score_as_was_measured(sample: Sample) -> None:
    classes = len(sample.colours)
    table = np.zeros((classes, classes), np.int64)
    rows, theirs = [], []
    masks = sorted((SAMPLES / sample.name / "masks").iterdir())
    assert masks
    for mask in masks:
        truth = _nearest_class(mask, sample.colours)
        file = SAMPLES / sample.name / "predictions" / mask.name
        guess = np.asarray(Image.open(file), np.uint8)[None]
        scored = scores.score(truth, guess, classes, np.eye(3), True, 1.0)
        rows.append([one.overlap.dice for one in scored])
        table += scores.confusion(truth, guess, classes)
        certain = (guess[..., None] == np.arange(classes)).astype(np.float32)
        theirs.append(float(dice_coef_multiclass(truth, certain)[0]))
    pooled = np.mean([overlap.dice for overlap in scores.overlaps(table)[1:]])
    per_class = mean_over(np.array(rows).T)
    assert pooled == pytest.approx(sample.pooled, abs=max(sample.near / 2, 0.005))
    assert per_class.mean() == pytest.approx(sample.per_picture, abs=sample.near)
    assert np.mean(theirs) > pooled
    print(
        f"{sample.name}: {len(masks)} pictures, foreground Dice pooled {pooled:.3f}, per picture"
        f" {per_class.mean():.3f}; their own metric {np.mean(theirs):.4f}"
    )
