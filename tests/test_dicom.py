"""A DICOM series becomes the right volume, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import datasets_spec
from pipeline import colors, dicom, labels, manifest, params, paths
from pipeline.canvas import Canvas
from pipeline.convert import convert
from tests.conftest import PROJECT, Refused

DATA = PROJECT.parent / "shared" / "data" / "dicom"
SERIES = generate_uid(entropy_srcs=["flexunet tests"])
Change = Callable[[pydicom.Dataset, int], None]


def nothing(header: pydicom.Dataset, number: int) -> None:
    """Leave a slice as it is."""


def pixels(count: int) -> np.ndarray:
    """Values (count, 12, 10) of which no two slices are alike."""
    return np.arange(count * 120, dtype=np.int16).reshape(count, 12, 10) - 50


def write_series(folder: Path, count: int = 5, change: Change = nothing, tilt: float = 0) -> None:
    """A CT series whose file names say nothing about its order; slope 2, intercept -100."""
    folder.mkdir(parents=True)
    for number in range(count):
        header = pydicom.Dataset()
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = generate_uid(entropy_srcs=[str(folder), str(number)])
        header.SeriesInstanceUID = SERIES
        header.StudyInstanceUID = SERIES
        header.Modality = "CT"
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.InstanceNumber = count - number  # from the top of the head downwards
        header.ImagePositionPatient = [-20.0, -30.0 + tilt * number, 7.0 + 5.0 * number]
        header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        header.PixelSpacing = [0.5, 0.4]
        header.Rows, header.Columns = 12, 10
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation, header.SamplesPerPixel = 15, 1, 1
        header.PhotometricInterpretation = "MONOCHROME2"
        header.RescaleSlope, header.RescaleIntercept = 2, -100
        header.PixelData = pixels(count)[number].tobytes()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        header.file_meta.MediaStorageSOPClassUID = CTImageStorage
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        change(header, number)
        header.save_as(folder / f"{(number * 7) % 11:02d}.dcm", enforce_file_format=True)


def test_orders_slices_by_position_and_rescales(workplace: Path) -> None:
    write_series(Path("series"))
    read = dicom.read_series(Path("series"))
    own = read.grid.from_ras(read.array)
    assert own.shape == (10, 12, 5)
    assert np.array_equal(own.transpose(2, 1, 0), pixels(5) * 2.0 - 100)
    assert read.instances == (4, 3, 2, 1, 0)


def test_a_voxel_lies_where_the_header_says(workplace: Path) -> None:
    write_series(Path("series"))
    grid = dicom.read_series(Path("series")).grid
    x, y, z, _ = grid.affine @ [3, 2, 1, 1]
    assert (x, y, z) == pytest.approx((-(-20 + 3 * 0.4), -(-30 + 2 * 0.5), 7 + 5))


def test_a_tilted_gantry_keeps_the_place_of_every_slice(workplace: Path) -> None:
    write_series(Path("series"), tilt=1.5)
    grid = dicom.read_series(Path("series")).grid
    for number in range(5):
        assert (grid.affine @ [0, 0, number, 1])[:3] == pytest.approx(
            (20, 30 - 1.5 * number, 7 + 5 * number)
        )


def localizer(header: pydicom.Dataset, number: int) -> None:
    if number == 2:
        header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def other_series(header: pydicom.Dataset, number: int) -> None:
    if number == 2:
        header.SeriesInstanceUID = generate_uid()


def gap(header: pydicom.Dataset, number: int) -> None:
    if number > 2:
        header.ImagePositionPatient[2] = 7.0 + 5.0 * (number + 1)


def twin(header: pydicom.Dataset, number: int) -> None:
    if number == 2:
        header.ImagePositionPatient[2] = 7.0 + 5.0


def turned(header: pydicom.Dataset, number: int) -> None:
    if number == 2:
        header.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def placeless(header: pydicom.Dataset, number: int) -> None:
    if number == 2:
        del header.ImagePositionPatient


def larger(header: pydicom.Dataset, number: int) -> None:
    if number == 2:
        header.PixelSpacing = [0.6, 0.4]


def frames(header: pydicom.Dataset, number: int) -> None:
    if number == 2:
        header.NumberOfFrames = 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (localizer, "got a localizer"),
        (other_series, "expected one series, got 2"),
        (gap, "expected even spacing, got steps from 5 to 10 mm"),
        (twin, "at the same"),
        (turned, "expected the orientation"),
        (placeless, "found not all of them"),
        (larger, "of (0.6, 0.4)"),
        (frames, "got 3 frames"),
    ],
)
def test_refuses_what_is_not_one_volume(
    workplace: Path, refused: Refused, change: Change, reason: str
) -> None:
    write_series(Path("series"), change=change)
    problem = refused(lambda: dicom.read_series(Path("series")))
    assert reason in str(problem)
    assert "series" in problem.where


def test_refuses_a_truncated_file(workplace: Path, refused: Refused) -> None:
    write_series(Path("series"))
    file = Path("series/00.dcm")
    file.write_bytes(file.read_bytes()[:-100])
    assert str(file) in refused(lambda: dicom.read_series(Path("series"))).where


def test_refuses_a_file_that_is_no_dicom(workplace: Path, refused: Refused) -> None:
    write_series(Path("series"))
    Path("series/extra.dcm").write_bytes(b"not a scan")
    assert "extra.dcm" in refused(lambda: dicom.read_series(Path("series"))).where


def test_leaves_a_text_beside_the_series_alone(workplace: Path) -> None:
    write_series(Path("series"))
    Path("series/readme.txt").write_text("hello")
    assert dicom.read_series(Path("series")).array.shape == (10, 12, 5)


def test_an_empty_folder_is_named(workplace: Path, refused: Refused) -> None:
    Path("series").mkdir()
    assert "expected DICOM files" in str(refused(lambda: dicom.read_series(Path("series"))))


def settings() -> params.Params:
    read: params.Params = params.load("virtual_mni152", PROJECT / "params.yaml")
    return read


def masks(folder: Path, count: int) -> np.ndarray:
    """PNG masks beside a series: picture n has a block of n + 2 pixels."""
    folder.mkdir(parents=True)
    drawn = np.zeros((count, 12, 10), np.uint8)
    for number in range(count):
        drawn[number, 4, 2 : 4 + number] = 1
        Image.fromarray(drawn[number]).save(folder / f"{number:03d}.png")
    return drawn


def aisd_with_dicom(patient: str = "0100001", pictures: int = 5) -> np.ndarray:
    raw = paths.raw("aisd")
    write_series(raw / "dicom" / patient / "nested")
    return masks(raw / "mask" / patient, pictures)


def test_aisd_masks_lie_on_the_series_instance_by_instance(workplace: Path) -> None:
    drawn = aisd_with_dicom()
    adapter = datasets_spec.load("aisd")
    [case] = adapter.cases(paths.raw("aisd"))
    image = labels.read_image(case.image)
    truth = labels.truth(adapter.dataset, image, case.labels, "majority")
    own = image.grid.from_ras(truth.ids[""]).transpose(2, 1, 0)
    assert np.array_equal(own, drawn[::-1])


def test_aisd_series_converts_through_its_window(workplace: Path) -> None:
    drawn = aisd_with_dicom()
    convert("aisd", settings(), workers=1)
    dataset = datasets_spec.load("aisd").dataset
    pairs = manifest.read(paths.converted("aisd"))
    assert [pair.window for pair in pairs] == [(0.0, 80.0)] * 5
    back = [
        Canvas.of(pair.canvas).native(
            colors.read_mask(paths.converted("aisd") / pair.mask, dataset.label_map)
        )
        for pair in pairs
    ]
    assert [int(ids.sum()) for ids in back] == [int(ids.sum()) for ids in drawn[::-1]]


def test_a_picture_too_few_beside_a_series_is_refused(workplace: Path, refused: Refused) -> None:
    aisd_with_dicom(pictures=4)
    adapter = datasets_spec.load("aisd")
    [case] = adapter.cases(paths.raw("aisd"))
    image = labels.read_image(case.image)
    problem = refused(lambda: labels.truth(adapter.dataset, image, case.labels, "majority"))
    assert "series' 5 slices" in str(problem)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real scans are kept beside the project")
def test_real_series_equal_simpleitk(tmp_path: Path) -> None:
    import tarfile

    import SimpleITK as sitk

    for archive in sorted(DATA.glob("PGBM-*.tar.gz")):
        with tarfile.open(archive) as opened:
            opened.extractall(tmp_path, filter="data")
    folders = sorted({file.parent for file in tmp_path.rglob("*.dcm")})
    assert len(folders) == 6
    for folder in folders:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        theirs: Any = sitk.GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)
        read = dicom.read_series(folder)
        assert np.array_equal(read.grid.from_ras(read.array), theirs)
