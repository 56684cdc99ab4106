"""The verbs of a working folder, run in this program with an untrained network."""

from __future__ import annotations

from model import evaluate, params
from model.folds.workplace import Step
from pipeline.split import split
from tests.support.models import save_untrained


def untrained(step: Step) -> None:
    """What a verb of a fold, or of a part of the patients, leaves here."""
    settings = params.load(step.name)
    if step.verb == "split":
        split(step.name, settings)
    elif step.verb == "train":
        save_untrained(step.name, settings)
    else:
        evaluate.evaluate(step.name, settings)
