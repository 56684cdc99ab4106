"""Which of the rules that train's labels obey predictions are made to obey, as valid chooses.

Each is tried on top of those kept before it, and kept if the 95 % interval of its gain in Dice on
valid, over :data:`model.inference.facts.LEAST_PATIENTS` patients or more, lies above 0. There is
no least gain, as there is for what valid alone suggests: train has shown the rule already.
"""

from __future__ import annotations

import tempfile
import weakref
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from datasets_spec.contract import IGNORED
from model.inference.facts import LEAST_PATIENTS
from model.inference.structure import CORRECTED, obey
from model.regions import Amount, slabs, within
from model.scoring.bootstrap import Resamples, interval
from model.scoring.scores import Stack
from pipeline.structure.label_rules import LabelRule

_FASTEST = 1  # of zlib: label maps shrink to a hundredth at any level


@dataclass(frozen=True)
class Obeyed:
    """A rule, its mean gain in Dice on valid with the 95 % interval, and over how many patients."""

    rule: LabelRule
    gain: float
    low: float
    high: float
    patients: int

    @property
    def kept(self) -> bool:
        """Whether it helps by more than noise."""
        return self.patients >= LEAST_PATIENTS and self.low > 0

    def in_words(self, names: Sequence[str]) -> str:
        """What it gained; ``names``: those of all classes by their ids."""
        return (
            f"{self.gain:+.4f} Dice [{self.low:+.4f}, {self.high:+.4f}] on {self.patients} patients"
            f" of valid: {self.rule.in_words(names)}"
        )


@dataclass(frozen=True)
class Case:
    """Truth and prediction (N, H, W) of a case of valid; ``world``: of their indices, in mm."""

    patient: str
    truth: Stack
    predicted: Stack
    voxel_ml: Amount
    unlabelled: Collection[int]
    world: NDArray[np.float64] | None

    def dice(self, ids: Stack, classes: int) -> float:
        """The mean Dice of the foreground classes that were annotated; 1 of what is in neither.

        Of voxels or, where slices differ in thickness, of volumes.
        """
        both, either = np.zeros((2, classes))
        weight: Amount = 1.0 if isinstance(self.voxel_ml, float) else self.voxel_ml
        start = 0
        for truth, guess in zip(slabs(self.truth), slabs(ids), strict=True):
            each = within(weight, slice(start, start + len(truth)))
            start += len(truth)
            known = truth != IGNORED
            for label in range(1, classes):
                drawn, found = truth == label, (guess == label) & known
                both[label] += _amount(drawn & found, each)
                either[label] += _amount(drawn, each) + _amount(found, each)
        dice = np.divide(2 * both, either, out=np.ones(classes), where=either > 0)
        asked = [label for label in range(1, classes) if label not in self.unlabelled]
        return float(dice[asked].mean()) if asked else np.nan


class Cases:
    """Cases of valid, packed in a file without a name: memory does not grow with their number."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._known: list[tuple[Case, tuple[int, int]]] = []

    def add(self, case: Case) -> None:
        """Keep a case."""
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        truth, predicted = (
            self._file.write(zlib.compress(stack.tobytes(), _FASTEST))
            for stack in (case.truth, case.predicted)
        )
        shape = np.empty((0, *case.truth.shape), np.uint8)
        light = replace(case, truth=shape, predicted=shape)
        self._known.append((light, (truth, predicted)))

    def __iter__(self) -> Iterator[Case]:
        if self._file is None:
            return
        self._file.seek(0)
        for one, lengths in self._known:
            packed = [self._file.read(length) for length in lengths]
            truth, predicted = (
                np.frombuffer(zlib.decompress(part), np.uint8).reshape(one.truth.shape[1:])
                for part in packed
            )
            yield replace(one, truth=truth, predicted=predicted)


def choose(cases: Cases, rules: Sequence[LabelRule], classes: int, *key: object) -> list[Obeyed]:
    """Every rule that says what to do, in order, kept or not; ``key`` draws the resamples."""
    tried: list[Obeyed] = []
    for rule in rules:
        if rule.kind not in CORRECTED:
            continue
        kept = [one.rule for one in tried if one.kept]
        patients, gains = [], []
        for case in cases:
            before = obey(case.predicted, kept, case.world)
            after = obey(before, [rule], case.world)
            gain = case.dice(after, classes) - case.dice(before, classes)
            if not np.isnan(gain):
                patients.append(case.patient)
                gains.append(gain)
        if gains:
            resamples = Resamples.drawn(patients, *key)
            bounds = interval(resamples.means(patients, np.array(gains)))
            assert bounds is not None
            mean = float(np.mean(gains))
            tried.append(Obeyed(rule, mean, *bounds, len(resamples.patients)))
    return tried


def _amount(mask: NDArray[np.bool_], weight: Amount) -> float:
    return float((np.count_nonzero(mask, axis=(1, 2)) * weight).sum())
