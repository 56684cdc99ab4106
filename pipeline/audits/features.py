"""A patient in numbers that do not depend on what is drawn: grid, values, noise, share of classes.

They are what differs between scanners and sites. The manifest has most of them (the profile of a
case); noise and sharpness are taken from the kept scan, on its own grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap
from pipeline.pairs import kept_scan
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.volumes import profile, volume
from pipeline.volumes.volume import Volume

Numbers = Mapping[str, float]
"""The name of a feature, with its unit -> its value; NaN where it is not known."""
_LOOKED_AT = 9  # slices of a case
_MIDDLE = (0.2, 0.8)  # of the stack
_IMMERKAER = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_LEAST_PX = 3
_STORED = "stored as "  # a kind: 1 of those that are it, and 0 of all others
_AXES = ("right-left", "back-front", "foot-head")


@dataclass(frozen=True)
class Job:
    """A case whose pairs, of all raters, are ``slices``, in the dataset ``converted``."""

    converted: Path
    slices: tuple[Pair, ...]
    label_map: LabelMap
    limits: Limits


def of_case(job: Job) -> dict[str, float]:
    """All numbers of a case. Raises :class:`Problem` where its scan cannot be read."""
    first = job.slices[0]
    found = dict(_of_grid(job.slices)) | dict(_of_labels(job.slices, job.label_map))
    if not first.scan:
        return found
    scan = kept_scan.images(job.converted, first, job.limits)
    channels = {"": scan} if isinstance(scan, Volume) else scan
    for name, one in channels.items():
        found |= dict(_of_pictures(f"{name}: " if name else "", one, first.plane))
    return found


def of_patient(cases: Sequence[Numbers]) -> dict[str, float]:
    """The means over a patient's cases, of what is known of them.

    >>> of_patient([{"noise": 2.0, "body": math.nan}, {"noise": 4.0, "body": 0.5}])
    {'noise': 3.0, 'body': 0.5}
    """
    names = dict.fromkeys(name for case in cases for name in case)
    found = {}
    for name in names:
        known = [case[name] for case in cases if math.isfinite(case.get(name, math.nan))]
        found[name] = sum(known) / len(known) if known else math.nan
    return found


def value(of: Numbers, name: str) -> float:
    """A feature of a patient, NaN where it is not known."""
    return of.get(name, 0.0 if name.startswith(_STORED) else math.nan)


def _of_grid(slices: Sequence[Pair]) -> Iterator[tuple[str, float]]:
    first = slices[0]
    yield "slices", len({pair.slice_index for pair in slices})
    if not first.profile:
        return
    looks = profile.from_json(first.profile)
    columns, rows, _ = looks.shape
    yield "columns of the source", columns
    yield "rows of the source", rows
    yield "different values", looks.values
    yield "share below the window", looks.below
    yield "share above the window", looks.above
    yield "share of the body", looks.body
    for percent, value in zip(profile.PERCENTILES, looks.percentiles, strict=True):
        if percent in (5.0, 50.0, 95.0):
            yield f"source's value at {percent:.0f} %", value
    greys = np.array(looks.greys)
    levels = (np.arange(len(greys)) + 0.5) * 256 / len(greys)
    mean = float((greys * levels).sum())
    yield "mean grey", mean
    yield "deviation of greys", math.sqrt(float((greys * (levels - mean) ** 2).sum()))
    if (placed := looks.geometry) is None:
        return
    yield "pixel (mm)", min(placed.spacing)
    yield "distance of slices (mm)", placed.thickness
    yield "tilt (degrees)", placed.oblique
    for axis, extent in zip(_AXES, placed.extent, strict=True):
        yield f"field of view, {axis} (mm)", extent
    yield f"{_STORED}{placed.axes}", 1.0


def _of_labels(slices: Sequence[Pair], label_map: LabelMap) -> Iterator[tuple[str, float]]:
    pixels = np.array([pair.class_pixels for pair in slices], np.float64)
    for label in label_map.foreground:
        unknown = any(label.id in pair.unlabelled for pair in slices)
        share = pixels[:, label.id].sum() / max(pixels.sum(), 1.0)
        yield f"share of {label.name}", math.nan if unknown else float(share)


def _of_pictures(prefix: str, scan: Volume, plane: str) -> Iterator[tuple[str, float]]:
    """Noise and sharpness: medians over slices of the middle of the stack."""
    stack = volume.slices(scan.array, plane)
    low, high = (round(part * (len(stack) - 1)) for part in _MIDDLE)
    chosen = np.unique(np.linspace(low, high, _LOOKED_AT).round().astype(int))
    seen = [np.ascontiguousarray(stack[index], np.float32) for index in chosen]
    seen = [one for one in seen if min(one.shape) >= _LEAST_PX]
    yield f"{prefix}noise (grey levels)", _median([noise(one) for one in seen])
    yield f"{prefix}sharpness (per pixel)", _median([sharpness(one) for one in seen])


def noise(picture: NDArray[np.float32]) -> float:
    """The standard deviation of noise in a picture (rows, columns), in its own levels.

    J. Immerkaer, Fast noise variance estimation, CVIU 64, 1996: what two Laplacians differ by.
    Taken where the picture is brighter than its mean, since padding has none.

    >>> rng = np.random.default_rng(1)
    >>> picture = 100 + rng.normal(0, 4, (200, 200)).astype(np.float32)
    >>> 3.5 < noise(picture) < 4.5
    True
    """
    response = np.abs(cv2.filter2D(picture, -1, _IMMERKAER, borderType=cv2.BORDER_REFLECT))
    body = response[picture >= picture.mean()]
    return math.sqrt(math.pi / 2) * float(body.mean()) / 6


def sharpness(picture: NDArray[np.float32]) -> float:
    """How steep a picture (rows, columns) is: the mean gradient in units of its own deviation.

    NaN where all of it is the same.
    """
    spread = float(picture.std())
    if spread == 0:
        return math.nan
    rows, columns = np.gradient(picture)
    return float(np.hypot(rows, columns).mean()) / spread


def _median(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.median(known)) if known else math.nan
