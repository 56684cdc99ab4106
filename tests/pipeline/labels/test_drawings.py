"""DICOM SEG and RTSTRUCT as labels: on plain, tilted, uneven and oblique series, by name."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import DeflatedExplicitVRLittleEndian
from scipy.ndimage import gaussian_filter

from datasets_spec.contract import Dataset, Label, LabelMap, Licence, Problem, Source, Window
from model.delivery import seg
from pipeline.labels import decode, fusion
from pipeline.labels.decode import Drawn
from pipeline.params.limits import Limits
from pipeline.sources import tally
from pipeline.volumes import reader
from pipeline.volumes.dicom import structures as rtstruct
from pipeline.volumes.dicom.header import Instance
from pipeline.volumes.findings import DOUBT, HANDLED
from pipeline.volumes.volume import Volume
from tests.model.delivery import series
from tests.support import outlines
from tests.support.outlines import Outline

SHAPE = (6, 40, 32)
ABOUT = seg.About("model", "ab" * 32, "0.1.0", "drawn by a test")


def oblique(header: pydicom.Dataset, number: int) -> None:
    """Slices that are turned about all axes."""
    turn = np.linalg.qr(np.array([[1.0, 0.2, -0.1], [-0.3, 1.0, 0.3], [0.2, -0.2, 1.0]]))[0]
    turn *= np.sign(np.diag(turn))
    header.ImageOrientationPatient = np.round([*turn[:, 0], *turn[:, 1]], 6).tolist()
    normal = np.cross(header.ImageOrientationPatient[:3], header.ImageOrientationPatient[3:])
    header.ImagePositionPatient = np.round(normal * 5.0 * number, 6).tolist()


def uneven(header: pydicom.Dataset, number: int) -> None:
    """Two thicknesses, and a gap between them."""
    header.ImagePositionPatient[2] = [0, 10, 20, 35, 40, 45][number]
    header.SliceThickness = 10 if number < 3 else 5


KINDS = {
    "plain": {},
    "tilted": {"tilt": 18.5},
    "uneven": {"change": uneven},
    "oblique": {"change": oblique},
}
any_series = pytest.mark.parametrize("how", KINDS)


def mask(classes: int = 2, seed: int = 0, shape=SHAPE) -> np.ndarray:
    """Blobs (slices, rows, columns) of so many classes, with holes and in several pieces."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.normal(size=(classes, *shape)), (0, 0.6, 3, 3))
    ids = np.where(fields.max(axis=0) > 0.04, fields.argmax(axis=0) + 1, 0).astype(np.uint8)
    ids[:, :2], ids[0] = 0, 0
    assert set(np.unique(ids)) == set(range(classes + 1))
    return ids


@pytest.fixture
def dataset() -> Dataset:
    terms = Licence("CC BY 4.0", redistribute=True, commercial=True)
    source = Source("https://example.org", terms, "Someone, 2026", instructions="Ask them.")
    return Dataset("Some scans", "CT", series.label_map(2), source, Window(40, 80))


def named(dataset: Dataset, *names: tuple[str, ...]) -> Dataset:
    """The dataset with other names of its classes, background first."""
    labels = [
        replace(label, names=name) for label, name in zip(dataset.label_map, names, strict=True)
    ]
    return replace(dataset, label_map=LabelMap(tuple(labels)))


@pytest.fixture
def slices(tmp_path: Path) -> Callable[[str], list[Instance]]:
    def write(how: str) -> list[Instance]:
        return list(series.write(tmp_path / "series", shape=SHAPE, **KINDS[how]))

    return write


def read(dataset: Dataset, file: Path, image: Volume) -> Drawn:
    return decode.drawn(dataset, image, {"": file})


def as_nifti(file: Path, scan: Volume, order: tuple[int, int, int]) -> Volume:
    """The scan as a converter may store it, its axes in another order and two of them turned."""
    native = nib.Nifti1Image(scan.grid.from_ras(scan.array).astype(np.float32), scan.grid.affine)
    turn = np.array([[order[0], -1], [order[1], 1], [order[2], -1]])
    nib.save(native.as_reoriented(turn), file)
    return reader.read_image(file)


