"""A label's voxels belong where they lie in the world, however they are stored."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from datasets_spec.contract import Dataset, Licence, Source
from pipeline import convert
from pipeline.labels import decode, grids, resample
from pipeline.volumes import findings, nifti, volume
from pipeline.volumes.dicom import assemble
from pipeline.volumes.findings import DOUBT, HANDLED, LABEL
from pipeline.volumes.volume import Grid, Volume
from tests.model.delivery import series
from tests.support import cohort
from tests.support.every import every

SHAPE = (14, 12, 6)
WHERE = Path("label.nii")
DCM2NIIX = shutil.which("dcm2niix") or shutil.which(str(Path(sys.executable).with_name("dcm2niix")))


@pytest.fixture
def dataset(label_map) -> Dataset:
    terms = Licence("CC BY 4.0", redistribute=True, commercial=True)
    source = Source("https://example.org", terms, "Someone, 2026", instructions="Ask them.")
    return Dataset("Some scans", "MR", label_map, source)


def affine(tilt: float = 0.0, step: float = 5.0) -> np.ndarray:
    """Slices in LPS order as DICOM has them, of a gantry tilted in degrees."""
    angle = np.deg2rad(tilt)
    made = np.eye(4)
    made[:3, 0] = (-0.9, 0, 0)
    made[:3, 1] = (0, -0.8 * np.cos(angle), 0.8 * np.sin(angle))
    made[:3, 2] = (0, 0, step)
    made[:3, 3] = (20, 31, -12)
    return made


def turned(grid: Grid, way) -> Grid:
    """The same voxels, stored with other axes, in single precision as NIfTI stores an affine."""
    image = nib.Nifti1Image(np.zeros(grid.shape, np.uint8), grid.affine).as_reoriented(way)
    return Grid(image.shape, image.affine.astype(np.float32).astype(np.float64))


def label_of(grid: Grid, way, ids: np.ndarray) -> Volume:
    stored = nib.Nifti1Image(ids, grid.affine).as_reoriented(way)
    other = turned(grid, way)
    return Volume(other.to_ras(np.asarray(stored.dataobj)), other)


WAYS = [
    np.stack([order, flips], axis=1)
    for order in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


@every("tilt", [0.0, 11.5, -18.5, 40.0])
@every("way", WAYS)
def test_a_label_stored_in_any_order_is_on_the_image_s_grid(dataset, tilt: float, way) -> None:
    grid = Grid(SHAPE, affine(tilt))
    ids = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    label = label_of(grid, way, ids)
    volume.require_same_grid(grid, label.grid, WHERE)
    found, resampled = grids.on_grid(dataset, label, grid, WHERE)
    assert not resampled
    assert found.grid == grid
    np.testing.assert_array_equal(grid.from_ras(found.array), ids)


@every("way", WAYS)
def test_a_label_beside_the_image_is_refused_in_any_order(dataset, way, refused) -> None:
    grid = Grid(SHAPE, affine(12))
    moved = affine(12)
    moved[1, 3] += 0.3
    label = label_of(Grid(SHAPE, moved), way, np.ones(SHAPE, np.uint8))
    problem = refused(lambda: grids.on_grid(dataset, label, grid, WHERE))
    assert "up to 0.3 mm away" in problem.what


def test_the_label_of_a_case_is_decoded_in_the_image_s_order(tmp_path, dataset) -> None:
    ids = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    image = Volume(Grid(SHAPE, affine(12)).to_ras(ids * 1.0), Grid(SHAPE, affine(12)))
    turn = np.array([[2, 1], [0, -1], [1, 1]])
    nib.save(nib.Nifti1Image(ids, affine(12)).as_reoriented(turn), tmp_path / "label.nii")
    drawn = decode.drawn(dataset, image, {"": tmp_path / "label.nii"})
    np.testing.assert_array_equal(drawn.ids[""], image.array)


# --- what dcm2niix makes of a tilted series --------------------------------------------------


def as_dcm2niix(tilt: float, descending: bool, step: float = 5.0) -> np.ndarray:
    """The affine of its file of slices as they are, for an image whose affine is :func:`affine`."""
    true = affine(tilt, step)
    normal = np.cross(true[:3, 0], true[:3, 1])
    normal /= np.linalg.norm(normal)
    upright = normal * (true[:3, 2] @ normal)
    made = true.copy()
    made[:3, 2] *= np.linalg.norm(upright) / step
    if descending:
        last = true[:3, 3] + (SHAPE[2] - 1) * true[:3, 2]
        made[:3, 3] = last - (SHAPE[2] - 1) * upright
    return made


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("tilt", [18.5, -11.5])
def test_the_slices_that_dcm2niix_kept_are_the_image_s(dataset, tilt, descending) -> None:
    grid = Grid(SHAPE, affine(tilt))
    ids = np.random.default_rng(0).integers(0, 3, SHAPE).astype(np.uint8)
    stated = Grid(SHAPE, as_dcm2niix(tilt, descending))
    assert not volume.same_grid(grid, stated)
    label = label_of(stated, WAYS[2], ids)
    found, resampled = grids.on_grid(dataset, label, grid, WHERE)
    np.testing.assert_array_equal(grid.from_ras(found.array), ids)
    assert not resampled
    [noted] = found.findings
    assert (noted.code, noted.severity) == ("shortened-step", HANDLED)
    assert noted.numbers["stated_mm"] == pytest.approx(5 * np.cos(np.deg2rad(tilt)), abs=1e-4)


@pytest.mark.parametrize("scale", [0.9, 0.95, 1.05])
@pytest.mark.parametrize("tilt", [0.0, 11.5])
def test_another_step_is_another_grid(dataset, refused, tilt, scale) -> None:
    grid, other = Grid(SHAPE, affine(tilt)), affine(tilt)
    other[:3, 2] *= scale
    label = label_of(Grid(SHAPE, other), WAYS[0], np.ones(SHAPE, np.uint8))
    assert "mm away" in refused(lambda: grids.on_grid(dataset, label, grid, WHERE)).what


def straightened(tilt: float, beside: float = 0.0) -> Grid:
    """The grid of slices that were padded and moved above each other, or of a wrong place."""
    made = affine(tilt)
    normal = np.cross(made[:3, 0], made[:3, 1])
    made[:3, 2] = normal / np.linalg.norm(normal) * 5.0 * np.cos(np.deg2rad(tilt))
    rows = int(np.ceil(5 * 5.0 * np.sin(np.deg2rad(tilt)) / 0.8)) + 1
    made[:3, 3] += made[:3, 1] * (beside - (rows if tilt < 0 else 0))
    return Grid((SHAPE[0], SHAPE[1] + rows, SHAPE[2]), made)


def test_a_straightened_copy_is_refused_with_the_reason_or_resampled(dataset, refused) -> None:
    grid, other = Grid(SHAPE, affine(20)), straightened(20)
    label = Volume(np.ones(other.shape, np.uint8), other)
    problem = refused(lambda: grids.on_grid(dataset, label, grid, WHERE))
    assert "a gantry tilted by 20.0 degrees, got a label of slices straight" in problem.what
    assert "resample_labels" in problem.remedy
    found, resampled = grids.on_grid(replace(dataset, resample_labels=True), label, grid, WHERE)
    assert resampled
    assert found.array.all()


def test_a_straightened_copy_beside_the_image_is_refused(dataset, refused) -> None:
    """dcm2niix places the copy of a descending series beside it: its label would be wrong."""
    grid, other = Grid(SHAPE, affine(20)), straightened(20, beside=4)
    label = Volume(np.ones(other.shape, np.uint8), other)
    spec = replace(dataset, resample_labels=True)
    problem = refused(lambda: grids.on_grid(spec, label, grid, WHERE))
    assert "places up to 3.2 mm beside" in problem.what


@pytest.mark.skipif(DCM2NIIX is None, reason="dcm2niix is not installed")
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("tilt", [0.0, 11.5])
def test_what_dcm2niix_writes_of_a_series_is_on_its_grid(
    tmp_path, dataset, tilt, descending
) -> None:
    def count_down(header, number: int) -> None:
        header.InstanceNumber = 5 - number if descending else number + 1

    series.write(tmp_path / "series", count_down, tilt=tilt)
    image = assemble.read_series(tmp_path / "series")
    (tmp_path / "made").mkdir()
    command = [str(DCM2NIIX), "-o", tmp_path / "made", "-f", "x", tmp_path / "series"]
    subprocess.run(command, check=True, capture_output=True)
    label = nifti.read(tmp_path / "made" / "x.nii")
    found, resampled = grids.on_grid(dataset, label, image.grid, WHERE)
    assert not resampled
    np.testing.assert_array_equal(found.array, image.array)


# --- what resampling costs -------------------------------------------------------------------


def ellipsoid(grid: Grid, middle: np.ndarray, radii: np.ndarray) -> Volume:
    places = np.tensordot(grid.affine[:3, :3], np.indices(grid.shape), 1)
    places += grid.affine[:3, 3].reshape(3, 1, 1, 1)
    off = (places - middle.reshape(3, 1, 1, 1)) / radii.reshape(3, 1, 1, 1)
    return Volume(grid.to_ras(((off**2).sum(axis=0) <= 1).astype(np.uint8)), grid)


def boxes(rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Slices of a tilted gantry, and an upright label of other voxels around the same place."""
    image = affine(rng.uniform(-30, 30), rng.uniform(1, 7))
    sides = rng.uniform(0.8, 3, 3)
    label = np.diag([*sides, 1.0])
    shapes = (64, 72, int(50 / image[2, 2]) + 1), tuple((60 / sides).astype(int).tolist())
    for made, shape in ((image, shapes[0]), (label, shapes[1])):
        made[:3, 3] = -made[:3, :3] @ (np.array(shape) / 2 - 0.5)
    return Grid(shapes[0], image), Grid(shapes[1], label)


