"""Air and tissue tell whether the values of a CT are Hounsfield units, wherever they were moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

import datasets_spec
from datasets_spec.contract import Problem
from pipeline import paths
from pipeline.__main__ import main
from pipeline.convert import convert
from pipeline.fetch import fetch
from pipeline.volumes import hounsfield, reader
from pipeline.volumes.dicom import assemble
from pipeline.volumes.findings import DOUBT, HANDLED, text
from pipeline.volumes.hounsfield import RIGHT, SHIFTED, UNDECIDED
from pipeline.volumes.volume import Grid, Volume
from tests.conftest import Refused
from tests.pipeline.volumes.dicom.test_assemble import (
    PYDICOM,
    Change,
    alone,
    real,
    settings,
    write_series,
)

CT = datasets_spec.load("mbh_seg25").dataset
MR = datasets_spec.load("virtual_mni152").dataset
Made = Callable[[np.ndarray], np.ndarray]
__all__ = ["real"]  # a fixture


def head(noise: float = 5) -> np.ndarray:
    """HU (64, 60, 12) of a head: air, fat, skull, brain with its fluid, and noise."""
    rng = np.random.default_rng(7)
    x, y, z = np.ogrid[-1:1:64j, -1:1:60j, -0.6:0.6:12j]
    far = np.sqrt(x**2 + y**2 + z**2)
    hu = np.select(
        [far < 0.2, far < 0.62, far < 0.7, far < 0.78], [8.0, 33.0, 1000.0, -90.0], -1000
    )
    hu = hu + (far >= 0.62) * (far < 0.7) * rng.normal(0, 250, hu.shape)
    return (hu + rng.normal(0, noise, hu.shape)).astype(np.float32)


HEAD = head()
BRAIN = (HEAD > -30) & (HEAD < 80)


def padded(value: float) -> Made:
    """Outside of the scanner's circle lies one value."""

    def made(array: np.ndarray) -> np.ndarray:
        x, y = np.ogrid[-1:1:64j, -1:1:60j]
        return np.where((x**2 + y**2 > 0.9)[..., None], value, array)

    return made


def stripped(background: float) -> Made:
    return lambda array: np.where(BRAIN, array, background)


def same(array: np.ndarray) -> np.ndarray:
    return array


def cropped(array: np.ndarray) -> np.ndarray:
    return array[22:42, 20:40, 2:10]


def without_air(value: float) -> Made:
    """Air clipped or masked, as publishers do."""
    return lambda array: np.where(array < np.median(array[:4]) + 500, value, array)


