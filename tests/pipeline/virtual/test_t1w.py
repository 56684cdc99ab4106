"""Virtual T1w patients: deterministic, different from each other, and known exactly."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.runtime.files import sha256
from pipeline.virtual import t1w
from pipeline.volumes import nifti

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("virtual")
    t1w.make("sub-01", folder)
    return folder


def test_a_patient_is_the_same_wherever_it_is_made(patient: Path, tmp_path: Path) -> None:
    t1w.make("sub-01", tmp_path)
    for name in ("sub-01_T1w.nii", "sub-01_dseg.nii"):
        assert sha256(patient / name) == sha256(tmp_path / name)


def test_another_patient_differs_in_picture_and_axes(patient: Path, tmp_path: Path) -> None:
    t1w.make("sub-02", tmp_path)
    one, two = (
        nifti.read(folder / f"{name}_T1w.nii")
        for folder, name in ((patient, "sub-01"), (tmp_path, "sub-02"))
    )
    assert one.array.shape != two.array.shape
    assert nib.aff2axcodes(one.grid.affine) != nib.aff2axcodes(two.grid.affine)


def test_tissues_stand_in_the_order_of_t1(patient: Path) -> None:
    image = nifti.read(patient / "sub-01_T1w.nii").array
    label = nifti.read(patient / "sub-01_dseg.nii").array
    assert set(np.unique(label)) == {0, 1, 2, 3}
    air, csf, grey, white = (np.median(image[label == value]) for value in range(4))
    assert white > grey > csf > air


def test_the_head_is_tilted_a_little(patient: Path) -> None:
    affine = nib.load(patient / "sub-01_T1w.nii").affine
    directions = affine[:3, :3] / np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    largest = np.abs(directions).max(axis=0)
    assert (largest < 1).any()
    assert (largest > np.cos(np.deg2rad(15))).all()
