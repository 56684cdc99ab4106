"""Nothing that names a person leaves the raw data of a dataset that is not anonymous."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

import datasets_spec
from datasets_spec.contract import Case
from model.evaluate import evaluate
from pipeline import manifest, params, paths
from pipeline.convert import convert
from pipeline.pseudonyms import Pseudonyms
from pipeline.report import report
from tests import cohort
from tests.conftest import Refused
from tests.models import save_untrained
from tests.test_dicom import Change, write_series

NAME = cohort.DATASET
SALT = "a salt that nobody is to see"
MARK = "ZzPlanted"
DATE = "19700102"
PREFIX = "1.2.999999999."
PATIENTS = [f"{MARK}-{number}-{DATE}" for number in range(5)]
RATERS = (f"{MARK}-Reader", "")


def ids(number: int) -> np.ndarray:
    """Class ids (slices, rows, columns) of one patient, every class drawn."""
    drawn = np.zeros((5, 12, 10), np.uint8)
    for label in (1, 2, 3):
        drawn[1:4, 2 + number, label : label + 1 + number] = label
    return drawn


def planted(number: int, stored: np.ndarray, series: str) -> Change:
    """A change of a slice's header: names, dates, ids and private tags everywhere."""

    def change(header: pydicom.Dataset, index: int) -> None:
        for tag in ("PatientName", "PatientID", "OtherPatientIDs", "AccessionNumber"):
            setattr(header, tag, f"{MARK}^{tag}"[:16])
        for tag in ("StudyDescription", "SeriesDescription", "InstitutionName", "ImageComments"):
            setattr(header, tag, f"{MARK} {tag}")
        header.PatientBirthDate = header.StudyDate = header.AcquisitionDate = DATE
        header.BurnedInAnnotation = "NO"
        header.RecognizableVisualFeatures = "YES"
        header.private_block(0x0099, MARK, create=True).add_new(1, "LO", f"{MARK} private")
        header.Modality = "MR"
        header.StudyInstanceUID = generate_uid(PREFIX, [series, "study"])
        header.SeriesInstanceUID = f"{PREFIX}{number}.{len(series)}"
        header.SOPInstanceUID = generate_uid(PREFIX)
        header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
        header.RescaleSlope, header.RescaleIntercept = 1, 0
        header.PixelData = stored[index].astype(np.int16).tobytes()

    return change


def picture(number: int) -> np.ndarray:
    """Intensities (slices, rows, columns) of one patient, unlike any other's."""
    noise = np.random.default_rng(number).integers(0, 60, (5, 12, 10))
    return cohort.SIGNAL[ids(number)] % 255 * 3 // 4 + noise


def write_dicom(folder: Path, number: int) -> Case:
    for kind, stored in (("scan", picture(number)), ("mask", ids(number))):
        write_series(folder / kind, change=planted(number, stored, kind))
    labels = dict.fromkeys(RATERS, folder / "mask")
    return Case(folder.name, folder.name, folder / "scan", labels)


def write_nifti(folder: Path, number: int) -> Case:
    folder.mkdir(parents=True)
    for kind, stored in (("scan", picture(number)), ("mask", ids(number))):
        file = nib.Nifti1Image(stored.astype(np.int16), np.diag([2.0, 2.0, 5.0, 1.0]))
        for text in ("descrip", "aux_file", "db_name"):
            file.header[text] = f"{MARK}"
        file.header.extensions.append(nib.nifti1.Nifti1Extension("comment", MARK.encode()))
        nib.save(file, folder / f"{MARK}_{kind}.nii.gz")
    scan, mask = (folder / f"{MARK}_{kind}.nii.gz" for kind in ("scan", "mask"))
    return Case(folder.name, folder.name, scan, dict.fromkeys(RATERS, mask))


def write_pictures(folder: Path, number: int) -> Case:
    places = {}
    for kind, stored in (("scan", picture(number)), ("mask", ids(number))):
        (folder / kind).mkdir(parents=True)
        files = tuple(folder / kind / f"{MARK}{index}.png" for index in range(5))
        for file, values in zip(files, stored, strict=True):
            Image.fromarray(values.astype(np.uint8)).save(file)
        places[kind] = files
    labels = dict.fromkeys(RATERS, places["mask"])
    return Case(folder.name, folder.name, places["scan"], labels)