def stored(drawn: Drawn, image: Volume) -> np.ndarray:
    """Class ids (slices, rows, columns), as the instances store their pixels."""
    return image.grid.from_ras(drawn.ids[""]).transpose(2, 1, 0)


def by_highdicom(
    file: Path, slices: list[Instance], shares: np.ndarray, how: str = "FRACTIONAL"
) -> Path:
    """A SEG of shares (slices, rows, columns, segments) as highdicom writes it."""
    highdicom = pytest.importorskip("highdicom", reason="the extra seg is not installed")
    codes = highdicom.sr.CodedConcept
    segments = [
        highdicom.seg.SegmentDescription(
            number,
            f"class_{number}",
            codes("85756007", "SCT", "Tissue"),
            codes("50960005", "SCT", "Hemorrhage"),
            "MANUAL",
        )
        for number in range(1, shares.shape[-1] + 1)
    ]
    made = highdicom.seg.Segmentation(
        [pydicom.dcmread(one.file) for one in slices],
        shares,
        how,
        segments,
        series_instance_uid=pydicom.uid.generate_uid(),
        series_number=2,
        sop_instance_uid=pydicom.uid.generate_uid(),
        instance_number=1,
        manufacturer="",
        manufacturer_model_name="",
        software_versions="",
        device_serial_number="",
    )
    made.save_as(file)
    return file


# --- DICOM SEG -------------------------------------------------------------------------------


@any_series
@pytest.mark.parametrize("kind", ["binary", "labelmap"])
def test_a_seg_reads_back_as_it_was_written(tmp_path, dataset, slices, how, kind) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices(how), mask()
    file = tmp_path / "label"  # no name tells what it is
    seg.write(file, source, ids, dataset.label_map, ABOUT, kind)
    image = outlines.volume_of(source)
    assert (image.uneven is not None) == (how == "uneven")
    drawn = read(dataset, file, image)
    np.testing.assert_array_equal(stored(drawn, image), ids)
    assert drawn.findings == ()


@any_series
def test_a_fractional_seg_is_drawn_where_the_share_is_enough(
    tmp_path, dataset, slices, how
) -> None:
    source = slices(how)
    one = gaussian_filter((mask(1) > 0).astype(float), (0, 1, 1))
    file = by_highdicom(tmp_path / "seg.dcm", source, np.stack([one, (1 - one) / 3], axis=-1))
    image = outlines.volume_of(source)
    stated = np.rint(one * 255)
    for fraction in (0.5, 0.25):
        drawn = read(replace(dataset, fraction=fraction, later_wins=True), file, image)
        other = np.rint((1 - one) / 3 * 255) >= 255 * fraction
        expected = np.where(other, 2, stated >= 255 * fraction)
        np.testing.assert_array_equal(stored(drawn, image), expected)
        [noted, *_] = drawn.findings
        assert (noted.code, noted.severity) == ("fractional", HANDLED)
        assert noted.numbers == {"threshold": fraction}


@pytest.mark.parametrize("how", ["plain", "tilted"])
def test_a_seg_that_refers_to_nothing_is_placed_by_its_positions(
    tmp_path, dataset, slices, how
) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices(how), mask()
    seg.write(tmp_path / "seg.dcm", source, ids, dataset.label_map, ABOUT)
    content = pydicom.dcmread(tmp_path / "seg.dcm")
    for frame in content.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    content.save_as(tmp_path / "seg.dcm")
    image = outlines.volume_of(source)
    drawn = read(dataset, tmp_path / "seg.dcm", image)
    np.testing.assert_array_equal(stored(drawn, image), ids)
    assert drawn.findings == ()


