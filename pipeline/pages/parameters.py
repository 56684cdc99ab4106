"""The parameters that pairs, model and scores were made with, and what has changed since then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_ABSENT = "absent"
_ORDER = ("convert", "augment", "split", "train", "evaluate")


@dataclass(frozen=True)
class Recorded:
    """The sections of parameters that were recorded with what was made, ``what``.

    ``partly``: only some parameters of each section were recorded. ``derived``: the dotted names of
    values that follow from something else, whatever the parameter file says.
    """

    what: str
    sections: Mapping[str, Any]
    partly: bool = False
    derived: tuple[str, ...] = ()


def of_pairs(card: Mapping[str, Any]) -> Recorded:
    """What the card of a dataset records."""
    return Recorded("pairs", dict(card["made_by"]))


def of_model(provenance: Mapping[str, Any]) -> Recorded:
    """What a model's file records, and its pairs' card does not.

    Augmentation while training is the model's; where it was offline, its variants are pairs.
    """
    offline = provenance["augment"].get("mode") == "offline"
    names = ("train",) if offline else ("train", "augment")
    several = bool(provenance.get("picture_channels"))  # then the network has as many
    derived = ("train.network.channels",) if several else ()
    return Recorded("model", {name: provenance[name] for name in names}, derived=derived)


def of_scores(scores: Mapping[str, Any]) -> Recorded:
    """What scores record: the few parameters that they follow from; earlier versions none."""
    return Recorded("scores", dict(scores.get("parameters", {})), partly=True)


def together(*records: Recorded) -> dict[str, Any]:
    """All sections that were recorded, as the stages follow; of two records, the first counts."""
    sections: dict[str, Any] = {}
    for record in records:
        for name, values in record.sections.items():
            sections[name] = {**values, **sections.get(name, {})}
    return {name: sections[name] for name in _ORDER if name in sections}


def changed(record: Recorded, now: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Every parameter that differs today: of what, its name, its value then and ``now``."""
    today = {name: now[name] for name in record.sections if name in now}
    before, after = (
        dict(_leaves("", json.loads(json.dumps(one)))) for one in (dict(record.sections), today)
    )
    for name in sorted(before if record.partly else before | after):
        values = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if values[0] != values[1] and name not in record.derived:
            yield record.what, name, str(values[0]), str(values[1])


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested mappings."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}".lstrip("."), part)
    else:
        yield name, value
