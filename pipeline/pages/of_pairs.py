"""What the page shows of a dataset's pairs: counts, pictures, and what is odd about its cases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets_spec import Adapter
from datasets_spec.contract import SPLITS, LabelMap
from pipeline import paths
from pipeline.pages import tiles
from pipeline.pages.tiles import Tile
from pipeline.pairs import pictures
from pipeline.pairs.manifest import Pair
from pipeline.volumes import findings
from pipeline.volumes.findings import DOUBT, HANDLED, Severity

_SMALL_PX = 160
_PER_SPLIT = 6
_AUGMENTED = 3


def of_pairs(adapter: Adapter, pairs: Sequence[Pair], card: Mapping[str, Any]) -> dict[str, Any]:
    """What the template shows of ``pairs``, whose dataset's card is ``card``.

    Raises as :func:`pipeline.pages.contents.reading` expects it for a card of nonsense.
    """
    folder, label_map = paths.dataset(adapter.name), adapter.dataset.label_map
    originals = [pair for pair in pairs if not pair.parent]
    return {
        "totals": _counts(pairs, label_map),
        "splits": {
            name: _counts([pair for pair in pairs if pair.split == name], label_map)
            for name in SPLITS
        },
        "channels": card["channels"],
        "by_channel": list(_by_channel(folder, originals, label_map)),
        "sheets": dict(_sheets(folder, originals, label_map)),
        "augmented": list(_augmented(folder, pairs, label_map)),
        "evidence": _evidence(pairs),
        "suspicions": _by_case(pairs, "suspicion"),
        "doubts": _by_case(pairs, "findings", DOUBT),
        "handled": _by_case(pairs, "findings", HANDLED),
        "agreement": card["rater_agreement"],
        "tables": card["label_tables"],
        "snapped": card["snapped_pixels"],
        "unlabelled": card["unlabelled"],
        "suspicious": card["suspicious_labels"],
        "probed": card["probed_labels"],
        "label_rules": card.get("label_rules"),
        "gaps": card["gaps"],
        "strata": card["strata"],
        "grouping": card["grouping"],
    }


def _counts(pairs: Sequence[Pair], label_map: LabelMap) -> dict[str, Any]:
    originals = [pair for pair in pairs if not pair.parent]
    return {
        "patients": len({pair.patient for pair in pairs}),
        "cases": len({pair.case for pair in pairs}),
        "slices": len(originals),
        "empty": sum(pair.empty for pair in originals),
        "unannotated": sum(pair.unannotated for pair in originals),
        "ignored_pixels": sum(pair.ignored_pixels for pair in originals),
        "augmented": len(pairs) - len(originals),
        "class_pixels": [sum(pair.class_pixels[label.id] for pair in pairs) for label in label_map],
    }


def _evidence(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    """Case and the reason for its label table, for cases that had to decide."""
    reasons = {pair.case: pair.label_evidence for pair in pairs if pair.label_table}
    return sorted(reasons.items())


def _by_case(pairs: Sequence[Pair], column: str, *severities: Severity) -> list[tuple[str, str]]:
    """Case (and rater) and its findings of some severities in words, where there are any."""
    records = {(pair.case, pair.rater): getattr(pair, column) for pair in pairs}
    return [
        (f"{case} · rater {rater}" if rater else case, words)
        for (case, rater), content in sorted(records.items())
        if (words := findings.texts(findings.from_json(content), *severities))
    ]


def _sheets(
    folder: Path, originals: Sequence[Pair], label_map: LabelMap
) -> Iterator[tuple[str, list[Tile]]]:
    """Per split, the richest slice of some patients with its truth."""
    for split in SPLITS:
        chosen = _richest([pair for pair in originals if pair.split == split])[:_PER_SPLIT]
        yield split, [_of_pair(folder, pair, label_map) for pair in chosen]


def _by_channel(folder: Path, originals: Sequence[Pair], label_map: LabelMap) -> Iterator[Tile]:
    """Each channel of one slice, of a case that lacks as few as possible; none of grey pictures."""
    fewest = min((len(pair.absent) for pair in originals), default=0)
    for pair in _richest([pair for pair in originals if len(pair.absent) == fewest])[:1]:
        if pair.channels:
            image = pictures.image(folder, pair)
            for at, name in enumerate(pair.channel_names):
                yield tiles.tile(name, image[..., at].copy(), label_map, px=_SMALL_PX)


def _augmented(folder: Path, pairs: Sequence[Pair], label_map: LabelMap) -> Iterator[list[Tile]]:
    """The richest train slices of some patients, each with its augmented variants."""
    variants: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.parent:
            variants.setdefault(pair.parent, []).append(pair)
    for parent in _richest([pair for pair in pairs if pair.id in variants])[:_AUGMENTED]:
        yield [_of_pair(folder, pair, label_map) for pair in [parent, *variants[parent.id]]]


def _richest(pairs: Sequence[Pair]) -> list[Pair]:
    """The slice with most foreground of each patient, in the patients' order."""
    best: dict[str, Pair] = {}
    for pair in pairs:
        rival = best.setdefault(pair.patient, pair)
        if sum(pair.class_pixels[1:]) > sum(rival.class_pixels[1:]):
            best[pair.patient] = pair
    return [best[patient] for patient in sorted(best)]


def _of_pair(folder: Path, pair: Pair, label_map: LabelMap) -> Tile:
    image = pictures.shown(folder, pair)
    ids = pictures.mask(folder, pair, label_map)
    caption = json.loads(pair.warp)["variant"] if pair.warp else pair.id
    return tiles.tile(caption, image, label_map, ids, px=_SMALL_PX)