def test_a_seg_of_other_pictures_at_the_same_places_is_taken_in_doubt(
    tmp_path, dataset, slices
) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices("plain"), mask()
    strangers = [replace(one, uid=f"1.2.{number}") for number, one in enumerate(source)]
    seg.write(tmp_path / "seg.dcm", strangers, ids, dataset.label_map, ABOUT)
    image = outlines.volume_of(source)
    drawn = read(dataset, tmp_path / "seg.dcm", image)
    np.testing.assert_array_equal(stored(drawn, image), ids)
    [doubt] = drawn.findings
    assert (doubt.code, doubt.severity) == ("frames-by-position", DOUBT)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("how", ["plain", "tilted", "oblique"])
def test_a_seg_lies_on_the_nifti_that_was_made_of_the_series(
    tmp_path, dataset, slices, how, order
) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices(how), mask()
    seg.write(tmp_path / "seg.dcm", source, ids, dataset.label_map, ABOUT)
    series_image = outlines.volume_of(source)
    image = as_nifti(tmp_path / "image.nii", series_image, order)
    drawn = read(dataset, tmp_path / "seg.dcm", image)
    expected = series_image.grid.to_ras(ids.transpose(2, 1, 0))
    np.testing.assert_array_equal(drawn.ids[""], expected)


def cropped(file: Path, rows: slice, columns: slice, turned: bool = False) -> None:
    """Cut the frames of a SEG, and let its rows run along the image's columns."""
    content = pydicom.dcmread(file)
    frames = content.pixel_array.reshape(-1, content.Rows, content.Columns)[:, rows, columns]
    [shared] = content.SharedFunctionalGroupsSequence
    down, across = shared.PixelMeasuresSequence[0].PixelSpacing
    orientation = shared.PlaneOrientationSequence[0]
    axes = np.array(orientation.ImageOrientationPatient).reshape(2, 3)
    for group in content.PerFrameFunctionalGroupsSequence:
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient)
        position += axes[0] * across * (columns.start or 0) + axes[1] * down * (rows.start or 0)
        group.PlanePositionSequence[0].ImagePositionPatient = np.round(position, 6).tolist()
    if turned:
        frames = frames.transpose(0, 2, 1)
        orientation.ImageOrientationPatient = axes[::-1].ravel().tolist()
    content.Rows, content.Columns = frames.shape[1:]
    bits = np.packbits(frames.ravel(), bitorder="little").tobytes()
    content.PixelData = bits + b"\0" * (len(bits) % 2)
    content.save_as(file)


@pytest.mark.parametrize("turned", [False, True])
def test_a_seg_of_some_of_the_pixels_in_other_order_is_put_where_they_are(
    tmp_path, dataset, slices, turned
) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices("tilted"), mask()
    file = tmp_path / "seg.dcm"
    seg.write(file, source, ids, dataset.label_map, ABOUT)
    cropped(file, slice(3, 33), slice(5, 26), turned)
    image = outlines.volume_of(source)
    expected = np.zeros_like(ids)
    expected[:, 3:33, 5:26] = ids[:, 3:33, 5:26]
    np.testing.assert_array_equal(stored(read(dataset, file, image), image), expected)


@pytest.mark.parametrize("how", ["plain", "tilted"])
def test_a_seg_on_finer_pixels_is_refused_or_resampled(
    tmp_path, dataset, slices, how, refused
) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices(how), mask()
    image = outlines.volume_of(source)
    half = [
        replace(
            one,
            shape=(2 * SHAPE[1], 2 * SHAPE[2]),
            spacing=(one.spacing[0] / 2, one.spacing[1] / 2),
            position=tuple(outlines.on_slice(one, np.array([[-0.25, -0.25]]))[0]),
        )
        for one in source
    ]
    finer = ids.repeat(2, axis=1).repeat(2, axis=2)
    seg.write(tmp_path / "seg.dcm", half, finer, dataset.label_map, ABOUT)
    problem = refused(lambda: read(dataset, tmp_path / "seg.dcm", image))
    assert problem.where.endswith("seg.dcm")
    assert "frames that are slices of the image" in problem.what
    assert "resample_labels" in problem.remedy
    spec = replace(dataset, resample_labels=True)
    drawn = read(spec, tmp_path / "seg.dcm", image)
    np.testing.assert_array_equal(stored(drawn, image), ids)
    assert [one.code for one in drawn.findings] == ["resampled", *["class-resampled"] * 2]


