"""Members of an ensemble whose answers are known, without a network."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Label, LabelMap
from model.inference.facts import Facts, Mirrors
from model.inference.member import Member
from model.inference.predictor import Predictor
from model.params import Network

LABELS = LabelMap(
    (
        Label(0, "background", (0, 0, 0), "everything else"),
        Label(1, "dark", (230, 159, 0), "what is dark"),
        Label(2, "bright", (86, 180, 233), "what is bright"),
    )
)
Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def by_brightness(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pictures (B, px, px, 1) -> probabilities that follow from each pixel's value alone."""
    bright = pictures[..., 0] / np.float32(255)
    rest = np.full_like(bright, 0.1)
    return np.stack([rest, 0.05 + 0.8 * (1 - bright), 0.05 + 0.8 * bright], axis=-1).astype(
        np.float32
    )


def facts(plane: str = "axial", px: int = 16, image_px: int = 64) -> Facts:
    """Of a network that sees ``px`` x ``px`` pixels of pictures of ``image_px``."""
    network = Network(px, 1, 2, 3, 2, 1, 0.0, "relu", "none")
    mirrors = Mirrors((), kept=False, gain=math.nan)
    return Facts(
        "made_up", LABELS, "MR", plane, None, (0.5, 99.5), image_px, network, {}, mirrors, {}
    )


def member(plane: str = "axial", run: Run = by_brightness, px: int = 16) -> Member:
    """One that answers with ``run``."""
    return Member(Path(f"{plane}.keras"), "0" * 64, facts(plane, px), run, ())


def predictor(*members: Member) -> Predictor:
    """An ensemble of members, by default of one, without post-processing."""
    return Predictor(members or (member(),), {})
