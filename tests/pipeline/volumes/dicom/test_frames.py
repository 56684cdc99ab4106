"""A file of several frames is read as the series that it is."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    NuclearMedicineImageStorage,
    RLELossless,
)

from datasets_spec.contract import Case, OneVolume, Problem
from pipeline import paths
from pipeline.__main__ import main
from pipeline.convert import _made_from as made_from
from pipeline.convert import convert
from pipeline.pairs import manifest
from pipeline.pairs.truth import KeptTruth
from pipeline.params.dicom import Tolerances
from pipeline.params.limits import Limits
from pipeline.volumes import reader
from pipeline.volumes.dicom import assemble, decoders, series
from pipeline.volumes.findings import text
from pipeline.volumes.search import search
from pipeline.volumes.volume import Volume
from tests.conftest import Refused
from tests.pipeline.volumes.dicom import enhanced
from tests.pipeline.volumes.dicom.enhanced import Groups, group
from tests.pipeline.volumes.dicom.test_assemble import Change, pixels, settings, write_series
from tests.pipeline.volumes.test_hounsfield import drawn, scanned

FOLDER = Path("series")
SHUFFLED = (3, 0, 4, 1, 2)
TWICE = (*range(5), *range(5))


def own(read: Volume) -> Any:
    """The volume as its slices store it, lowest first."""
    return read.grid.from_ras(read.array).transpose(2, 1, 0)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, RLELossless, DeflatedExplicitVRLittleEndian]
)
def test_frames_are_read_as_a_classic_series_is(workplace: Path, syntax: str, shared: bool) -> None:
    enhanced.write(FOLDER / "a.dcm", SHUFFLED, syntax=syntax, shared=shared)
    write_series(Path("classic"))
    read, classic = (assemble.read_series(one) for one in (FOLDER, Path("classic")))
    np.testing.assert_array_equal(read.grid.affine, classic.grid.affine)
    order = np.argsort(SHUFFLED)
    np.testing.assert_array_equal(own(read), pixels(5) * 2.0 - 100)
    uid = pydicom.dcmread(FOLDER / "a.dcm").SOPInstanceUID
    assert read.uids == tuple(f"{uid}_frame{frame + 1}" for frame in order)
    assert read.instances == tuple(SHUFFLED)
    assert read.findings == ()


def test_every_frame_is_rescaled_by_its_own_groups(workplace: Path) -> None:
    def change(groups: Groups, frame: int) -> None:
        values = {"RescaleSlope": 1 + frame, "RescaleIntercept": -10 * frame}
        group(groups, "PixelValueTransformationSequence", **values)

    enhanced.write(FOLDER / "a.dcm", change=change)
    read = assemble.read_series(FOLDER)
    wanted = [one * (1.0 + n) - 10 * n for n, one in enumerate(pixels(5))]
    np.testing.assert_array_equal(own(read), wanted)
    assert [text(one).split(":")[0] for one in read.findings] == ["rescale per slice"]


def test_a_file_is_decoded_once(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enhanced.write(FOLDER / "a.dcm", SHUFFLED)
    asked = []
    true = decoders.iter_pixels
    monkeypatch.setattr(
        decoders, "iter_pixels", lambda *way, **how: (asked.append(way), true(*way, **how))[1]
    )
    assemble.read_series(FOLDER)
    assert len(asked) == 1


def test_what_pydicom_cannot_decode_is_decoded_frame_by_frame(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enhanced.write(FOLDER / "a.dcm", SHUFFLED, syntax=RLELossless)
    wanted = assemble.read_series(FOLDER)
    monkeypatch.setattr(decoders, "_known_to_pydicom", lambda _: False)
    np.testing.assert_array_equal(assemble.read_series(FOLDER).array, wanted.array)


@pytest.mark.parametrize(
    ("order", "words"),
    [((0, 1, 3, 4), "missing slice"), ((0, 1, 2, 3, 3), "duplicate position: expected one slice")],
)
def test_frames_are_judged_as_files_are(
    workplace: Path, refused: Refused, order: tuple[int, ...], words: str
) -> None:
    enhanced.write(FOLDER / "a.dcm", order)
    assert words in str(refused(lambda: assemble.read_series(FOLDER)))


def without_places(header: pydicom.Dataset) -> None:
    del header.PerFrameFunctionalGroupsSequence
    header.SOPClassUID = NuclearMedicineImageStorage


def too_few(header: pydicom.Dataset) -> None:
    header.PerFrameFunctionalGroupsSequence = header.PerFrameFunctionalGroupsSequence[:4]


def cut(header: pydicom.Dataset) -> None:
    header.PixelData = header.PixelData[:-240]


def lookup(header: pydicom.Dataset) -> None:
    header.ModalityLUTSequence = pydicom.Sequence([pydicom.Dataset()])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_places, "functional groups that state where each frame lies, got 5 frames"),
        (too_few, "NumberOfFrames 5, and places of 4"),
        (cut, "truncated pixel data"),
        (lookup, "modality lookup table"),
    ],
)
def test_refuses_by_its_true_reason(
    workplace: Path, refused: Refused, change: Any, words: str
) -> None:
    file = FOLDER / "a.dcm"
    enhanced.write(file)
    header = pydicom.dcmread(file)
    change(header)
    header.save_as(file)
    assert words in str(refused(lambda: assemble.read_series(FOLDER)))


def kinds(groups: Groups, frame: int) -> None:
    image_type = ["ORIGINAL", "PRIMARY", "T1", "M" if frame < 5 else "FIELD_MAP"]
    group(groups, "MRImageFrameTypeSequence", FrameType=image_type)


def echoes(groups: Groups, frame: int) -> None:
    group(groups, "MREchoSequence", EffectiveEchoTime=4.6 if frame < 5 else 2.3)


def weightings(groups: Groups, frame: int) -> None:
    group(groups, "MRDiffusionSequence", DiffusionBValue=0.0 if frame < 5 else 1000.0)


def times(groups: Groups, frame: int) -> None:
    group(groups, "FrameContentSequence", TemporalPositionIndex=1 + frame // 5)


def moments(groups: Groups, frame: int) -> None:
    moment = f"20220101120{frame // 5}{frame % 5}0.5"
    group(groups, "FrameContentSequence", FrameAcquisitionDateTime=moment)


@pytest.mark.parametrize(
    ("change", "first", "second"),
    [
        (kinds, "magnitude", "field map"),
        (echoes, "echo 2", "echo 1"),
        (weightings, "b 0", "b 1000"),
        (times, "time 1", "time 2"),
        (moments, "time 1", "time 2"),
    ],
)
def test_of_several_volumes_each_is_read_by_its_key(
    workplace: Path, refused: Refused, change: enhanced.Change, first: str, second: str
) -> None:
    enhanced.write(FOLDER / "a.dcm", TWICE, change, modality="MR")
    problem = str(refused(lambda: reader.read_image(FOLDER)))
    assert "expected one volume, got a series of 2" in problem
    assert first in problem
    assert second in problem
    twice = np.concatenate([pixels(5), pixels(5) + enhanced.MORE])
    for key, at in ((first, 0), (second, 5)):
        read = reader.read_image(OneVolume(FOLDER, key))
        np.testing.assert_array_equal(own(read), twice[at : at + 5] * 2.0 - 100)
        assert [text(one) for one in read.findings] == ["left out: volumes of the same series (1)"]
    assert first in str(refused(lambda: reader.read_image(OneVolume(FOLDER, "echo 9"))))


def test_a_key_that_one_series_of_a_folder_has_names_it(workplace: Path, refused: Refused) -> None:
    enhanced.write(FOLDER / "a.dcm", TWICE, echoes, modality="MR")
    enhanced.write(FOLDER / "b.dcm", base=another_series, modality="MR")
    assert "expected one volume, got 3" in str(refused(lambda: reader.read_image(FOLDER)))
    read = reader.read_image(OneVolume(FOLDER, "echo 2"))
    assert read.array.shape[2] == 5
    assert [text(one) for one in read.findings] == ["left out: other volumes (2)"]
    assert "got 3" in str(refused(lambda: reader.read_image(OneVolume(FOLDER, "echo 9"))))


def another_series(header: pydicom.Dataset, number: int) -> None:
    header.SeriesInstanceUID, header.SOPInstanceUID = "1.2.9", f"1.2.9.{number}"


def test_what_no_header_distinguishes_is_refused(workplace: Path, refused: Refused) -> None:
    enhanced.write(FOLDER / "a.dcm", TWICE, modality="MR")
    assert "every position has several" in str(refused(lambda: reader.read_image(FOLDER)))


def test_two_marks_make_one_key(workplace: Path) -> None:
    def change(groups: Groups, frame: int) -> None:
        kinds(groups, frame % 10)
        group(groups, "MREchoSequence", EffectiveEchoTime=2.3 if frame < 10 else 4.6)

    enhanced.write(FOLDER / "a.dcm", (*TWICE, *TWICE), change, modality="MR")
    keys = [one.key for one in series.examine(FOLDER).series]
    assert keys == [
        "field map, echo 1",
        "field map, echo 2",
        "magnitude, echo 1",
        "magnitude, echo 2",
    ]


def classic_echoes(header: pydicom.Dataset, number: int) -> None:
    """Ten files: five places, two echoes of each, in turn."""
    header.Modality, header.EchoTime = "MR", (2.3, 4.6)[number % 2]
    header.ImagePositionPatient[2] = 5.0 * (number // 2)


def classic_times(header: pydicom.Dataset, number: int) -> None:
    header.Modality, header.AcquisitionTime = "MR", f"1200{number:02d}.5"
    header.ImagePositionPatient[2] = 5.0 * (number // 2)


@pytest.mark.parametrize(("change", "word"), [(classic_echoes, "echo"), (classic_times, "time")])
def test_a_classic_series_is_split_likewise(workplace: Path, change: Change, word: str) -> None:
    write_series(FOLDER, count=10, change=change)
    for number in (1, 2):
        read = reader.read_image(OneVolume(FOLDER, f"{word} {number}"))
        np.testing.assert_array_equal(own(read), pixels(10)[number - 1 :: 2] * 2.0 - 100)
        assert len(read.uids) == 5


def test_a_single_volume_needs_no_key(workplace: Path, refused: Refused) -> None:
    write_series(FOLDER)
    problem = refused(lambda: reader.read_image(OneVolume(FOLDER, "echo 1")))
    assert "got a series of one" in str(problem)


def test_a_search_asks_for_the_volume(workplace: Path) -> None:
    enhanced.write(FOLDER / "a.dcm", TWICE, echoes, modality="MR")

    found = search([FOLDER])
    assert not found.scans
    [unread] = found.unread
    assert unread.missed
    assert "it holds echo 1, echo 2; name one with --volume" in str(unread)
    [scan] = search([FOLDER], key="echo 2").scans
    assert (scan.volume, scan.name) == ("echo 2", "series_echo-2")
    assert search([FOLDER], key="echo 3").unread


def test_a_packed_file_is_read(workplace: Path) -> None:
    write_series(FOLDER)
    wanted = assemble.read_series(FOLDER)
    for file in sorted(FOLDER.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    read = assemble.read_series(FOLDER)
    np.testing.assert_array_equal(read.array, wanted.array)
    assert read.findings == ()
    [scan] = search([FOLDER]).scans
    assert scan.path == FOLDER


def test_a_packed_file_is_no_larger_than_its_pixels_need(workplace: Path, refused: Refused) -> None:
    write_series(FOLDER)
    file = next(FOLDER.iterdir())
    content = file.read_bytes() + bytes(40 << 20)
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(content))
    file.unlink()
    assert "bytes unpacked" in str(refused(lambda: assemble.read_series(FOLDER, Limits())))


def test_pairs_of_an_enhanced_file_are_those_of_a_classic_series(workplace: Path) -> None:
    raw = paths.raw("virtual_ncct") / "sub-01"
    write_series(raw / "label", change=drawn())
    write_series(raw / "ct", change=scanned())
    convert("virtual_ncct", settings(), 1)
    converted = paths.converted("virtual_ncct")
    classic = manifest.read(converted)
    for file in sorted((raw / "ct").iterdir()):
        file.unlink()
    enhanced.write(raw / "ct" / "a.dcm", SHUFFLED, base=scanned())
    convert("virtual_ncct", settings(), 1)
    pairs = manifest.read(converted)
    assert [one.image_digest for one in pairs] == [one.image_digest for one in classic]
    assert [one.mask_digest for one in pairs] == [one.mask_digest for one in classic]
    names = [one.sop_instance_uid for one in pairs]
    assert len(set(names)) == 5
    kept = KeptTruth.of(converted, pairs[0])
    assert sorted(kept.record.parts) == sorted(names)


def test_another_volume_is_another_case(workplace: Path) -> None:
    def work(volume: str) -> object:
        image = OneVolume(Path("series"), volume)
        return made_from(Case("a", "p", image, {"": Path("label.nii")}))[1]

    enhanced.write(FOLDER / "a.dcm", TWICE, echoes, modality="MR")
    Path("label.nii").write_bytes(b"label")
    assert work("echo 1") == work("echo 1")
    assert work("echo 1") != work("echo 2")


@pytest.mark.parametrize("label_too", [False, True])
def test_convert_takes_the_tolerances_that_are_stated(workplace: Path, label_too: bool) -> None:
    def jittering(change: Change) -> Change:
        def changed(header: pydicom.Dataset, number: int) -> None:
            change(header, number)
            header.ImagePositionPatient[2] += [0, 0.3, 0, -0.2, 0][number]

        return changed

    raw = paths.raw("virtual_ncct") / "sub-01"
    write_series(raw / "label", change=jittering(drawn()) if label_too else drawn())
    write_series(raw / "ct", change=jittering(scanned()))
    usual = settings()
    if not label_too:
        with pytest.raises(Problem):
            convert("virtual_ncct", usual, 1)
    lax = replace(usual.convert, dicom=Tolerances(off_line_mm=0.4))
    convert("virtual_ncct", replace(usual, convert=lax), 1)
    pairs = manifest.read(paths.converted("virtual_ncct"))
    assert len(pairs) == 5
    assert all("jittering-positions" in one.findings for one in pairs)


def test_doctor_lists_each_volume_and_how_it_is_named(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enhanced.write(FOLDER / "a.dcm", TWICE, echoes, modality="MR")
    assert main(["doctor", str(FOLDER)]) == 0
    said = capsys.readouterr().out
    assert "5 frames" in said
    assert "echo 1" in said
    assert "echo 2" in said
    assert "OneVolume(folder, 'echo 1')" in said
