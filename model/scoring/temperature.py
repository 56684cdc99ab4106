"""Which temperatures (:mod:`model.inference.temperature`) valid chooses for each class.

They minimise the mean negative log-likelihood of a voxel over the cases of valid. They are kept
only if they lower it for patients whom they do not follow from (cross-fitted over
:data:`FOLDS` groups of patients) with a 95 % interval over the patients above 0, and if there are
:data:`~model.inference.facts.LEAST_PATIENTS` or more of these.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED
from model.inference.facts import LEAST_PATIENTS
from model.inference.sampling import Probabilities
from model.inference.temperature import HIGHEST, LEAST, LOWEST
from model.scoring.bootstrap import Resamples, interval
from model.scoring.scores import Stack

FOLDS = 5
_VOXELS = 1 << 13  # of one case and kind: unsure ones, and those that are sure and right
_SURE = 0.999
_STEPS, _ENOUGH = 50, 1e-4
_PRIOR = 1.0  # of log T, as heavy as one voxel: classes of which valid shows nothing keep T = 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Voxels:
    """Probabilities (n, classes), true classes (n,), and for how many voxels each stands (n,)."""

    probability: Floats
    truth: NDArray[np.intp]
    weight: Floats

    @classmethod
    def joined(cls, parts: Sequence[_Voxels]) -> _Voxels:
        columns = zip(*((one.probability, one.truth, one.weight) for one in parts), strict=True)
        return cls(*(np.concatenate(one) for one in columns))

    def loss(self, temperatures: Floats) -> float:
        """The mean negative log-likelihood of the truth, in nats."""
        costs, _, _ = self._terms(np.log(temperatures))
        return float(np.average(costs, weights=self.weight))

    def fitted(self) -> Floats:
        """The temperatures of least loss, between bounds, by Fisher scoring with halved steps.

        With t = log T, s = exp(-p.t) and the logarithms l of p, the loss is that of softmax(s l);
        its gradient is the mean of (l_truth - E l) s p, its expected curvature that of
        Var(l) s^2 p p', where E and Var are over softmax(s l).
        """
        low, high = math.log(LOWEST), math.log(HIGHEST)
        logs = np.zeros(self.probability.shape[1])
        value, slope, curvature = self._objective(logs)
        for _ in range(_STEPS):
            step = -np.linalg.solve(curvature, slope)
            for halved in range(_STEPS):
                tried = np.clip(logs + step / 2**halved, low, high)
                new = self._objective(tried)
                if new[0] < value:
                    break
            else:
                break
            moved = float(np.abs(tried - logs).max())
            logs, (value, slope, curvature) = tried, new
            if moved < _ENOUGH:
                break
        return np.exp(logs)

    def _objective(self, logs: Floats) -> tuple[float, Floats, Floats]:
        """The total loss with its prior, its gradient and its expected curvature."""
        costs, pull, bend = self._terms(logs)
        p, w = self.probability, self.weight
        slope = (w * pull) @ p + _PRIOR * logs
        curvature = (p.T * (w * bend)) @ p + _PRIOR * np.eye(len(logs))
        return float(w @ costs) + _PRIOR * float(logs @ logs) / 2, slope, curvature

    def _terms(self, logs: Floats) -> tuple[Floats, Floats, Floats]:
        """Of each voxel the cost, and the factors of p and p p' in its derivatives."""
        raw = np.log(np.maximum(self.probability, LEAST))
        scale = np.exp(-self.probability @ logs)
        scaled = raw * scale[:, None]
        scaled -= scaled.max(axis=1, keepdims=True)
        share = np.exp(scaled)
        total = share.sum(axis=1)
        share /= total[:, None]
        true = self.truth[:, None]
        costs = np.log(total) - np.take_along_axis(scaled, true, 1)[:, 0]
        mean = (share * raw).sum(axis=1)
        spread = (share * (raw - mean[:, None]) ** 2).sum(axis=1)
        pull = (np.take_along_axis(raw, true, 1)[:, 0] - mean) * scale
        return costs, pull, spread * scale**2


