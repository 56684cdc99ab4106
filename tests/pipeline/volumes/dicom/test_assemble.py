"""A DICOM series becomes the right volume, or is refused by name."""

from __future__ import annotations

import re
import shutil
import tarfile
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from PIL import Image
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

import datasets_spec
from pipeline import paths
from pipeline.convert import convert
from pipeline.fetch import fetch
from pipeline.labels import fusion
from pipeline.pairs import manifest, png
from pipeline.pairs.canvas import Canvas
from pipeline.params import reader as params
from pipeline.volumes import findings, volume
from pipeline.volumes import reader as volumes_reader
from pipeline.volumes.dicom import assemble, series
from pipeline.volumes.dicom import header as instance
from pipeline.volumes.dicom import pixels as dicom_pixels
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
    read = assemble.read_series(Path("series"))
    own = read.grid.from_ras(read.array)
    assert own.shape == (10, 12, 5)
    assert np.array_equal(own.transpose(2, 1, 0), pixels(5) * 2.0 - 100)
    assert read.instances == (4, 3, 2, 1, 0)


def test_a_voxel_lies_where_the_header_states(workplace: Path) -> None:
    write_series(Path("series"))
    grid = assemble.read_series(Path("series")).grid
    x, y, z, _ = grid.affine @ [3, 2, 1, 1]
    assert (x, y, z) == pytest.approx((-(-20 + 3 * 0.4), -(-30 + 2 * 0.5), 7 + 5))


def test_a_tilted_gantry_keeps_the_place_of_every_slice(workplace: Path) -> None:
    write_series(Path("series"), tilt=1.5)
    grid = assemble.read_series(Path("series")).grid
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
        (localizer, "missing along the normal 1 between"),
        (other_series, "expected one volume, got 2"),
        (gap, "expected even spacing, got steps from 5 to 10 mm"),
        (twin, "at the same"),
        (turned, "expected the orientation"),
        (placeless, "got not all of them"),
        (larger, "of (0.6, 0.4)"),
        (frames, "got 3 frames"),
    ],
)
def test_refuses_what_is_not_one_volume(
    workplace: Path, refused: Refused, change: Change, reason: str
) -> None:
    write_series(Path("series"), change=change)
    problem = refused(lambda: assemble.read_series(Path("series")))
    assert reason in str(problem)
    assert "series" in problem.where


def test_refuses_a_truncated_file(workplace: Path, refused: Refused) -> None:
    write_series(Path("series"))
    file = Path("series/00.dcm")
    file.write_bytes(file.read_bytes()[:-100])
    assert str(file) in refused(lambda: assemble.read_series(Path("series"))).where


def test_refuses_a_file_that_is_no_dicom(workplace: Path, refused: Refused) -> None:
    write_series(Path("series"))
    Path("series/extra.dcm").write_bytes(b"not a scan")
    assert "extra.dcm" in refused(lambda: assemble.read_series(Path("series"))).where


def test_leaves_a_text_beside_the_series_alone(workplace: Path) -> None:
    write_series(Path("series"))
    Path("series/readme.txt").write_text("hello")
    assert assemble.read_series(Path("series")).array.shape == (10, 12, 5)


def test_an_empty_folder_is_named(workplace: Path, refused: Refused) -> None:
    Path("series").mkdir()
    assert "expected DICOM files" in str(refused(lambda: assemble.read_series(Path("series"))))


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
    image = volumes_reader.read_image(case.image)
    truth = fusion.truth(adapter.dataset, image, case.labels, "majority")
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
            png.read_mask(paths.converted("aisd") / pair.mask, dataset.label_map)
        )
        for pair in pairs
    ]
    assert [int(ids.sum()) for ids in back] == [int(ids.sum()) for ids in drawn[::-1]]


