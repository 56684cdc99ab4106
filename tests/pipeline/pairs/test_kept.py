"""The net behind convert: nothing that a scan or a label shows is lost without a word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import datasets_spec
from pipeline import paths
from pipeline.convert import convert
from pipeline.pairs import kept, manifest
from pipeline.pairs.canvas import Canvas
from pipeline.volumes import findings, nifti, volume
from pipeline.volumes.volume import Grid
from tests.conftest import Refused
from tests.support import cohort

LABELS = datasets_spec.load(cohort.DATASET).dataset.label_map
TRUTH = np.zeros((4, 5, 6), np.uint8)
TRUTH[1, 1, 1:3] = 1
TRUTH[2, 2, 2] = 2
IMAGE = np.arange(120).reshape(4, 5, 6)


def case(*counts: tuple[int, ...], rater: str = "") -> list[manifest.Pair]:
    """The pairs of a case, with so many pixels of each class."""
    return [
        cohort.pair(f"p_{n}", class_pixels=pixels, rater=rater) for n, pixels in enumerate(counts)
    ]


WHOLE = case((90, 10, 0, 0), (90, 0, 10, 0))


def test_a_case_that_kept_everything_stays_as_it_is() -> None:
    assert kept.judged(WHOLE, {"": TRUTH}, LABELS) == WHOLE


@pytest.mark.parametrize("shade", [0, 255])
def test_pictures_of_one_value_are_refused_where_the_scan_has_several(
    refused: Refused, shade: int
) -> None:
    problem = refused(lambda: kept.require_shades(IMAGE, {shade}))
    assert f"got {shade} in every pixel from values of 0 to 119" in problem.what


def test_a_scan_of_one_value_may_be_one_colour() -> None:
    kept.require_shades(np.full_like(IMAGE, 7), {0})


def test_masks_without_any_foreground_are_refused_where_the_label_has_some(
    refused: Refused,
) -> None:
    empty = case((100, 0, 0, 0), (100, 0, 0, 0))
    problem = refused(lambda: kept.judged(empty, {"": TRUTH}, LABELS))
    assert "got none of 3 voxels" in problem.what


def test_an_empty_label_makes_empty_masks() -> None:
    empty = case((100, 0, 0, 0))
    assert kept.judged(empty, {"": np.zeros_like(TRUTH)}, LABELS) == empty


def test_a_class_that_no_mask_shows_is_recorded_beside_the_other_findings() -> None:
    earlier = findings.finding("single-slice", thickness_mm=5)
    content = findings.to_json([earlier])
    pairs = [replace(pair, findings=content) for pair in case((90, 10, 0, 0), (95, 5, 0, 0))]
    for pair in kept.judged(pairs, {"": TRUTH}, LABELS):
        first, second = findings.from_json(pair.findings)
        assert first == earlier
        words = findings.text(second)
        assert words.startswith(f"masks: none shows {list(LABELS)[2].name}, of 1 voxels")
        assert second.severity == findings.DOUBT


def test_raters_are_judged_one_by_one(refused: Refused) -> None:
    pairs = case((90, 5, 5, 0), rater="a") + case((100, 0, 0, 0), rater="b")
    nobody = np.zeros_like(TRUTH)
    assert kept.judged(pairs, {"a": TRUTH, "b": nobody}, LABELS) == pairs
    refused(lambda: kept.judged(pairs, {"a": TRUTH, "b": TRUTH}, LABELS))


# --- through convert ---------------------------------------------------------------------------


def rewritten(file: Path, array: np.ndarray[Any, Any]) -> None:
    """Write a NIfTI file again with other voxels."""
    nib.save(nib.Nifti1Image(array, nib.load(file).affine), file)


def lost_voxel(grid: Grid, px: int) -> np.ndarray[Any, Any]:
    """A label in the grid's own order with one voxel that no mask of ``px`` pixels shows."""
    shape = grid.to_ras(np.empty(grid.shape)).shape
    for column in range(shape[0]):
        label = np.zeros(shape, np.uint8)
        label[column, shape[1] // 2, shape[2] // 2] = 1
        stack = volume.slices(label, "axial")
        canvas = Canvas.fit(stack.shape[1:], volume.slice_spacing(grid, "axial"), px)
        if not any(canvas.labels(native).any() for native in stack):
            return grid.from_ras(label)
    raise AssertionError("every voxel is shown")


@pytest.fixture
def patient(workplace: Path) -> Path:
    """The folder of the first of two patients."""
    return cohort.write_raw(patients=2)["sub-01"]


def test_convert_refuses_a_scan_that_would_be_black(
    patient: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    file = patient / "sub-01_T1w.nii"
    sparse = np.zeros(nib.load(file).shape, np.int16)
    sparse[3, 3, 3] = 900  # no percentile sees one voxel of thousands
    rewritten(file, sparse)
    refused(lambda: convert(cohort.DATASET, cohort.write_params(), 1))
    assert "sub-01: expected pictures that show the scan" in capsys.readouterr().err
    assert {pair.case for pair in manifest.read(paths.converted(cohort.DATASET))} == {"sub-02"}


def test_convert_refuses_a_label_whose_foreground_is_lost_by_shrinking(
    patient: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    file = patient / "sub-01_dseg.nii"
    rewritten(file, lost_voxel(nifti.read(file).grid, 16))
    refused(lambda: convert(cohort.DATASET, cohort.write_params(**{"convert.image_px": 16}), 1))
    assert "sub-01: expected the label's foreground in the masks" in capsys.readouterr().err


def test_convert_records_a_class_that_is_lost_by_shrinking(patient: Path) -> None:
    file = patient / "sub-01_dseg.nii"
    lost = lost_voxel(nifti.read(file).grid, 16)
    drawn = np.ones_like(lost)
    drawn[lost > 0] = 2
    rewritten(file, drawn)
    convert(cohort.DATASET, cohort.write_params(**{"convert.image_px": 16}), 1)
    pairs = manifest.read(paths.converted(cohort.DATASET))
    found = {pair.case: findings.from_json(pair.findings) for pair in pairs}
    assert "class-lost" in {one.code for one in found["sub-01"]}
    assert "class-lost" not in {one.code for one in found["sub-02"]}


def test_convert_obeys_the_limits_of_its_parameters(
    patient: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = cohort.write_params(**{"limits.voxels": int(np.prod(cohort.SHAPE)) - 1})
    refused(lambda: convert(cohort.DATASET, settings, 1))
    assert "raise limits.voxels" in capsys.readouterr().err
