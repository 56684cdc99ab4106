"""The net behind convert: what a case's pictures and masks may not have lost on the way.

A lesion of a few voxels can vanish where a slice of more than ``convert.image_px`` is shrunk;
that is counted. A case whose pictures show nothing, or whose masks are empty, is an error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import LabelMap, Problem
from pipeline.pairs.manifest import Pair
from pipeline.volumes import findings
from pipeline.volumes.findings import PAIR, Finding, finding


def judged(
    pairs: Sequence[Pair],
    truth: Mapping[str, NDArray[np.uint8]],
    label_map: LabelMap,
) -> list[Pair]:
    """All pairs of a case, with a finding for every class that is in no mask of theirs.

    ``truth`` (class ids by the pairs' rater) is what they were made from. Raises :class:`Problem`
    where all foreground is lost.
    """
    lost = [one for rater, ids in truth.items() for one in _lost(pairs, rater, ids, label_map)]
    if not lost:
        return list(pairs)
    return [
        replace(pair, findings=findings.to_json([*findings.from_json(pair.findings), *lost]))
        for pair in pairs
    ]


def require_shades(image: NDArray[Any], shades: Collection[int]) -> None:
    """Raises :class:`Problem` where pictures of a scan of several values all have one.

    ``shades`` holds each picture's darkest and brightest value.
    """
    low, high = image.min(), image.max()
    if len(set(shades)) == 1 and low != high:
        raise Problem(
            f"expected pictures that show the scan, got {min(shades)} in every pixel from values"
            f" of {low:g} to {high:g}",
            remedy="Compare the window or convert.mr_percentiles with these values, and look at"
            " the scan's header.",
        )


def _lost(
    pairs: Sequence[Pair], rater: str, ids: NDArray[np.uint8], label_map: LabelMap
) -> list[Finding]:
    """The classes that ``rater`` drew and no mask shows; a :class:`Problem` if these are all."""
    masks = [pair.class_pixels for pair in pairs if pair.rater == rater]
    drawn = {one: int(np.count_nonzero(ids == one.id)) for one in label_map.foreground}
    drawn = {one: count for one, count in drawn.items() if count}
    lost = [one for one in drawn if not any(pixels[one.id] for pixels in masks)]
    if lost and len(lost) == len(drawn):
        raise Problem(
            f"expected the label's foreground in the masks, got none of {sum(drawn.values())}"
            " voxels",
            remedy="They are lost where the slices are shrunk: raise convert.image_px, or"
            " leave the case out.",
        )
    return [finding("class-lost", PAIR, name=one.name, voxels=drawn[one]) for one in lost]
