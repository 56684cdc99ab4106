"""ensemble: a dataset's networks -> one bundle, scored as one and one by one.

Valid chooses how the networks' probabilities are weighed in the source's grid and which
post-processing all of them together take. Test is looked at once, with what was chosen.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets_spec
from model import provenance
from model.inference import bundle
from model.inference.member import Member
from model.inference.predictor import Predictor
from model.inference.sampling import Probabilities
from model.inference.temperature import NONE
from model.params import Ensemble, Params
from model.scoring import (
    answers,
    certainty,
    choose,
    doubts,
    fused,
    judge,
    one_by_one,
    pictures,
    results,
    scores,
    summary,
    trust,
)
from model.scoring.case_views import Views
from model.scoring.certainty import Certainty
from model.scoring.doubts import OfLabels
from model.scoring.fused import Case
from model.scoring.one_by_one import OfCase, OneByOne
from model.scoring.summary import Scored
from model.scoring.together import Choosing, Network
from model.training import slices
from pipeline import paths
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.runtime import imports, locks, modelfile, tables

_LOG = logging.getLogger(__name__)
_DEFINITIONS = {
    "ece": f"{scores.BINS} bins of the likeliest class, over the voxels of the source's grid whose"
    " truth or prediction is foreground; far from 0 even for perfect probabilities, since of"
    " predicted background it takes the wrong alone",
    "reference": "mean over slices of the source's grid; background counts as a class",
    "members": "before post-processing; all_gain is how much better all networks together are, in"
    " mean foreground Dice of the same cases, with its 95 % interval over patients; a class that"
    " is nowhere counts as 1",
}


def ensemble(
    dataset: str, wanted: Ensemble, settings: Params, members: Mapping[str, Params]
) -> None:
    """Fuse the networks of ``dataset`` into ``runs/<dataset>/ensemble`` and score them on test.

    ``settings`` are the dataset's, ``members`` those of its members by name. Raises
    :class:`Problem` if a network is missing or does not fit its parameters, if labels or scans are
    not those of the pairs, and at once if another run fills the folder.
    """
    networks = {**({dataset: settings} if wanted.own else {}), **members}
    folder = paths.ensemble(dataset)
    with locks.alone(folder):
        files = _models(dataset, networks)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as scratch:
            _fuse(dataset, wanted, networks, files, settings, Path(scratch))
            _score(dataset, settings, Path(scratch))


def _models(dataset: str, networks: Mapping[str, Params]) -> dict[str, Path]:
    """The model file of every network, each made with its parameters for these pairs."""
    facts, digest = datasets_spec.load(dataset).dataset, provenance.dataset_digest(dataset)
    files = {
        name: (paths.run(dataset) if name == dataset else paths.member(dataset, name)) / paths.MODEL
        for name in networks
    }
    for name, settings in networks.items():
        provenance.require(files[name], dataset, facts, settings, digest)
    return files


def _fuse(
    dataset: str,
    wanted: Ensemble,
    networks: Mapping[str, Params],
    files: Mapping[str, Path],
    settings: Params,
    scratch: Path,
) -> None:
    """Let valid choose, and write the bundle."""
    pairs = [pair for pair in manifest.read(paths.dataset(dataset)) if not pair.parent]
    asked = [
        Network(
            name,
            replace(Member.of(file), temperatures=NONE),
            _learnt(dataset, pairs, networks[name], file),
        )
        for name, file in files.items()
    ]
    chosen = Choosing(asked, pairs, dataset, settings.limits, scratch).choose(
        wanted, settings.train
    )
    content = {
        "dataset": dataset,
        "dataset_digest": provenance.dataset_digest(dataset),
        "project": imports.project_version(),
        "weights": None if chosen.weights is None else chosen.weights.astype(float).tolist(),
        "chosen": chosen.section,
    }
    bundle.write(paths.ensemble(dataset) / paths.BUNDLE, files, content)


def _learnt(dataset: str, pairs: list[Pair], settings: Params, file: Path) -> frozenset[str]:
    """The patients that a network learnt from: those of train, or of the folds that it states."""
    trained = modelfile.read(file)["train"]
    folds, fold = (int(trained.get(name, 0)) for name in ("folds", "fold"))
    own = replace(settings, train=replace(settings.train, folds=folds, fold=fold))
    dealt = slices.folded(dataset, pairs, own)
    return frozenset(pair.patient for pair in dealt if pair.split == "train")


def _score(dataset: str, settings: Params, scratch: Path) -> None:
    """Score the bundle on test, as one and one by one, and keep its predictions."""
    folder, label_map = paths.ensemble(dataset), datasets_spec.load(dataset).dataset.label_map
    stated = bundle.read(folder / paths.BUNDLE)
    predictor, names = Predictor.of([stated.file]), [Path(one).stem for one in stated.names]
    scored: list[Scored] = []
    each = OneByOne(label_map)
    pairs = manifest.read(paths.dataset(dataset))
    predictions, wanted = folder / paths.PREDICTIONS, settings.evaluate
    views = Views(predictions, wanted.viewed_cases)
    for drawings in answers.cases(pairs, "test", dataset):
        own = settings.limits, scratch, predictor.temperatures
        case = Case(predictor.members, drawings, *own)
        counted = OfCase(case, names, predictor.weights)
        of_case = _test_case(case, predictor, counted, settings)
        scored += of_case
        views.add(of_case)
        each.add(counted)
    views.write_index(f"{dataset}: test cases of the ensemble")
    shown = pictures.keep_shown(predictions, scored, wanted.worst_cases)
    pictures.place_truth(predictions, paths.dataset(dataset), pairs)
    pictures.draw_overlays(predictions, label_map)
    chosen, convert = dict(stated.chosen), settings.convert.deciding
    choices, obeyed = choose.choices(chosen), choose.obeyed(chosen)
    found = results.results(
        dataset,
        scored,
        choices,
        shown,
        label_map,
        wanted,
        convert,
        obeyed,
        predictor.temperatures.of_class,
    )
    found["definitions"] |= _DEFINITIONS
    found |= {"members": each.summary(wanted.seed, dataset), "weights": stated.chosen["weights"]}
    results.write(folder, scored, found, label_map)
    tables.write(folder / paths.MEMBERS_TABLE, one_by_one.HEAD, list(each.lines()))
    _report(dataset, found)


def _test_case(case: Case, predictor: Predictor, counted: OfCase, settings: Params) -> list[Scored]:
    """One test case beside each rater; its prediction is written into the ensemble's folder."""
    label_map, drawings = predictor.label_map, case.drawings
    certain = [Certainty.none(len(label_map)) for _ in drawings]
    labels = OfLabels(len(drawings), drawings[0][0].unlabelled)
    sure = _sure(case, doubts.looking(labels, certainty.look(certain, drawings[0][0].unlabelled)))
    answer = fused.answer(case, predictor.weights, counted.look, sure)
    final = judge.postprocessed(answer, predictor.rules, predictor.label_rules)
    folder = paths.ensemble(drawings[0][0].dataset) / paths.PREDICTIONS
    given = [case.back(one) for one in labels.stacks(len(case.truths[0]))]
    return judge.keep(folder, drawings, answer, final, certain, given, label_map, settings)


