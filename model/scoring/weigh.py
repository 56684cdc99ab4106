"""How much each plane counts in an ensemble, chosen on cases that its networks did not see.

Equal weights are hard to beat, and many weights are easily fitted to few patients. So the networks
of a plane count alike, and one weight of each plane is fitted: those of least negative
log-likelihood of a voxel, of which a case shows thousands where it shows one Dice. They are kept
only if they lower it for patients that they do not follow from
(:func:`model.scoring.voxels.of_others`) with a 95 % interval over the patients above 0, and if
there are :data:`~model.inference.facts.LEAST_PATIENTS` or more of these. Equal weights may be as
sure or unsure as fits best, as the others are: temperatures see to that afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from model.inference import fusing
from model.inference.facts import LEAST_PATIENTS
from model.inference.fusing import Weights
from model.inference.sampling import Probabilities
from model.scoring.bootstrap import Resamples, interval
from model.scoring.voxels import Sample, Voxels, of_others

_MOST = 10.0  # of a weight before all are made to add up to 1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The weight of each plane, adding up to 1, and by how much they lower the negative
    log-likelihood of a voxel (in nats) of patients left out, with its 95 % interval."""

    of_plane: dict[str, float]
    gain: float
    low: float
    high: float
    patients: int

    @property
    def kept(self) -> bool:
        """Whether they gain by more than noise."""
        return self.patients >= LEAST_PATIENTS and self.low > 0


def voices(
    answers: NDArray[np.float32], planes: Sequence[str], of: Sequence[str]
) -> list[Probabilities]:
    """What the networks of each plane of ``of`` say together, (classes, ...).

    ``answers`` (members, classes, ...) are those of networks that see ``planes``.
    """
    found = []
    for plane in of:
        own = [answer for answer, seen in zip(answers, planes, strict=True) if seen == plane]
        found.append(fusing.fused(own, [plane] * len(own), None))
    return found


def choose(sample: Sample, planes: Sequence[str], *key: object) -> Choice | None:
    """The best weights of ``planes``, the voices of ``sample``; ``key`` draws the resamples.

    None of one plane, and of fewer than two patients.
    """
    cases = sample.cases()
    patients = [patient for patient, _ in cases]
    if len(planes) < 2 or len(set(patients)) < 2:
        return None
    weights = _fitted(Voxels.joined([voxels for _, voxels in cases]))
    gains = of_others(cases, _alike, _loss) - of_others(cases, _fitted, _loss)
    bounds = interval(Resamples.drawn(patients, *key).means(patients, gains))
    assert bounds is not None
    shares = fusing.normalised(weights).tolist()
    of_plane = dict(zip(planes, shares, strict=True))
    return Choice(of_plane, float(gains.mean()), *bounds, len(set(patients)))


def of_members(of_plane: dict[str, float], planes: Sequence[str]) -> Weights:
    """The weight of every network: its share of its plane's."""
    return fusing.normalised([of_plane[plane] / planes.count(plane) for plane in planes])


def _fitted(voxels: Voxels) -> Floats:
    """The weights of least loss, 0 or more; they need not add up to 1."""
    count = voxels.logs.shape[1]
    start, bounds = np.full(count, 1 / count), [(0.0, _MOST)] * count
    found = minimize(_sloped, start, (voxels,), "L-BFGS-B", jac=True, bounds=bounds)
    best: Floats = found.x
    return best


def _alike(voxels: Voxels) -> Floats:
    """The weights of least loss of which all are equal."""
    count = voxels.logs.shape[1]
    together = Voxels(voxels.logs.mean(axis=1, keepdims=True), voxels.truth, voxels.weight)
    return np.full(count, _fitted(together)[0] / count)


def _loss(voxels: Voxels, weights: Floats) -> float:
    """The mean negative log-likelihood of the truth, in nats."""
    return _sloped(weights, voxels)[0]


def _sloped(weights: Floats, voxels: Voxels) -> tuple[float, Floats]:
    """The loss, which is convex, and its gradient: the mean of E l - l_truth of each voice, where
    E is over the classes by what all voices say together."""
    total = np.einsum("nvc,v->nc", voxels.logs, weights)
    total -= total.max(axis=1, keepdims=True)
    share = np.exp(total)
    whole = share.sum(axis=1)
    share /= whole[:, None]
    costs = np.log(whole) - np.take_along_axis(total, voxels.truth[:, None], 1)[:, 0]
    of_truth = np.take_along_axis(voxels.logs, voxels.truth[:, None, None], 2)[:, :, 0]
    slope = np.einsum("nvc,nc->nv", voxels.logs, share) - of_truth
    part = voxels.weight / voxels.weight.sum()
    return float(part @ costs), part @ slope
