"""Which temperatures (:mod:`model.inference.temperature`) valid chooses for each class.

They minimise the mean negative log-likelihood of a voxel over the cases of valid. They are kept
only if they lower it for patients whom they do not follow from
(:func:`model.scoring.voxels.of_others`) with a 95 % interval over the patients above 0, and if
there are :data:`~model.inference.facts.LEAST_PATIENTS` or more of these.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.inference.facts import LEAST_PATIENTS
from model.inference.temperature import HIGHEST, LOWEST
from model.scoring.bootstrap import Resamples, interval
from model.scoring.voxels import Sample, Voxels, of_others

_STEPS, _ENOUGH = 50, 1e-4
_PRIOR = 1.0  # of log T, as heavy as one voxel: classes of which valid shows nothing keep T = 1

Floats = NDArray[np.float64]


def choose(sample: Sample, *key: object, always: bool = False) -> dict[str, Any]:
    """The temperatures with what they gain, as ``chosen.temperature`` of a model's file.

    ``key`` draws the resamples; ``always``: keep them whatever they gain. Empty without voxels.
    """
    cases = sample.cases()
    if not cases:
        return {}
    patients = [patient for patient, _ in cases]
    best = _fitted(Voxels.joined([voxels for _, voxels in cases]))
    before = np.array([_loss(voxels, np.ones(len(best))) for _, voxels in cases])
    stated: dict[str, Any] = {
        "of_class": [round(float(one), 4) for one in best],
        "patients": len(set(patients)),
        "before": float(before.mean()),
    }
    if len(set(patients)) < 2:
        return stated | {"kept": always}
    gains = before - of_others(cases, _fitted, _loss)
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


def _loss(voxels: Voxels, temperatures: Floats) -> float:
    """The mean negative log-likelihood of the truth, in nats."""
    costs, _, _ = _terms(voxels, np.log(temperatures))
    return float(np.average(costs, weights=voxels.weight))


def _fitted(voxels: Voxels) -> Floats:
    """The temperatures of least loss, between bounds, by Fisher scoring with halved steps.

    With t = log T, s = exp(-p.t) and the logarithms l of p, the loss is that of softmax(s l);
    its gradient is the mean of (l_truth - E l) s p, its expected curvature that of
    Var(l) s^2 p p', where E and Var are over softmax(s l).
    """
    low, high = math.log(LOWEST), math.log(HIGHEST)
    logs = np.zeros(voxels.logs.shape[2])
    value, slope, curvature = _objective(voxels, logs)
    for _ in range(_STEPS):
        step = -np.linalg.solve(curvature, slope)
        for halved in range(_STEPS):
            tried = np.clip(logs + step / 2**halved, low, high)
            new = _objective(voxels, tried)
            if new[0] < value:
                break
        else:
            break
        moved = float(np.abs(tried - logs).max())
        logs, (value, slope, curvature) = tried, new
        if moved < _ENOUGH:
            break
    return np.exp(logs)


def _objective(voxels: Voxels, logs: Floats) -> tuple[float, Floats, Floats]:
    """The total loss with its prior, its gradient and its expected curvature."""
    costs, pull, bend = _terms(voxels, logs)
    p, w = np.exp(voxels.logs[:, 0]), voxels.weight
    slope = (w * pull) @ p + _PRIOR * logs
    curvature = (p.T * (w * bend)) @ p + _PRIOR * np.eye(len(logs))
    return float(w @ costs) + _PRIOR * float(logs @ logs) / 2, slope, curvature


def _terms(voxels: Voxels, logs: Floats) -> tuple[Floats, Floats, Floats]:
    """Of each voxel the cost, and the factors of p and p p' in its derivatives."""
    raw = voxels.logs[:, 0]
    scale = np.exp(-np.exp(raw) @ logs)
    scaled = raw * scale[:, None]
    scaled -= scaled.max(axis=1, keepdims=True)
    share = np.exp(scaled)
    total = share.sum(axis=1)
    share /= total[:, None]
    true = voxels.truth[:, None]
    costs = np.log(total) - np.take_along_axis(scaled, true, 1)[:, 0]
    mean = (share * raw).sum(axis=1)
    spread = (share * (raw - mean[:, None]) ** 2).sum(axis=1)
    pull = (np.take_along_axis(raw, true, 1)[:, 0] - mean) * scale
    return costs, pull, spread * scale**2
