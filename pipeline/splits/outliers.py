"""Cases whose classes differ in volume from those of the other cases of the dataset.

A class's volume is an outlier if it is at least twice or at most half the dataset's median
and lies more than six robust standard deviations from it on a logarithmic scale (median and
1.4826 times the median absolute deviation, Rousseeuw and Croux, J. Am. Stat. Assoc. 88,
1993). Organs vary by some ten percent, so that is enough for them; lesions vary a hundredfold and
must also be a hundred times larger or smaller. A missing class is an outlier if at least 95 % of
20 or more cases have it. Fewer than ten cases are not compared, and a case in which the class or
some of the picture was not annotated is not either: its volume is not known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from datasets_spec.contract import LESIONS, LabelMap
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.volumes.findings import PAIR, Finding, finding

FEW_CASES, _MANY_CASES = 10, 20
_NEARLY_ALL = 0.95
_DEVIATIONS, _FACTOR = 6.0, 2.0
_LEAST_SPREAD = 0.05
_LESION_FACTOR = 100.0


def outliers(pairs: Sequence[Pair], label_map: LabelMap) -> dict[tuple[str, str], list[Finding]]:
    """(case, rater) -> how it differs from the other cases; originals only."""
    cases = {
        (slices[0].case, slices[0].rater): slices
        for slices in manifest.grouped(pairs, "case", "rater")
    }
    found: dict[tuple[str, str], list[Finding]] = {}
    for label in label_map.foreground:
        volumes = {
            key: _volume(slices, label.id)
            for key, slices in cases.items()
            if all(_known(pair, label.id) for pair in slices)
        }
        having = {key: math.log(volume) for key, volume in volumes.items() if volume}
        if len(volumes) >= _MANY_CASES and len(having) >= _NEARLY_ALL * len(volumes):
            for key in volumes.keys() - having.keys():
                missing = finding(
                    "amount-missing", PAIR, name=label.name, having=len(having), of=len(volumes)
                )
                found.setdefault(key, []).append(missing)
        if len(having) < FEW_CASES:
            continue
        middle = median(having.values())
        spread = 1.4826 * median(abs(value - middle) for value in having.values())
        factor = _LESION_FACTOR if label.tissue in LESIONS else _FACTOR
        least = max(math.log(factor), _DEVIATIONS * max(spread, _LEAST_SPREAD))
        for key, value in having.items():
            if abs(value - middle) > least:
                times = math.exp(value - middle)
                unlike = finding("amount-unlike", PAIR, name=label.name, times=times)
                found.setdefault(key, []).append(unlike)
    return found


def compared(pairs: Sequence[Pair], label_map: LabelMap) -> set[str]:
    """The cases in which :func:`outliers` compares the volume of at least one class."""
    having = {
        label.id: {
            (slices[0].case, slices[0].rater)
            for slices in manifest.grouped(pairs, "case", "rater")
            if all(_known(pair, label.id) for pair in slices)
            and any(pair.class_pixels[label.id] for pair in slices)
        }
        for label in label_map.foreground
    }
    return {case for keys in having.values() if len(keys) >= FEW_CASES for case, _ in keys}


def _known(pair: Pair, class_id: int) -> bool:
    """Whether all of a class in the pair was annotated."""
    return not pair.ignored_pixels and class_id not in pair.unlabelled


def _volume(slices: Sequence[Pair], class_id: int) -> float:
    """mm^3 of a class (voxels, if the pictures have no geometry), from its picture pixels.

    Of slices without one spacing, each counts with its own thickness.
    """
    first = slices[0]
    (a, b, c, _), (d, e, f, _), (g, h, i, _) = (first.affine[n : n + 4] for n in (0, 4, 8))
    across = (d * h - e * g, b * g - a * h, a * e - b * d)  # of the first two columns
    _, _, _, row_scale, col_scale, _, _ = first.canvas
    if first.thickness_mm:
        amount = sum(pair.class_pixels[class_id] * pair.thickness_mm for pair in slices)
        return math.hypot(*across) * amount / (row_scale * col_scale)
    voxel = abs(c * across[0] + f * across[1] + i * across[2])
    return voxel * sum(pair.class_pixels[class_id] for pair in slices) / (row_scale * col_scale)
