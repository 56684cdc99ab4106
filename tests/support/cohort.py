"""A tiny cohort in the raw layout of virtual_mni152, and the stages that make pairs of it.

Everything is written into the current working folder, as the pipeline itself does; the
fixture ``workplace`` makes that an empty one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml

from model import params
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import pseudonyms
from pipeline.pairs.manifest import Pair
from pipeline.runtime import fingerprints
from pipeline.split import split
from tests.conftest import PROJECT

DATASET = "virtual_mni152"
CLASSES = 4
SHAPE = (24, 20, 6)  # voxels along right, anterior, superior
SIDES = (1.0, 1.2, 3.0)  # mm
# class id -> centre and radius in mm; no sphere reaches the lowest and the highest slice
SPHERES = {
    1: ((7.0, 7.0, 8.0), 5.0),
    2: ((15.0, 15.0, 9.0), 5.0),
    3: ((16.0, 6.0, 7.0), 3.5),
}
SIGNAL = np.array([120, 420, 720, 1020])  # of each class, before noise
_SMALL = {
    "convert.image_px": 64,
    "augment.variants": {
        "deformed": [{"Elastic": {"sd_px": 1.0, "sigma_px": 8.0}}],
        "barrdistorted": [{"Barrel": {"radius": 0.3, "amount": 0.3, "centre": [0.5, 0.5]}}],
    },
    "split.shares": {"train": 0.5, "valid": 0.2, "test": 0.3},
    "train.network.image_px": 32,
    "train.network.channels": 1,
    "train.network.base_filters": 4,
    "train.network.base_kernels": 3,
    "train.network.num_layers": 3,
    "train.batch_pairs": 4,
    "train.epochs": 2,
    "train.precision": "float32",  # what is fastest is another question every time
}


def write_raw(
    folder: Path | None = None, patients: int = 6, classes: int = CLASSES
) -> dict[str, Path]:
    """Write ``sub-XX/sub-XX_{T1w,dseg}.nii``; returns each patient's folder.

    Every patient has an axis order, flips and sphere centres of their own, and a tilted
    affine. ``folder`` is data/raw/virtual_mni152 by default; spheres whose class id is
    not below ``classes`` are left out.
    """
    folder = folder or paths.raw(DATASET)
    return {
        f"sub-{number:02d}": write_patient(folder / f"sub-{number:02d}", number, classes)
        for number in range(1, patients + 1)
    }


def write_patient(folder: Path, number: int, classes: int = CLASSES) -> Path:
    """Write the image and the label map of the ``number``-th patient; returns ``folder``."""
    rng = np.random.default_rng(number)
    ids = np.zeros(SHAPE, np.uint8)
    places = np.indices(SHAPE).T * SIDES  # (superior, anterior, right, 3) in mm
    for label, (centre, radius) in SPHERES.items():
        if label < classes:
            moved = centre + rng.uniform(-1, 1, 3)
            inside = np.linalg.norm(places - moved, axis=-1) < radius
            ids[inside.T] = label
    image = np.rint(SIGNAL[ids] + rng.normal(0, 15, SHAPE)).astype(np.int16)
    order = list(permutations(range(3)))[number % 6]
    turn = np.stack([order, rng.choice([-1, 1], 3)], axis=1)
    folder.mkdir(parents=True)
    for name, array in (("T1w", image), ("dseg", ids)):
        upright = nib.Nifti1Image(array, _affine())
        nib.save(upright.as_reoriented(turn), folder / f"{folder.name}_{name}.nii")
    return folder


def write_params(file: Path = paths.PARAMS, **overrides: Any) -> params.Params:
    """The project's params.yaml, made small; returns what it says for :data:`DATASET`.

    ``overrides`` are leaves by dotted names: ``write_params(**{"train.epochs": 3})``.
    """
    content = yaml.safe_load((PROJECT / paths.PARAMS).read_text("utf-8"))
    content.pop("presets", None)
    content["datasets"] = {DATASET: None}
    for name, value in {**_SMALL, **overrides}.items():
        *sections, leaf = name.split(".")
        place = content
        for section in sections:
            place = place[section]
        if leaf not in place:
            raise KeyError(f"params.yaml has no {name}")
        place[leaf] = value
    file.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return params.load(DATASET, file)


def prepare(patients: int = 6, classes: int = CLASSES, **overrides: Any) -> params.Params:
    """Write raw data and parameters, then convert, augment and split them, all in here.

    What was prepared before in this process is copied: pairs follow from these alone.
    """
    settings = write_params(**overrides)
    salt = os.environ.get(pseudonyms.SALT_VARIABLE)
    parts = settings.convert, settings.augment, settings.split
    earlier = _prepared() / fingerprints.fingerprint(patients, classes, salt, *parts)
    if earlier.is_dir():
        shutil.copytree(earlier, paths.DATA, dirs_exist_ok=True)
    else:
        write_raw(patients=patients, classes=classes)
        make_pairs(settings)
        shutil.copytree(paths.DATA, earlier)
    return settings


@cache
def _prepared() -> Path:
    """A folder that goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="cohorts-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def make_pairs(settings: params.Params) -> None:
    """Convert, augment and split the raw data that lies here."""
    for stage in (convert, augment):
        stage(DATASET, settings, 1)
    split(DATASET, settings)