def test_a_picture_too_few_beside_a_series_is_refused(workplace: Path, refused: Refused) -> None:
    aisd_with_dicom(pictures=4)
    adapter = datasets_spec.load("aisd")
    [case] = adapter.cases(paths.raw("aisd"))
    image = volumes_reader.read_image(case.image)
    problem = refused(lambda: fusion.truth(adapter.dataset, image, case.labels, "majority"))
    assert "series' 5 slices" in str(problem)


def test_equal_instance_numbers_cannot_place_pictures(workplace: Path, refused: Refused) -> None:
    aisd_with_dicom()
    for file in paths.raw("aisd").rglob("*.dcm"):
        content = pydicom.dcmread(file)
        content.InstanceNumber = 1
        content.save_as(file)
    adapter = datasets_spec.load("aisd")
    [case] = adapter.cases(paths.raw("aisd"))
    image = volumes_reader.read_image(case.image)
    problem = refused(lambda: fusion.truth(adapter.dataset, image, case.labels, "majority"))
    assert "an InstanceNumber of its own" in str(problem)


def test_manifest_names_the_instance_of_every_slice_and_the_findings(workplace: Path) -> None:
    masks(paths.raw("aisd") / "mask" / "0100001", 5)
    write_series(paths.raw("aisd") / "dicom" / "0100001", tilt=1.5)
    convert("aisd", settings(), workers=1)
    of_place = {
        float(header.ImagePositionPatient[2]): str(header.SOPInstanceUID)
        for header in map(pydicom.dcmread, paths.raw("aisd").rglob("*.dcm"))
    }
    pairs = manifest.read(paths.converted("aisd"))
    assert [pair.sop_instance_uid for pair in pairs] == [of_place[z] for z in sorted(of_place)]
    for pair in pairs:
        assert findings.from_json(pair.findings)[0].code == "gantry-tilt"


def test_fetch_reports_what_was_handled(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for patient in ("0100001", "0100002", "0100003"):
        masks(paths.raw("aisd") / "mask" / patient, 5)
        write_series(paths.raw("aisd") / "dicom" / patient, tilt=1.5)
    fetch("aisd", workers=1, subset=True)
    words = capsys.readouterr().out
    assert "Handled: gantry tilt in 3 volumes, such as 0100001: gantry tilt: 16.7 degrees" in words


AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]
FEET_FIRST = [1, 0, 0, 0, -1, 0]


def along(orientation: list[int]) -> Change:
    """Slices 5 mm apart along the normal of another orientation."""

    def change(header: pydicom.Dataset, number: int) -> None:
        normal = np.cross(orientation[:3], orientation[3:])
        header.ImageOrientationPatient = orientation
        header.ImagePositionPatient = (normal * 5.0 * number + [3.0, 4.0, 5.0]).tolist()

    return change


