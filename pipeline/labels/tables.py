"""Which published label table fits what the picture shows.

Where sources contradict each other about what a value or a colour means, the anatomy
decides: a T1 image shows white matter brighter than grey matter, grey matter brighter
than cerebrospinal fluid, and fluid brighter than air; on CT, fresh blood is brighter and
an infarct darker than the tissue around it. A probe only chooses among the tables that
the dataset declares, and its choice and evidence are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import Dataset, Label, LabelTable, Problem

T1_ORDER = ("white_matter", "grey_matter", "csf", "air")
RING_PX = 12
DECIDED_BY_ALL_CASES = frozenset({"ct_stroke"})
"""Probes whose answer holds for a whole dataset: every case votes, and the majority counts."""


@dataclass(frozen=True)
class Verdict:
    """The table that fits best, and why: the words stand in the manifest and the report."""

    table: str
    evidence: str
    sure: bool


def probe(dataset: Dataset, image: NDArray[Any], raw_label: NDArray[Any]) -> Verdict:
    """The table of ``dataset`` that fits ``image`` best; both arrays (X, Y, Z) on one grid."""
    present = set(np.unique(raw_label).astype(np.int64).tolist()) - set(dataset.ignored_values)
    fitting = [table for table in dataset.tables if present <= set(table.class_of)]
    scores, words = {}, {}
    for table in fitting or dataset.tables:
        held, asked, evidence = _TESTS[dataset.probe](dataset, table, image, raw_label)
        scores[table.name] = held / asked if asked else 0.0
        words[table.name] = evidence
    best = max(scores, key=lambda name: scores[name])
    sure = all(scores[best] > score for name, score in scores.items() if name != best)
    return Verdict(best, f"{best}: {words[best]}", sure)


def require_sure(verdict: Verdict, where: object) -> Verdict:
    """``verdict`` if it is sure; else a :class:`Problem` that asks for a decision."""
    if not verdict.sure:
        raise Problem(
            f"expected one label table that fits the picture best, got a tie ({verdict.evidence})",
            where=where,
            remedy="Look at the picture and state convert.label_table for this dataset.",
        )
    return verdict


def _t1_tissues(
    dataset: Dataset, table: LabelTable, image: NDArray[Any], raw_label: NDArray[Any]
) -> tuple[int, int, str]:
    """How many steps of white > grey > fluid > air hold, by median intensity."""
    medians = {
        label.tissue: float(np.median(image[mask]))
        for label, mask in _masks(dataset, table, raw_label).items()
        if label.tissue in T1_ORDER
    }
    order = [name for name in T1_ORDER if name in medians]
    steps = list(pairwise(order))
    held = sum(medians[brighter] > medians[darker] for brighter, darker in steps)
    sequence = " > ".join(f"{name} {medians[name]:.0f}" for name in order)
    return held, len(steps), f"{held} of {len(steps)} steps hold in {sequence}"


def _ct_stroke(
    dataset: Dataset, table: LabelTable, image: NDArray[Any], raw_label: NDArray[Any]
) -> tuple[int, int, str]:
    """Blood brighter, an infarct darker than the ring of tissue around it."""
    sign = {"blood": 1, "infarct": -1}
    drawn = raw_label > 0
    held, contrasts = 0, []
    masks = {
        label: mask
        for label, mask in _masks(dataset, table, raw_label).items()
        if label.tissue in sign
    }
    for label, mask in masks.items():
        ring = np.stack([grown(mask[..., z]) for z in range(mask.shape[2])], axis=2) & ~drawn
        if not ring.any():
            ring = ~drawn
        inside, around = float(np.median(image[mask])), float(np.median(image[ring]))
        held += sign[label.tissue] * (inside - around) > 0
        contrasts.append(f"{label.name} {inside:.0f} beside {around:.0f}")
    return held, len(masks), f"{held} of {len(masks)} fit in {', '.join(contrasts)}"


_TESTS: Mapping[
    str, Callable[[Dataset, LabelTable, NDArray[Any], NDArray[Any]], tuple[int, int, str]]
] = {"t1_tissues": _t1_tissues, "ct_stroke": _ct_stroke}


def _masks(
    dataset: Dataset, table: LabelTable, raw_label: NDArray[Any]
) -> dict[Label, NDArray[np.bool_]]:
    """Class -> where it is drawn, for the classes that occur."""
    masks = {}
    for label in dataset.label_map.foreground:
        values = [value for value, class_id in table.class_of.items() if class_id == label.id]
        mask = np.isin(raw_label, values)
        if mask.any():
            masks[label] = mask
    return masks


def grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask (rows, columns) of a slice, grown by 12 pixels along both axes."""
    side = 2 * RING_PX + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).astype(bool)


AUTO = "auto"


def class_of_table(dataset: Dataset, name: str) -> Mapping[int, int]:
    """Raw value -> class id in one of the dataset's label tables. Raises :class:`Problem`."""
    for table in dataset.tables:
        if table.name == name:
            return table.class_of
    names = ", ".join([AUTO, *(table.name for table in dataset.tables)])
    raise Problem(
        f"expected one of {names}, got {name!r}",
        where=f"convert.label_table of {dataset.title}",
        remedy="Correct it in the parameter file.",
    )