def pair(pair_id: str, **values: Any) -> Pair:
    """A row of the manifest of one case per patient, as far as ``values`` do not say else."""
    patient = pair_id.rpartition("_")[0] or pair_id
    row: dict[str, Any] = {
        "id": pair_id,
        "dataset": DATASET,
        "patient": patient,
        "case": patient,
        "slice_index": 0,
        "rater": "",
        "image": f"{paths.IMAGES}/{pair_id}.png",
        "mask": f"{paths.MASKS}/{pair_id}.png",
        "source": "",
        "source_digest": "",
        "source_shape": SHAPE,
        "affine": tuple(_affine().ravel().tolist()),
        "plane": "axial",
        "canvas": (),
        "window": (0.0, 255.0),
        "class_pixels": (),
        "image_digest": pair_id,
        "mask_digest": pair_id,
        "licence": "",
        "fingerprint": "",
    }
    return Pair(**{**row, **values})


def _affine() -> np.ndarray[Any, np.dtype[np.float64]]:
    """Voxel to mm, RAS+: the sides, a tilt of 5 degrees about the right-left axis, an origin."""
    tilt = np.deg2rad(5)
    turned = np.eye(4)
    turned[1:3, 1:3] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    affine = turned @ np.diag([*SIDES, 1.0])
    affine[:3, 3] = (-12.0, -10.0, 30.0)
    return affine


def random_patients(seed: int, patients: int) -> list[Pair]:
    """Rows of ``patients`` patients of 1 to 60 slices, one or two cases and one to six classes.

    A class is shown by between 3 % and 95 % of the patients, and takes between 1 and 20,000 of a
    slice's 262,144 pixels. A patient's rows depend on the seed and the patient's number alone.
    """
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(1, 7))
    shown_by = rng.choice([0.03, 0.1, 0.3, 0.6, 0.95], classes)
    rows = []
    for number in range(patients):
        own = np.random.default_rng([seed, number])
        slices = int(own.integers(1, 61))
        second_case = int(own.integers(0, slices + 1)) if own.random() < 0.2 else slices
        has = own.random(classes) < shown_by
        amount = has * 10 ** own.uniform(0, 4.3, classes)
        for index in range(slices):
            drawn = (amount * own.uniform(0, 1, classes) * (own.random(classes) < 0.4)).astype(int)
            rows.append(
                pair(
                    f"p{number:04d}_{index}",
                    case=f"p{number:04d}{'ab'[index >= second_case]}",
                    slice_index=index,
                    class_pixels=(262144 - int(drawn.sum()), *drawn.tolist()),
                )
            )
    return rows
