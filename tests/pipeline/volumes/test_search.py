"""Every scan below some paths is there once, and what is no scan is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

from pipeline.volumes import nifti, scan_names
from pipeline.volumes.dicom import assemble, header
from pipeline.volumes.scan_names import Place
from pipeline.volumes.search import DICOM, NIFTI, PICTURE, read, search
from tests.conftest import Refused
from tests.pipeline.test_doctor import on_slice
from tests.pipeline.volumes.dicom.test_assemble import Change, write_series
from tests.support.every import every

ROOT = Path("scans")
OTHER = generate_uid(entropy_srcs=["another series of the search"])
pytestmark = pytest.mark.usefixtures("workplace")


def write_nifti(file: Path, value: int = 1) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    array = np.full((3, 4, 5), value, np.int16)
    kind = nib.Nifti1Pair if file.suffix in (".hdr", ".img") else nib.Nifti1Image
    nib.save(kind(array, np.eye(4)), file)
    return file


def write_picture(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(file)
    return file


def of_series(uid: str, **values: Any) -> Change:
    return on_slice(-1, SeriesInstanceUID=uid, **values)


def names(*inputs: Path, **options: Any) -> list[str]:
    return [scan.name for scan in search(inputs, **options).scans]


def reasons(*inputs: Path, **options: Any) -> str:
    return "\n".join(map(str, search(inputs, **options).unread))


def test_scans_of_every_kind_are_found_at_any_depth() -> None:
    write_nifti(ROOT / "a" / "head.nii.gz")
    nib.save(nib.MGHImage(np.ones((3, 4, 5), np.float32), np.eye(4)), ROOT / "brain.mgz")
    write_picture(ROOT / "a" / "b" / "slice.JPG")
    write_series(ROOT / "a" / "b" / "c" / "CT 1")
    found = [(scan.name, scan.kind, scan.path) for scan in search([ROOT]).scans]
    assert found == [
        ("CT-1", DICOM, ROOT / "a" / "b" / "c" / "CT 1"),
        ("brain", NIFTI, ROOT / "brain.mgz"),
        ("head", NIFTI, ROOT / "a" / "head.nii.gz"),
        ("slice", PICTURE, ROOT / "a" / "b" / "slice.JPG"),
    ]


def test_every_scan_can_be_read() -> None:
    image, picture = write_nifti(ROOT / "head.nii", 7), write_picture(ROOT / "slice.png")
    write_series(ROOT / "both", change=of_series(OTHER))
    write_series(ROOT / "alone")
    for file in list((ROOT / "alone").iterdir()):
        file.rename(ROOT / "both" / f"other-{file.name}")
    write_series(ROOT / "one")
    write_series(ROOT / "two", change=of_series(OTHER))
    volumes = {scan.name: read(scan) for scan in search([ROOT / "both", image, picture]).scans}
    assert np.array_equal(volumes.pop("head").array, nifti.read(image).array)
    assert volumes.pop("slice").array.shape == (4, 3, 1)
    assert len(volumes) == 2
    expected = assemble.read_series(ROOT / "one"), assemble.read_series(ROOT / "two")
    for name, volume in volumes.items():
        assert name.startswith("both_s-")
        assert np.array_equal(volume.array, expected[0].array)
        assert np.array_equal(volume.grid.affine, expected[1].grid.affine)


@every("given", ["pair.hdr", "pair.img", ""])
def test_a_pair_is_one_scan(given: str) -> None:
    write_nifti(ROOT / "pair.hdr")
    [scan] = search([ROOT / given]).scans
    assert scan.path == ROOT / "pair.hdr"
    assert read(scan).array.shape == (3, 4, 5)


def test_a_series_in_several_folders_is_one_scan() -> None:
    write_series(ROOT / "disc" / "one")
    (ROOT / "disc" / "two").mkdir()
    for file in sorted((ROOT / "disc" / "one").iterdir())[::2]:
        file.rename(ROOT / "disc" / "two" / file.name)
    [scan] = search([ROOT]).scans
    assert (scan.name, scan.path) == ("disc", ROOT / "disc")
    assert read(scan).array.shape[2] == 5


def test_series_without_a_uid_are_one_per_folder() -> None:
    for name in ("one", "two"):
        write_series(ROOT / name, change=of_series(""))
    assert names(ROOT) == ["one", "two"]


def test_series_of_one_folder_are_named_by_their_numbers() -> None:
    write_series(ROOT / "head", change=of_series(OTHER, SeriesNumber=3))
    write_series(ROOT / "other", change=on_slice(-1, SeriesNumber=12))
    for file in list((ROOT / "other").iterdir()):
        file.rename(ROOT / "head" / f"other-{file.name}")
    assert names(ROOT) == ["head_s12", "head_s3"]


def test_nothing_of_a_header_that_names_a_person_is_in_a_name() -> None:
    secrets = {"PatientName": "Secret^Jane", "PatientID": "secret", "SeriesDescription": "secret"}
    write_series(ROOT / "head", change=on_slice(-1, **secrets))
    write_series(ROOT / "head" / "more", change=of_series(OTHER, **secrets))
    inventory = search([ROOT])
    assert len(inventory.scans) == 2
    assert not any("secret" in scan.name.lower() for scan in inventory.scans)


def test_a_file_of_a_series_stands_for_its_series_in_its_folder() -> None:
    write_series(ROOT / "head")
    write_series(ROOT / "other", change=of_series(OTHER))
    for file in list((ROOT / "other").iterdir()):
        file.rename(ROOT / "head" / f"other-{file.name}")
    files = sorted(file for file in (ROOT / "head").iterdir() if "other" not in file.name)
    for given in (files[:1], files):
        inventory = search(given)
        [scan] = inventory.scans
        assert not inventory.unread
        assert read(scan).array.shape[2] == 5
        assert scan.series is not None
        assert {one.file for one in scan.series.slices} == set(files)


def test_overlapping_inputs_give_each_scan_once() -> None:
    write_nifti(ROOT / "a" / "head.nii.gz")
    write_series(ROOT / "a" / "ct")
    some = next((ROOT / "a" / "ct").iterdir())
    whole = Path.cwd() / ROOT
    inventory = search([ROOT / "a" / ".." / "a", ROOT, some, whole, ROOT / "a" / "head.nii.gz"])
    assert [scan.name for scan in inventory.scans] == ["ct", "head"]
    assert not inventory.unread


def test_a_header_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(ROOT / "head")
    asked: list[Path] = []
    true = header.read_all
    monkeypatch.setattr(
        header, "read_all", lambda file, limits: (asked.append(file), true(file, limits))[1]
    )
    files = sorted((ROOT / "head").iterdir())
    assert len(search([files[2], ROOT, *files]).scans) == 1
    assert sorted(asked) == files


def test_the_folder_of_results_is_not_searched() -> None:
    write_nifti(ROOT / "head.nii.gz")
    write_nifti(ROOT / "masks" / "head.nii.gz")
    assert names(ROOT, skip=ROOT / "masks") == ["head"]
    assert names(ROOT, skip=Path()) == ["masks_head", "scans_head"]


def test_no_scan_has_a_reserved_name() -> None:
    write_nifti(ROOT / "View.nii.gz")
    write_series(ROOT / "records")
    reserved = ("records", "view")
    assert names(ROOT, reserved=reserved) == ["scans_View", "scans_records"]


def test_what_is_not_there_is_refused(refused: Refused) -> None:
    write_nifti(ROOT / "head.nii.gz")
    problem = refused(lambda: search([ROOT, ROOT / "none"]))
    assert problem.where == str(ROOT / "none")
    assert "another folder than that of the results" in str(
        refused(lambda: search([ROOT], skip=ROOT / ".." / ROOT))
    )


def test_the_folders_of_a_series_that_is_refused_are_named() -> None:
    def other_sides(header: Any, number: int) -> None:
        header.PixelSpacing = [0.7, 0.7]

    write_series(ROOT / "one")
    write_series(ROOT / "two", change=other_sides)
    [unread] = search([ROOT]).unread
    assert unread.missed
    assert unread.reason.endswith(f"They lie in {ROOT / 'one'}, {ROOT / 'two'}.")


def text(name: str) -> None:
    (ROOT / name).write_text("some text")


def localizer() -> None:
    write_series(ROOT / "scout", change=on_slice(-1, ImageType=["ORIGINAL", "LOCALIZER"]))


def with_gap() -> None:
    write_series(ROOT / "gap")
    for file in (ROOT / "gap").iterdir():
        if pydicom.dcmread(file).InstanceNumber == 3:
            file.unlink()


def truncated() -> None:
    (ROOT / "cut.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\x01")


@every(
    ("make", "line", "missed"),
    [
        (lambda: text("readme.txt"), ".txt files: scans/readme.txt: no scan", False),
        (lambda: text("LICENCE"), "files without suffix: scans/LICENCE: no scan", False),
        (lambda: text("a.tar.gz"), "archives: scans/a.tar.gz: unpack them", False),
        (lambda: text("a.nrrd"), "scans of another format: scans/a.nrrd: convert", True),
        (lambda: text("a.dcm.bz2"), "compressed DICOM files: scans/a.dcm.bz2: unpack", True),
        (lambda: text("a.tiff"), "pictures of another format: scans/a.tiff", False),
        (lambda: text("a.hdr"), "halves of a NIfTI pair: scans/a.hdr: the other half", True),
        (lambda: text(".DS_Store"), "hidden files: scans/.DS_Store: not searched", False),
        (lambda: (ROOT / ".git").mkdir(), "hidden folders: scans/.git: not searched", False),
        (lambda: os.mkfifo(ROOT / "pipe"), "named pipes: scans/pipe: no regular file", False),
        (lambda: (ROOT / "x.nii").symlink_to("no"), "broken links: scans/x.nii: no reg", True),
        (lambda: (ROOT / "loop").symlink_to(".."), "links: scans/loop/scans: they lead", False),
        (lambda: (ROOT / "l.nii").symlink_to("head.nii"), "links: scans/l.nii: they lead", False),
        (localizer, "files of a localizer series: scans/scout/", False),
        (with_gap, "files of a DICOM series: scans/gap/", True),
        (with_gap, " and 3 more: missing slice: expected even spacing", True),
        (truncated, "damaged DICOM files: scans/cut.dcm: expected a DICOM file, got", True),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(
    make: Any, line: str, missed: bool, workplace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    os.chdir(tmp_path_factory.mktemp("tree"))
    write_nifti(ROOT / "head.nii")
    make()
    inventory = search([ROOT])
    [scan] = inventory.scans
    [unread] = inventory.unread
    assert (scan.path, unread.missed) == (ROOT / "head.nii", missed)
    assert line in str(unread)
    os.chdir(workplace)


def test_a_folder_that_cannot_be_listed_is_named() -> None:
    write_nifti(ROOT / "head.nii")
    closed = ROOT / "closed"
    closed.mkdir(mode=0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("nothing is closed to this user")
        assert "folders: scans/closed: cannot be listed" in reasons(ROOT)
    finally:
        closed.chmod(0o700)


@every(
    ("paths", "expected"),
    [
        (["a/t1.nii", "b/t1.nii"], ["a_t1", "b_t1"]),
        (["p/a/t1.nii", "q/a/t1.nii"], ["p_a_t1", "q_a_t1"]),
        (["T1.nii", "x/t1.nii"], ["root_T1", "x_t1"]),
        (["t1.nii", "t1.mgz"], ["t1-nii", "t1-mgz"]),
        (["view.nii"], ["root_view"]),
        (["Kopf MÜLLER (1).nii"], ["Kopf-MULLER-1"]),
        (["a_t1.nii", "a/t1.nii", "b/t1.nii"], ["a_t1-", "t1-", "b_t1"]),
    ],
)
def test_names_are_short_and_unique(paths: list[str], expected: list[str]) -> None:
    places = [Place(Path("/root") / one, scan_names.ending(Path(one))) for one in paths]
    names = scan_names.unique(places, {"view"})
    assert len({name.casefold() for name in names}) == len(names)
    assert all(name.startswith(start) for name, start in zip(names, expected, strict=True))
    if not any(start.endswith("-") for start in expected):
        assert names == expected


@every("name", ["x y", "x(y", "脑"])
def test_names_that_slugs_do_not_tell_apart_get_a_digest(name: str) -> None:
    places = [Place(Path("/") / f"{one}.nii", ".nii") for one in (name, name + " ", name + "!")]
    assert len(set(scan_names.unique(places))) == 3