@dataclass
class Sample:
    """Voxels of valid, case by case: at most some thousand of each, evenly spread over its slices.

    All that is not sure, or wrong, is kept first; of what is sure and right there is far too much,
    and each voxel that is kept stands for many.
    """

    patients: list[str] = field(default_factory=list)
    _parts: list[list[_Voxels]] = field(default_factory=list)

    def begin(self, patient: str) -> None:
        """The case to which the next slices belong."""
        self.patients.append(patient)
        self._parts.append([])

    def add(
        self,
        truth: Stack,
        probability: Probabilities,
        slices: int,
        unlabelled: Collection[int] = (),
    ) -> None:
        """One of ``slices`` slices: class ids (rows, columns) and p (classes, rows, columns).

        What nobody annotated is left out; classes that nobody annotated in the case
        (``unlabelled``) count as background.
        """
        known = truth != IGNORED
        p, true = merged(probability, unlabelled)[:, known], truth[known]
        unsure = (p.max(axis=0) < _SURE) | (p.argmax(axis=0) != true)
        most = max(_VOXELS // slices, 1)
        for kind in (unsure, ~unsure):
            places = np.flatnonzero(kind)
            if not len(places):
                continue
            kept = places[:: -(-len(places) // most)]
            weight = np.full(len(kept), len(places) / len(kept))
            voxels = _Voxels(p[:, kept].T.astype(np.float64), true[kept].astype(np.intp), weight)
            self._parts[-1].append(voxels)

    def choose(self, *key: object, always: bool = False) -> dict[str, Any]:
        """The temperatures with what they gain, as ``chosen.temperature`` of a model's file.

        ``key`` draws the resamples; ``always``: keep them whatever they gain. Empty without voxels.
        """
        cases = [
            (patient, _Voxels.joined(parts))
            for patient, parts in zip(self.patients, self._parts, strict=True)
            if parts
        ]
        if not cases:
            return {}
        patients = [patient for patient, _ in cases]
        best = _Voxels.joined([voxels for _, voxels in cases]).fitted()
        before = np.array([voxels.loss(np.ones(len(best))) for _, voxels in cases])
        stated: dict[str, Any] = {
            "of_class": [round(float(one), 4) for one in best],
            "patients": len(set(patients)),
            "before": float(before.mean()),
        }
        if len(set(patients)) < 2:
            return stated | {"kept": always}
        gains = before - _of_others(cases)
        resamples = Resamples.drawn(patients, *key, "temperature")
        bounds = interval(resamples.means(patients, gains))
        assert bounds is not None
        enough = len(set(patients)) >= LEAST_PATIENTS and bounds[0] > 0
        return stated | {
            "gain": float(gains.mean()),
            "low": bounds[0],
            "high": bounds[1],
            "kept": enough or always,
        }


def _of_others(cases: Sequence[tuple[str, _Voxels]]) -> Floats:
    """The loss of every case at temperatures that follow from other patients alone."""
    order = {patient: at for at, patient in enumerate(sorted({one for one, _ in cases}))}
    groups = [order[patient] % FOLDS for patient, _ in cases]
    losses = np.empty(len(cases))
    for group in sorted(set(groups)):
        others = [one for own, (_, one) in zip(groups, cases, strict=True) if own != group]
        temperatures = _Voxels.joined(others).fitted()
        for at, (own, (_, one)) in enumerate(zip(groups, cases, strict=True)):
            if own == group:
                losses[at] = one.loss(temperatures)
    return losses


def merged(probability: Probabilities, unlabelled: Collection[int]) -> Probabilities:
    """Probabilities (classes, ...) in which some classes count as background."""
    if not unlabelled:
        return probability
    found = probability.copy()
    for label in unlabelled:
        found[0] += found[label]
        found[label] = 0
    return found
