"""What valid decides of a trained model: rules, mirrors, overlap of parts, calibration.

They are chosen once, after training, and stand in the model's file from then on, so that every
prediction of it follows them. Test has no part in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model import provenance
from model.inference import tiles
from model.inference.member import Member
from model.inference.rules import Rule
from model.inference.sampling import Probabilities
from model.inference.temperature import NONE
from model.params import Train
from model.scoring import answers, temperature
from model.scoring.answers import Answer, Drawings
from model.scoring.bootstrap import Resamples, interval, mean_over
from model.scoring.obeying import Obeyed
from model.scoring.postprocess import Choice, Search, helps
from model.scoring.scores import Stack
from model.scoring.voxels import Sample
from pipeline import paths
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.runtime import modelfile
from pipeline.structure import label_rules
from pipeline.structure.label_rules import LabelRule


@dataclass
class _Trial:
    """A way to ask the network, its answers to valid beside the truth, and what they took."""

    way: Member
    search: Search
    seconds: float = 0.0
    voxels: Sample = field(default_factory=Sample)


def choose(
    member: Member, pairs: Sequence[Pair], dataset: str, wanted: Train, limits: Limits
) -> dict[str, Any]:
    """The section ``chosen`` of a model's provenance, from the cases of valid among ``pairs``.

    ``member`` is the model without mirror images; its facts say along which axes training saw some.
    A network that sees parts is asked about overlapping ones unless they lose by more than noise.
    Raises :class:`Problem` if the labels that convert kept are not there.
    """
    known = rules_to_try(dataset, wanted)
    valid = partial(_tried, pairs=pairs, dataset=dataset, limits=limits, known=known)
    chosen: dict[str, Any] = {"mirrors": {"kept": False}}
    axes = member.facts.mirrors.axes if wanted.mirrors != "never" else ()
    way, best = replace(member, axes=(), temperatures=NONE), None
    if way.facts.network.picture_px:
        apart, smooth = valid([replace(way, overlap=share) for share in (0.0, tiles.OVERLAP)])
        chosen["tiles"] = gain = _gain(apart, smooth, wanted.seed, "tiles")
        loses = bool(gain) and helps(-gain["gain"], -gain["high"], gain["patients"])
        gain["kept"] = not loses
        best = apart if loses else smooth
        way = best.way
    if axes:
        best, mirrored = valid([way, replace(way, axes=axes)])
        chosen["mirrors"] = gain = _gain(best, mirrored, wanted.seed, "mirrors")
        more = bool(gain) and helps(gain["gain"], gain["low"], gain["patients"])
        gain["kept"] = more or wanted.mirrors == "always"
        best = mirrored if gain["kept"] else best
    best = best or valid([way])[0]
    if wanted.calibrate != "never":
        always = wanted.calibrate == "always"
        chosen["temperature"] = temperature.choose(best.voxels, wanted.seed, always=always)
    return chosen | rules_of(best.search, wanted)


def rules_to_try(dataset: str, wanted: Train) -> tuple[LabelRule, ...]:
    """The label rules that a dataset's card states, where ``wanted`` lets valid choose any."""
    return label_rules.of_card(paths.dataset(dataset) / paths.CARD) if wanted.postprocess else ()


def rules_of(search: Search, wanted: Train) -> dict[str, Any]:
    """The parts of a section ``chosen`` that say what is done to predictions."""
    followed = search.obey(wanted.seed) if wanted.postprocess else []
    rules = search.choose(wanted.seed) if wanted.postprocess else {}
    return {
        "label_rules": [asdict(one) | {"kept": one.kept} for one in followed],
        "postprocessing": {str(label): _stated(choice) for label, choice in rules.items()},
    }


def write(
    file: Path, pairs: Sequence[Pair], dataset: str, wanted: Train, limits: Limits
) -> dict[str, Any]:
    """Let valid choose for the model in ``file``, and write into it what it chose: :func:`choose`.

    Returns the section. Raises :class:`Problem` if the model cannot be used.
    """
    chosen = choose(Member.of(file, "never"), pairs, dataset, wanted, limits)
    provenance.renew(file, modelfile.read(file) | {"chosen": chosen})
    return chosen


def choices(chosen: dict[str, Any]) -> dict[int, Choice]:
    """The post-processing in a section ``chosen``, by class id."""
    return {
        int(label): Choice(
            Rule(one["fill_holes"], one["smallest_ml"]),
            *(one[name] for name in ("gain", "low", "high", "patients")),
        )
        for label, one in chosen.get("postprocessing", {}).items()
    }


def obeyed(chosen: dict[str, Any]) -> list[Obeyed]:
    """What is stated of label rules in a section ``chosen``."""
    return [
        Obeyed(
            LabelRule.of(one["rule"]), *(one[name] for name in ("gain", "low", "high", "patients"))
        )
        for one in chosen.get("label_rules", [])
    ]


def _tried(
    ways: Sequence[Member],
    pairs: Sequence[Pair],
    dataset: str,
    limits: Limits,
    known: Sequence[LabelRule] = (),
) -> list[_Trial]:
    """Every way on every case of valid; in turn, so that seconds can be compared."""
    trials = [_Trial(way, Search(len(way.facts.label_map), known)) for way in ways]
    for way in ways:  # the first answer takes longer than all others
        way.of_pictures([np.zeros((way.facts.image_px,) * 2, np.uint8)] * way.at_once)
    for drawings in answers.cases(pairs, "valid", dataset):
        for trial in trials:
            start = time.process_time()
            look = _look(trial, drawings)
            answer = answers.answer(trial.way, drawings, trial.way.facts.label_map, limits, look)
            trial.seconds += time.process_time() - start
            _add(trial.search, drawings, answer)
    return trials


def _look(trial: _Trial, drawings: Drawings) -> answers.Look:
    """Keeps of every slice of a case, beside every rater, what temperatures follow from."""
    first, voxels = drawings[0][0], trial.voxels
    slices = len(drawings) * answers.asked(trial.way, drawings)
    voxels.begin(first.patient)

    def look(truths: Sequence[Stack], own: Probabilities, _: Probabilities) -> None:
        for truth in truths:
            voxels.add(truth, [own], slices, first.unlabelled)

    return look


def _add(search: Search, drawings: Drawings, answer: Answer) -> None:
    patient = drawings[0][0].patient
    for one in answer.beside:
        unlabelled, ml = drawings[0][0].unlabelled, answer.voxel_ml
        planar, world = answer.planar, answer.world
        search.add(patient, one.truth, answer.predicted, ml, planar, unlabelled, world)


def _gain(plain: _Trial, other: _Trial, seed: int, what: str) -> dict[str, Any]:
    """What another way gains in mean foreground Dice, and how much more computation it costs.

    With a 95 % interval over the patients, as post-processing is judged; empty without cases.
    """
    gains = other.search.plain_dice() - plain.search.plain_dice()
    if not np.isfinite(gains).any():
        return {}
    resamples = Resamples.drawn(plain.search.patients, seed, what)
    bounds = interval(resamples.means(plain.search.patients, gains))
    assert bounds is not None
    return {
        "gain": float(mean_over(gains)),
        "low": bounds[0],
        "high": bounds[1],
        "patients": len(resamples.patients),
        "cost": round(other.seconds / plain.seconds, 2),
    }


def _stated(choice: Choice) -> dict[str, Any]:
    return {
        **asdict(choice.rule),
        "gain": choice.gain,
        "low": choice.low,
        "high": choice.high,
        "patients": choice.patients,
        "kept": choice.kept,
    }
