"""What valid decides of an ensemble: its networks' weights, and what is done to what all answer.

As :mod:`model.scoring.choose` does it for one network. No network has a vote on a patient that it
learnt from: the others answer for it. So valid chooses for networks that learnt from all of train,
and for networks on folds each patient is judged by those whose fold left it out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.inference.fusing import Weights, of_some
from model.inference.member import Member
from model.inference.sampling import Probabilities
from model.params import Ensemble, Train
from model.scoring import answers, choose, fused, postprocess, temperature, weigh
from model.scoring.answers import Drawings
from model.scoring.bootstrap import Resamples, interval, mean_over
from model.scoring.fused import Answers, Case, Look
from model.scoring.postprocess import helps
from model.scoring.scores import Stack
from model.scoring.voxels import Sample
from pipeline.pairs import truth_record
from pipeline.pairs.manifest import Pair
from pipeline.params.limits import Limits


@dataclass(frozen=True)
class Network:
    """A member of the ensemble. ``learnt``: the patients that it must not be judged by."""

    name: str
    member: Member
    learnt: frozenset[str]


@dataclass(frozen=True)
class Chosen:
    """The weights that were chosen (None: equal ones), and the section ``chosen`` of a bundle."""

    weights: Weights | None
    section: dict[str, Any]


@dataclass(frozen=True)
class _Judged:
    """A case that some of the networks may judge: these, by their places."""

    drawings: Drawings
    voters: list[int]


@dataclass(frozen=True)
class Choosing:
    """Chooses for ``networks`` of a dataset from the cases of train and valid in ``pairs``."""

    networks: Sequence[Network]
    pairs: Sequence[Pair]
    dataset: str
    limits: Limits
    scratch: Path

    def choose(self, wanted: Ensemble, train: Train) -> Chosen:
        """The weights and the post-processing that gain by more than noise.

        Raises :class:`Problem` if the labels that convert kept are not there.
        """
        planes = [one.member.facts.plane for one in self.networks]
        kinds = list(dict.fromkeys(planes)) if wanted.weights == "auto" else []
        equal = self._asked(train, None, kinds)
        choice = weigh.choose(equal.voices, kinds, train.seed, "weights")
        section, weights, best = _stated(choice), None, equal
        if choice and choice.kept:
            weights = weigh.of_members(choice.of_plane, planes)
            weighed = self._asked(train, weights)
            section |= _in_dice(equal.search, weighed.search, train.seed)
            weights, best = (weights, weighed) if section["kept"] else (None, equal)
        chosen: dict[str, Any] = {"weights": section}
        if train.calibrate != "never":
            always = train.calibrate == "always"
            chosen["temperature"] = temperature.choose(best.voxels, train.seed, always=always)
        return Chosen(weights, chosen | choose.rules_of(best.search, train))

    def _asked(self, train: Train, weights: Weights | None, voices: Sequence[str] = ()) -> _Asked:
        """What all networks answer to every case with these weights.

        ``voices``: planes of several, whose own answers are kept too.
        """
        classes = len(self.networks[0].member.facts.label_map)
        known = choose.rules_to_try(self.dataset, train)
        asked = _Asked(postprocess.Search(classes, known), Sample(), Sample())
        for one in self._judged():
            members = [self.networks[at].member for at in one.voters]
            case = Case(members, one.drawings, self.limits, self.scratch)
            looks = [_together(asked.voxels, case)]
            if len(voices) > 1:
                looks.append(_plane_by_plane(asked.voices, case, voices))
            asked.add(case, fused.predicted(case, of_some(weights, one.voters), *looks))
        return asked

    def _judged(self) -> Iterator[_Judged]:
        """Every case with those who may judge it; of several planes, all have to have a vote."""
        planes = {one.member.facts.plane for one in self.networks}
        voters = {
            patient: [at for at, one in enumerate(self.networks) if patient not in one.learnt]
            for patient in {pair.patient for pair in self.pairs}
        }
        judged = {
            patient
            for patient, those in voters.items()
            if {self.networks[at].member.facts.plane for at in those} == planes
        }
        own = [pair for pair in self.pairs if not pair.parent and pair.patient in judged]
        for split in ("train", "valid"):
            if any(pair.split == split for pair in own):
                for drawings in answers.cases(own, split, self.dataset):
                    yield _Judged(drawings, voters[drawings[0][0].patient])


@dataclass(frozen=True)
class _Asked:
    """What can be done to the networks' answers, and voxels: of all networks as one, and of the
    planes as a voice each."""

    search: postprocess.Search
    voxels: Sample
    voices: Sample

    def add(self, case: Case, stack: Stack) -> None:
        """Try what can be done to the class ids of a case."""
        first, kept = case.drawings[0][0], case.kept
        planar = kept.record.source == truth_record.PICTURES
        for truth in case.truths:
            drawn = case.back(truth)
            ml, world = kept.voxel_ml, answers.world(kept)
            self.search.add(first.patient, drawn, stack, ml, planar, first.unlabelled, world)


def _together(voxels: Sample, case: Case) -> Look:
    """Keeps of every slice of a case, beside every rater, what temperatures follow from."""
    add = _adding(voxels, case)

    def look(at: slice, _: Answers, probability: Probabilities) -> None:
        add(at, [probability])

    return look


def _plane_by_plane(voxels: Sample, case: Case, of: Sequence[str]) -> Look:
    """Keeps of every slice of a case, beside every rater, what weights follow from."""
    add = _adding(voxels, case)

    def look(at: slice, answers: Answers, _: Probabilities) -> None:
        add(at, weigh.voices(answers, case.planes, of))

    return look


def _adding(voxels: Sample, case: Case) -> Callable[[slice, Sequence[Probabilities]], None]:
    """Adds slices of a case to ``voxels``, beside every rater."""
    first, slices = case.drawings[0][0], len(case.truths) * len(case.truths[0])
    voxels.begin(first.patient)

    def add(at: slice, voices: Sequence[Probabilities]) -> None:
        for truth in case.truths:
            for index, drawn in enumerate(truth[at]):
                own = [voice[:, index] for voice in voices]
                voxels.add(drawn, own, slices, first.unlabelled)

    return add


def _stated(choice: weigh.Choice | None) -> dict[str, Any]:
    """What the planes' weights were, and what they gained on patients left out."""
    return {"kept": False} | ({} if choice is None else asdict(choice))


def _in_dice(plain: postprocess.Search, weighed: postprocess.Search, seed: int) -> dict[str, Any]:
    """What weights gain in mean foreground Dice; they are kept unless they lose more than noise."""
    gains = weighed.plain_dice() - plain.plain_dice()
    resamples = Resamples.drawn(plain.patients, seed, "all weights")
    low, high = interval(resamples.means(plain.patients, gains)) or (math.nan, math.nan)
    gain = float(mean_over(gains))
    loses = helps(-gain, -high, len(resamples.patients))
    return {"kept": not loses, "dice": {"gain": gain, "low": low, "high": high}}
