"""The series doctor names what is odd about a series, and handles or refuses it."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    EnhancedCTImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from datasets_spec.contract import Problem
from pipeline.__main__ import main
from pipeline.api import read_scan
from pipeline.params.dicom import Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes.dicom import assemble, series
from pipeline.volumes.dicom.rules import Match
from pipeline.volumes.findings import DOUBT, finding, text
from tests.conftest import Refused
from tests.pipeline.volumes.dicom.test_assemble import Change, pixels, write_series

FOLDER = Path("series")
OTHER = generate_uid(entropy_srcs=["another series"])


def at(place: Callable[[int], float]) -> Change:
    """Slices at other places along the head."""

    def change(header: pydicom.Dataset, number: int) -> None:
        header.ImagePositionPatient[2] = place(number)

    return change


def on_slice(wanted: int, **values: object) -> Change:
    """One slice, or with -1 every slice, with other header values; None takes one away."""

    def change(header: pydicom.Dataset, number: int) -> None:
        if wanted not in (number, -1):
            return
        for name, value in values.items():
            if value is None:
                delattr(header, name)
            else:
                setattr(header, name, value)

    return change


def emptied(*tags: str) -> Change:
    """Tags without a value, as anonymisers leave them."""

    def change(header: pydicom.Dataset, number: int) -> None:
        header["PixelData"].VR = "OW"  # else pydicom asks BitsAllocated when it writes
        for tag in tags:
            setattr(header, tag, None)

    return change


def copy_of(wanted: int, onto: int, same: bool) -> Change:
    """A slice at another's place, with the same pixels or its own."""

    def change(header: pydicom.Dataset, number: int) -> None:
        if number == onto:
            header.ImagePositionPatient[2] = 7.0 + 5.0 * wanted
            header.InstanceNumber = 99
            if same:
                header.PixelData = pixels(5)[wanted].tobytes()

    return change


def only_matches() -> tuple[Match, ...]:
    [one] = series.examine(FOLDER).series
    return one.matches


def own_frame(header: pydicom.Dataset, number: int) -> None:
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(number)])


def two_frames(header: pydicom.Dataset, number: int) -> None:
    header.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(number > 2)])


def overview(header: pydicom.Dataset, number: int) -> None:
    """The last file is a scout that lies across the slices, and has another size."""
    if number == 4:
        header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        header.Rows, header.PixelData = 6, b"\0" * 120