@pytest.fixture
def settings(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> params.Params:
    """A planted cohort of DICOM, NIfTI and PNG patients, and every stage run over it."""
    writers = [write_dicom, write_nifti, write_pictures, write_dicom, write_dicom]
    cases = [
        replace(write(paths.raw(NAME) / patient, number), split="test" if number < 3 else "train")
        for number, (write, patient) in enumerate(zip(writers, PATIENTS, strict=True))
    ]
    adapter = datasets_spec.load(NAME)
    clinic = replace(
        adapter, cases=lambda _: iter(cases), dataset=replace(adapter.dataset, anonymous=False)
    )
    monkeypatch.setattr(datasets_spec, "load", lambda _: clinic)
    prepared = cohort.write_params(**{"convert.id_salt": SALT, "convert.raters": "each"})
    cohort.make_pairs(prepared)
    save_untrained(NAME, prepared)
    evaluate(NAME, prepared)
    report([NAME], paths.PARAMS)
    return prepared


def outputs() -> Iterator[tuple[str, bytes]]:
    """Name and content of every file that a stage wrote, unpacked."""
    for file in sorted(Path().rglob("*")):
        if file.is_relative_to(paths.DATA / "raw") or not file.is_file() or file == paths.PARAMS:
            continue
        content = file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        elif file.suffix == ".parquet":
            content += str(pq.read_table(file).to_pylist()).encode()
        elif file.suffix == ".keras":
            with zipfile.ZipFile(file) as opened:
                content = b"".join(opened.read(name) for name in opened.namelist())
        elif file.suffix == ".png":
            with Image.open(file) as opened:
                content += str(opened.info).encode()
        yield file.as_posix(), content


def test_no_output_holds_a_name_a_date_an_id_or_the_salt(settings: params.Params) -> None:
    secrets = [MARK, DATE, PREFIX, SALT]
    kinds = set()
    for name, content in outputs():
        kinds.add(Path(name).suffix)
        for secret in secrets:
            assert secret.lower() not in name.lower()
            assert secret.lower().encode() not in content.lower()
    assert kinds >= {".png", ".parquet", ".json", ".html", ".csv", ".gz"}


def test_every_raw_case_has_one_name_and_is_found_again(settings: params.Params) -> None:
    names = Pseudonyms(NAME, False, SALT)
    pairs = manifest.read(paths.dataset(NAME))
    assert {pair.case for pair in pairs} == {names.of("case", patient) for patient in PATIENTS}
    assert {pair.patient for pair in pairs} == {names.of("patient", one) for one in PATIENTS}
    assert not {pair.case for pair in pairs} & {pair.patient for pair in pairs}
    assert {pair.rater for pair in pairs} == {names.of("rater", RATERS[0]), ""}
    scored = (paths.run(NAME) / paths.PER_CASE).read_text("utf-8")
    for patient in PATIENTS[:3]:
        assert names.of("case", patient) in scored


def test_a_case_that_fails_now_keeps_its_pairs_and_is_told_by_its_raw_id(
    settings: params.Params, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    before = manifest.read(paths.converted(NAME))
    file = paths.raw(NAME) / PATIENTS[1] / f"{MARK}_scan.nii.gz"
    file.write_bytes(file.read_bytes()[:200])
    refused(lambda: convert(NAME, settings, 1))
    assert f"{PATIENTS[1]}: " in capsys.readouterr().err
    assert manifest.read(paths.converted(NAME)) == before


def test_predictions_are_named_by_the_instances_new_uids(settings: params.Params) -> None:
    names = Pseudonyms(NAME, False, SALT)
    case = names.of("case", PATIENTS[0])
    raw_uids = {
        str(pydicom.dcmread(file).SOPInstanceUID)
        for file in (paths.raw(NAME) / PATIENTS[0] / "scan").iterdir()
    }
    folder = paths.run(NAME) / paths.PREDICTIONS / "native" / case
    assert {file.stem for file in folder.iterdir()} == {names.uid(uid) for uid in raw_uids}
    told = {pair.sop_instance_uid for pair in manifest.read(paths.converted(NAME))}
    assert {names.uid(uid) for uid in raw_uids} < told
    assert all(len(names.uid(uid)) <= 64 for uid in raw_uids)


def test_names_differ_with_the_salt_the_dataset_and_the_kind() -> None:
    names = Pseudonyms("one", False, "salt")
    others = [
        Pseudonyms("one", False, "other").of("case", "7"),
        Pseudonyms("two", False, "salt").of("case", "7"),
        names.of("patient", "7"),
        names.of("case", "8"),
    ]
    assert names.of("case", "7") == Pseudonyms("one", False, "salt").of("case", "7")
    assert len({names.of("case", "7"), *others}) == 5


def test_ids_of_an_anonymous_dataset_stay() -> None:
    names = Pseudonyms("one", True, "salt")
    assert names.of("case", "sub-01") == "sub-01"
    assert names.uid("1.2.3") == "1.2.3"


def test_a_dataset_is_not_anonymous_unless_it_says_so() -> None:
    facts = datasets_spec.load(NAME).dataset
    silent = {name: value for name, value in vars(facts).items() if name != "anonymous"}
    assert not type(facts)(**silent).anonymous