def _sure(case: Case, look: answers.Look) -> fused.Look:
    """Lets ``look`` see every slice of a case beside each rater."""

    def add(at: slice, _: fused.Answers, probability: Probabilities) -> None:
        for index in range(probability.shape[1]):
            own = probability[:, index]
            look([truth[at][index] for truth in case.truths], own, case.temperatures(own))

    return add


def _report(dataset: str, found: Mapping[str, Any]) -> None:
    """The results in short, on the terminal."""
    counts = f"{found['test_cases']} test cases of {found['test_patients']} patients"
    _LOG.info("ensemble %s: %s; %s", dataset, counts, found["definitions"]["interval"])
    dice = found["model"]["mean_foreground"]["dice"]
    _LOG.info("  mean foreground Dice %s", summary.in_words(dice))
    for one in found["members"]:
        gain = one["all_gain"]
        than = "" if gain is None else f"; all are {summary.in_words(gain, 4)} better"
        name = f"{one['networks']} {one['member']}".strip()
        _LOG.info("  %-24s %.4f%s", name, one["dice"]["mean"] or 0, than)
    _LOG.info("  weights: %s", _weights_in_words(found["weights"]))
    _LOG.info("  %s", trust.sentence(found))
    for one in found["label_rules"]:
        if one["kept"]:
            _LOG.info("  made to obey, %+.4f Dice on valid: %s", one["gain"], one["words"])
    for name, one in found["postprocessing"].items():
        if one["kept"]:
            _LOG.info("  %s: post-processing kept, %+.4f Dice on valid", name, one["gain"])


def _weights_in_words(weights: Mapping[str, Any]) -> str:
    """What each plane counts."""
    if not weights["kept"]:
        return "equal ones are as good, so far as valid can tell"
    return ", ".join(f"{plane} {share:.2f}" for plane, share in weights["of_plane"].items())
