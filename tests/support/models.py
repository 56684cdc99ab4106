"""Untrained networks on disk, with the provenance of trained ones."""

from __future__ import annotations

from dataclasses import replace

import datasets_spec
from datasets_spec.contract import LabelMap
from model import params, provenance
from model.flexunet import flexunet
from pipeline import paths


def save_untrained(dataset: str, settings: params.Params, classes: int | None = None) -> None:
    """Write ``runs/<dataset>/model.keras`` for the pairs that lie here, of all classes if None."""
    facts = datasets_spec.load(dataset).dataset
    facts = replace(facts, label_map=LabelMap(tuple(facts.label_map)[:classes]))
    record = provenance.of(dataset, facts, settings)
    network = flexunet(settings.train.network, len(facts.label_map))
    with provenance.writing(network, paths.run(dataset) / paths.MODEL, record):
        pass
