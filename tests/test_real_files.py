"""Volumes as other programs wrote them: read as a second reader reads them, or refused by name.

nibabel ships its own test files; the others lie beside the project and are skipped where they
are absent. ITK, which has a NIfTI reader of its own, judges the voxels and their places.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.volumes import nifti
from tests.conftest import PROJECT

SHIPPED = Path(nib.__file__).parent / "tests" / "data"
EDGE_CASES = PROJECT.parent / "shared" / "data" / "nifti_edge_cases"

SHAPES = {
    "air.hdr.gz": (79, 67, 64),
    "air.img.gz": (79, 67, 64),
    "anatomical.nii": (33, 41, 25),
    "big.nii.gz": (64, 64, 21),
    "little.nii.gz": (64, 64, 21),
    "reoriented_anat_moved.nii": (21, 26, 22),
    "standard.nii.gz": (4, 5, 7),
    "with_extension.nii.gz": (161, 191, 151),
}
REFUSED = {
    "5D_small.nii": "expected one volume, got 3 volumes: volume 1 to volume 3",
    "analyze.hdr": "got Analyze, which does not say which side is left",
    "example4d.nii.gz": "got 2 volumes",
    "example_nifti2.nii.gz": "got 2 volumes",
    "functional.nii": "got 20 volumes",
    "nifti1.hdr": "cannot be read",  # its .img is not there
    "nifti2.hdr": "cannot be read",
    "resampled_anat_moved.nii": "got 153 voxels that are NaN or infinite",
    "row_major.dconn.nii": "got Cifti2",
    "test.mgz": "got 2 volumes",
}
REFUSED_KINDS = {
    ".dcm": "got DICOM. Name its folder",
    ".BRIK": "got AFNI",
    ".BRIK.gz": "got AFNI",
    ".HEAD": "got AFNI",
    ".PAR": "got PARREC",
    ".REC": "got PARREC",
    ".mnc": "got Minc",
}
NEITHER = "without the header of either"  # tracks, scripts, texts, PET


def files_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*") if file.is_file())


def named(file: Path) -> str:
    return file.name


@pytest.fixture(params=files_in(SHIPPED) + files_in(EDGE_CASES), ids=named)
def file(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_there_are_files_to_read() -> None:
    assert {"anatomical.nii", "standard.nii.gz"} <= {file.name for file in files_in(SHIPPED)}


def test_the_edge_cases_are_complete() -> None:
    if not EDGE_CASES.is_dir():
        pytest.skip(f"{EDGE_CASES} is not there")
    assert len(files_in(EDGE_CASES)) == 10


def test_a_file_is_read_as_itk_reads_it_or_refused_by_name(file: Path, refused) -> None:
    if file.name not in SHAPES:
        kinds = [reason for end, reason in REFUSED_KINDS.items() if file.name.endswith(end)]
        reason = REFUSED.get(file.name, kinds[0] if kinds else NEITHER)
        assert reason in str(refused(lambda: nifti.read(file)))
        return
    read = nifti.read(file)
    assert read.grid.shape == SHAPES[file.name]
    assert read.findings == ()
    judge = sitk.ReadImage(str(file))
    if judge.GetDimension() == 4:
        judge = judge[..., 0]
    voxels = sitk.GetArrayFromImage(judge).T  # ITK's arrays count k, j, i
    np.testing.assert_array_equal(read.grid.from_ras(read.array), voxels)
    for corner in product(*((0, count - 1) for count in read.grid.shape)):
        left, posterior, superior = judge.TransformIndexToPhysicalPoint(corner)
        ours = (read.grid.affine @ [*corner, 1])[:3]
        np.testing.assert_allclose(ours, (-left, -posterior, superior), atol=1e-4)


def test_each_of_several_volumes_is_read_as_nibabel_reads_it(file: Path) -> None:
    count = nifti.volumes(file)
    assert (count > 1) == ("volumes" in REFUSED.get(file.name, ""))
    if count == 1:
        return
    voxels = np.asanyarray(nib.load(file).dataobj)
    every = voxels.reshape(*voxels.shape[:3], count, order="F")
    for number in range(count):
        read = nifti.read(file, key=f"volume {number + 1}")
        np.testing.assert_array_equal(read.grid.from_ras(read.array), every[..., number])


def test_either_half_of_a_pair_is_the_same_volume() -> None:
    if not EDGE_CASES.is_dir():
        pytest.skip(f"{EDGE_CASES} is not there")
    header, voxels = (nifti.read(EDGE_CASES / name) for name in ("air.hdr.gz", "air.img.gz"))
    np.testing.assert_array_equal(header.array, voxels.array)
    np.testing.assert_array_equal(header.grid.affine, voxels.grid.affine)
