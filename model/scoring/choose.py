"""What valid decides of a trained model: its post-processing, and whether mirror images help.

Both are chosen once, after training, and stand in the model's file from then on, so that every
prediction of it follows them. Test has no part in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from model import provenance
from model.inference.member import Member
from model.inference.rules import Rule
from model.params import Train
from model.scoring import answers, postprocess, scores
from model.scoring.answers import Answer, Drawings
from model.scoring.bootstrap import Resamples, interval
from model.scoring.postprocess import Choice, Search
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits
from pipeline.runtime import modelfile


def choose(
    member: Member, pairs: Sequence[Pair], dataset: str, wanted: Train, limits: Limits
) -> dict[str, Any]:
    """The section ``chosen`` of a model's provenance, from the cases of valid among ``pairs``.

    ``member`` is the model without mirror images; its facts say along which axes training saw some.
    Raises :class:`Problem` if the labels that convert kept are not there.
    """
    plain = replace(member, axes=())
    axes = member.facts.mirrors.axes
    ways = [plain, *([replace(member, axes=axes)] if axes and wanted.mirrors != "never" else [])]
    searches = [Search(len(member.facts.label_map)) for _ in ways]
    seconds = [0.0 for _ in ways]
    blank = np.zeros((member.facts.image_px,) * 2, np.uint8)
    for way in ways:  # the first answer takes longer than all others
        way.of_pictures([blank] * way.at_once)
    for drawings in answers.cases(pairs, "valid", dataset):
        for number, (way, search) in enumerate(zip(ways, searches, strict=True)):
            start = time.monotonic()
            answer = answers.answer(way, drawings, way.facts.label_map, limits)
            seconds[number] += time.monotonic() - start
            _add(search, drawings, answer)
    mirrors: dict[str, Any] = {"kept": False}
    if len(ways) > 1:
        mirrors |= _gain(searches[0], searches[1], wanted.seed)
        mirrors["cost"] = round(seconds[1] / seconds[0], 2)
        mirrors["kept"] = mirrors["kept"] or wanted.mirrors == "always"
    search = searches[1 if mirrors["kept"] else 0]
    rules = search.choose(wanted.seed) if wanted.postprocess else {}
    return {
        "mirrors": mirrors,
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


def _add(search: Search, drawings: Drawings, answer: Answer) -> None:
    voxel_ml, patient = scores.voxel_ml(answer.steps), drawings[0][0].patient
    for one in answer.beside:
        search.add(patient, one.truth, answer.predicted, voxel_ml, answer.planar)


def _gain(plain: Search, mirrored: Search, seed: int) -> dict[str, Any]:
    """What mirror images gain in mean foreground Dice, judged as post-processing is."""
    gains = mirrored.plain_dice() - plain.plain_dice()
    if not gains.size:
        return {"kept": False}
    resamples = Resamples.drawn(plain.patients, seed, "mirrors")
    bounds = interval(resamples.means(plain.patients, gains))
    assert bounds is not None
    gain, patients = float(np.mean(gains)), len(resamples.patients)
    kept = postprocess.helps(gain, bounds[0], patients)
    return {
        "kept": kept,
        "gain": gain,
        "low": bounds[0],
        "high": bounds[1],
        "patients": patients,
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