@pytest.mark.parametrize(
    ("orientation", "plane"),
    [(AXIAL, "axial"), (FEET_FIRST, "axial"), (CORONAL, "coronal"), (SAGITTAL, "sagittal")],
)
def test_every_instance_gets_its_own_pixels_back(
    workplace: Path, orientation: list[int], plane: str
) -> None:
    write_series(Path("series"), change=along(orientation))
    image = assemble.read_series(Path("series"))
    ids = (np.rint(image.array / 7).astype(np.int64) % 251).astype(np.uint8)
    back = volume.per_instance(ids, image.grid, image.uids)
    headers = {
        str(header.SOPInstanceUID): header
        for header in map(pydicom.dcmread, Path("series").iterdir())
    }
    assert set(back) == set(headers)
    for uid, header in headers.items():
        stored = header.pixel_array * 2.0 - 100
        assert np.array_equal(back[uid], np.rint(stored / 7).astype(np.int64) % 251)
    for other in ("axial", "coronal", "sagittal"):
        named = image.slice_uids(other)
        shown = volume.slices(ids, other)
        assert len(named) == len(shown)
        assert [bool(uid) for uid in named] == [other == plane] * len(named)
        for uid, drawn in zip(named, shown, strict=True):
            assert not uid or sorted(back[uid].ravel()) == sorted(drawn.ravel())


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every real scan that lies beside the project, unpacked."""
    if not DATA.is_dir():
        pytest.skip("the real scans are kept beside the project")
    folder = tmp_path_factory.mktemp("real")
    for archive in sorted(DATA.glob("*.tar.*")):
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
    return folder


def decoded(file: Path) -> np.ndarray | None:
    """Rescaled pixels by pydicom's own decoders, None where it has none."""
    header = pydicom.dcmread(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bytes beyond the picture are no matter
            stored = header.pixel_array
    except (RuntimeError, NotImplementedError):
        return None
    slope, intercept = header.get("RescaleSlope", 1), header.get("RescaleIntercept", 0)
    return (stored * float(slope) + float(intercept)).astype(np.float32)


def test_real_series_equal_simpleitk_and_pydicom(real: Path) -> None:
    folders = sorted({file.parent for file in (real).glob("PGBM-*/*/*/*.dcm")})
    assert len(folders) == 6
    for folder in folders:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        theirs: Any = sitk.GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)
        read = assemble.read_series(folder)
        assert read.findings == ()
        own = read.grid.from_ras(read.array)
        assert np.array_equal(own, theirs)
        place = {uid: index for index, uid in enumerate(read.uids)}
        for file in folder.iterdir():
            header = pydicom.dcmread(file)
            index = place[str(header.SOPInstanceUID)]
            assert np.array_equal(own[..., index].T, decoded(file))
            x, y, z = header.ImagePositionPatient
            corner = (read.grid.affine @ [0, 0, index, 1])[:3]
            assert corner == pytest.approx((-x, -y, z), abs=1e-3)


@pytest.mark.parametrize("patient", ["PGBM-001", "PGBM-008"])
def test_a_real_mask_series_lies_on_the_tumour_and_comes_back(real: Path, patient: str) -> None:
    [study] = (real / patient).iterdir()
    series = {folder.name.split("-")[1]: folder for folder in study.iterdir()}
    image = volumes_reader.read_image(series["FLAIRreg"])
    facts = datasets_spec.load("aisd").dataset
    truth = fusion.truth(facts, image, {"": series["MaskTumor"]}, "majority").ids[""]
    tumour, tissue = image.array[truth > 0], image.array[(truth == 0) & (image.array > 50)]
    assert tumour.mean() > 1.1 * tissue.mean()
    shown = volume.slices(truth, "axial")
    canvas = Canvas.fit(shown.shape[1:], volume.slice_spacing(image.grid, "axial"), 512)
    native = np.stack([canvas.native(canvas.labels(drawn)) for drawn in shown])
    mask = volumes_reader.read_image(series["MaskTumor"])
    back = volume.per_instance(volume.unslice(native, "axial"), mask.grid, mask.uids)
    files = sorted(series["MaskTumor"].iterdir())
    assert len(files) == len(back) > 20
    for file in files:
        header = pydicom.dcmread(file)
        assert np.array_equal(back[str(header.SOPInstanceUID)], header.pixel_array)


@pytest.mark.parametrize(("folder", "degrees"), [("minus18.5", 18.5), ("plus16.5", 16.5)])
def test_a_real_tilted_phantom_keeps_the_place_of_every_slice(
    real: Path, folder: str, degrees: float
) -> None:
    [place] = real.rglob(folder)
    read = assemble.read_series(place)
    assert f"gantry tilt: {degrees} degrees" in findings.texts(read.findings)
    for file in place.iterdir():
        header = pydicom.dcmread(file)
        index = read.uids.index(str(header.SOPInstanceUID))
        x, y, z = header.ImagePositionPatient
        corner = (read.grid.affine @ [0, 0, index, 1])[:3]
        assert corner == pytest.approx((-x, -y, z), abs=1e-6)
        assert np.array_equal(read.grid.from_ras(read.array)[..., index].T, decoded(file))


