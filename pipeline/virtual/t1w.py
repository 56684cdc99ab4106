"""Virtual T1w patients: the MNI152 template, deformed, with random contrast and axis order."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from pipeline.runtime import keys
from pipeline.virtual import head

_DEFORMATION_MM = 3.0  # standard deviation of the displacement along each axis


def make(patient: str, folder: Path) -> None:
    """Write a T1w volume (int16) and a tissue label map (uint8) of one virtual patient.

    The deformation, contrast, bias field, noise, voxel sides, axis order, flips and a small
    rotation are random.
    """
    rng = np.random.default_rng(keys.key("mni152_t1w", patient))
    template = head.maps()
    t1, affine = template.t1, template.affine
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
        source[axis] += _DEFORMATION_MM * head.smooth(rng, millimetres)
    signal = map_coordinates(t1, source, order=1)
    labels = map_coordinates(_tissue(), source, order=0)

    bend = rng.uniform(-0.4, 0.4)
    signal = signal * (1 + bend * (1 - signal))
    signal *= 1 + np.clip(0.15 * head.smooth(rng, millimetres), -0.5, 0.5)
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


@lru_cache(maxsize=1)
def _tissue() -> NDArray[np.uint8]:
    """Tissue ids of the template: 1 CSF and other, 2 grey matter, 3 white matter."""
    template = head.maps()
    brain = template.t1 > 0
    tissue = brain.astype(np.uint8)
    tissue[brain & (template.grey >= 0.5)] = 2
    tissue[brain & (template.white >= 0.5)] = 3
    return tissue