def test_frames_off_the_slices_of_an_uneven_series_are_refused(
    tmp_path, dataset, slices, refused
) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source = slices("uneven")
    moved = [
        replace(one, uid=f"1.2.{number}", position=(*one.position[:2], 5.0 * number))
        for number, one in enumerate(source)
    ]
    seg.write(tmp_path / "seg.dcm", moved, mask(), dataset.label_map, ABOUT)
    spec = replace(dataset, resample_labels=True)
    problem = refused(lambda: read(spec, tmp_path / "seg.dcm", outlines.volume_of(source)))
    assert "got a frame of pixels that lie up to" in problem.what


def overlapping(tmp_path: Path, source: list[Instance]) -> tuple[Path, np.ndarray]:
    """A SEG of two discs, of which 2 x 36 voxels are of both."""
    both = np.zeros((*SHAPE, 2), np.uint8)
    both[2:4, 5:20, 5:20, 0], both[2:4, 14:30, 14:30, 1] = 1, 1
    assert int(both.all(axis=-1).sum()) == 72
    return by_highdicom(tmp_path / "seg.dcm", source, both, "BINARY"), both


def test_voxels_of_two_classes_are_refused_with_their_count_or_the_later_class_is_drawn(
    tmp_path, dataset, slices, refused
) -> None:
    source = slices("plain")
    file, both = overlapping(tmp_path, source)
    image = outlines.volume_of(source)
    problem = refused(lambda: read(dataset, file, image))
    assert "72 of class_1 and class_2" in problem.what
    assert "later_wins" in problem.remedy
    drawn = read(replace(dataset, later_wins=True), file, image)
    np.testing.assert_array_equal(stored(drawn, image), np.where(both[..., 1], 2, both[..., 0]))
    assert [one.numbers for one in drawn.findings] == [{"voxels": 72}]


def test_several_segments_can_be_one_class(tmp_path, dataset, slices) -> None:
    source = slices("plain")
    file, both = overlapping(tmp_path, source)
    image = outlines.volume_of(source)
    spec = named(dataset, ("background",), ("other",), (" Class_1", "CLASS_2"))
    drawn = read(spec, file, image)
    np.testing.assert_array_equal(stored(drawn, image), 2 * both.any(axis=-1))


def test_an_unknown_segment_is_refused_with_all_that_are_there_or_left_out(
    tmp_path, dataset, slices, refused
) -> None:
    source = slices("plain")
    file, both = overlapping(tmp_path, source)
    image = outlines.volume_of(source)
    spec = named(dataset, ("background",), ("class_1",), ("other",))
    for ask in (
        lambda: read(spec, file, image),
        lambda: fusion.truth(spec, image, {"": file}, "majority"),
    ):
        problem = refused(ask)
        assert "'class_2' among 'class_1' (Hemorrhage), 'class_2' (Hemorrhage)" in problem.what
        assert "Label.names" in problem.remedy
    assert "'class_2'" in tally.read(spec, file).doubt
    for others in ("class_2", "*"):
        left = named(dataset, ("background", others), ("class_1",), ("other",))
        drawn = read(left, file, image)
        np.testing.assert_array_equal(stored(drawn, image), both[..., 0])
        assert [one.numbers for one in drawn.findings] == [{"ignored": 1, "of": 2}]
        assert tally.read(left, file).shown == {"class_1"}


def test_a_seg_without_anything_drawn_is_background(tmp_path, dataset, slices) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source = slices("tilted")
    for kind in ("binary", "labelmap"):
        file = tmp_path / f"{kind}.dcm"
        seg.write(file, source, np.zeros(SHAPE, np.uint8), dataset.label_map, ABOUT, kind)
        assert not read(dataset, file, outlines.volume_of(source)).ids[""].any()


