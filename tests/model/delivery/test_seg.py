"""A DICOM SEG holds what was predicted, at its place, and of the source only what is demanded."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import tarfile
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.datadict import DicomDictionary
from pydicom.sr.codedict import codes
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from datasets_spec.contract import TISSUES, Problem
from model.delivery import niftis, seg, segment_codes, source_headers
from pipeline.volumes.dicom import assemble
from pipeline.volumes.dicom import series as dicom_series
from pipeline.volumes.dicom.header import Instance
from tests.conftest import PROJECT
from tests.model.delivery import series
from tests.pipeline.volumes.dicom import enhanced

highdicom = pytest.importorskip("highdicom", reason="the extra seg is not installed")
ABOUT = seg.About("aisd", "ab" * 32, "0.1.0", "FlexUNet, 2-D, post-processed")
KINDS: tuple[seg.Kind, ...] = ("binary", "labelmap")
DATA = PROJECT.parent / "shared" / "data" / "dicom"
DCMQI = Path(sys.executable).with_name("segimage2itkimage")
any_kind = pytest.mark.parametrize("kind", KINDS)


def uneven(header: pydicom.Dataset, number: int) -> None:
    """Steps of 5, 10, 15 and 20 mm."""
    header.ImagePositionPatient[2] += 2.5 * number * (number - 1)


def named(how: dict[str, Any]) -> str:
    """What is special about a series, without the place in memory of a function."""
    return "_".join(f"{key}={getattr(value, '__name__', value)}" for key, value in how.items())


def thick_below(header: pydicom.Dataset, number: int) -> None:
    """Two slices of 10 mm, and three of 5 mm above."""
    header.ImagePositionPatient[2] = [0, 10, 20, 25, 30][number]
    header.SliceThickness = 10 if number < 2 else 5


def write(file: Path, slices, ids, kind: seg.Kind = "binary", classes: int = 5) -> Path:
    seg.write(file, slices, ids, series.label_map(classes), ABOUT, kind)
    return file


def by_highdicom(file: Path, slices: list[Instance]) -> np.ndarray:
    """Class ids (N, rows, columns) as highdicom reads them for each source instance."""
    read = highdicom.seg.segread(file)
    pixels: np.ndarray = read.get_pixels_by_source_instance(
        [one.uid for one in slices],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    return pixels


def by_pydicom(file: Path, slices: list[Instance]) -> np.ndarray:
    """The same from the frames alone, each put at the instance that it refers to."""
    read = pydicom.dcmread(file)
    frames = read.pixel_array.reshape(-1, read.Rows, read.Columns)
    index = {one.uid: number for number, one in enumerate(slices)}
    ids = np.zeros((len(slices), read.Rows, read.Columns), np.uint8)
    for frame, group in zip(frames, read.PerFrameFunctionalGroupsSequence, strict=True):
        [derivation] = group.DerivationImageSequence
        [source] = derivation.SourceImageSequence
        here = index[source.ReferencedSOPInstanceUID]
        position = group.PlanePositionSequence[0].ImagePositionPatient
        np.testing.assert_allclose(position, slices[here].position, atol=1e-6)
        if read.SegmentationType == "LABELMAP":
            ids[here] = frame
            continue
        [shared] = read.SharedFunctionalGroupsSequence
        [segment] = (group if "SegmentIdentificationSequence" in group else shared)[
            "SegmentIdentificationSequence"
        ].value
        ids[here][frame == 1] = segment.ReferencedSegmentNumber
    return ids


def by_dcmqi(file: Path, folder: Path) -> tuple[sitk.Image, np.ndarray] | str:
    """What dcmqi makes of it: an image and its class ids, or what it complains of."""
    if not DCMQI.exists():
        pytest.skip(f"dcmqi, the second reader, is not installed ({DCMQI.name})")
    folder.mkdir()
    command = [DCMQI, "--inputDICOM", file, "--outputDirectory", folder, "--mergeSegments"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    made = sorted(folder.glob("*.nrrd"))
    if run.returncode or not made:
        return run.stdout + run.stderr
    [image] = made
    read = sitk.ReadImage(str(image))
    return read, sitk.GetArrayFromImage(read)


def agree(read: tuple[sitk.Image, np.ndarray] | str, slices, ids: np.ndarray) -> None:
    """dcmqi has each slice with a mask at its place in the world, and nothing in the foreground
    besides."""
    assert not isinstance(read, str), read
    image, labels = read
    assert int((labels > 0).sum()) == int((ids > 0).sum())
    for one, mask in zip(slices, ids, strict=True):
        if mask.any():
            index = np.array(image.TransformPhysicalPointToContinuousIndex(one.position))
            np.testing.assert_allclose(index, np.rint(index), atol=0.01)
            np.testing.assert_array_equal(np.rint(index)[:2], (0, 0))
            np.testing.assert_array_equal(labels[round(index[2])], mask)
            far = image.TransformIndexToPhysicalPoint((one.shape[1] - 1, 0, round(index[2])))
            way = np.array(one.orientation[:3]) * one.spacing[1] * (one.shape[1] - 1)
            np.testing.assert_allclose(far, np.array(one.position) + way, atol=0.01)


@any_kind
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"tilt": 12.0},
        {"change": uneven},
        {"compressed": True},
        {"shape": (1, 21, 17)},
        {"shape": (3, 3, 3)},
    ],
    ids=named,
)
def test_every_instance_reads_back_as_it_was_predicted(tmp_path: Path, how, kind) -> None:
    slices = series.write(tmp_path / "series", **how)
    ids = series.masks((len(slices), *slices[0].shape))
    file = write(tmp_path / "out.seg.dcm", slices, ids, kind)
    np.testing.assert_array_equal(by_highdicom(file, slices), ids)
    np.testing.assert_array_equal(by_pydicom(file, slices), ids)


@pytest.mark.parametrize("tilt", [0.0, 12.0, -12.0])
def test_segments_and_nifti_lie_at_the_same_places_of_the_world(tmp_path: Path, tilt) -> None:
    series.write(tmp_path / "series", tilt=tilt)
    chosen = dicom_series.only_volume(tmp_path / "series")
    scan = assemble.read(chosen)
    ids = series.masks((17, 21, 5))
    niftis.write_ids(tmp_path / "out.nii.gz", ids, scan.grid, None)
    stack = scan.grid.from_ras(ids).T
    read = pydicom.dcmread(write(tmp_path / "out.seg.dcm", chosen.slices, stack))
    voxels = nib.load(tmp_path / "out.nii.gz")
    to_voxel = np.linalg.inv(voxels.affine)
    [shared] = read.SharedFunctionalGroupsSequence
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient).reshape(2, 3)
    down, across = shared.PixelMeasuresSequence[0].PixelSpacing
    for frame, group in zip(read.pixel_array, read.PerFrameFunctionalGroupsSequence, strict=True):
        segment = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        first = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(frame)
        places = first + columns[:, None] * across * axes[0] + rows[:, None] * down * axes[1]
        in_ras = np.c_[places * (-1, -1, 1), np.ones(len(places))]
        index = np.rint(in_ras @ to_voxel.T)[:, :3].astype(int)
        np.testing.assert_array_equal(np.asarray(voxels.dataobj)[tuple(index.T)], segment)
    assert int(read.pixel_array.sum()) == int((ids > 0).sum())


@any_kind
def test_the_order_of_the_slices_does_not_matter_to_their_places(tmp_path: Path, kind) -> None:
    slices, ids = list(series.write(tmp_path / "series")), series.masks()
    file = write(tmp_path / "out.seg.dcm", slices[::-1], ids[::-1], kind)
    np.testing.assert_array_equal(by_pydicom(file, slices), ids)


@any_kind
@pytest.mark.parametrize("shown", [0, 1], ids=["nothing", "one pixel"])
def test_a_mask_of_next_to_nothing_is_a_valid_file(tmp_path: Path, shown, kind) -> None:
    slices = series.write(tmp_path / "series")
    ids = np.zeros(series.SHAPE, np.uint8)
    ids[3, 20, 16] = 4 * shown
    file = write(tmp_path / "out.seg.dcm", slices, ids, kind)
    np.testing.assert_array_equal(by_highdicom(file, slices), ids)
    np.testing.assert_array_equal(by_pydicom(file, slices), ids)
    read = pydicom.dcmread(file)
    described = [one.SegmentNumber for one in read.SegmentSequence if one.SegmentNumber]
    assert described == [1, 2, 3, 4, 5], "classes that do not occur are described too"
    referenced = [one.ReferencedSOPInstanceUID for one in read.SourceImageSequence]
    assert sorted(referenced) == sorted(one.uid for one in slices)
    if shown:
        agree(by_dcmqi(file, tmp_path / "itk"), slices, ids)


@any_kind
def test_254_classes_are_held(tmp_path: Path, kind) -> None:
    slices = series.write(tmp_path / "series", shape=(1, 21, 17))
    ids = series.masks((1, 21, 17), classes=254)
    file = write(tmp_path / "out.seg.dcm", slices, ids, kind, classes=254)
    np.testing.assert_array_equal(by_highdicom(file, slices), ids)
    np.testing.assert_array_equal(by_pydicom(file, slices), ids)


@any_kind
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"change": uneven},
        {"change": thick_below},
        {"compressed": True},
        {"shape": (1, 21, 17)},
    ],
    ids=named,
)
def test_dcmqi_reads_the_same_labels_at_the_same_places(tmp_path: Path, how, kind) -> None:
    slices = series.write(tmp_path / "series", **how)
    ids = series.masks((len(slices), *slices[0].shape))
    file = write(tmp_path / "out.seg.dcm", slices, ids, kind)
    agree(by_dcmqi(file, tmp_path / "itk"), slices, ids)


def test_dcmqi_has_no_grid_for_slices_that_are_tilted(tmp_path: Path) -> None:
    """So the NIfTI, which has a sheared affine, is what such programs are to be given."""
    slices = series.write(tmp_path / "series", tilt=20.0)
    file = write(tmp_path / "out.seg.dcm", slices, series.masks())
    assert "outside image geometry" in str(by_dcmqi(file, tmp_path / "itk"))


def archives() -> list[Path]:
    return sorted(DATA.glob("*.tar.*"))


def test_the_real_series_are_complete() -> None:
    if not DATA.is_dir():
        pytest.skip(f"{DATA} is not there")
    assert len(archives()) == 6


@pytest.mark.parametrize("archive", archives(), ids=lambda file: file.name.split(".")[0])
def test_real_series_of_all_kinds_read_back(tmp_path: Path, archive: Path) -> None:
    """Series by series; files of several transfer syntaxes one by one."""
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "in", filter="data")
    slices = [one for one in series.read(tmp_path / "in") if one.frames == 1 and one.position]
    by_series: dict[str, list[Instance]] = {}
    alone = "syntaxes" in archive.name
    for one in slices:
        by_series.setdefault(str(one.file) if alone else one.series, []).append(one)
    assert by_series or "multiframe" in archive.name
    for number, own in enumerate(by_series.values()):
        ids = np.zeros((len(own), *own[0].shape), np.uint8)
        ids[:, 10:40, 5:35] = series.masks((len(own), 30, 30))
        for kind in KINDS:
            file = write(tmp_path / "out.seg.dcm", own, ids, kind)
            np.testing.assert_array_equal(by_highdicom(file, own), ids)
            np.testing.assert_array_equal(by_pydicom(file, own), ids)
        if "tilt" not in archive.name and DCMQI.exists():
            agree(by_dcmqi(file, tmp_path / f"itk{number}"), own, ids)


@any_kind
def test_the_same_input_gives_the_same_bytes_and_other_input_other_uids(
    tmp_path: Path, kind
) -> None:
    slices, ids = series.write(tmp_path / "series"), series.masks()
    first = write(tmp_path / "first.dcm", slices, ids, kind)
    again = write(tmp_path / "again.dcm", slices, np.asfortranarray(ids), kind)
    assert first.read_bytes() == again.read_bytes()
    other = pydicom.dcmread(write(tmp_path / "other.dcm", slices, ids[::-1], kind))
    made = pydicom.dcmread(first)
    assert made.SOPInstanceUID != other.SOPInstanceUID
    assert made.SeriesInstanceUID == other.SeriesInstanceUID
    assert made.SOPInstanceUID.startswith("2.25.")
    assert made.SOPInstanceUID.is_valid
    assert made.SeriesInstanceUID.is_valid


def test_the_content_has_the_date_of_the_scan(tmp_path: Path) -> None:
    def dated(header: pydicom.Dataset, number: int) -> None:
        header.SeriesDate, header.SeriesTime = "19990131", "235959.5"
        header.ContentDate = "20010101"

    ids = series.masks()
    dates = write(tmp_path / "dated.dcm", series.write(tmp_path / "one", dated), ids)
    read = pydicom.dcmread(dates)
    assert (read.ContentDate, read.ContentTime) == ("19990131", "235959.5")
    undated = pydicom.dcmread(write(tmp_path / "not.dcm", series.write(tmp_path / "two"), ids))
    assert (undated.ContentDate, undated.ContentTime) == ("19000101", "000000")


def test_what_the_standard_demands_is_there_and_well_formed(tmp_path: Path, monkeypatch) -> None:
    from highdicom import _standard_utils as standard

    iod = standard.get_sop_class_iod_map()[pydicom.uid.SegmentationStorage]
    modules = standard.get_module_attribute_map()
    monkeypatch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
    slices, ids = series.write(tmp_path / "series"), series.masks()
    for kind in KINDS:
        read = pydicom.dcmread(write(tmp_path / "out.seg.dcm", slices, ids, kind))
        assert len(list(read.iterall())) > 100  # each of which has been converted, or refused
        checked = 0
        for module in standard.get_iod_module_map()[iod]:
            if module["usage"] != "M" and module["key"] != "frame-of-reference":
                continue
            for attribute in modules[module["key"]]:
                if not attribute["path"] and attribute["type"] in ("1", "2"):
                    assert attribute["keyword"] in read, (module["key"], attribute)
                    empty = read[attribute["keyword"]].is_empty
                    assert not empty or attribute["type"] == "2", attribute
                    checked += 1
        assert checked > 40


NEEDED = {
    *(f"{kind}UID" for kind in ("SOPClass", "SOPInstance", "StudyInstance", "SeriesInstance")),
    *("FrameOfReferenceUID", "LossyImageCompression", "PatientSex", "PhotometricInterpretation"),
    *("SpecificCharacterSet", "Modality", "ImageType", "PixelData"),
}


def stuffed() -> tuple[dict[str, tuple[str, Any]], dict[str, bytes]]:
    """An identifying value for every attribute of the dictionary that can hold a text, a date, a
    UID or a sequence: keyword -> (VR, value), and keyword -> the bytes to look for."""
    values: dict[str, tuple[str, Any]] = {}
    marks: dict[str, bytes] = {}
    for number, (tag, (vr, _, _, retired, keyword)) in enumerate(sorted(DicomDictionary.items())):
        if keyword in NEEDED or not keyword or tag < 0x00080000 or retired:
            continue
        text = f"DOE{number:05d}"
        made: Any = {
            "DA": f"{date(1901, 1, 1) + timedelta(number):%Y%m%d}",
            "TM": f"11{number % 60:02d}{number // 60 % 60:02d}.{number:06d}",
            "UI": f"1.2.3.1{number:05d}.9",
            "SQ": pydicom.Sequence([_person(text)]),
            "OB": text.encode(),
        }.get(vr, text)
        if vr in ("PN", "LO", "SH", "LT", "ST", "UT", "CS", "UC", "DA", "TM", "UI", "SQ", "OB"):
            values[keyword] = (vr, made)
            marks[keyword] = text.encode() if vr in ("SQ", "OB") else made.encode()
    return values, marks


def _person(name: str) -> pydicom.Dataset:
    item = pydicom.Dataset()
    item.PatientName = name
    return item


def test_of_a_header_full_of_identity_only_what_is_demanded_gets_in(tmp_path: Path) -> None:
    values, marks = stuffed()
    assert len(values) > 1500

    def stuff(header: pydicom.Dataset, number: int) -> None:
        for keyword, (vr, value) in values.items():
            header.add_new(keyword, vr, value)
        block = header.private_block(0x0011, "Doe private", create=True)
        block.add_new(1, "LO", "Doe secret")
        header.PatientSex = "F"

    plain = write(tmp_path / "plain.dcm", series.write(tmp_path / "plain"), series.masks())
    tags = {element.tag for element in pydicom.dcmread(plain).iterall()}
    slices = series.write(tmp_path / "series", stuff)
    assert b"Doe secret" in slices[0].file.read_bytes()
    allowed = {*source_headers.DEMANDED} - NEEDED
    for kind in KINDS:
        content = write(tmp_path / "out.seg.dcm", slices, series.masks(), kind).read_bytes()
        got = {keyword for keyword, mark in marks.items() if mark in content}
        assert got == allowed
        assert b"Doe private" not in content
        assert b"Doe secret" not in content
        read = pydicom.dcmread(tmp_path / "out.seg.dcm")
        assert kind != "binary" or {element.tag for element in read.iterall()} == tags
        assert read.PatientSex == "F"
        assert read.StudyInstanceUID == slices[0].origin[1]
        assert read.FrameOfReferenceUID == slices[0].origin[2]


def test_the_page_lists_what_is_taken_of_the_source() -> None:
    page = (PROJECT / "docs" / "reference" / "dicom-seg.md").read_text("utf-8")
    listed = page.partition("## What of the source is in it")[2].partition("##")[0]
    assert {*source_headers.DEMANDED} <= {*re.findall(r"`(\w+)`", listed)}


BROKEN = {
    "PatientBirthDate": ("unknown", ""),
    "PatientSex": ("female", ""),
    "StudyDate": ("1999.01.31", "19990131"),
    "StudyTime": ("25:61", ""),
    "StudyID": ("a study id of more than sixteen characters",) * 2,
    "PatientName": ("Doe^^^^^Jane=x=y=z",) * 2,
    "ReferringPhysicianName": (["a", "b"], "a b"),
}


def test_a_broken_header_is_written_as_far_as_it_can_be(tmp_path: Path) -> None:
    def broken(header: pydicom.Dataset, number: int) -> None:
        for keyword, (value, _) in BROKEN.items():
            setattr(header, keyword, value)
        header.add_new(0x00111001, "UN", b"without a creator")

    with pydicom.config.disable_value_validation():
        slices = series.write(tmp_path / "series", broken)
    ids = series.masks()
    file = write(tmp_path / "out.seg.dcm", slices, ids)
    np.testing.assert_array_equal(by_pydicom(file, slices), ids)
    with pydicom.config.disable_value_validation():
        read = pydicom.dcmread(file)
        for keyword, (_, wanted) in BROKEN.items():
            value = read[keyword].value
            several = isinstance(value, pydicom.multival.MultiValue)
            assert ("\\".join(map(str, value)) if several else str(value or "")) == wanted


def test_attributes_that_may_be_empty_may_be_missing(tmp_path: Path) -> None:
    kept = {"StudyInstanceUID", "FrameOfReferenceUID"}

    def without(header: pydicom.Dataset, number: int) -> None:
        for keyword in {*source_headers.DEMANDED, "SliceThickness"} - kept:
            if keyword in header:
                delattr(header, keyword)

    slices = series.write(tmp_path / "series", without)
    ids = series.masks()
    file = write(tmp_path / "out.seg.dcm", slices, ids)
    np.testing.assert_array_equal(by_highdicom(file, slices), ids)
    read = pydicom.dcmread(file)
    assert all(read[keyword].is_empty for keyword in {*source_headers.DEMANDED} - kept)


@pytest.mark.parametrize("charset", [b"ISO_IR 100", b"ISO_IR 999"])
def test_names_keep_their_letters_whatever_their_character_set(tmp_path: Path, charset) -> None:
    def named(header: pydicom.Dataset, number: int) -> None:
        header.SpecificCharacterSet = "ISO_IR 100"
        header.PatientName = "Müller^Jörg"

    slices = series.write(tmp_path / "series", named)
    for one in slices:
        one.file.write_bytes(one.file.read_bytes().replace(b"ISO_IR 100", charset))
    read = pydicom.dcmread(write(tmp_path / "out.seg.dcm", slices, series.masks()))
    assert read.SpecificCharacterSet == "ISO_IR 192"
    assert str(read.PatientName) == "Müller^Jörg"


@pytest.mark.parametrize("uid", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("instead", ["", "Doe"])
def test_a_missing_uid_is_named(tmp_path: Path, refused, uid, instead) -> None:
    def without(header: pydicom.Dataset, number: int) -> None:
        setattr(header, uid, instead)

    with pydicom.config.disable_value_validation():
        slices = series.write(tmp_path / "series", without)
    problem = refused(lambda: write(tmp_path / "out.seg.dcm", slices, series.masks()))
    assert f"expected a {uid}" in str(problem)
    assert "files of the masks, which need none, are written anyway" in str(problem)
    assert not (tmp_path / "out.seg.dcm").exists()


def test_a_missing_frame_of_reference_is_named(tmp_path: Path, refused) -> None:
    def without(header: pydicom.Dataset, number: int) -> None:
        del header.FrameOfReferenceUID

    slices = series.write(tmp_path / "series", without)
    problem = refused(lambda: write(tmp_path / "out.seg.dcm", slices, series.masks()))
    assert "expected a FrameOfReferenceUID, which a DICOM SEG refers to, got none" in str(problem)


def test_slices_of_two_frames_of_reference_or_of_one_uid_are_refused(
    tmp_path: Path, refused
) -> None:
    def other(header: pydicom.Dataset, number: int) -> None:
        if number == 3:
            header.FrameOfReferenceUID = "1.2.3"

    slices = series.write(tmp_path / "series", other)
    problem = refused(lambda: write(tmp_path / "out.seg.dcm", slices, series.masks()))
    assert "expected one FrameOfReferenceUID in the series" in str(problem)
    twice = [*slices[:4], slices[0]]
    problem = refused(lambda: write(tmp_path / "out.seg.dcm", twice, series.masks()))
    assert "expected a SOPInstanceUID of its own" in str(problem)


def test_instances_of_a_private_class_are_referred_to_by_it(tmp_path: Path) -> None:
    def private(header: pydicom.Dataset, number: int) -> None:
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.2.3.4"

    slices = series.write(tmp_path / "series", private)
    ids = series.masks()
    file = write(tmp_path / "out.seg.dcm", slices, ids)
    np.testing.assert_array_equal(by_pydicom(file, slices), ids)
    read = pydicom.dcmread(file)
    classes = [one.value for one in read.iterall() if one.keyword == "ReferencedSOPClassUID"]
    assert len(classes) > 10
    assert set(classes) == {"1.2.3.4"}


def test_a_class_that_only_the_file_meta_states_is_enough(tmp_path: Path) -> None:
    def without(header: pydicom.Dataset, number: int) -> None:
        del header.SOPClassUID

    slices = series.write(tmp_path / "series", without)
    read = pydicom.dcmread(write(tmp_path / "out.seg.dcm", slices, series.masks()))
    assert {one.ReferencedSOPClassUID for one in read.SourceImageSequence} == {CTImageStorage}


def test_a_loss_in_the_source_is_stated(tmp_path: Path) -> None:
    def lossy(header: pydicom.Dataset, number: int) -> None:
        if number == 2:
            header.LossyImageCompression = "01"
            header.LossyImageCompressionRatio = [3.5, 10]
            header.LossyImageCompressionMethod = ["ISO_10918_1", "ISO_15444_1"]

    ids = series.masks()
    read = pydicom.dcmread(write(tmp_path / "a.dcm", series.write(tmp_path / "a", lossy), ids))
    assert read.LossyImageCompression == "01"
    assert list(read.LossyImageCompressionRatio) == [3.5, 10]
    assert list(read.LossyImageCompressionMethod) == ["ISO_10918_1", "ISO_15444_1"]
    read = pydicom.dcmread(write(tmp_path / "b.dcm", series.write(tmp_path / "b"), ids))
    assert read.LossyImageCompression == "00"
    assert "LossyImageCompressionRatio" not in read


def test_a_lossy_file_that_does_not_say_so_is_measured(tmp_path: Path) -> None:
    source = pydicom.dcmread(pydicom.data.get_testdata_file("JPGExtended.dcm"))
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio"):
        if keyword in source:
            delattr(source, keyword)
    source.ImagePositionPatient, source.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    source.PixelSpacing, source.FrameOfReferenceUID = [1, 1], "1.2.3"
    source.save_as(tmp_path / "in.dcm")
    slices = [one for one in series.read(tmp_path) if one.lossy]
    ids = series.masks((1, *slices[0].shape))
    read = pydicom.dcmread(write(tmp_path / "out.seg.dcm", slices, ids))
    assert read.LossyImageCompression == "01"
    assert read.LossyImageCompressionMethod == "ISO_10918_1"
    assert 1 < read.LossyImageCompressionRatio < 100


def test_classes_have_their_colours_names_and_codes(tmp_path: Path) -> None:
    labels = series.label_map()
    file = write(tmp_path / "out.seg.dcm", series.write(tmp_path / "series"), series.masks())
    for label, segment in zip(
        labels.foreground, pydicom.dcmread(file).SegmentSequence, strict=True
    ):
        assert segment.SegmentNumber == label.id
        assert segment.SegmentLabel == label.name
        assert segment.SegmentDescription == label.meaning
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        colour = highdicom.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(colour.to_rgb(clip=True), label.colour, atol=1)
        _, kind = segment_codes.concepts_of(label)
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == kind.value


@pytest.mark.parametrize("tissue", [*TISSUES, ""])
def test_codes_are_those_of_the_dictionaries(tissue: str) -> None:
    assert {*segment_codes.CONCEPTS} == {*TISSUES}
    category, kind = segment_codes.CONCEPTS.get(tissue, segment_codes.GENERAL)
    categories = {code.value for code in _codes(codes.cid7150)}
    assert category.value in categories
    if tissue == "infarct":
        return  # of SNOMED CT itself: the context groups have lesions in general alone
    known = {(code.value, code.meaning.lower()) for code in _codes(codes.SCT)}
    assert (kind.value, kind.meaning.lower()) in known
    if tissue != "air":
        assert kind.value in {code.value for code in _codes(codes.cid7151)}


@functools.cache
def _codes(collection: Any) -> list[Any]:
    return [getattr(collection, name) for name in collection.dir()]


def test_an_id_that_the_label_map_lacks_is_refused(tmp_path: Path, refused) -> None:
    slices, ids = series.write(tmp_path / "series"), series.masks()
    problem = refused(lambda: write(tmp_path / "out.seg.dcm", slices, ids + 1))
    assert "expected class ids 0 to 5, got 6 in" in str(problem)
    with pytest.raises(ValueError, match="masks"):
        write(tmp_path / "out.seg.dcm", slices, ids[:, :-1])


def test_without_highdicom_the_extra_is_named(tmp_path: Path, refused, monkeypatch) -> None:
    slices = series.write(tmp_path / "series")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    problem: Problem = refused(lambda: write(tmp_path / "out.dcm", slices, series.masks()))
    assert 'pip install "flexunet-pipeline[seg]"' in str(problem)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_a_file_of_frames_refer_to_its_frames(tmp_path: Path, kind: seg.Kind) -> None:
    enhanced.write(tmp_path / "series" / "a.dcm", (3, 0, 4, 1, 2))
    chosen = dicom_series.only_volume(tmp_path / "series")
    ids = np.zeros((5, 12, 10), np.uint8)
    ids[1:4, 2:7, 3:9], ids[4, 8:, :4] = 1, 2
    file = tmp_path / "out.seg.dcm"
    write(file, chosen.slices, ids, kind)
    read = highdicom.seg.segread(file)
    uid, frames = chosen.slices[0].uid, [(one.frame or 0) + 1 for one in chosen.slices]
    assert frames == [2, 4, 5, 1, 3]
    got = read.get_pixels_by_source_frame(
        uid, frames, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(got, ids)
    [source] = read.SourceImageSequence
    assert (source.ReferencedSOPInstanceUID, "ReferencedFrameNumber" in source) == (uid, False)
    assert source.ReferencedSOPClassUID == EnhancedCTImageStorage
    assert len(read.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 1
