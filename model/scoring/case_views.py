"""Test cases slice by slice, truth beside prediction: the pages that :mod:`pipeline.pages.viewer`
makes of them, below ``predictions/``."""

from __future__ import annotations

import json
import math
import shutil
from bisect import insort
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import datasets_spec
from datasets_spec.contract import LabelMap
from model.scoring.answers import Answer, Drawings
from model.scoring.scores import ClassScores, Stack
from model.scoring.summary import Scored
from pipeline import paths
from pipeline.pages import draw, viewer
from pipeline.pairs import channels, kept_scan, pictures
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.volumes import volume

_RECORD = "record.json"  # beside the slices, for the page of all cases
_NOTE = (
    "Test cases on their own grid, as evaluate scored them: Dice is of the prediction after"
    " post-processing. A dashed line shows where the prediction leaves the truth."
)


def write(
    predictions: Path,
    drawings: Drawings,
    scored: Sequence[Scored],
    answer: Answer,
    final: Stack,
    label_map: LabelMap,
    limits: Limits = Limits(),
) -> None:
    """Write ``view/<case>/`` below ``predictions`` for each rater of a case.

    ``final`` is the prediction (N, H, W) that was scored. The greys beside it are those that
    convert kept. Raises :class:`Problem` if they are not there.
    """
    first, grid = drawings[0][0], answer.kept.grid
    images = kept_scan.images(paths.converted(first.dataset), first, limits)
    greys = volume.slices(channels.first(images).array, first.plane)
    for row, one in zip(scored, answer.beside, strict=True):
        name = paths.of_case(row.case, row.rater)
        record = viewer.write_scan(
            predictions,
            name,
            (
                (draw.hatched(grey, truth), ids, truth)
                for grey, ids, truth in zip(greys, final, one.truth, strict=True)
            ),
            None if answer.planar else volume.slice_spacing(grid, first.plane),
            label_map,
            _facts(first, row, answer, label_map),
        )
        place = predictions / viewer.VIEW / name / _RECORD
        place.write_text(json.dumps(record, allow_nan=False), "utf-8")


def _facts(first: Pair, row: Scored, answer: Answer, label_map: LabelMap) -> viewer.Facts:
    """What the page states of a case."""
    dataset = datasets_spec.load(first.dataset).dataset
    facts: viewer.Facts = {
        "modality": dataset.modality,
        "unit": "HU" if dataset.window else "",
        "window": first.window,
        "measures": list(_measures(row, label_map)),
    }
    if answer.planar:
        return facts
    facts["plane"] = first.plane
    if answer.world is not None:
        facts["step_mm"] = float(np.linalg.norm(answer.steps[:, 0]))
        facts["world"] = answer.world.tolist()
    return facts


def _measures(scored: Scored, label_map: LabelMap) -> Iterator[dict[str, Any]]:
    """What the page states of every class of a case."""
    expected = scored.certainty.calibrated.expected.dice
    for label, one, sure in zip(label_map.foreground, scored.final, expected, strict=True):
        yield {
            "kind": "class",
            "class": label.name,
            **_sizes("", one, scored.planar),
            **_sizes("truth_", one, scored.planar),
            "dice": None if math.isnan(one.dice) else round(one.dice, 4),
            "expected_dice": None if math.isnan(sure) else round(sure, 4),
        }


def _sizes(of: str, one: ClassScores, planar: bool) -> dict[str, Any]:
    """Voxels and ml of the prediction (""), or of the truth."""
    name = of.rstrip("_") or "predicted"
    voxels, ml = getattr(one.overlap, name), getattr(one.volumes, name)
    return {f"{of}voxels": int(voxels), f"{of}ml": None if planar else round(float(ml), 6)}


class Views:
    """The cases that are kept: at most ``most``, those of lowest Dice, and the best.

    One more is on the disk at a time, however many are tested.
    """

    def __init__(self, predictions: Path, most: int) -> None:
        self._predictions, self._most = predictions, most
        self._kept: list[tuple[float, str]] = []  # lowest Dice first, the best last

    def add(self, scored: Iterable[Scored]) -> None:
        """Judge whether cases that were written are kept; another may go for it."""
        for one in scored:
            dice = math.inf if math.isnan(one.dice) else one.dice  # nothing to see: the first to go
            insort(self._kept, (dice, paths.of_case(one.case, one.rater)))
            if len(self._kept) > self._most:
                best = self._most > 1 and math.isfinite(self._kept[-1][0])
                _, name = self._kept.pop(-2 if best else -1)
                shutil.rmtree(self._predictions / viewer.VIEW / name, ignore_errors=True)

    def take(self, predictions: Path, one: Scored) -> bool:
        """Put the slices of a case here that another evaluation wrote; whether there were any."""
        source = predictions / viewer.VIEW / paths.of_case(one.case, one.rater)
        for file in paths.files_below(source):
            pictures.put(file, self._predictions / file.relative_to(predictions))
        return source.is_dir()

    def write_index(self, title: str) -> None:
        """Write the page of all that are kept, lowest Dice first; none where none is."""
        if not self._kept:
            return
        records = _records(self._predictions, [name for _, name in self._kept])
        about: viewer.About = {"title": title, "notes": [_NOTE]}
        viewer.write_index(self._predictions, records, about)


def _records(predictions: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    files = (predictions / viewer.VIEW / name / _RECORD for name in names)
    return [json.loads(file.read_text("utf-8")) for file in files]
