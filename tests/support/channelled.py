"""Tiny cohorts whose pictures have several channels: MR sequences, and CT in windows.

They take the place of the adapter of :data:`tests.support.cohort.DATASET`, with its raw files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from datasets_spec import Adapter
from datasets_spec.contract import Case, Window
from pipeline import paths
from tests.support import cohort

SEQUENCES = ("t1w", "flair", "t2w", "swi")
LACKING = "sub-02"
"""The patient without FLAIR; of two sequences and more."""
HU = (-1000, 30, 70, 900)  # of each class id
WINDOWS = {"brain": None, "blood": None, "bone": None}


def sequences(monkeypatch: pytest.MonkeyPatch, count: int, patients: int = 6) -> Adapter:
    """Let the dataset be one of so many sequences, and write its raw files.

    The files of different sequences store their axes in different orders.
    """
    names = SEQUENCES[:count]

    def cases(raw: Path) -> Iterator[Case]:
        for folder in sorted(raw.iterdir()):
            files = {name: folder / f"{folder.name}_{name}.nii" for name in reversed(names)}
            there = {name: file for name, file in files.items() if file.is_file()}
            yield Case(folder.name, folder.name, there, {"": folder / f"{folder.name}_dseg.nii"})

    for patient, folder in cohort.write_raw(patients=patients).items():
        t1w = folder / f"{patient}_T1w.nii"
        ids = np.asarray(nib.load(folder / f"{patient}_dseg.nii").dataobj)
        scan = nib.load(t1w)
        t1w.rename(folder / f"{patient}_t1w.nii")
        for at, name in enumerate(names[1:], 1):
            if (patient, name) == (LACKING, "flair"):
                continue
            rng = np.random.default_rng([at, int(patient[-2:])])
            signal = np.roll(cohort.SIGNAL, at)[ids] + rng.normal(0, 15, ids.shape)
            other = nib.Nifti1Image(signal.astype(np.int16), scan.affine)
            turned = other.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
            nib.save(turned, folder / f"{patient}_{name}.nii")
    adapter = datasets_spec.load(cohort.DATASET)
    changed = replace(adapter, dataset=replace(adapter.dataset, channels=names), cases=cases)
    monkeypatch.setattr(datasets_spec, "load", lambda _: changed)
    return changed


def ct(monkeypatch: pytest.MonkeyPatch, patients: int = 6) -> Adapter:
    """Let the dataset be CT, and write its raw files in HU."""
    for patient, folder in cohort.write_raw(patients=patients).items():
        label = nib.load(folder / f"{patient}_dseg.nii")
        ids = np.asarray(label.dataobj)
        rng = np.random.default_rng(int(patient[-2:]))
        values = np.array(HU)[ids] + rng.normal(0, 10, ids.shape)
        scan = nib.Nifti1Image(values.astype(np.int16), label.affine)
        nib.save(scan, folder / f"{patient}_T1w.nii")
    adapter = datasets_spec.load(cohort.DATASET)
    facts = replace(adapter.dataset, modality="CT", contrast="", window=Window(40, 80))
    changed = replace(adapter, dataset=facts)
    monkeypatch.setattr(datasets_spec, "load", lambda _: changed)
    return changed


def raw(patient: str, name: str) -> Path:
    """A raw file of a patient."""
    return paths.raw(cohort.DATASET) / patient / f"{patient}_{name}.nii"
