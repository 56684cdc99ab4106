"""Virtual cohorts: patients derived from the MNI152 template, made on the spot.

Each patient has a smooth random deformation, a contrast, a bias field, noise, voxel
sides, an axis order, flips and a small rotation of their own, all drawn from the
patient's name, so a cohort is the same wherever and in whatever order it is made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from datasets_spec.contract import Problem
from pipeline import executor, warps

PATIENTS = 12
_COARSE_MM = 8.0  # spacing of the grid on which smooth random fields are drawn
_DEFORMATION_MM = 3.0  # standard deviation of the displacement along each axis
_SMOOTH_MM = 24.0

Floats = NDArray[np.float64]


def make(recipe: str, folder: Path, workers: int) -> None:
    """Make the patients of ``recipe`` that ``folder`` does not hold yet."""
    missing = [
        patient
        for patient in (f"sub-{number:02d}" for number in range(1, PATIENTS + 1))
        if not (folder / patient).is_dir()
    ]
    task = partial(_make_patient, RECIPES[recipe], folder)
    for outcome in executor.run(task, missing, workers, f"make {folder.name}", "patient"):
        if outcome.error is not None:
            raise Problem(
                f"the virtual patient {outcome.job} could not be made ({outcome.error})",
                where=folder,
            )


def mni152_t1w(patient: str, folder: Path) -> None:
    """Write a T1w volume (int16) and a tissue label map (uint8) of one virtual patient."""
    rng = np.random.default_rng(warps.key("mni152_t1w", patient))
    t1, tissue, affine = _template()
    sides = np.array([rng.uniform(0.9, 1.1), rng.uniform(0.9, 1.1), rng.uniform(3.0, 5.0)])
    shape = tuple(int(count) for count in np.ceil(np.array(t1.shape) / sides))
    centre = (np.array(t1.shape) - 1) / 2
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).astype(float)
    millimetres = (index - ((np.array(shape) - 1) / 2)[:, None, None, None]) * sides[
        :, None, None, None
    ]
    stretch = rng.uniform(0.94, 1.06, 3)[:, None, None, None]
    source = millimetres * stretch + centre[:, None, None, None]
    for axis in range(3):
        source[axis] += _DEFORMATION_MM * _smooth(rng, millimetres)
    signal = map_coordinates(t1, source, order=1)
    labels = map_coordinates(tissue, source, order=0)

    bend = rng.uniform(-0.4, 0.4)
    signal = signal * (1 + bend * (1 - signal))
    signal *= 1 + np.clip(0.15 * _smooth(rng, millimetres), -0.5, 0.5)
    noise = rng.uniform(0.015, 0.035) * rng.standard_normal((2, *shape))
    signal = np.sqrt((signal + noise[0]) ** 2 + noise[1] ** 2)  # magnitude of a complex signal
    image = np.rint(signal * rng.uniform(400, 1600)).astype(np.int16)

    upright = np.diag([*sides, 1.0])
    upright[:3, 3] = affine[:3, :3] @ centre + affine[:3, 3] - sides * (np.array(shape) - 1) / 2
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_rotvec(np.deg2rad(rng.uniform(-8, 8, 3))).as_matrix()
    turn = np.stack([rng.permutation(3), rng.choice([-1, 1], 3)], axis=1).astype(float)
    stored = tilt @ upright @ inv_ornt_aff(turn, shape)
    for name, array in (("T1w", image), ("dseg", labels)):
        file = nib.Nifti1Image(apply_orientation(array, turn), stored)
        file.header.set_xyzt_units("mm")
        nib.save(file, folder / f"{patient}_{name}.nii")


RECIPES: dict[str, Callable[[str, Path], None]] = {"mni152_t1w": mni152_t1w}


def _make_patient(make_one: Callable[[str, Path], None], folder: Path, patient: str) -> None:
    unfinished = folder / f".unfinished-{patient}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    make_one(patient, unfinished)
    os.replace(unfinished, folder / patient)


@lru_cache(maxsize=1)
def _template() -> tuple[Floats, NDArray[np.uint8], Floats]:
    """T1 (0..1), tissue ids (1 CSF and other, 2 grey, 3 white matter) and affine, 1 mm, RAS+."""
    from nilearn import datasets  # slow to import, and only needed here

    t1, grey, white = (
        load(resolution=1)
        for load in (
            datasets.load_mni152_template,
            datasets.load_mni152_gm_template,
            datasets.load_mni152_wm_template,
        )
    )
    signal, grey_share, white_share = (
        np.asarray(file.dataobj, np.float64) for file in (t1, grey, white)
    )
    tissue = (signal > 0).astype(np.uint8)
    tissue[(signal > 0) & (grey_share >= 0.5)] = 2
    tissue[(signal > 0) & (white_share >= 0.5)] = 3
    return signal, tissue, np.asarray(t1.affine, np.float64)


def _smooth(rng: np.random.Generator, millimetres: Floats) -> Floats:
    """A smooth random field of mean 0 and standard deviation about 1 at the given points."""
    reach = np.abs(millimetres).max(axis=(1, 2, 3))
    shape = tuple((2 * np.ceil(reach / _COARSE_MM) + 3).astype(int))
    coarse = gaussian_filter(rng.standard_normal(shape), _SMOOTH_MM / _COARSE_MM, mode="wrap")
    coarse = (coarse - coarse.mean()) / coarse.std()
    middle = (np.array(shape) - 1)[:, None, None, None] / 2
    values: Floats = map_coordinates(coarse, millimetres / _COARSE_MM + middle, order=1)
    return values
