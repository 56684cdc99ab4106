"""95 % intervals over patients: cases of one patient are not independent, patients are.

Patients are drawn with replacement, each with all of their cases (the cluster bootstrap: Field
and Welsh, J R Stat Soc B 69, 2007), and the interval is that between the 2.5th and the 97.5th
percentile of what is drawn (Efron, Ann Stat 7, 1979). It needs no distribution, and it knows
nothing of patients that were never seen: of a handful it is too narrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 5000
FEW = 10
"""Intervals over fewer patients are too narrow to be trusted; who prints them says so."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Resamples:
    """How often each patient is in each resample, (resamples, patients)."""

    patients: tuple[str, ...]
    times: NDArray[np.float64]

    @classmethod
    def drawn(cls, patients: Sequence[str], *key: object) -> Resamples:
        """Of the patients that occur, whatever their order; ``key`` decides what is drawn."""
        known = tuple(sorted(set(patients)))
        text = "\x1f".join(str(part) for part in (*key, "bootstrap"))
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
        chosen = np.random.default_rng(seed).integers(0, len(known), (RESAMPLES, len(known)))
        times = np.stack([(chosen == index).sum(axis=1) for index in range(len(known))], axis=1)
        return cls(known, times.astype(np.float64))

    def totals(self, patients: Sequence[str], values: Floats) -> Floats:
        """Sums of ``values`` (cases, ...) in every resample, (resamples, ...)."""
        place = {patient: index for index, patient in enumerate(self.patients)}
        sums = np.zeros((len(self.patients), *values.shape[1:]))
        np.add.at(sums, [place[patient] for patient in patients], values)
        totals: Floats = np.tensordot(self.times, sums, axes=1)
        return totals

    def means(self, patients: Sequence[str], values: Floats) -> Floats:
        """Means of ``values`` (cases, ...) in every resample, without NaN; NaN of nothing else."""
        known = np.isfinite(values)
        counts = self.totals(patients, known.astype(np.float64))
        sums = self.totals(patients, np.where(known, values, 0))
        return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def interval(drawn: Floats) -> tuple[float, float] | None:
    """The percentile interval of one number's resamples; none if it is in none of them."""
    known = drawn[np.isfinite(drawn)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)


def mean_over(values: Any) -> Floats:
    """Means along the last axis without NaN; NaN where there is nothing else."""
    known = np.isfinite(values)
    counts = known.sum(axis=-1)
    sums = np.where(known, values, 0).sum(axis=-1)
    means: Floats = np.divide(sums, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    return means
