"""Whether the values of a CT lie where Hounsfield units put them, judged by its histogram.

A header can lose its rescale, and a file can hold HU + 1024 under any header: every window then
shows the wrong tissue. Air at -1000 HU and brain, muscle or water at 0 to 60 HU are in nearly
every head CT, about 1035 HU apart wherever the values were moved to. So a volume is *right* if
both are in their places, *shifted* if both are there, but elsewhere, and else *undecided*: nothing
is refused without such a pair (or, in a crop without air, without tissue that fills it).

What must not mislead: padding (-1024, -2000, -3024, 0) and clipped or masked air are one value
each, so a value that alone holds much more than its neighbours is no tissue, and tissue counts as
moved only if there is no noisy air in its place. Padding below air is as far away as air below
tissue, so of several pairs the highest counts. Bone and metal spread widely and make no peak.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Picture, Problem, paths_of, scan_of
from pipeline.volumes.findings import Finding, finding
from pipeline.volumes.volume import Volume

RIGHT, SHIFTED, UNDECIDED = "right", "shifted", "undecided"
AIR_HU, TISSUE_HU = -1000, 35
NEAR_HU = 110
"""How far air may lie from its place: calibration, partial volume and resampling move it."""
MOST_SHIFT_HU = 150
"""A smaller shift may be fat, contrast agent or a badly calibrated scanner."""
_PARENCHYMA_HU = (0, 60)
_SOFT_HU = 150  # fat to contrast agent, on both sides of 0
_DENSE_HU = 850  # only hard bone and metal lie above
_HALF_PEAK = 70  # tissues of a head, with their noise, lie within this of their median
_OVER_FLANKS = 2  # a peak holds so many times what lies beside it
_FEW_SHARE = 0.02  # less is no evidence
_TISSUE_SHARE = 0.01
_MOST_DENSE = 0.1  # of a head without air
_MOST_SOFT = 0.1  # of a moved head without air: what lies there is air in its cavities
_BULK = 0.5
_SPIKE_SHARE, _OVER_NEIGHBOURS = 0.05, 5
_LEAST_SPREAD = 4  # HU between the 10th and 90th percentile of tissue: no scan has less noise
_LEAST_VOXELS = 500
_ENOUGH_VOXELS = 1_000_000  # a histogram of these is as good as of all
_FEW_VALUES = 16
_OTHER = "OT"  # what programs write that do not know: no evidence of another modality
_LOWEST, _HIGHEST = -6_000, 40_000  # HU, and 16-bit values moved by 32768


@dataclass(frozen=True)
class Verdict:
    """``kind`` (right, shifted or undecided), and why; ``shift`` in HU.

    ``doubt``: the finding that an undecided volume gets.
    """

    kind: str
    evidence: str
    shift: int = 0
    doubt: Finding | None = None


def confirmed(dataset: Dataset, image: Volume, picture: Picture) -> Volume:
    """``image``, after a check that it is of its dataset's modality.

    Of CT volumes, the values are judged too; pictures that their publisher windowed are not HU.
    What remains in doubt becomes a finding. Raises :class:`Problem` for a DICOM series of another
    modality and for whatever :func:`judged` refuses. Not for labels: their header may state
    whatever the program that drew them wrote.
    """
    if image.modality not in ("", _OTHER, dataset.modality):
        raise Problem(
            f"expected {dataset.modality}, as the dataset states, got a series of modality"
            f" {image.modality}",
            where=paths_of(picture)[0],
            remedy="Does the adapter name the right series? Take the other one out.",
        )
    scan = scan_of(picture)
    return image if dataset.modality != "CT" or scan is None else judged(image, scan)


def judged(image: Volume, where: object) -> Volume:
    """A CT, after its values were judged; a doubt becomes a finding.

    Raises :class:`Problem` for values that were shifted, and for a series without rescale
    unless its stored values are right.
    """
    verdict = judge(image.array)
    if verdict.kind == SHIFTED:
        raise Problem(
            f"expected CT values in HU (air near {AIR_HU}, tissue near {TISSUE_HU}), got values"
            f" about {verdict.shift:+d} HU away: {verdict.evidence}",
            where=where,
            remedy="Was the rescale lost, or applied twice? Take the original export, or take"
            " the offset (mostly 1024 or 1000) off in a corrected copy.",
        )
    if image.unscaled and verdict.kind != RIGHT:
        raise Problem(
            "expected RescaleSlope and RescaleIntercept in a CT, got none, and stored values"
            f" that cannot be confirmed as HU: {verdict.evidence}",
            where=where,
            remedy="Take the original export of the series.",
        )
    doubts = () if verdict.doubt is None else (verdict.doubt,)
    return replace(image, findings=(*image.findings, *doubts)) if doubts else image


def is_drawing(array: NDArray[Any]) -> bool:
    """Whether there are so few values that a series of modality CT is rather a label map."""
    return len(np.unique(_sample(array))) <= _FEW_VALUES


def judge(array: NDArray[Any]) -> Verdict:
    """The verdict on the values of a CT, of any shape."""
    values = _sample(array)
    counted = np.rint(np.clip(values, _LOWEST, _HIGHEST)).astype(np.int64) - _LOWEST
    every = np.bincount(counted, minlength=_HIGHEST - _LOWEST + 1) / counted.size
    spread = every * ~_spikes(every)
    quarter, three = np.percentile(values, (25, 75))
    seen = {
        "lowest": values.min(),
        "highest": values.max(),
        "quarter": quarter,
        "three": three,
    }
    if values.size < _LEAST_VOXELS or not spread.any():
        return _undecided("hu-too-few", **seen)
    peaks = list(_peaks(spread))
    return (
        _by_pairs(every, spread, peaks, seen)
        or _by_places(spread)
        or _by_bulk(spread, peaks)
        or (
            _undecided("hu-no-air", air_hu=AIR_HU, **seen)
            if _near(spread, AIR_HU) < _FEW_SHARE
            else _undecided("hu-no-tissue", **seen)
        )
    )


def _undecided(code: str, **numbers: float) -> Verdict:
    doubt = finding(code, **numbers)
    return Verdict(UNDECIDED, doubt.sentence, doubt=doubt)


def _by_pairs(
    every: NDArray[np.float64],
    spread: NDArray[np.float64],
    peaks: Sequence[int],
    seen: Mapping[str, float],
) -> Verdict | None:
    """The verdict by the highest pair of air and tissue; None without a pair that tells."""
    pairs = [(peak, air) for peak in peaks if (air := _air_below(every, peak)) is not None]
    if not pairs:
        return None
    tissue, air = max(pairs)
    shift = tissue - TISSUE_HU
    evidence = f"air at {air}, tissue at {tissue}"
    if abs(shift) <= MOST_SHIFT_HU:
        return Verdict(RIGHT, evidence)
    if shift > 0 and _near(spread, AIR_HU) >= _FEW_SHARE:
        return _undecided("hu-two-airs", air=air, tissue=tissue, air_hu=AIR_HU, **seen)
    # padding below real air looks like air below tissue, so this air has to have noise
    if shift > 0 or _near(spread, air) >= _FEW_SHARE:
        return Verdict(SHIFTED, evidence, shift)
    return None


def _by_places(spread: NDArray[np.float64]) -> Verdict | None:
    """Right, where there is air and soft tissue in their places; else None."""
    soft = _within(spread, -_SOFT_HU, _SOFT_HU)
    if _near(spread, AIR_HU) >= _FEW_SHARE and soft >= _FEW_SHARE:
        return Verdict(RIGHT, f"air near {AIR_HU}, {soft:.0%} soft tissue")
    return None


def _by_bulk(spread: NDArray[np.float64], peaks: Sequence[int]) -> Verdict | None:
    """The verdict on a crop without air, by the tissue that fills it; None without such."""
    soft, rest = _within(spread, -_SOFT_HU, _SOFT_HU), spread.sum()
    for peak in peaks:
        if _within(spread, peak - _HALF_PEAK, peak + _HALF_PEAK) < _BULK * rest:
            continue
        dense = _within(spread, _DENSE_HU, _HIGHEST) / rest
        if _PARENCHYMA_HU[0] <= peak <= _PARENCHYMA_HU[1] and dense <= _MOST_DENSE:
            return Verdict(RIGHT, f"no air, tissue at {peak}")
        if abs(peak - TISSUE_HU + AIR_HU) <= NEAR_HU and soft < _MOST_SOFT:
            return Verdict(SHIFTED, f"no air, tissue at {peak}", peak - TISSUE_HU)
    return None


def _sample(array: NDArray[Any]) -> NDArray[np.float64]:
    """About a million values of a volume (X, Y, Z), evenly spread, whatever its size."""
    step = max(1, math.ceil((array.size / _ENOUGH_VOXELS) ** (1 / max(array.ndim, 1))))
    return array[(slice(None, None, step),) * array.ndim].astype(np.float64).ravel()


def _spikes(every: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which values hold far more than their neighbours: padding, clipped or masked air."""
    around = np.convolve(every, np.ones(7), "same") - every
    return (every >= _SPIKE_SHARE) & (every > _OVER_NEIGHBOURS * around / 6)


