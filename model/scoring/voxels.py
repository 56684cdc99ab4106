"""Voxels of cases that decide: what networks answer to them, beside the truth.

What is fitted to them is judged by patients that it does not follow from.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED
from model.inference.fusing import LEAST
from model.inference.sampling import Probabilities
from model.scoring.scores import Stack

FOLDS = 5
MOST = 1 << 13
"""Of one case and kind: unsure voxels, and those of which all are sure and right."""
_SURE = 0.999

Floats = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True)
class Voxels:
    """Logarithms of probabilities (n, voices, classes), true classes (n,), and for how many voxels
    each stands (n,). A voice is a network, or several as one."""

    logs: Floats
    truth: NDArray[np.intp]
    weight: Floats

    @classmethod
    def joined(cls, parts: Sequence[Voxels]) -> Voxels:
        """All of them as one."""
        columns = zip(*((one.logs, one.truth, one.weight) for one in parts), strict=True)
        return cls(*(np.concatenate(one) for one in columns))


@dataclass
class Sample:
    """Voxels of valid, case by case: at most some thousand of each, evenly spread over its slices.

    All that is not sure, or wrong, is kept first; of what is sure and right there is far too much,
    and each voxel that is kept stands for many.
    """

    patients: list[str] = field(default_factory=list)
    _parts: list[list[Voxels]] = field(default_factory=list)

    def begin(self, patient: str) -> None:
        """The case to which the next slices belong."""
        self.patients.append(patient)
        self._parts.append([])

    def add(
        self,
        truth: Stack,
        voices: Sequence[Probabilities],
        slices: int,
        unlabelled: Collection[int] = (),
    ) -> None:
        """One of ``slices`` slices: class ids (rows, columns), and the probabilities
        (classes, rows, columns) of each voice.

        What nobody annotated is left out; classes that nobody annotated in the case
        (``unlabelled``) count as background.
        """
        known = truth != IGNORED
        true = truth[known]
        p = np.stack([merged(one, unlabelled)[:, known] for one in voices])
        unsure = ((p.max(axis=1) < _SURE) | (p.argmax(axis=1) != true)).any(axis=0)
        most = max(MOST // slices, 1)
        for kind in (unsure, ~unsure):
            places = np.flatnonzero(kind)
            if not len(places):
                continue
            kept = places[:: -(-len(places) // most)]
            weight = np.full(len(kept), len(places) / len(kept))
            own = np.moveaxis(p[:, :, kept], -1, 0).astype(np.float64)
            logs = np.log(np.maximum(own, LEAST))
            self._parts[-1].append(Voxels(logs, true[kept].astype(np.intp), weight))

    def cases(self) -> list[tuple[str, Voxels]]:
        """The patient and the voxels of every case that has some."""
        return [
            (patient, Voxels.joined(parts))
            for patient, parts in zip(self.patients, self._parts, strict=True)
            if parts
        ]


def of_others(
    cases: Sequence[tuple[str, Voxels]],
    fit: Callable[[Voxels], T],
    loss: Callable[[Voxels, T], float],
) -> Floats:
    """The loss of every case by what is fitted to other patients alone, in FOLDS groups of them."""
    order = {patient: at for at, patient in enumerate(sorted({one for one, _ in cases}))}
    groups = [order[patient] % FOLDS for patient, _ in cases]
    losses = np.empty(len(cases))
    for group in sorted(set(groups)):
        others = [one for own, (_, one) in zip(groups, cases, strict=True) if own != group]
        fitted = fit(Voxels.joined(others))
        for at, (own, (_, one)) in enumerate(zip(groups, cases, strict=True)):
            if own == group:
                losses[at] = loss(one, fitted)
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
