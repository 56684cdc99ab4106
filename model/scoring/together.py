"""What valid decides of an ensemble: its networks' weights, and what is done to what all answer.

As :mod:`model.scoring.choose` does it for one network. No network has a vote on a patient that it
learnt from: the others answer for it. So valid chooses for networks that learnt from all of train,
and for networks on folds each patient is judged by those whose fold left it out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.inference.fusing import Weights, of_some
from model.inference.member import Member
from model.inference.sampling import Probabilities
from model.params import Ensemble, Train
from model.scoring import answers, choose, fused, postprocess, weigh
from model.scoring.answers import Drawings
from model.scoring.bootstrap import Resamples, interval, mean_over
from model.scoring.fused import Answers, Case, Look
from model.scoring.postprocess import helps
from model.scoring.temperature import Sample
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
        members = [one.member for one in self.networks]
        label_map = members[0].facts.label_map
        of = weigh.groups([one.facts.plane for one in members])
        rows = weigh.candidates(of if wanted.weights == "auto" else [""] * len(members))
        known = choose.rules_to_try(self.dataset, train)
        search, plain = weigh.Search(rows, label_map), postprocess.Search(len(label_map), known)
        voxels = Sample()
        for one in self._judged():
            counted = weigh.OfCase(self._case(one), weigh.among(rows, one.voters))
            self._add(plain, voxels, counted.case, None, counted.look)
            search.add(counted)
        choices = search.choose(train.seed, "weights")
        weights = weigh.table(choices, len(members), len(label_map))
        section = self._stated(choices)
        if weights is not None:
            weighed, other = postprocess.Search(len(label_map), known), Sample()
            for one in self._judged():
                self._add(weighed, other, self._case(one), of_some(weights, one.voters))
            section |= _gain(plain, weighed, train.seed)
            weights = weights if section["kept"] else None
            plain, voxels = (weighed, other) if section["kept"] else (plain, voxels)
        chosen: dict[str, Any] = {"weights": section}
        if train.calibrate != "never":
            always = train.calibrate == "always"
            chosen["temperature"] = voxels.choose(train.seed, always=always)
        return Chosen(weights, chosen | choose.rules_of(plain, train))

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

    def _case(self, judged: _Judged) -> Case:
        members = [self.networks[at].member for at in judged.voters]
        return Case(members, judged.drawings, self.limits, self.scratch)

    def _add(
        self,
        search: postprocess.Search,
        voxels: Sample,
        case: Case,
        weights: Weights | None,
        *looks: Look,
    ) -> None:
        """Ask about a case, and try what can be done to what the networks answer."""
        stack = fused.predicted(case, weights, _look(voxels, case), *looks)
        first, kept = case.drawings[0][0], case.kept
        planar = kept.record.source == truth_record.PICTURES
        for truth in case.truths:
            drawn = case.back(truth)
            ml, world = kept.voxel_ml, answers.world(kept)
            search.add(first.patient, drawn, stack, ml, planar, first.unlabelled, world)

    def _stated(self, choices: dict[int, weigh.Choice]) -> dict[str, Any]:
        """What was tried of each class, and whether it gained on patients left out."""
        names = [one.name for one in self.networks]
        labels = self.networks[0].member.facts.label_map.labels
        return {
            "kept": False,
            "classes": {
                labels[label].name: {
                    "members": dict(zip(names, one.row.tolist(), strict=True)),
                    "gain": one.gain,
                    "low": one.low,
                    "high": one.high,
                    "patients": one.patients,
                    "kept": one.kept,
                }
                for label, one in choices.items()
            },
        }


def _look(voxels: Sample, case: Case) -> Look:
    """Keeps of every slice of a case, beside every rater, what temperatures follow from."""
    first, slices = case.drawings[0][0], len(case.truths) * len(case.truths[0])
    voxels.begin(first.patient)

    def look(at: slice, _: Answers, probability: Probabilities) -> None:
        for truth in case.truths:
            for index, drawn in enumerate(truth[at]):
                voxels.add(drawn, probability[:, index], slices, first.unlabelled)

    return look


def _gain(plain: postprocess.Search, weighed: postprocess.Search, seed: int) -> dict[str, Any]:
    """What the weights of all classes gain together, in mean foreground Dice."""
    gains = weighed.plain_dice() - plain.plain_dice()
    resamples = Resamples.drawn(plain.patients, seed, "all weights")
    bounds = interval(resamples.means(plain.patients, gains))
    assert bounds is not None
    gain, patients = float(mean_over(gains)), len(resamples.patients)
    return {
        "kept": helps(gain, bounds[0], patients),
        "gain": gain,
        "low": bounds[0],
        "high": bounds[1],
        "patients": patients,
    }