def _peaks(spread: NDArray[np.float64]) -> Iterator[int]:
    """The medians, in HU, of what stands out of the histogram, the largest first."""
    left = spread.copy()
    while True:
        mass = np.convolve(left, np.ones(2 * _HALF_PEAK + 1), "same")
        here = int(mass.argmax())
        if mass[here] < _TISSUE_SHARE:
            return
        low = max(here - _HALF_PEAK, 0)
        window = left[low : here + _HALF_PEAK + 1]
        total = np.cumsum(window) / window.sum()
        middle, ends = low + int(np.searchsorted(total, 0.5)), np.searchsorted(total, (0.1, 0.9))
        held = _within(spread, middle + _LOWEST - _HALF_PEAK, middle + _LOWEST + _HALF_PEAK)
        beside = _within(
            spread, middle + _LOWEST - 3 * _HALF_PEAK, middle + _LOWEST + 3 * _HALF_PEAK
        )
        if ends[1] - ends[0] >= _LEAST_SPREAD and held >= _OVER_FLANKS * (beside - held) / 2:
            yield middle + _LOWEST
        left[low : here + _HALF_PEAK + 1] = 0


def _air_below(every: NDArray[np.float64], tissue: int) -> int | None:
    """Where air lies if ``tissue`` is soft tissue, in HU; None where there is nothing."""
    place = tissue - TISSUE_HU + AIR_HU
    held = _near(every, place)
    beside = _within(every, place - 3 * NEAR_HU, place + 3 * NEAR_HU) - held
    if held < _FEW_SHARE or held < _OVER_FLANKS * beside / 2:
        return None
    low = max(place - NEAR_HU - _LOWEST, 0)
    window = every[low : max(place + NEAR_HU + 1 - _LOWEST, 0)]
    return low + int(np.searchsorted(np.cumsum(window), window.sum() / 2)) + _LOWEST


def _near(every: NDArray[np.float64], place: int) -> float:
    return _within(every, place - NEAR_HU, place + NEAR_HU)


def _within(every: NDArray[np.float64], low: int, high: int) -> float:
    """The share of all voxels from ``low`` to ``high`` HU."""
    return float(every[max(low - _LOWEST, 0) : max(high + 1 - _LOWEST, 0)].sum())