KEPT: dict[str, Made] = {
    "whole": same,
    "padded with -1024": padded(-1024),
    "padded with -2000": padded(-2000),
    "padded with -3024": padded(-3024),
    "padded with 0": padded(0),
    "skull stripped on 0": stripped(0),
    "skull stripped on -1024": stripped(-1024),
    "cropped to brain": cropped,
    "air is one value": lambda array: np.maximum(array, -1000),
    "air masked": without_air(-1024),
    "noisy": lambda array: array + np.random.default_rng(0).normal(0, 50, array.shape),
    "unsigned and rounded": lambda array: np.rint(array).astype(np.int16),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_ct_in_hu_is_right_however_it_was_cut(name: str) -> None:
    verdict = hounsfield.judge(KEPT[name](HEAD))
    assert verdict.kind == RIGHT, verdict


@pytest.mark.parametrize("shift", [1024, 1000, 32768, -1024])
def test_a_moved_ct_is_named_with_the_amount(shift: int) -> None:
    verdict = hounsfield.judge(HEAD + shift)
    assert verdict.kind == SHIFTED
    assert abs(verdict.shift - shift) < 40


@pytest.mark.parametrize(
    "cut",
    [
        padded(-1024),
        padded(-2000),
        padded(0),
        stripped(0),
        cropped,
        lambda array: np.maximum(array, 0),
        KEPT["noisy"],
    ],
)
def test_no_cut_hides_that_1024_was_added(cut: Made) -> None:
    verdict = hounsfield.judge(cut(HEAD + 1024))
    assert verdict.kind == SHIFTED, verdict
    assert abs(verdict.shift - 1024) < 40


@pytest.mark.parametrize(
    "array",
    [
        np.clip(HEAD, 0, 80) * 255 / 80,
        (HEAD - HEAD.min()) / np.ptp(HEAD),
        HEAD * 2,
        np.zeros((40, 40, 4)),
        np.zeros((1, 1, 1)),
        np.arange(4000.0).reshape(20, 20, 10),
        np.random.default_rng(0).normal(600, 200, (30, 30, 10)),
        HEAD[:3, :3, :3],
        np.full((20, 20, 20), 1e30),
    ],
)
def test_what_is_no_ct_is_undecided_in_numbers(array: np.ndarray) -> None:
    verdict = hounsfield.judge(array)
    assert verdict.kind == UNDECIDED, verdict
    assert f"values from {array.min():.4g} to {array.max():.4g}" in verdict.evidence


def test_a_large_volume_is_judged_by_a_part_of_it() -> None:
    large = np.broadcast_to(np.repeat(HEAD, 8, axis=0)[..., None, :], (512, 60, 20, 12))
    assert hounsfield.judge(large).kind == RIGHT
    assert hounsfield._sample(large).size < 2_000_000


def volume_of(array: np.ndarray, **facts: object) -> Volume:
    return Volume(array, Grid(array.shape, np.eye(4)), **facts)


def test_a_moved_volume_is_refused_with_what_to_do(refused: Refused) -> None:
    moved = volume_of(HEAD + 1024)
    problem = refused(lambda: hounsfield.confirmed(CT, moved, Path("image.nii.gz")))
    assert problem.where == "image.nii.gz"
    assert "about +10" in problem.what
    assert "1024" in problem.remedy


def test_a_doubt_is_a_finding_and_a_right_volume_has_none() -> None:
    file = Path("image.nii.gz")
    assert hounsfield.confirmed(CT, volume_of(HEAD), file).findings == ()
    [finding] = hounsfield.confirmed(CT, volume_of(HEAD * 2), file).findings
    assert text(finding).startswith("HU in doubt: no air near -1000 HU")
    assert finding.severity == DOUBT


@pytest.mark.parametrize("array", [HEAD + 1024, HEAD * 2])
def test_stored_values_without_rescale_have_to_be_right(
    array: np.ndarray, refused: Refused
) -> None:
    bare = volume_of(array, unscaled=True)
    assert refused(lambda: hounsfield.judged(bare, "series")).remedy
    assert hounsfield.judged(volume_of(HEAD, unscaled=True), "series").findings == ()


@pytest.mark.parametrize(
    ("dataset", "modality"), [(CT, "MR"), (CT, "PT"), (CT, "CR"), (MR, "CT"), (MR, "PT")]
)
def test_a_series_of_another_modality_is_refused(
    dataset: datasets_spec.contract.Dataset, modality: str, refused: Refused
) -> None:
    series = volume_of(HEAD, modality=modality)
    problem = refused(lambda: hounsfield.confirmed(dataset, series, Path("series")))
    assert f"expected {dataset.modality}" in problem.what
    assert f"modality {modality}" in problem.what


@pytest.mark.parametrize("modality", ["", "OT", "CT"])
def test_a_modality_that_is_not_stated_is_no_other_one(modality: str) -> None:
    series = volume_of(HEAD, modality=modality)
    assert hounsfield.confirmed(CT, series, Path("series")) is series


def test_neither_mr_nor_windowed_pictures_are_judged() -> None:
    grey = volume_of(HEAD + 1024)
    assert hounsfield.confirmed(MR, grey, Path("t1.nii")) is grey
    assert hounsfield.confirmed(CT, grey, (Path("0.png"),)) is grey


# --- from files ------------------------------------------------------------------------------


def scanned(**values: object) -> Change:
    """Slices of the head stored as HU + 1024; None empties a tag."""

    def change(header: pydicom.Dataset, number: int) -> None:
        pixels = np.rint(HEAD[..., 2 + number].T + 1024)
        header.Rows, header.Columns = pixels.shape
        header.PixelData = pixels.astype("<i2").tobytes()
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        for name, value in values.items():
            setattr(header, name, value)

    return change


@pytest.mark.parametrize("tags", [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",)])
@pytest.mark.parametrize("how", ["empty", "absent"])
def test_a_lost_rescale_is_refused_by_every_verb(
    workplace: Path, capsys: pytest.CaptureFixture[str], tags: tuple[str, ...], how: str
) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        scanned(**dict.fromkeys(tags))(header, number)
        for tag in tags if how == "absent" else ():
            delattr(header, tag)

    series = paths.raw("aisd") / "dicom" / "0100001"
    write_series(series, change=change)
    masks = paths.raw("aisd") / "mask" / "0100001"
    masks.mkdir(parents=True)
    for number in range(5):
        Image.fromarray(np.zeros((60, 64), np.uint8)).save(masks / f"{number:03d}.png")
    assert main(["doctor", str(series)]) == 2
    assert "about +10" in capsys.readouterr().out
    for verb in (lambda: fetch("aisd", 1, subset=True), lambda: convert("aisd", settings(), 1)):
        with pytest.raises(Problem):
            verb()
        assert "about +10" in capsys.readouterr().err


def drawn(modality: str = "CT") -> Change:
    """A label on the head's grid: no HU, and of any modality."""

    def change(header: pydicom.Dataset, number: int) -> None:
        scanned(Modality=modality)(header, number)
        header.PixelData = BRAIN[..., 2 + number].T.astype("<i2").tobytes()
        del header.RescaleSlope, header.RescaleIntercept

    return change


@pytest.mark.parametrize("modality", ["CT", "MR", "OT", ""])
def test_a_label_that_is_a_series_is_not_judged_as_a_scan(workplace: Path, modality: str) -> None:
    folder = paths.raw("virtual_ncct") / "sub-01"
    write_series(folder / "ct", change=scanned())
    write_series(folder / "label", change=drawn(modality))
    convert("virtual_ncct", settings(), 1)
    assert main(["doctor", str(folder / "label")]) == 0


def test_stored_hu_without_rescale_are_taken_and_recorded(workplace: Path) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        scanned(RescaleSlope=None, RescaleIntercept=None)(header, number)
        header.PixelData = np.rint(HEAD[..., 2 + number].T).astype("<i2").tobytes()

    write_series(Path("series"), change=change)
    read = hounsfield.confirmed(CT, reader.read_image(Path("series")), Path("series"))
    [finding] = read.findings
    assert (finding.code, finding.severity) == ("no-rescale", HANDLED)


def test_a_slice_that_lost_its_intercept_is_named(workplace: Path, refused: Refused) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        scanned(**({"RescaleIntercept": None} if number == 2 else {}))(header, number)

    write_series(Path("series"), change=change)
    problem = refused(lambda: assemble.read_series(Path("series")))
    assert "mixed rescale" in problem.what
    assert "1 of 5 slices" in problem.what


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [(pydicom.uid.MRImageStorage, "MR"), (pydicom.uid.CTImageStorage, "CT")],
)
def test_an_emptied_modality_is_that_of_the_class(
    workplace: Path, sop_class: str, modality: str
) -> None:
    write_series(Path("series"), change=scanned(Modality=None, SOPClassUID=sop_class))
    assert assemble.read_series(Path("series")).modality == modality


def test_an_mr_series_in_a_ct_dataset_is_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = paths.raw("virtual_ncct") / "sub-01"
    write_series(folder / "ct", change=scanned(Modality="MR"))
    write_series(folder / "label", change=drawn())
    with pytest.raises(Problem):
        convert("virtual_ncct", settings(), 1)
    assert (
        "expected CT, as the dataset states, got a series of modality MR" in capsys.readouterr().err
    )


def test_a_nifti_of_hu_plus_1024_is_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = paths.raw("mbh_seg25") / "MBH_Train_2025_voxel-label" / "ID_0a_ID_1"
    case.mkdir(parents=True)
    for name, array in (("image", HEAD + 1024), ("label_annot_1", BRAIN)):
        nib.save(nib.Nifti1Image(array.astype(np.int16), np.eye(4)), case / f"{name}.nii.gz")
    with pytest.raises(Problem):
        convert("mbh_seg25", settings(), 1)
    assert "about +10" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm"])
def test_real_slices_of_pydicom_are_right_and_moved_ones_are_not(file: str, tmp_path: Path) -> None:
    read = assemble.read_series(alone(PYDICOM / file, tmp_path / "one")).array
    assert hounsfield.judge(read).kind == RIGHT
    assert abs(hounsfield.judge(read + 1024).shift - 1024) < 60


def test_real_scans_are_right_and_moved_ones_are_not(real: Path, tmp_path: Path) -> None:
    scans = [assemble.read_series(folder) for folder in sorted(real.glob("ct_*/*"))]
    scans.append(assemble.read_series(alone(real / "CT2_UNC", tmp_path / "one")))
    assert len(scans) == 3
    for scan in scans:
        assert hounsfield.confirmed(CT, scan, Path("scan")).findings == scan.findings
        assert hounsfield.judge(scan.array + 1024).kind == SHIFTED