def capture(header: pydicom.Dataset, number: int) -> None:
    """The last file is a picture of the screen at the first slice's place."""
    if number == 4:
        header.SOPClassUID = SecondaryCaptureImageStorage
        header.ImagePositionPatient[2] = 7.0


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (at(lambda n: 5.0 * (n + (n > 2))), "missing slice", "1 between 10.0 and 20.0 mm"),
        (at(lambda n: 5.0 * (n + 3 * (n > 0))), "missing slice", "3 between 0.0 and 20.0 mm"),
        (copy_of(0, onto=4, same=False), "duplicate position", "different pictures at the same"),
        (at(lambda n: 5.0 * (n // 2)), "duplicate position", "different pictures"),
        (on_slice(2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "missing slice", "1 between"),
        (
            on_slice(2, ImageOrientationPatient=[0, 1, 0, 1, 0, 0]),
            "mixed orientation",
            "in 1 of 5 slices",
        ),
        (on_slice(-1, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "odd header", "perpendicular"),
        (on_slice(2, PixelSpacing=[0.5, 0.41]), "mixed size", "of (0.5, 0.41) in 1 of 5"),
        (on_slice(2, Rows=6, PixelData=b"\0" * 120), "mixed size", "got (6, 10)"),
        (on_slice(2, PixelSpacing=[0.0, 0.4]), "odd header", "PixelSpacing (0.0, 0.4)"),
        (on_slice(-1, PixelSpacing=[2e3, 2e3]), "odd header", "got 2000 x 2000 x 5"),
        (on_slice(-1, PixelSpacing=["1e300", "1e300"]), "odd header", "PixelSpacing ["),
        (at(lambda n: 500.0 * n), "odd header", "got 0.5 x 0.4 x 500"),
        (on_slice(2, ImagePositionPatient=["1e9", 0, 7]), "odd header", "ImagePositionPatient ["),
        (on_slice(-1, RescaleSlope="1e300"), "odd header", "RescaleSlope 1e300"),
        (on_slice(-1, RescaleSlope="1e-300"), "odd header", "RescaleSlope 1e-300"),
        *[
            (emptied(tag), "odd header", f"got no {tag}")
            for tag in ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation")
        ],
        (on_slice(2, NumberOfFrames=-1), "odd header", "NumberOfFrames -1"),
        (on_slice(2, Rows=0), "odd header", "Rows 0"),
        (on_slice(2, SamplesPerPixel=0), "odd header", "SamplesPerPixel 0"),
        (on_slice(-1, RescaleSlope=0), "odd header", "RescaleSlope 0"),
        (on_slice(2, PixelSpacing=None), "missing geometry", "got not all of them"),
        (on_slice(2, ImageOrientationPatient=None), "missing geometry", "got not all of them"),
        (on_slice(2, NumberOfFrames=3, PixelData=b"\0" * 720), "multi-frame", "got 3 frames"),
        (on_slice(-1, SOPClassUID=EnhancedCTImageStorage), "multi-frame", "enhanced"),
        (on_slice(-1, ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic", "tiled"),
        (
            on_slice(2, PhotometricInterpretation="MONOCHROME1"),
            "mixed photometric",
            "in 1 of 5 slices",
        ),
        (
            on_slice(
                2,
                PhotometricInterpretation="RGB",
                SamplesPerPixel=3,
                PixelData=b"\0" * 720,
                PlanarConfiguration=0,
            ),
            "colour",
            "got RGB",
        ),
        (on_slice(2, BurnedInAnnotation="YES"), "burned-in annotation", "YES"),
        (
            on_slice(2, ModalityLUTSequence=[pydicom.Dataset()]),
            "modality lookup table",
            "ModalityLUTSequence",
        ),
        (on_slice(2, PixelData=b"\0" * 100), "unreadable pixels", "100 of 240 bytes"),
        (on_slice(2, PixelData=None), "unreadable pixels", "no pixel data"),
        (
            on_slice(-1, BitsAllocated=8, BitsStored=8, HighBit=7),
            "unreadable pixels",
            "240 bytes, where the header's sizes and bits need 120",
        ),
        (on_slice(2, BitsStored=12), "odd header", "BitsAllocated 16, BitsStored 12, HighBit 15"),
        (on_slice(2, PixelRepresentation=0), "mixed pixel format", "in 1 of 5 slices"),
        (on_slice(2, Modality="MR"), "mixed modality", "in 1 of 5 slices"),
        (on_slice(2, StudyInstanceUID=OTHER), "mixed study", "in 1 of 5 slices"),
        (on_slice(2, FrameOfReferenceUID=OTHER), "mixed frame of reference", "in 1 of 5 slices"),
        (two_frames, "mixed frame of reference", "in 2 of 5 slices"),
        (on_slice(2, PatientID="another"), "mixed patient", "in 1 of 5 slices"),
    ],
)
def test_refuses_by_name_what_would_make_a_wrong_volume(
    workplace: Path, refused: Refused, change: Change, kind: str, words: str
) -> None:
    write_series(FOLDER, change=change)
    found = [str(one) for one in only_matches() if one.refused]
    assert [one for one in found if words in one and one.startswith(kind)]
    problem = refused(lambda: assemble.read_series(FOLDER))
    assert kind in str(problem)
    assert problem.remedy


def tilted(header: pydicom.Dataset, number: int) -> None:
    header.ImagePositionPatient[1] = -30 + 5 * number * math.tan(math.radians(20))


def own_rescale(header: pydicom.Dataset, number: int) -> None:
    header.RescaleSlope, header.RescaleIntercept = 1 + number, -10 * number


def head(number: int) -> np.ndarray:
    """A slice of a CT in HU: noisy air around noisy tissue."""
    rng = np.random.default_rng(number)
    values = rng.normal(-990, 5, (40, 50))
    values[10:30, 10:40] = rng.normal(35, 8, (20, 30))
    return np.clip(np.rint(values), -1024, 3071).astype(np.int64)


def hu_without(*tags: str, more: int = 0) -> Change:
    """HU as they are stored, or so much ``more``, with empty tags of rescale."""

    def change(header: pydicom.Dataset, number: int) -> None:
        header.Rows, header.Columns = 40, 50
        header.PixelData = (head(number) + more).astype(np.int16).tobytes()
        header.RescaleSlope, header.RescaleIntercept = 1, 0
        emptied(*tags)(header, number)

    return change


@pytest.mark.parametrize(
    "change",
    [
        hu_without("RescaleIntercept", more=1024),
        hu_without("RescaleIntercept", "RescaleSlope", more=1024),
        emptied("RescaleIntercept"),
        on_slice(-1, RescaleIntercept=None, RescaleSlope=None),
    ],
)
def test_a_ct_without_rescale_is_hu_by_its_histogram_or_refused(
    workplace: Path, refused: Refused, change: Change
) -> None:
    write_series(FOLDER, change=change)
    assert "HU" in str(refused(lambda: assemble.read_series(FOLDER)))


def test_a_ct_of_hu_and_1024_is_refused_with_its_rescale_stated(
    workplace: Path, refused: Refused
) -> None:
    write_series(FOLDER, change=hu_without(more=1024))
    assert main(["doctor", str(FOLDER)]) == 2
    assert "about +1024 HU away" in str(refused(lambda: read_scan(FOLDER)))
    write_series(Path("right"), change=hu_without())
    assert read_scan("right").findings == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (tilted, "gantry tilt: 20.0 degrees, each slice lies 1.82 mm aside of the one before"),
        (at(lambda n: [0, 4.94, 9.88, 14.94, 20][n]), "uneven spacing: steps of 4.9 mm (2)"),
        (at(lambda n: [0, 2.5, 5, 10, 15][n]), "uneven spacing: steps of 2.5 mm (2), 5 mm (2)"),
        (at(lambda n: 5.0 * n + 0.3 * (n == 2)), "uneven spacing: steps of 5 mm (2), 4.7 mm (1)"),
        (own_rescale, "rescale per slice: slopes 1 to 5, intercepts -40 to 0, each slice by its"),
        (copy_of(0, onto=4, same=True), "duplicate position: 1 files repeat a slice pixel by"),
        (hu_without("RescaleIntercept", "RescaleSlope"), "no rescale: a CT without"),
        (hu_without("RescaleIntercept"), "no rescale: a CT without"),
        (on_slice(2, BitsStored=12, HighBit=11), "mixed bits: 12 to 16 bits stored"),
        (own_frame, "frames of reference: each of 5 slices has its own, and all lie in one even"),
        (overview, "left out: localizer (1)"),
        (capture, "left out: capture (1)"),
        (on_slice(-1, LossyImageCompression="01"), "lossy compression: 5 of 5 slices"),
        (on_slice(-1, SOPInstanceUID=OTHER), "odd SOPInstanceUIDs: missing or repeated"),
    ],
)
def test_what_is_handled_is_recorded(workplace: Path, change: Change, words: str) -> None:
    write_series(FOLDER, change=change)
    [found] = assemble.read_series(FOLDER).findings
    assert text(found).startswith(words)
    assert "series" not in text(found)


def test_an_overview_costs_no_slice(workplace: Path) -> None:
    write_series(FOLDER, change=overview)
    read = assemble.read_series(FOLDER)
    assert np.array_equal(
        read.grid.from_ras(read.array).transpose(2, 1, 0), pixels(5)[:4] * 2.0 - 100
    )


def test_a_frame_of_reference_of_its_own_needs_even_places(
    workplace: Path, refused: Refused
) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        own_frame(header, number)
        header.ImagePositionPatient[2] = [0.0, 5, 10, 20, 30][number]

    write_series(FOLDER, change=change)
    assert "mixed frame of reference" in str(refused(lambda: assemble.read_series(FOLDER)))


def test_bits_that_differ_are_decoded_by_each_header(workplace: Path) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        header.BitsStored, header.HighBit = 12 + number % 2, 11 + number % 2
        stored = pixels(5)[number].astype(np.int32) & ((1 << header.BitsStored) - 1)
        overlay = 1 << 15  # in a bit that is not stored
        header.PixelData = (stored | overlay).astype(np.uint16).tobytes()

    write_series(FOLDER, change=change)
    read = assemble.read_series(FOLDER)
    assert np.array_equal(read.grid.from_ras(read.array).transpose(2, 1, 0), pixels(5) * 2.0 - 100)


def test_bits_deeper_than_a_decoder_knows_are_read_by_another(workplace: Path) -> None:
    deep = pixels(5).astype(np.int64) * 1000

    def change(header: pydicom.Dataset, number: int) -> None:
        header.BitsAllocated, header.BitsStored, header.HighBit = 32, 24, 23
        header.PixelData = (deep[number] & 0xFFFFFF).astype(np.uint32).tobytes()

    write_series(FOLDER, change=change)
    read = assemble.read_series(FOLDER)
    assert np.array_equal(read.grid.from_ras(read.array).transpose(2, 1, 0), deep * 2.0 - 100)


def jittering(header: pydicom.Dataset, number: int) -> None:
    header.ImagePositionPatient[2] = [0, 5.3, 10, 14.8, 20][number]


def test_positions_may_jitter_as_far_as_is_stated(workplace: Path) -> None:
    write_series(FOLDER, change=jittering)
    assert assemble.read_series(FOLDER).uneven is not None
    read = assemble.read_series(FOLDER, tolerances=Tolerances(off_line_mm=0.4))
    assert read.uneven is None
    [found] = read.findings
    assert "up to 0.3 mm from where even spacing puts them, within the stated 0.4" in text(found)
    assert read.grid.spacing[2] == pytest.approx(5)


def inverted(modality: str, stated: int | None = None) -> Change:
    """MONOCHROME1 as a scanner writes it: stored values counted from 4095, padding at the top."""

    def change(header: pydicom.Dataset, number: int) -> None:
        stored = (4095 - head(number) - 1024).astype(np.uint16)
        header.Rows, header.Columns = stored.shape
        header.Modality, header.PhotometricInterpretation = modality, "MONOCHROME1"
        header.PixelRepresentation, header.BitsStored, header.HighBit = 0, 12, 11
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        if stated is not None:
            header.add_new("PixelPaddingValue", "US", stated)
            stored[0] = stated
        header.PixelData = stored.tobytes()

    return change


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_low_values_that_are_bright_are_inverted(workplace: Path, modality: str) -> None:
    write_series(FOLDER, change=inverted(modality))
    read = assemble.read_series(FOLDER)
    own = read.grid.from_ras(read.array).transpose(2, 1, 0)
    assert np.array_equal(own, np.stack([head(number) for number in range(5)]))
    assert [one.code for one in read.findings] == ["inverted-photometric"]


def test_padding_of_an_inverted_picture_is_the_darkest(workplace: Path) -> None:
    write_series(FOLDER, change=inverted("MR", stated=4095))
    read = assemble.read_series(FOLDER)
    own = read.grid.from_ras(read.array).transpose(2, 1, 0)
    real = np.stack([head(number) for number in range(5)])[:, 1:]
    assert np.array_equal(own[:, 1:], real)
    assert (own[:, 0] == real.min()).all()
    assert [one.code for one in read.findings] == ["inverted-photometric", "padding-replaced"]


def test_a_ct_whose_values_are_hu_is_not_inverted(workplace: Path) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        inverted("CT")(header, number)
        header.PixelData = (head(number) + 1024).astype(np.uint16).tobytes()

    write_series(FOLDER, change=change)
    read = assemble.read_series(FOLDER)
    own = read.grid.from_ras(read.array).transpose(2, 1, 0)
    assert np.array_equal(own, np.stack([head(number) for number in range(5)]))
    assert [one.code for one in read.findings] == ["inverted-display"]


def test_a_ct_that_may_be_inverted_or_not_is_refused(workplace: Path, refused: Refused) -> None:
    write_series(
        FOLDER, change=on_slice(-1, PhotometricInterpretation="MONOCHROME1", RescaleIntercept=5000)
    )
    assert "confirmed as HU either way" in str(refused(lambda: assemble.read_series(FOLDER)))


def test_a_plain_series_has_no_findings(workplace: Path) -> None:
    write_series(FOLDER)
    assert assemble.read_series(FOLDER).findings == ()


def test_an_instance_uid_cannot_name_a_path(workplace: Path) -> None:
    write_series(FOLDER)
    for number, file in enumerate(FOLDER.iterdir()):
        content = pydicom.dcmread(file)
        content["SOPInstanceUID"]._value = f"../{number}"
        content.save_as(file)
    assert assemble.read_series(FOLDER).uids == ()


def test_a_slice_that_lies_twice_is_kept_once(workplace: Path) -> None:
    write_series(FOLDER, change=copy_of(3, onto=4, same=True))
    read = assemble.read_series(FOLDER)
    own = read.grid.from_ras(read.array).transpose(2, 1, 0)
    assert np.array_equal(own, pixels(5)[:4] * 2.0 - 100)
    assert len(read.uids) == 4


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_every_slice_is_rescaled_by_its_own_header(workplace: Path, modality: str) -> None:
    def change(header: pydicom.Dataset, number: int) -> None:
        own_rescale(header, number)
        header.Modality = modality
        header.SOPClassUID = {"CT": CTImageStorage, "MR": MRImageStorage}[modality]
        header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID

    write_series(FOLDER, change=change)
    read = assemble.read_series(FOLDER)
    own = read.grid.from_ras(read.array).transpose(2, 1, 0)
    for number in range(5):
        assert np.array_equal(own[number], pixels(5)[number] * (1.0 + number) - 10 * number)


def test_positions_rounded_to_a_tenth_pass(workplace: Path) -> None:
    write_series(FOLDER, count=9, change=at(lambda n: round(0.625 * n, 1)))
    assert assemble.read_series(FOLDER).grid.spacing[2] == pytest.approx(0.625, abs=0.01)


def test_the_volume_does_not_depend_on_file_names_or_folders(workplace: Path) -> None:
    write_series(FOLDER)
    before = assemble.read_series(FOLDER)
    for number, file in enumerate(sorted(FOLDER.glob("*.dcm"), reverse=True)):
        target = FOLDER / f"part{number % 2}" / "deep" / f"IM{number}"
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    after = assemble.read_series(FOLDER)
    assert np.array_equal(before.array, after.array)
    assert np.array_equal(before.grid.affine, after.grid.affine)
    assert before.uids == after.uids


def padded(value: int, signed: bool, modality: str, declared: int | None = None) -> Change:
    """The first row of every slice holds padding; slope 1, intercept 0."""

    def change(header: pydicom.Dataset, number: int) -> None:
        kind = np.int16 if signed else np.uint16
        stored = (pixels(5)[number] + 50).astype(kind)
        stored[0] = value
        header.PixelData = stored.tobytes()
        header.PixelRepresentation = int(signed)
        header.Modality = modality
        header.RescaleSlope, header.RescaleIntercept = 1, 0
        header.add_new("PixelPaddingValue", "SS" if (declared or value) < 0 else "US", 0)
        header.PixelPaddingValue = value if declared is None else declared

    return change


@pytest.mark.parametrize(
    ("change", "least", "words"),
    [
        (padded(-2000, True, "CT"), -2000, "at or below air, clipped by the window"),
        (padded(63536, False, "CT"), 10, "outside the real values, set to the lowest of these"),
        (padded(63536, False, "CT", declared=-2000), 10, "outside the real values"),
        (padded(-2000, True, "CT", declared=63536), -2000, "at or below air"),
        (padded(-32768, True, "MR"), 10, "outside the real values"),
        (padded(100, True, "MR"), 10, "among the real values, kept"),
    ],
)
def test_padding_is_settled(workplace: Path, change: Change, least: float, words: str) -> None:
    write_series(FOLDER, change=change)
    read = assemble.read_series(FOLDER)
    assert read.array.min() == least
    assert read.array.max() < 1000
    [found] = read.findings
    assert words in text(found)
    assert text(found).startswith("padding: 8.")


def test_padding_is_found_where_the_file_does_not_state_its_sign(workplace: Path) -> None:
    change = padded(-32768, True, "MR")

    def implicit(header: pydicom.Dataset, number: int) -> None:
        change(header, number)
        header.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    write_series(FOLDER, change=implicit)
    assert assemble.read_series(FOLDER).array.min() == 10


@pytest.mark.parametrize("tag", ["InstanceNumber", "SliceThickness", "PixelPaddingValue"])
def test_an_odd_value_that_no_voxel_needs_does_no_harm(workplace: Path, tag: str) -> None:
    write_series(FOLDER)
    plain = assemble.read_series(FOLDER)
    for file in FOLDER.iterdir():
        content = pydicom.dcmread(file)
        content.add_new(tag, "LO", "about five")
        content.save_as(file)
    read = assemble.read_series(FOLDER)
    assert np.array_equal(read.array, plain.array)
    assert read.instances == (() if tag == "InstanceNumber" else plain.instances)


@pytest.mark.parametrize("tag", ["PixelSpacing", "ImagePositionPatient", "NumberOfFrames"])
def test_an_odd_value_that_matters_is_reported(workplace: Path, refused: Refused, tag: str) -> None:
    write_series(FOLDER)
    for file in FOLDER.iterdir():
        content = pydicom.dcmread(file)
        content.add_new(tag, "LO", "about five")
        content.save_as(file)
    assert f"{tag} about five" in str(refused(lambda: assemble.read_series(FOLDER)))


def foreign(folder: Path, sop_class: str, **values: object) -> None:
    """An object beside the series, in a series of its own."""
    write_series(folder, count=1, change=on_slice(-1, SOPClassUID=sop_class, **values))


@pytest.mark.parametrize(
    ("sop_class", "values", "words"),
    [
        (RTStructureSetStorage, {"Rows": None}, "RT Structure Set Storage (1)"),
        (EncapsulatedPDFStorage, {"Rows": None}, "Encapsulated PDF Storage (1)"),
        (
            GrayscaleSoftcopyPresentationStateStorage,
            {"Rows": None},
            "Grayscale Softcopy Presentation State Storage (1)",
        ),
        (CTImageStorage, {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer series"),
        (CTImageStorage, {"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]}, "dose report (1)"),
        (SecondaryCaptureImageStorage, {"ImagePositionPatient": None}, "secondary capture (1)"),
    ],
)
def test_leaves_out_by_name_what_is_no_volume(
    workplace: Path, refused: Refused, sop_class: str, values: dict[str, object], words: str
) -> None:
    write_series(FOLDER / "axial")
    foreign(FOLDER / "beside", sop_class, SeriesInstanceUID=OTHER, **values)
    read = assemble.read_series(FOLDER)
    assert read.array.shape == (10, 12, 5)
    [found] = read.findings
    assert text(found).startswith("left out: ")
    assert words in text(found)
    assert words in str(refused(lambda: assemble.read_series(FOLDER / "beside")))


def test_several_volumes_are_listed_with_how_to_choose(workplace: Path, refused: Refused) -> None:
    write_series(FOLDER / "one")
    write_series(FOLDER / "two", count=3, change=on_slice(-1, SeriesInstanceUID=OTHER))
    problem = refused(lambda: assemble.read_series(FOLDER))
    assert "expected one volume, got 2" in problem.what
    assert f"two: CT, 3 files of 10x12, {OTHER}" in problem.what
    assert "one series per folder" in problem.remedy


def test_an_unknown_compression_is_named(workplace: Path, refused: Refused) -> None:
    write_series(FOLDER)
    file = sorted(FOLDER.iterdir())[0]
    content = pydicom.dcmread(file)
    content.PixelData = pydicom.encaps.encapsulate([content.PixelData])
    content["PixelData"].is_undefined_length = True
    content.file_meta.TransferSyntaxUID = HTJ2KLossless
    content.save_as(file)
    problem = refused(lambda: assemble.read_series(FOLDER))
    assert f"unsupported compression: {HTJ2KLossless.name}" in problem.what
    assert problem.where == str(file)


@pytest.mark.parametrize(("kept", "words"), [(-40, "truncated pixel data of RLE"), (150, "DICOM")])
def test_a_compressed_file_that_was_cut_is_named(
    workplace: Path, refused: Refused, kept: int, words: str
) -> None:
    write_series(FOLDER)
    file = sorted(FOLDER.iterdir())[0]
    content = pydicom.dcmread(file)
    content.compress(pydicom.uid.RLELossless)
    content.save_as(file)
    assert assemble.read_series(FOLDER).array.shape == (10, 12, 5)
    file.write_bytes(file.read_bytes()[:kept])
    problem = refused(lambda: assemble.read_series(FOLDER))
    assert words in problem.what
    assert problem.where == str(file)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (on_slice(-1, NumberOfFrames=3, ImagePositionPatient=None), "multi-frame"),
        (on_slice(-1, SOPClassUID=EnhancedCTImageStorage, PixelSpacing=None), "multi-frame"),
        (on_slice(-1, PixelData=None, PixelSpacing=None), "unreadable pixels"),
        (on_slice(-1, ImagePositionPatient=None, PixelSpacing=[0.0, 1.0]), "odd header"),
    ],
)
def test_a_file_gets_its_most_specific_reason_alone(
    workplace: Path, change: Change, kind: str
) -> None:
    write_series(FOLDER, change=change)
    assert [one.finding.heading for one in only_matches()] == [kind]


def test_an_empty_lookup_table_is_none(workplace: Path) -> None:
    write_series(FOLDER, change=on_slice(-1, ModalityLUTSequence=[]))
    assert assemble.read_series(FOLDER).findings == ()


def test_a_single_slice_of_unknown_thickness_is_in_doubt(workplace: Path) -> None:
    write_series(FOLDER, count=1)
    [found] = assemble.read_series(FOLDER).findings
    assert text(found) == "spacing in doubt: a single slice without a thickness, 1 mm taken"
    assert found.severity == DOUBT


def hostile(change: Callable[[bytes], bytes], **values: object) -> None:
    """A sound series, and beside it a file whose bytes are changed."""
    write_series(FOLDER / "sound")
    write_series(FOLDER / "bad", count=1, change=on_slice(-1, SeriesInstanceUID=OTHER, **values))
    [file] = (FOLDER / "bad").iterdir()
    file.write_bytes(change(file.read_bytes()))


def nested(depth: int, stated: bool) -> bytes:
    """Sequences in sequences, of stated lengths or with delimiters."""
    tag = struct.pack("<HH2sH", 0x0018, 0x9999, b"SQ", 0)
    if stated:
        below = [20 * level for level in reversed(range(depth))]
        items = ((length, struct.pack("<HHI", 0xFFFE, 0xE000, length)) for length in below)
        return b"".join(tag + struct.pack("<I", 8 + length) + item for length, item in items)
    start = tag + struct.pack("<IHHI", 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    return start * depth + struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0) * depth


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("depth", [200, 20_000])
@pytest.mark.parametrize("place", [b"\x20\x00\x32\x00", b""])
def test_deeply_nested_sequences_cost_their_own_file_only(
    workplace: Path, capsys: pytest.CaptureFixture[str], stated: bool, depth: int, place: bytes
) -> None:
    def change(content: bytes) -> bytes:
        at = content.index(place) if place else len(content)
        return content[:at] + nested(depth, stated) + content[at:]

    hostile(change)
    assert main(["doctor", str(FOLDER)]) == 2
    words = capsys.readouterr().out
    assert f"read      {FOLDER / 'sound'}: CT, 5 files" in words
    assert "nested too deeply" in words


def test_some_nesting_is_read(workplace: Path) -> None:
    hostile(lambda content: content + nested(30, stated=True))
    assert assemble.read_series(FOLDER / "bad").array.shape == (10, 12, 1)


def test_a_size_above_the_limits_costs_no_other_series(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile(lambda content: content, Rows=65535, Columns=65535, PixelData=b"\0" * 40)
    [file] = (FOLDER / "bad").iterdir()
    content = pydicom.dcmread(file)
    content.PixelData = pydicom.encaps.encapsulate([b"\0" * 80])
    content["PixelData"].is_undefined_length = True
    content.file_meta.TransferSyntaxUID = pydicom.uid.RLELossless
    content.save_as(file)
    assert main(["doctor", str(FOLDER)]) == 2
    words = capsys.readouterr().out
    assert f"read      {FOLDER / 'sound'}: CT, 5 files" in words
    assert "too large: expected at most 100,000,000 pixels, got 65535 x 65535" in words


@pytest.mark.parametrize(
    ("voxels", "pixels", "unit"), [(10**6, 119, "pixels"), (599, 10**6, "voxels")]
)
def test_the_limits_are_those_of_the_parameter_file(
    workplace: Path, capsys: pytest.CaptureFixture[str], voxels: int, pixels: int, unit: str
) -> None:
    write_series(FOLDER)
    Path("params.yaml").write_text(f"limits: {{voxels: {voxels}, pixels: {pixels}}}")
    assert main(["doctor", str(FOLDER)]) == 2
    assert f"raise limits.{unit}" in capsys.readouterr().out
    assert assemble.read_series(FOLDER, limits=Limits(pixels=120, voxels=600))


def deflated(content: bytes) -> Change:
    """Deflated files, with other pixel data where ``content`` is given."""

    def change(header: pydicom.Dataset, number: int) -> None:
        header.PixelData = content or header.PixelData
        header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian

    return change


def test_a_deflated_series_is_read_as_any_other(workplace: Path) -> None:
    write_series(FOLDER, change=deflated(b""))
    own = assemble.read_series(FOLDER)
    assert np.array_equal(own.grid.from_ras(own.array).transpose(2, 1, 0), pixels(5) * 2.0 - 100)


@pytest.mark.slow
def test_what_a_deflated_file_holds_beyond_its_pixels_takes_no_memory(
    workplace: Path, refused: Refused
) -> None:
    write_series(FOLDER, count=1, change=deflated(bytes(200_000_000)))
    tracemalloc.start()
    try:
        problem = refused(lambda: assemble.read_series(FOLDER))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "where the pixels need 240" in problem.what
    assert most < 60_000_000


@pytest.mark.parametrize("kept", [-40, 420])
def test_a_deflated_file_that_was_cut_is_named(
    workplace: Path, refused: Refused, kept: int
) -> None:
    write_series(FOLDER, count=1, change=deflated(np.random.default_rng(0).bytes(240)))
    [file] = FOLDER.iterdir()
    file.write_bytes(file.read_bytes()[:kept])
    assert refused(lambda: assemble.read_series(FOLDER)).where == str(file)


def test_pipes_and_devices_are_counted_and_never_opened(workplace: Path) -> None:
    write_series(FOLDER)
    os.mkfifo(FOLDER / "pipe.dcm")
    (FOLDER / "device.dcm").symlink_to("/dev/zero")
    (FOLDER / "gone.dcm").symlink_to("nowhere")
    read = assemble.read_series(FOLDER)
    assert read.findings == (
        finding("left-out", what="a broken link (1), a device (1), a named pipe (1)"),
    )


@pytest.mark.parametrize(
    ("names", "words", "remedy"),
    [
        (["1.dcm.gz", "2.dcm.gz", "3.DCM.GZ"], "got 3 files .dcm.gz", "are they damaged?"),
        (["1.dcm.bz2"], "got 1 file .dcm.bz2", "Unpack them"),
        (["1.2.840.1.gz"], "got 1 file .gz", "gunzip -r series"),
        (["a.zip", "b.zip", "c.txt"], "got 2 files .zip, 1 file .txt", "unzip FILE"),
        (["study.tar.gz"], "got 1 file .tar.gz", "tar -xf FILE"),
        (["t1.nii.gz", "t2.nii.gz"], "got 2 files .nii.gz", "name the file itself"),
        (["readme"], "got 1 file without suffix", ""),
        ([], "found none", ""),
    ],
)
def test_a_folder_without_dicom_says_what_is_there(
    workplace: Path, refused: Refused, names: list[str], words: str, remedy: str
) -> None:
    FOLDER.mkdir()
    for name in names:
        (FOLDER / name).write_text("text")
    problem = refused(lambda: assemble.read_series(FOLDER))
    assert problem.what == f"expected DICOM files, {words}"
    assert remedy in problem.remedy


def test_packed_files_beside_a_series_are_named(workplace: Path) -> None:
    write_series(FOLDER)
    (FOLDER / "6.dcm.bz2").write_bytes(b"BZh")
    assert assemble.read_series(FOLDER).findings == (
        finding("left-out", what="packed (.dcm.bz2) (1)"),
    )


def test_a_header_cannot_write_to_the_terminal(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(FOLDER)
    for file in FOLDER.iterdir():
        content = file.read_bytes()
        at = content.index(b"CS\x02\x00CT") + 4
        file.write_bytes(content[:at] + b"\x1b[" + content[at + 2 :])
    main(["doctor", str(FOLDER)])
    words = capsys.readouterr()
    assert "\x1b" not in words.out + words.err
    assert "?[, 5 files" in words.out


def test_files_at_one_place_that_cannot_be_decoded_hide_no_other_series(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(FOLDER / "sound")
    write_series(FOLDER / "bad", change=copy_of(0, onto=4, same=True))
    for file in (FOLDER / "bad").iterdir():
        content = pydicom.dcmread(file)
        content.SeriesInstanceUID = OTHER
        content.PixelData = pydicom.encaps.encapsulate([b"this is no codestream "])
        content["PixelData"].is_undefined_length = True
        content.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        content.save_as(file)
    assert main(["doctor", str(FOLDER)]) == 2
    words = capsys.readouterr().out
    assert f"read      {FOLDER / 'sound'}: CT, 5 files" in words
    assert "refused  unreadable pixels" in words


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_damaged_is_read_or_reported(workplace: Path, seed: int) -> None:
    write_series(FOLDER, count=1)
    [file] = FOLDER.iterdir()
    rng = np.random.default_rng(seed)
    content = np.frombuffer(file.read_bytes(), np.uint8).copy()
    places = rng.integers(132, len(content), 4)
    content[places] = rng.integers(0, 256, 4)
    file.write_bytes(content[: len(content) - seed % 2 * rng.integers(len(content))].tobytes())
    with contextlib.suppress(Problem):
        assert assemble.read_series(FOLDER).array.size


def test_garbage_in_place_of_compressed_pixels_is_named(workplace: Path, refused: Refused) -> None:
    write_series(FOLDER)
    file = sorted(FOLDER.iterdir())[0]
    content = pydicom.dcmread(file)
    content.PixelData = pydicom.encaps.encapsulate([b"this is no codestream "])
    content["PixelData"].is_undefined_length = True
    content.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    content.save_as(file)
    problem = refused(lambda: assemble.read_series(FOLDER))
    assert "JPEG 2000" in problem.what
    assert problem.where == str(file)


def test_a_file_without_its_preamble_is_still_dicom(workplace: Path) -> None:
    write_series(FOLDER)
    for file in FOLDER.iterdir():
        content = pydicom.dcmread(file)
        pydicom.dcmwrite(file, pydicom.Dataset(content), implicit_vr=True, little_endian=True)
    read = assemble.read_series(FOLDER)
    own = read.grid.from_ras(read.array).transpose(2, 1, 0)
    assert np.array_equal(own, pixels(5) * 2.0 - 100)


def test_the_verb_shows_a_block_per_series(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(FOLDER / "plain")
    write_series(FOLDER / "tilted", change=tilted)
    for file in (FOLDER / "tilted").iterdir():
        content = pydicom.dcmread(file)
        content.SeriesInstanceUID = OTHER
        content.save_as(file)
    (FOLDER / "readme.txt").write_text("hello")
    assert main(["doctor", str(FOLDER)]) == 0
    words = capsys.readouterr().out
    assert f"read      {FOLDER / 'tilted'}: CT, 5 files of 10x12, {OTHER}\n" in words
    assert "handled  gantry tilt: 20.0 degrees" in words
    assert "left out  not DICOM: 1 files" in words


def test_the_verb_ends_non_zero_where_something_is_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(FOLDER, change=on_slice(2, BurnedInAnnotation="YES"))
    assert main(["doctor", str(FOLDER)]) == 2
    words = capsys.readouterr()
    assert "refused  burned-in annotation" in words.out
    assert "blank them" in words.out
    assert "error: series: expected series that can be read, got 1 of 1 refused" in words.err


def test_the_verb_examines_the_others_beside_a_damaged_file(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(FOLDER)
    (FOLDER / "damaged.dcm").write_bytes(b"\0" * 200)
    assert main(["doctor", str(FOLDER)]) == 2
    words = capsys.readouterr().out
    assert "read      " in words
    assert "damaged.dcm: expected a DICOM file" in words


@pytest.mark.parametrize("make", [lambda: None, lambda: FOLDER.mkdir()])
def test_the_verb_names_a_folder_without_dicom(
    workplace: Path, capsys: pytest.CaptureFixture[str], make: Callable[[], None]
) -> None:
    make()
    assert main(["doctor", str(FOLDER)]) == 2
    assert "error: series: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (on_slice(-1, SpacingBetweenSlices=2.5), "spacing in doubt", "5 mm apart, Spacing"),
        (lambda header, n: setattr(header, "InstanceNumber", 2 * n + 1), "numbers with gaps", "9"),
    ],
)
def test_a_header_that_contradicts_the_positions_is_in_doubt(
    workplace: Path, change: Change, kind: str, words: str
) -> None:
    write_series(FOLDER, change=change)
    found = assemble.read_series(FOLDER).findings
    [doubt] = [one for one in found if one.heading == kind]
    assert words in text(doubt)
    assert text(doubt).endswith("are some missing?")
    assert doubt.severity == DOUBT


def test_follows_linked_folders_once(workplace: Path) -> None:
    write_series(Path("elsewhere"))
    FOLDER.mkdir()
    (FOLDER / "linked").symlink_to(Path("elsewhere").resolve())
    (FOLDER / "again").symlink_to(FOLDER.resolve())
    assert assemble.read_series(FOLDER).grid.shape[2] == 5
