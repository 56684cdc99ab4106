"""What memory and work follow: not the square of the pictures, and only so many bytes a voxel.

Whole measurements, before and after, stand in tests/benchmarks/growth.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import datasets_spec
from model.inference.rules import Rule, apply
from model.scoring import scores
from pipeline import paths
from pipeline.labels import fusion
from pipeline.pairs import manifest
from pipeline.splits import folders
from pipeline.volumes.volume import Grid, Volume, slices
from tests.conftest import PROJECT
from tests.pipeline.splits.test_folders import put, slice_of
from tests.support import cohort

pytestmark = pytest.mark.slow

RATERS = 4
# VmHWM, not ru_maxrss, which begins with the peak of the process that started this one
_PEAK = """
from pathlib import Path

[peak] = [
    int(line.split()[1])
    for line in Path("/proc/self/status").read_text().splitlines()
    if line.startswith("VmHWM:")
]
print(peak)
"""
_SPLIT = """
from pipeline import split
from pipeline.pages import card
from pipeline.params import reader as params

split._link = lambda *_: None  # a row needs no picture of its own here
card._draw_samples = lambda *_: None
split.split("{dataset}", params.load("{dataset}"))
"""
_CONVERT = """
from pipeline.params import reader as params
from pipeline.convert import convert

convert("{dataset}", params.load("{dataset}"), 1)
"""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="a process's peak is read in /proc")


def _kilobytes(script: str, dataset: str) -> int:
    """The peak memory of a process that runs ``script``."""
    done = subprocess.run(
        [sys.executable, "-c", script.format(dataset=dataset) + _PEAK],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def _calls(action: Callable[[], object]) -> int:
    """How many calls of the pipeline's own functions ``action`` makes."""
    count = 0

    def note(frame: Any, event: str, _: object) -> None:
        nonlocal count
        count += event == "call" and "/pipeline/" in frame.f_code.co_filename

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def _identical(folder: Path, pictures: int) -> Path:
    for number in range(pictures):
        split = ("train", "train", "valid", "test")[number % 4]
        put(folder, split, f"p{number:04d}.png", slice_of(0))
    return folder


def test_the_work_of_check_is_not_the_square_of_identical_pictures(tmp_path: Path) -> None:
    alike = [_identical(tmp_path / str(count), count) for count in (60, 500)]
    few, many = (_calls(lambda folder=folder: folders.check(folder, 1)) for folder in alike)
    assert many < 12 * few


@on_linux
def test_a_row_costs_split_a_few_kilobytes(workplace: Path) -> None:
    """The rows of six patients, repeated: 7,200 and 28,800 of them."""
    cohort.prepare()
    converted = manifest.read(paths.converted(cohort.DATASET))
    assert len(converted) == 36
    manifest.write(paths.augmented(cohort.DATASET), [])
    peaks = []
    for copies in (200, 800):
        rows = [
            replace(
                pair,
                **{
                    name: f"{getattr(pair, name)}{copy:04d}"
                    for name in ("id", "image", "mask", "image_digest", "mask_digest")
                },
                likeness="",
            )
            for pair in converted
            for copy in range(copies)
        ]
        manifest.write(paths.converted(cohort.DATASET), rows)
        peaks.append(_kilobytes(_SPLIT, cohort.DATASET))
    few, many = peaks
    assert 1024 * (many - few) / (36 * (800 - 200)) < 4000


def _raters(shape: tuple[int, int, int]) -> dict[str, NDArray[np.uint8]]:
    """A ball of five shells, drawn a little larger by each rater; the volume's border is free."""
    places = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    away = np.sqrt((places**2).sum(axis=0))
    return {
        str(rater): np.digitize(-away, [-0.7 - 0.03 * rater, -0.5, -0.4, -0.3, -0.2]).astype(
            np.uint8
        )
        for rater in range(RATERS)
    }


def _write_case(folder: Path, shape: tuple[int, int, int]) -> None:
    folder.mkdir(parents=True)
    drawn = _raters(shape)
    image = (30 + 8 * drawn["0"]).astype(np.int16)
    nib.Nifti1Image(image, np.eye(4)).to_filename(folder / "image.nii.gz")
    for rater, ids in drawn.items():
        nib.Nifti1Image(ids, np.eye(4)).to_filename(folder / f"label_annot_{rater}.nii.gz")


@on_linux
def test_a_case_of_several_raters_takes_a_few_bytes_a_voxel(workplace: Path) -> None:
    raw = paths.raw("mbh_seg25") / "MBH_Train_2025_voxel-label"
    cohort.write_params(**{"convert.image_px": 16})
    text = paths.PARAMS.read_text("utf-8").replace(f"{cohort.DATASET}: null", "mbh_seg25: null")
    paths.PARAMS.write_text(text, "utf-8")
    peaks, shapes = [], [(16, 16, 4), (256, 256, 200)]
    for number, shape in enumerate(shapes):
        _write_case(raw / f"ID_{number}_ID_{number}", shape)
        peaks.append(_kilobytes(_CONVERT, "mbh_seg25"))
    few, many = peaks
    assert 1024 * (many - few) / np.prod(shapes[1]) < 10


def _bytes_a_voxel(action: Callable[[], object], voxels: int) -> float:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] / voxels
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def drawn() -> Mapping[str, NDArray[np.uint8]]:
    return _raters((160, 150, 140))


@pytest.mark.parametrize("raters", ["majority", "each"])
def test_reading_raters_takes_them_and_little_more(
    tmp_path: Path, drawn: Mapping[str, NDArray[np.uint8]], raters: str
) -> None:
    files: dict[str, Any] = {}
    for rater, ids in drawn.items():
        files[rater] = tmp_path / f"{rater}.nii"
        nib.Nifti1Image(ids, np.eye(4)).to_filename(files[rater])
    shape = drawn["0"].shape
    image = Volume(np.zeros(shape, np.int16), Grid(shape, np.eye(4)))
    facts = datasets_spec.load("mbh_seg25").dataset
    taken = _bytes_a_voxel(lambda: fusion.truth(facts, image, files, raters), drawn["0"].size)
    assert taken < RATERS + 3


@pytest.mark.parametrize("planar", [False, True])
def test_scores_take_little_more_than_the_label_maps(
    drawn: Mapping[str, NDArray[np.uint8]], planar: bool
) -> None:
    truth, predicted = (slices(drawn[rater], "axial") for rater in ("0", "3"))
    taken = _bytes_a_voxel(
        lambda: scores.score(truth, predicted, 6, np.eye(3), planar, 1.0), truth.size
    )
    assert taken < 5


def test_corrections_take_little_more_than_the_label_map(
    drawn: Mapping[str, NDArray[np.uint8]],
) -> None:
    predicted = slices(drawn["0"], "axial")
    rules = {label: Rule(True, 0.01) for label in range(1, 6)}
    taken = _bytes_a_voxel(lambda: apply(predicted, rules, 1e-3, False), predicted.size)
    assert taken < 4
