"""Pictures for the page: small WebP tiles as data URLs, and outlines of classes as SVG paths."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from datasets_spec.contract import Label, LabelMap
from pipeline.labels import colours
from pipeline.pages import draw
from pipeline.volumes.arrays import Image8

_QUALITY = 80
_SMOOTH_PX = 0.5  # outlines may be this far off: a quarter of the bytes, and nothing to be seen


@dataclass(frozen=True)
class Outline:
    """One class's outlines in a tile, as the ``d`` of an SVG path."""

    label: Label
    path: str


@dataclass(frozen=True)
class Tile:
    """A picture of ``px`` x ``px`` as a data URL, with what is drawn over it.

    ``link``: where all slices of its case are.
    """

    caption: str
    url: str
    px: int
    truth: Sequence[Outline] = ()
    predicted: Sequence[Outline] = ()
    note: str = ""
    link: str = ""


def tile(
    caption: str,
    image: Image8,
    label_map: LabelMap,
    truth: Image8 | None = None,
    predicted: Image8 | None = None,
    px: int = 256,
    note: str = "",
    link: str = "",
) -> Tile:
    """A grey image (H, H) and class ids (H, H) as a tile of at most ``px``."""
    px = min(px, len(image))
    if truth is not None:
        image = draw.hatched(image, truth)
    return Tile(
        caption,
        webp(image, px),
        px,
        () if truth is None else outlines(truth, label_map, px),
        () if predicted is None else outlines(predicted, label_map, px),
        note,
        link,
    )


def webp(image: Image8, px: int) -> str:
    """A grey picture as the data URL of a WebP of ``px`` x ``px``."""
    small = image
    if len(image) != px:
        small = np.asarray(cv2.resize(image, (px, px), interpolation=cv2.INTER_AREA), np.uint8)
    encoded, buffer = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    assert encoded
    return "data:image/webp;base64," + base64.b64encode(buffer.tobytes()).decode()


def outlines(ids: Image8, label_map: LabelMap, px: int) -> tuple[Outline, ...]:
    """The outlines of every foreground class that occurs, in a square of ``px``."""
    index = ((np.arange(px) + 0.5) * len(ids) / px).astype(np.intp)
    small = ids[np.ix_(index, index)]
    every = []
    for label in colours.visible(label_map).foreground:
        mask = (small == label.id).astype(np.uint8)
        if mask.any():
            # doubled, so that the outline runs along the pixels' borders and not their centres
            double = cv2.resize(mask, (2 * px, 2 * px), interpolation=cv2.INTER_NEAREST)
            lines, _ = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
            every.append(Outline(label, "".join(_path(line) for line in lines)))
    return tuple(every)


def _path(line: Any) -> str:
    """Points of a doubled picture -> a closed path in steps of half a pixel."""
    points = cv2.approxPolyDP(line, 2 * _SMOOTH_PX, True).reshape(-1, 2)
    steps = np.diff(points, axis=0)
    start = f"M{_half(points[0][0])} {_half(points[0][1])}"
    moves = " ".join(f"{_half(x)} {_half(y)}" for x, y in steps)
    return f"{start}l{moves}z" if moves else f"{start}h.5v.5h-.5z"


def _half(doubled: int) -> str:
    return f"{doubled / 2:g}"