@every("seed", range(40))
def test_what_a_sheared_grid_loses_is_counted_and_what_it_holds_is_never_refused(
    dataset, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, grid = boxes(rng)
    drawn = ellipsoid(grid, rng.uniform(-6, 6, 3), rng.uniform(4, 12, 3))
    moved = resample.onto_image(drawn, image, WHERE)
    [noted] = resample.volume_changes(dataset, drawn, moved, WHERE)
    before, after = (int(one.array.sum()) * one.grid.voxel_ml for one in (drawn, moved))
    assert noted.numbers["before_ml"] == pytest.approx(before, rel=1e-4)
    assert noted.numbers["change"] == pytest.approx(after / before - 1, abs=1e-4)
    assert (noted.severity == DOUBT) == (after / before < 1 - resample.DOUBTFUL)
    assert noted.numbers["outside"] == 0


@every("seed", range(40))
def test_what_a_sheared_grid_cuts_off_is_never_lost_without_a_word(
    dataset, seed: int, refused
) -> None:
    """Ellipsoids across the border: above a tenth outside, refused; above a twentieth, in doubt."""
    rng = np.random.default_rng(seed)
    image, grid = boxes(rng)
    middle = rng.uniform(-6, 6, 3)
    middle[2] = rng.choice([-1, 1]) * rng.uniform(14, 30)
    drawn = ellipsoid(grid, middle, rng.uniform(6, 12, 3))
    outside = resample.outside(drawn, image, 3)[1] / max(int(drawn.array.sum()), 1)
    moved = resample.resampled(drawn, image)
    if outside > resample.LOST:
        problem = refused(lambda: resample.volume_changes(dataset, drawn, moved, WHERE))
        assert "lose at most 10% by resampling" in problem.what
    elif outside > resample.DOUBTFUL:
        [noted] = resample.volume_changes(dataset, drawn, moved, WHERE)
        assert noted.severity == DOUBT


def test_classes_that_lose_a_little_each_are_refused_together(dataset, refused) -> None:
    grid, coarse = Grid((40, 40, 40), np.eye(4)), Grid((20, 20, 20), np.diag([2.0, 2, 2, 1]))
    ids = np.zeros(grid.shape, np.uint8)
    ids[:20], ids[20:] = 1, 2
    before, after = Volume(ids, grid), Volume(ids[::2, ::2, ::2].copy(), coarse)
    after.array[:, :, :4] = 0  # 20 % of each
    for one in (1, 2):
        alone = replace(before, array=np.where(ids == one, one, 0).astype(np.uint8))
        kept = np.where(after.array == one, one, 0).astype(np.uint8)
        noted = resample.volume_changes(dataset, alone, replace(after, array=kept), WHERE)
        assert noted[0].severity == DOUBT
    problem = refused(lambda: resample.volume_changes(dataset, before, after, WHERE))
    assert "64 to 51.2 ml of all classes" in problem.what


@pytest.mark.parametrize(("change", "warned"), [(-0.06, True), (-0.04, False)])
def test_convert_warns_of_what_resampling_took(workplace, caplog, change, warned) -> None:
    code = "class-shrunk" if warned else "class-resampled"
    numbers = {"name": "core", "before_ml": 1.0, "after_ml": 1 + change, "change": change}
    noted = findings.to_json([findings.finding(code, LABEL, **numbers, outside=0.0)])
    pairs = [cohort.pair(f"p{n}_0", findings=noted if n == 2 else "") for n in range(1, 4)]
    convert._report_oddities(cohort.DATASET, pairs)
    assert ("more than 5% of a class from the labels of 1 of 3 cases" in caplog.text) == warned
