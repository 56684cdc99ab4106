"""Readers of scans: NIfTI, MGH and DICOM, and the truth made of raters' labels."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.labels import fusion
from pipeline.volumes import reader
from pipeline.volumes.dicom import assemble, series
from pipeline.volumes.volume import Volume
from tests.conftest import FIXTURES
from tests.fuzz import dicom as dicom_files
from tests.fuzz import nifti, pictures, second
from tests.fuzz.read_pictures import facts, read_image
from tests.fuzz.reader import Reader, Trial, limited, lines_fault, printed_fault
from tests.fuzz.trees import Input


def _scan_fault(trial: Trial) -> str:
    found = nifti.oddity(trial.result)
    if found:
        return found
    try:
        return nifti.differs(trial.result, nifti.expected(trial.made))
    except second.Undecided:
        return ""
    except second.Damaged as damage:
        different = nifti.differs(trial.result, _as_scan(trial.sound))
        return f"a damaged file ({damage}) read as {different}" if different else ""


def _as_scan(sound: Volume) -> second.Scan:
    """The untouched seed's volume, as the second reader would give it."""
    return second.Scan(sound.grid.from_ras(sound.array).astype(np.float64), sound.grid.affine)


def _dicom_fault(trial: Trial) -> str:
    return dicom_files.fault(trial.result, trial.made)


def _dicom_seeds() -> list[Input]:
    root = FIXTURES / "virtual_ncct" / "raw"
    return [*dicom_files.seeds(), dicom_files.fixture(root / "sub-02" / "ct")]


def _examine(files: tuple[Path, ...], made: Input) -> series.Folder:
    return limited(series.examine, files[0])


def _folder_fault(trial: Trial) -> str:
    found: series.Folder = trial.result
    lines = [one.facts for one in found.series] + [kind for kind, _ in found.others]
    lines += [str(match) for one in found.series for match in one.matches]
    return lines_fault(lines) or lines_fault([str(problem) for problem in found.damaged])


def _doctor(files: tuple[Path, ...], made: Input) -> None:
    from pipeline.doctor import doctor

    limited(doctor, files[0])


def _truth_seeds() -> list[Input]:
    ids = np.stack(pictures.classes(), axis=-1)
    image = (ids * 100 + 50).astype(np.int16)

    def packed(array: np.ndarray) -> bytes:

        return gzip.compress(nib.Nifti1Image(array, np.diag([1, 1, 3, 1.0])).to_bytes(), mtime=0)

    tree = {"image.nii.gz": packed(image), "one.nii.gz": packed(ids)}
    other = np.where(ids == 2, 1, ids).astype(np.uint8)
    return [
        Input("one rater", dict(tree), tuple(tree)),
        Input("floats", {**tree, "one.nii.gz": packed(ids.astype(np.float32))}, tuple(tree)),
        Input(
            "three raters",
            {**tree, "two.nii.gz": packed(other), "three.nii.gz": packed(ids)},
            ("image.nii.gz", "one.nii.gz", "two.nii.gz", "three.nii.gz"),
        ),
    ]


def _truth(files: tuple[Path, ...], made: Input) -> fusion.Truth:
    image = limited(reader.read_image, files[0])
    raters = {f"r{at}": file for at, file in enumerate(files[1:])}
    way = "each" if len(files) == 2 else "staple"
    return limited(fusion.truth, facts("values"), image, raters, way)


def _truth_fault(trial: Trial) -> str:
    for rater, ids in trial.result.ids.items():
        if ids.dtype != np.uint8 or ids.max(initial=0) > 2:
            return "ids that are no class's"
        if not rater:  # fused
            continue
        try:
            part = dataclasses.replace(trial.made, main=(trial.made.main[1],))
            wanted = nifti.expected(part).array
        except second.Undecided:
            continue
        except second.Damaged as damage:
            if not np.array_equal(ids, trial.sound.ids[rater]):
                return f"a damaged label ({damage}) read as other classes"
            continue
        counts = [np.bincount(one.astype(int).ravel(), minlength=3) for one in (ids, wanted)]
        if not np.array_equal(*counts):
            return "other classes than the second reader's"
    return ""


READERS = (
    Reader("nifti", nifti.seeds, nifti.MUTATIONS, read_image, _scan_fault, 2.0),
    Reader("truth", _truth_seeds, nifti.MUTATIONS, _truth, _truth_fault),
    Reader(
        "dicom",
        _dicom_seeds,
        dicom_files.MUTATIONS,
        lambda files, _: limited(assemble.read_series, files[0]),
        _dicom_fault,
        2.0,
    ),
    Reader("examine", _dicom_seeds, dicom_files.MUTATIONS, _examine, _folder_fault, 0.5),
    Reader("doctor", _dicom_seeds, dicom_files.MUTATIONS, _doctor, printed_fault, 0.7),
)
