"""Calibrated probabilities: how sure a network is, corrected by a temperature for each class.

A network that was trained for Dice is nearly always surer than it is right (Guo et al., ICML 2017).
Valid finds a temperature for each class (:mod:`model.scoring.temperature`), and a voxel with
probabilities p is given softmax(log p / T) where log T = sum over classes of p_c log T_c: near the
temperature of the class that the network is sure of, and changing evenly between classes. All
classes of a voxel are divided by the same T, so that their order, and with it the mask, stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.inference.fusing import LEAST
from model.inference.sampling import Probabilities

LOWEST, HIGHEST = 0.1, 10.0
"""Between these a temperature is sought, and believed."""


@dataclass(frozen=True)
class Temperatures:
    """Of each class, background first; none where nothing is to be corrected.

    ``gain``: by how much valid's mean negative log-likelihood a voxel (in nats) falls, in patients
    whom the temperatures do not follow from, with its 95 % interval over ``patients``.
    """

    of_class: tuple[float, ...] = ()
    gain: float = math.nan
    low: float = math.nan
    high: float = math.nan
    patients: int = 0

    @classmethod
    def of(cls, stated: Mapping[str, Any], classes: int) -> Temperatures:
        """From a model's file. Raises ValueError, KeyError or TypeError for nonsense."""
        if not stated.get("kept"):
            return NONE
        own = tuple(float(one) for one in stated["of_class"])
        strange = [one for one in own if not LOWEST <= one <= HIGHEST]  # NaN too
        if strange:
            raise ValueError(f"a temperature of {strange[0]}, not of {LOWEST:g} to {HIGHEST:g}")
        if len(own) != classes:
            raise ValueError(f"{len(own)} temperatures of {classes} classes")
        gain, low, high = (
            math.nan if stated.get(name) is None else float(stated[name])
            for name in ("gain", "low", "high")
        )
        return cls(own, gain, low, high, int(stated.get("patients", 0)))

    def __call__(self, probability: Probabilities) -> Probabilities:
        """Those of (classes, ...), calibrated."""
        return calibrated(probability, self.of_class) if self.of_class else probability

    @property
    def sentence(self) -> str:
        """What they are, and what they gained."""
        if not self.of_class:
            return "probabilities are the network's own, not calibrated"
        each = ", ".join(f"{one:.2f}" for one in self.of_class)
        return (
            f"probabilities are calibrated (temperatures {each}); the negative log-likelihood fell"
            f" by {self.gain:.5f} [{self.low:.5f}, {self.high:.5f}] a voxel on {self.patients}"
            " patients of valid"
        )


NONE = Temperatures()
"""Probabilities stay as they are."""


def calibrated(probability: Probabilities, temperatures: Sequence[float]) -> Probabilities:
    """Probabilities (classes, ...), of one network or of several as one, by a T for each class.

    The order of a voxel's classes stays, but where two are equal to the last bit. Of temperatures
    that are all 1 comes out what went in.

    >>> calibrated(np.float32([[0.9], [0.1]]), [2.0, 2.0]).round(2).tolist()
    [[0.75], [0.25]]
    """
    if all(one == 1 for one in temperatures):
        return probability
    if probability.ndim > 3:  # slice by slice: what is computed on the way is twice as large
        found = np.empty_like(probability)
        for index in range(probability.shape[1]):
            found[:, index] = calibrated(probability[:, index], temperatures)
        return found
    logs = np.log(np.asarray(temperatures, np.float32))
    scale = np.exp(-np.tensordot(logs, probability, axes=1))
    raised: Probabilities = np.log(np.maximum(probability, np.float32(LEAST)))
    raised *= scale
    raised -= raised.max(axis=0)
    np.exp(raised, out=raised)
    raised /= raised.sum(axis=0)
    return raised