def alone(file: Path, folder: Path) -> Path:
    """A folder that holds one file only."""
    folder.mkdir()
    shutil.copy(file, folder)
    return folder


def test_a_real_head_ct_is_the_same_in_every_lossless_syntax(real: Path, tmp_path: Path) -> None:
    names = ("UNC", "RLE", "JPLL", "JLSL", "J2KR")
    volumes = [assemble.read_series(alone(real / f"CT2_{name}", tmp_path / name)) for name in names]
    for other in volumes[1:]:
        assert np.array_equal(other.array, volumes[0].array)
        assert np.array_equal(other.grid.affine, volumes[0].grid.affine)
    assert np.array_equal(
        volumes[0].grid.from_ras(volumes[0].array)[..., 0].T, decoded(real / "CT2_UNC")
    )
    lossy = assemble.read_series(alone(real / "CT2_JLSN", tmp_path / "JLSN"))
    assert "lossy-compression" in {one.code for one in lossy.findings}
    assert 0 < np.abs(lossy.array - volumes[0].array).max() <= 5


def test_a_real_mr_decodes_alike_in_nine_syntaxes_but_is_a_mosaic(
    real: Path, tmp_path: Path, refused: Refused
) -> None:
    [folder] = real.rglob("dcm_qa_ts")
    files = sorted(folder.glob("*.dcm"))
    headers = [instance.read(file) for file in files]
    pictures = [dicom_pixels.pixels(one) for one in headers if isinstance(one, instance.Instance)]
    assert len(pictures) == 9
    assert len({one.syntax for one in headers if isinstance(one, instance.Instance)}) == 7
    for picture in pictures:
        assert np.array_equal(picture, decoded(files[0]))
    one = alone(files[0], tmp_path / "one")
    assert "mosaic" in str(refused(lambda: assemble.read_series(one)))


PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
SHIPPED = sorted(path for path in PYDICOM.rglob("*") if path.is_file())
READ = re.compile(
    r"693_J2KI|CT_small|J2K_pixelrep|MR_small|examples_overlay|77654033/CT|CT5N|98892003/MR"
)


def test_pydicom_ships_files_to_read() -> None:
    assert sum(bool(READ.search(file.as_posix())) for file in SHIPPED) >= 30


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.relative_to(PYDICOM).as_posix())
def test_pydicoms_files_are_read_right_or_refused(
    file: Path, tmp_path: Path, refused: Refused
) -> None:
    folder = alone(file, tmp_path / "one")
    if not READ.search(file.as_posix()):
        assert refused(lambda: assemble.read_series(folder)).what
        return
    read = assemble.read_series(folder)
    own = read.grid.from_ras(read.array)[..., 0].T
    theirs = sitk.ReadImage(str(file), imageIO="GDCMImageIO")
    assert np.array_equal(own, sitk.GetArrayFromImage(theirs)[0].astype(np.float32))
    by_pydicom = decoded(file)
    assert by_pydicom is None or np.array_equal(own, by_pydicom)


def test_padding_is_settled_slice_by_slice(workplace: Path) -> None:
    count = 11

    def wide(header: pydicom.Dataset, number: int) -> None:
        header.Rows = header.Columns = 300
        header.PixelPaddingValue = -2000
        values = np.full((300, 300), 100 + number, np.int16)
        values[:3] = -2000
        header.PixelData = values.tobytes()
        header.Modality = "MR"  # the padding of a CT stays, where it lies in air
        header.RescaleSlope, header.RescaleIntercept = 1, 0

    write_series(Path("series"), count, wide)
    chosen = series.only_volume(Path("series"))
    tracemalloc.start()
    read = assemble.read(chosen)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read.array.min() == 100
    assert read.array.max() == 99 + count
    assert peak < 1.6 * read.array.nbytes
