"""The yardstick of the comparison with nnU-Net: label maps in files, in the scan's own grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.benchmarks import head_to_head

AFFINE = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, 3], [0, 0, 3.0, 1], [0, 0, 0, 1]])


def test_masks_in_files_are_scored_by_their_voxels_and_mm(tmp_path: Path) -> None:
    truth = np.zeros((12, 14, 9), np.uint8)
    truth[2:8, 3:9, 1:7] = 1
    truth[2:8, 9:12, 1:7] = 2
    moved = np.roll(truth, 1, axis=2)  # by 3 mm, more than the tolerance of 1 mm
    for name, ids in (("truth", truth), ("moved", moved)):
        nib.save(nib.Nifti1Image(ids, AFFINE), tmp_path / f"{name}.nii.gz")
    rows = head_to_head._rows("p1", 2, tmp_path / "truth.nii.gz", tmp_path / "moved.nii.gz")
    assert [row[3] for row in rows] == ["anterior", "posterior"]
    for row, label in zip(rows, (1, 2), strict=True):
        dice = 2 * ((truth == label) & (moved == label)).sum() / (2 * (truth == label).sum())
        assert float(row[4]) == pytest.approx(dice, abs=1e-6)
        assert 0.5 < float(row[5]) < 1
        assert row[7:] == ((truth == label).sum(), 2)
    [same, _] = head_to_head._rows("p1", 2, tmp_path / "truth.nii.gz", tmp_path / "truth.nii.gz")
    assert [float(one) for one in same[4:7]] == [1, 1, 1]
