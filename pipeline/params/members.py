"""The sections ``members`` and ``ensembles``: which networks there are beside a dataset's own.

::

    members:
      hippocampus_coronal:                 # a name of its own: what train is called with
        dataset: msd_hippocampus           # whose pairs it learns from
        train: {source: scans, plane: coronal, seed: 2}

    ensembles:
      msd_hippocampus: {weights: equal}    # its own network and its members as one

A member takes every value of its dataset's entry that it does not override. What its pairs are
made from is its dataset's alone, so it may override leaves of ``augment`` and ``train`` only.
Either section may be empty or missing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import datasets_spec
from datasets_spec.contract import Problem
from pipeline.params.values import shown

DATASET = "dataset"
OVERRIDABLE = ("augment", "train")
"""The sections of which a member may override leaves."""
_PAIRS = ("convert", "split")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,59}")  # DVC takes a dot for a key below a key


def checked(
    members: Mapping[str, Any],
    ensembles: Mapping[str, Any],
    enabled: Collection[str],
    file: object,
) -> dict[str, str]:
    """The dataset of every member by the member's name, in the file's order.

    Raises :class:`Problem` for a name that cannot be one, for a member of no enabled dataset, for
    sections that it may not override, and where a dataset has members and no ensemble or the other
    way round.
    """
    found = {
        name: _dataset(name, entry, enabled, f"{file}: members.{name}")
        for name, entry in members.items()
    }
    for name in ensembles:
        if name not in enabled:
            raise _other_dataset(name, enabled, f"{file}: ensembles")
        if name not in found.values():
            raise Problem(
                f"expected a member of {name}, found none: an ensemble takes two networks",
                where=f"{file}: ensembles.{name}",
                remedy=f"Add one below 'members:' with 'dataset: {name}', or remove this line.",
            )
    for name, dataset in found.items():
        if dataset not in ensembles:
            raise Problem(
                f"expected {dataset}, the dataset of the member {name}, below 'ensembles:',"
                " found none",
                where=f"{file}: ensembles",
                remedy=f"Add a line '  {dataset}:' below 'ensembles:'.",
            )
    return found


def _dataset(name: Any, entry: Any, enabled: Collection[str], where: str) -> str:
    """The dataset that a member's entry names."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Problem(
            f"expected a member's name of up to 60 letters a to z, digits and _, got {shown(name)}",
            where=where,
            remedy="It becomes a folder and the name of a DVC stage.",
        )
    if name in datasets_spec.names():
        raise Problem(
            f"expected a member's name, got {name}, which is a dataset's",
            where=where,
            remedy=f"Name what is different about it, such as {name}_coronal.",
        )
    if not isinstance(entry, dict):
        raise Problem(
            f"expected a mapping with the key 'dataset', got {shown(entry)}",
            where=where,
            remedy=f"Write '  {name}: {{dataset: <name>, train: {{seed: 2}}}}'.",
        )
    for key in entry:
        if key in (DATASET, *OVERRIDABLE):
            continue
        pairs = key in _PAIRS
        reason = ", which make the pairs that all networks of a dataset learn from" * pairs
        raise Problem(
            f"expected keys among {', '.join((DATASET, *OVERRIDABLE))}, got {shown(key)}{reason}",
            where=where,
            remedy=f"Override it below 'datasets:', for all networks of {entry.get(DATASET)}."
            if pairs
            else "Leaves of the training are indented below 'train:'.",
        )
    dataset = entry.get(DATASET)
    if dataset not in enabled:
        raise _other_dataset(dataset, enabled, f"{where}: dataset")
    return str(dataset)


def _other_dataset(name: Any, enabled: Collection[str], where: str) -> Problem:
    return Problem(
        f"expected one of the enabled datasets ({', '.join(enabled)}), got {shown(name)}",
        where=where,
        remedy="Correct the name, or enable the dataset below 'datasets:'.",
    )