@pytest.mark.parametrize("packed", ["deflated.dcm", "seg.dcm.gz"])
def test_a_deflated_or_packed_seg_is_read(tmp_path, dataset, slices, packed) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices("plain"), mask()
    seg.write(tmp_path / "seg.dcm", source, ids, dataset.label_map, ABOUT)
    if packed.endswith(".gz"):
        (tmp_path / packed).write_bytes(gzip.compress((tmp_path / "seg.dcm").read_bytes()))
    else:
        content = pydicom.dcmread(tmp_path / "seg.dcm")
        content.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        content.save_as(tmp_path / packed)
    image = outlines.volume_of(source)
    np.testing.assert_array_equal(stored(read(dataset, tmp_path / packed, image), image), ids)


# --- RTSTRUCT --------------------------------------------------------------------------------


def drawn_as_contours(file: Path, source, ids: np.ndarray, referring: bool = True) -> Path:
    regions = {
        f"class_{number}": outlines.outlines_of(source, ids == number, referring)
        for number in range(1, int(ids.max()) + 1)
    }
    return outlines.write(file, regions)


@any_series
@pytest.mark.parametrize("referring", [True, False])
def test_the_contours_of_a_mask_are_that_mask(tmp_path, dataset, slices, how, referring) -> None:
    source, ids = slices(how), mask()
    image = outlines.volume_of(source)
    file = drawn_as_contours(tmp_path / "rt", source, ids, referring)
    drawn = read(dataset, file, image)
    np.testing.assert_array_equal(stored(drawn, image), ids)
    [noted] = drawn.findings
    assert (noted.code, noted.severity) == ("contours-rasterised", HANDLED)
    assert noted.numbers["slices"] == 5
    assert tally.read(dataset, file).shown == {"class_1", "class_2"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("how", ["plain", "tilted", "oblique"])
def test_contours_lie_on_the_nifti_that_was_made_of_the_series(
    tmp_path, dataset, slices, how, order
) -> None:
    source, ids = slices(how), mask()
    file = drawn_as_contours(tmp_path / "rt", source, ids)
    series_image = outlines.volume_of(source)
    image = as_nifti(tmp_path / "image.nii", series_image, order)
    expected = series_image.grid.to_ras(ids.transpose(2, 1, 0))
    np.testing.assert_array_equal(read(dataset, file, image).ids[""], expected)


@any_series
@pytest.mark.parametrize("digits", [4, 2])
def test_outlines_through_the_centres_of_the_outermost_pixels_are_that_mask_too(
    tmp_path, dataset, slices, how, digits
) -> None:
    """As OpenCV traces a mask: half of its border would be lost by the rule for other outlines."""
    source = slices(how)
    thick = cv2.dilate(mask(1).transpose(1, 2, 0), np.ones((3, 3))).transpose(2, 0, 1)
    contours = []
    for one, drawn in zip(source, thick, strict=True):
        traced, _ = cv2.findContours(drawn, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        for outline in traced:
            points = outlines.on_slice(one, outline[:, 0, ::-1].astype(float))
            contours.append(Outline(points, uid=one.uid))
    file = outlines.write(tmp_path / "rt", {"class_1": contours}, digits)
    image = outlines.volume_of(source)
    drawn = read(dataset, file, image)
    assert "contours-centred" in codes(drawn)
    np.testing.assert_array_equal(stored(drawn, image), thick)


def square(one: Instance, low: float, high: float, kind="CLOSED_PLANAR", off=0.0) -> Outline:
    corners = np.array([(low, low), (low, high), (high, high), (high, low)])
    points = outlines.on_slice(one, corners)
    return Outline(points + np.array([0, 0, off]), kind)


def codes(drawn: Drawn) -> dict[str, dict]:
    return {one.code: dict(one.numbers) for one in drawn.findings}


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_an_inner_contour_is_a_hole(tmp_path, dataset, slices, kind) -> None:
    source = slices("plain")
    image = outlines.volume_of(source)
    contours = [square(source[2], 4.5, 24.5, kind), square(source[2], 9.5, 14.5, kind)]
    file = outlines.write(tmp_path / "rt", {"class_1": contours})
    expected = np.zeros(SHAPE)
    expected[2, 5:25, 5:25], expected[2, 10:15, 10:15] = 1, 0
    np.testing.assert_array_equal(stored(read(dataset, file, image), image), expected)


@pytest.mark.parametrize("again", [slice(None), slice(None, None, -1)])
def test_a_contour_that_is_there_twice_is_drawn_once(tmp_path, dataset, slices, again) -> None:
    """By even-odd alone, both together would enclose nothing."""
    source = slices("plain")
    image = outlines.volume_of(source)
    ring = [square(source[2], 4.5, 24.5), square(source[2], 9.5, 14.5)]
    twice = [Outline(np.roll(one.points[again], 1, axis=0)) for one in ring]
    file = outlines.write(tmp_path / "rt", {"class_1": [*ring, *twice]})
    drawn = read(dataset, file, image)
    assert int((stored(drawn, image) == 1).sum()) == 400 - 25
    assert codes(drawn)["contours-repeated"] == {"count": 2}
    assert "contours-cross" not in codes(drawn)


def test_points_lines_repeats_and_crossings_are_counted(tmp_path, dataset, slices) -> None:
    source = slices("plain")
    image = outlines.volume_of(source)
    contours = [
        square(source[1], 4.5, 14.5),
        square(source[1], 4.5, 14.5),
        square(source[1], 9.5, 19.5),
        square(source[3], 4.5, 14.5),
        square(source[3], 4.5, 14.5, "OPEN_PLANAR"),
        Outline(outlines.on_slice(source[3], np.array([[3.0, 3.0]])), "POINT"),
    ]
    file = outlines.write(tmp_path / "rt", {"class_1": contours})
    drawn = read(dataset, file, image)
    assert codes(drawn) == {
        "contours-rasterised": {"contours": 4, "slices": 2},
        "contours-open": {"count": 2, "of": 6},
        "contours-repeated": {"count": 1},
        "contours-cross": {"pixels": 25},
        "contours-missing": {"name": "class_1", "slices": 1},
    }
    assert int((stored(drawn, image)[1] == 1).sum()) == 100 + 100 - 2 * 25
    assert int((stored(drawn, image)[3] == 1).sum()) == 100


@pytest.mark.parametrize(
    ("points", "kind", "rasterised"),
    [
        ([[3.0, 3.0]], "POINT", False),
        ([[3.0, 3.0]], "CLOSED_PLANAR", False),
        ([[3.1, 3.1], [3.4, 3.1], [3.2, 3.4]], "CLOSED_PLANAR", True),
    ],
)
def test_a_class_whose_contours_hold_no_pixel_is_in_doubt(
    tmp_path, dataset, slices, points, kind, rasterised
) -> None:
    source = slices("plain")
    one = Outline(outlines.on_slice(source[1], np.array(points)), kind)
    file = outlines.write(tmp_path / "rt", {"class_1": [one]})
    drawn = read(dataset, file, outlines.volume_of(source))
    found = codes(drawn)
    assert not any(ids.any() for ids in drawn.ids.values())
    assert found["contours-empty"] == {"name": "class_1", "contours": 1}
    assert ("contours-rasterised" in found) == rasterised
    assert ("contours-open" in found) != rasterised


def test_points_of_no_class_are_nobodys_drawing(tmp_path, dataset, slices) -> None:
    source = slices("plain")
    isocentre = Outline(outlines.on_slice(source[1], np.array([[3.0, 3.0]])), "POINT")
    drawn_one = square(source[1], 4.5, 14.5)
    file = outlines.write(tmp_path / "rt", {"isocentre": [isocentre], "class_1": [drawn_one]})
    found = codes(read(dataset, file, outlines.volume_of(source)))
    assert set(found) == {"contours-rasterised"}


@pytest.mark.parametrize("how", ["plain", "tilted", "uneven"])
def test_contours_between_the_slices_are_refused_or_the_nearest_are_taken(
    tmp_path, dataset, slices, how, refused
) -> None:
    """Drawn every millimetre, on a scan whose slices are 5 or 10 mm apart."""
    source = slices(how)
    image = outlines.volume_of(source)
    contours = [
        square(one, 4.5, 14.5 + abs(off), off=off)
        for one in source[1:3]
        for off in (0.0, 1.0, -1.0, 2.0, -2.0)
    ]
    file = outlines.write(tmp_path / "rt", {"class_1": contours})
    problem = refused(lambda: read(dataset, file, image))
    assert "got 8 of 10 of class_1 between or beyond them" in problem.what
    assert "resample_labels" in problem.remedy
    drawn = read(replace(dataset, resample_labels=True), file, image)
    assert int((stored(drawn, image) == 1).sum()) == 2 * 100
    assert codes(drawn)["contours-left-out"] == {"between": 8, "outside": 0, "of": 10}


def test_a_few_contours_beyond_the_slices_are_counted_and_many_are_refused(
    tmp_path, dataset, slices, refused
) -> None:
    source = slices("plain")
    image = outlines.volume_of(source)
    inside = [square(one, 4.5, 14.5) for one in source]
    many = [square(one, 20.5 + number, 22.5 + number) for one in source for number in range(5)]
    above = square(source[-1], 4.5, 14.5, off=5.0)
    file = outlines.write(tmp_path / "few", {"class_1": [*inside, *many, above]})
    drawn = read(dataset, file, image)
    assert codes(drawn)["contours-left-out"] == {"between": 0, "outside": 1, "of": 37}
    file = outlines.write(tmp_path / "many", {"class_1": [*inside, above]})
    assert "1 of 7 of class_1" in refused(lambda: read(dataset, file, image)).what


@pytest.mark.parametrize(("beside", "share"), [(1, 0.1), (3, 0.3)])
def test_what_contours_enclose_beside_the_picture_is_counted(
    tmp_path, dataset, slices, refused, beside, share
) -> None:
    source = slices("plain")
    image = outlines.volume_of(source)
    corners = np.array([(4.5, -beside - 0.5), (4.5, 9.5 - beside)])
    corners = np.vstack([corners, corners[::-1] + np.array([10, 0])])
    one = Outline(outlines.on_slice(source[2], corners))
    file = outlines.write(tmp_path / "rt", {"class_1": [one]})
    if share > 0.1:
        assert "got 30.0% of what class_1" in refused(lambda: read(dataset, file, image)).what
    else:
        clipped = codes(read(dataset, file, image))["contours-clipped"]
        assert clipped == {"name": "class_1", "share": share}


def test_regions_that_overlap_are_refused_or_the_later_class_is_drawn(
    tmp_path, dataset, slices, refused
) -> None:
    source = slices("tilted")
    image = outlines.volume_of(source)
    regions = {
        "CLASS_2 ": [square(source[2], 9.5, 14.5)],
        "class_1": [square(source[2], 4.5, 24.5)],
        "Couch": [square(source[2], 1.5, 30.5)],
    }
    file = outlines.write(tmp_path / "rt", regions)
    assert "got 'Couch' among" in refused(lambda: read(dataset, file, image)).what
    spec = named(dataset, ("background", "*"), ("class_1",), ("class_2",))
    assert "25 of class_1 and class_2" in refused(lambda: read(spec, file, image)).what
    drawn = read(replace(spec, later_wins=True), file, image)
    assert np.bincount(stored(drawn, image)[2].ravel()).tolist()[1:] == [400 - 25, 25]
    assert codes(drawn)["segments-ignored"] == {"ignored": 1, "of": 3}


def test_the_structure_set_that_pydicom_ships_is_read() -> None:
    regions = rtstruct.read(Path(get_testdata_file("rtstruct.dcm")))
    assert [(one.name, len(one.contours)) for one in regions] == [
        ("patient", 3),
        ("Isocenter 1", 1),
        ("Isocenter 2", 1),
    ]
    assert [all(each.encloses for each in one.contours) for one in regions] == [True, False, False]
    points = regions[0].contours[0].points
    stored = pydicom.dcmread(get_testdata_file("rtstruct.dcm"), force=True)
    first = stored.ROIContourSequence[0].ContourSequence[0].ContourData
    np.testing.assert_array_equal(points.ravel(), [float(one) for one in first])


# --- where they lie, and what is damaged -----------------------------------------------------


def test_a_folder_is_read_as_the_one_drawing_in_it(tmp_path, dataset, slices, refused) -> None:
    source, ids = slices("plain"), mask()
    image = outlines.volume_of(source)
    folder = tmp_path / "series"  # beside the pictures
    drawn_as_contours(folder / "drawn.dcm", source, ids)
    assert reader.read_image(folder).array.shape == image.array.shape
    np.testing.assert_array_equal(stored(read(dataset, folder, image), image), ids)
    drawn_as_contours(folder / "again.dcm", source, ids)
    problem = refused(lambda: read(dataset, folder, image))
    assert "expected one DICOM SEG or RTSTRUCT, got 2 (again.dcm, drawn.dcm)" in problem.what


def test_several_raters_may_draw_in_several_ways(tmp_path, dataset, slices) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices("tilted"), mask()
    image = outlines.volume_of(source)
    seg.write(tmp_path / "seg.dcm", source, ids, dataset.label_map, ABOUT)
    drawn_as_contours(tmp_path / "rt.dcm", source, ids)
    grid = image.grid
    nib.save(nib.Nifti1Image(ids.transpose(2, 1, 0), grid.affine), tmp_path / "label.nii")
    labels = {name: tmp_path / name for name in ("seg.dcm", "rt.dcm", "label.nii")}
    truth = fusion.truth(dataset, image, labels, "majority")
    assert truth.agreement == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(truth.ids[""], grid.to_ras(ids.transpose(2, 1, 0)))


@pytest.mark.parametrize("kind", ["seg", "rt"])
def test_a_damaged_drawing_is_refused_by_name(tmp_path, dataset, slices, kind, refused) -> None:
    """Cut off anywhere, or with any byte changed, it is read or refused, and nothing else."""
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices("plain"), mask()
    image = outlines.volume_of(source)
    file = tmp_path / kind
    if kind == "seg":
        seg.write(file, source, ids, dataset.label_map, ABOUT)
    else:
        drawn_as_contours(file, source, ids)
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    refusals = []
    for _ in range(40):
        at = int(rng.integers(200, len(content)))
        other = bytes([int(rng.integers(256))])
        cut = rng.random() < 0.3
        file.write_bytes(content[:at] if cut else content[:at] + other + content[at + 1 :])
        with contextlib.suppress(Problem):
            read(dataset, file, image)
            continue
        refusals.append(refused(lambda: read(dataset, file, image)).where)
    assert len(refusals) > 10
    assert set(refusals) == {str(file)}


def test_a_drawing_larger_than_the_limits_is_refused(tmp_path, dataset, slices, refused) -> None:
    pytest.importorskip("highdicom", reason="the extra seg is not installed")
    source, ids = slices("plain"), mask()
    image = outlines.volume_of(source)
    seg.write(tmp_path / "seg", source, ids, dataset.label_map, ABOUT)
    drawn_as_contours(tmp_path / "rt", source, ids)
    for name in ("seg", "rt"):
        problem = refused(
            lambda name=name: decode.drawn(
                dataset, image, {"": tmp_path / name}, limits=Limits(voxels=100)
            )
        )
        assert "limits.voxels" in problem.remedy


def test_names_of_segments_are_told_apart_as_they_are_compared() -> None:
    labels = [Label(0, "background", (0, 0, 0), "x"), Label(1, "one", (1, 1, 1), "x")]
    with pytest.raises(ValueError, match="name of a segment"):
        LabelMap((*labels, Label(2, "two", (2, 2, 2), "x", names=("two", " ONE "))))
    with pytest.raises(ValueError, match="no name of a segment"):
        LabelMap((labels[0], replace(labels[1], names=("*",))))
