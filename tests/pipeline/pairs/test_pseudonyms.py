"""Nothing that names a person leaves the raw data of a dataset that is not anonymous."""

from __future__ import annotations

import csv
import gzip
import shutil
import stat
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
from model.__main__ import main as model_main
from model.evaluate import evaluate
from pipeline import paths
from pipeline.augment import augment
from pipeline.convert import convert
from pipeline.pairs import identities, manifest, pseudonyms
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.params import reader as params
from pipeline.report import report
from pipeline.sources.listing import cases as listed
from pipeline.split import split
from pipeline.splits import folders
from tests.conftest import Refused
from tests.pipeline.volumes.dicom.test_assemble import Change, write_series
from tests.support import cohort
from tests.support.models import save_untrained

pytestmark = pytest.mark.slow

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
def clinic(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> params.Params:
    """A planted cohort of DICOM, NIfTI and PNG patients, and the pairs made of it."""
    writers = [write_dicom, write_nifti, write_pictures, write_dicom, write_dicom]
    cases = [
        replace(write(paths.raw(NAME) / patient, number), split="test" if number < 3 else "train")
        for number, (write, patient) in enumerate(zip(writers, PATIENTS, strict=True))
    ]
    adapter = datasets_spec.load(NAME)
    planted = replace(
        adapter, cases=lambda _: iter(cases), dataset=replace(adapter.dataset, anonymous=False)
    )
    monkeypatch.setattr(datasets_spec, "load", lambda _: planted)
    monkeypatch.setenv(pseudonyms.SALT_VARIABLE, SALT)
    prepared = cohort.write_params(**{"convert.raters": "each"})
    cohort.make_pairs(prepared)
    return prepared


@pytest.fixture
def settings(clinic: params.Params) -> params.Params:
    """The planted cohort with a network on disk, and every stage run over it."""
    save_untrained(NAME, clinic)
    evaluate(NAME, clinic)
    report([NAME], paths.PARAMS)
    return clinic


def outputs() -> Iterator[tuple[str, bytes]]:
    """Name and content of every file that a stage wrote for others to see, unpacked."""
    hidden = (paths.DATA / "raw", paths.IDENTITIES)
    for file in sorted(Path().rglob("*")):
        if any(map(file.is_relative_to, hidden)) or not file.is_file() or file == paths.PARAMS:
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


def test_a_case_that_fails_now_keeps_its_pairs_and_is_reported_by_its_raw_id(
    clinic: params.Params, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    before = manifest.read(paths.converted(NAME))
    file = paths.raw(NAME) / PATIENTS[1] / f"{MARK}_scan.nii.gz"
    file.write_bytes(file.read_bytes()[:200])
    refused(lambda: convert(NAME, clinic, 1))
    assert f"{PATIENTS[1]}: " in capsys.readouterr().err
    after = manifest.read(paths.converted(NAME))
    of_failed = [pair for pair in after if "earlier-conversion" in pair.findings]
    assert {pair.case for pair in of_failed} == {
        Pseudonyms(NAME, False, SALT).of("case", PATIENTS[1])
    }
    assert [replace(pair, findings="") for pair in after] == [
        replace(pair, findings="") for pair in before
    ]


def test_predictions_are_named_by_the_instances_new_uids(settings: params.Params) -> None:
    names = Pseudonyms(NAME, False, SALT)
    case = names.of("case", PATIENTS[0])
    raw_uids = {
        str(pydicom.dcmread(file).SOPInstanceUID)
        for file in (paths.raw(NAME) / PATIENTS[0] / "scan").iterdir()
    }
    folder = paths.run(NAME) / paths.PREDICTIONS / "native" / case
    assert {file.stem for file in folder.iterdir()} == {names.uid(uid) for uid in raw_uids}
    stated = {pair.sop_instance_uid for pair in manifest.read(paths.converted(NAME))}
    assert {names.uid(uid) for uid in raw_uids} < stated
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


# --- the way back ----------------------------------------------------------------------------


def tables() -> dict[str, list[list[str]]]:
    """Case -> kind, name and raw id, as the guarded tables have them."""
    files = sorted((paths.IDENTITIES / NAME).iterdir())
    return {file.stem: list(csv.reader(file.read_text().splitlines()))[1:] for file in files}


def test_every_name_leads_back_to_what_it_stands_for(clinic: params.Params) -> None:
    names = Pseudonyms(NAME, False, SALT)
    found = tables()
    assert found.keys() == {names.of("case", patient) for patient in PATIENTS}
    for pair in manifest.read(paths.dataset(NAME)):
        back = {(kind, name): raw_id for kind, name, raw_id in found[pair.case]}
        assert back["case", pair.case] in PATIENTS
        assert back["patient", pair.patient] == back["case", pair.case]
        assert (paths.raw(NAME) / back["source", pair.source]).exists()
        assert not pair.rater or back["rater", pair.rater] == RATERS[0]
        assert not pair.sop_instance_uid or back["instance", pair.sop_instance_uid].startswith(
            PREFIX
        )


def test_the_tables_are_for_their_owner_alone(clinic: params.Params) -> None:
    modes = {stat.S_IMODE(file.stat().st_mode) for file in (paths.IDENTITIES / NAME).iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(paths.IDENTITIES.stat().st_mode) == 0o700


def test_a_table_that_is_gone_is_written_again_and_one_of_no_case_is_removed(
    clinic: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tables()
    for name in list(before)[:3]:
        (paths.IDENTITIES / NAME / f"{name}.csv").unlink()
    (paths.IDENTITIES / NAME / "0123456789abcdef.csv").touch()
    capsys.readouterr()
    convert(NAME, clinic, 1)
    assert "5 kept, 0 to make" in capsys.readouterr().out
    assert tables() == before


def test_a_file_name_that_is_a_formula_is_text_in_the_table(workplace: Path) -> None:
    names = Pseudonyms(NAME, False, SALT)
    scan = paths.raw(NAME) / "=1+1.nii"
    identities.write(names, Case("a", "a", scan, {"": scan}), [])
    [rows] = tables().values()
    assert ["source", names.of("source", "=1+1.nii"), "'=1+1.nii"] in rows


def test_split_names_a_case_by_its_name_and_its_raw_id(
    clinic: params.Params, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Pseudonyms(NAME, False, SALT)
    adapter = datasets_spec.load(NAME)
    stated = [replace(case, patient=f"{case.patient}-b") for case in listed(adapter)]
    monkeypatch.setattr(datasets_spec, "load", lambda _: replace(adapter, cases=lambda _: stated))
    problem = refused(lambda: split(NAME, clinic))
    first = min(PATIENTS, key=lambda one: names.of("case", one))
    assert f"{names.of('case', first)} is the case {first}" in problem.what
    assert f"{names.of('patient', first)} is the patient {first}" in problem.what
    new = names.of("patient", f"{first}-b")
    assert f"{new} is the patient {first}-b" in problem.what


def test_the_gate_names_a_case_by_its_name_and_its_raw_id(clinic: params.Params) -> None:
    folder = paths.dataset(NAME)
    tested = next(pair for pair in manifest.read(folder) if pair.split == "test")
    (folder / "test" / tested.image).unlink()
    found = folders.check(folder, 1)
    back = {name: raw_id for _, name, raw_id in tables()[tested.case]}
    assert all(f"{tested.case} is the case {back[tested.case]}" in one.examples[0] for one in found)
    assert found


# --- the salt --------------------------------------------------------------------------------


def small_clinic(monkeypatch: pytest.MonkeyPatch, patients: int = 4) -> params.Params:
    """A cohort that is not anonymous, and no salt yet."""
    monkeypatch.delenv(pseudonyms.SALT_VARIABLE, raising=False)
    cohort.write_raw(patients=patients)
    adapter = datasets_spec.load(NAME)
    named = replace(adapter, dataset=replace(adapter.dataset, anonymous=False))
    monkeypatch.setattr(datasets_spec, "load", lambda _: named)
    return cohort.write_params()


def test_the_first_conversion_makes_a_salt_for_its_owner_alone(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small_clinic(monkeypatch)
    convert(NAME, settings, 1)
    salt = paths.ID_SALT.read_text("utf-8").strip()
    assert len(bytes.fromhex(salt)) == 32
    assert stat.S_IMODE(paths.ID_SALT.stat().st_mode) == 0o600
    output = capsys.readouterr().out
    assert f"with a new salt, in {paths.ID_SALT}" in output
    assert salt not in output
    expected = {Pseudonyms(NAME, False, salt).of("case", f"sub-0{n}") for n in range(1, 5)}
    assert {pair.case for pair in manifest.read(paths.converted(NAME))} == expected
    convert(NAME, settings, 1)
    assert "4 kept, 0 to make" in capsys.readouterr().out
    assert paths.ID_SALT.read_text("utf-8").strip() == salt


def test_an_anonymous_dataset_needs_no_salt_and_no_table(workplace: Path) -> None:
    cohort.prepare()
    assert not paths.ID_SALT.exists()
    assert not paths.IDENTITIES.exists()


def test_the_salt_of_the_environment_counts_before_the_file(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_clinic(monkeypatch)
    adapter = datasets_spec.load(NAME)
    of_file = pseudonyms.load(adapter, new_salt=True)
    monkeypatch.setenv(pseudonyms.SALT_VARIABLE, f" {SALT}\n")
    assert pseudonyms.load(adapter).salt == SALT != of_file.salt


@pytest.mark.parametrize("salt", ["", "  ", "flexunet-pipeline"])
def test_a_salt_that_is_no_secret_is_refused(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused, salt: str
) -> None:
    small_clinic(monkeypatch)
    adapter = datasets_spec.load(NAME)
    monkeypatch.setenv(pseudonyms.SALT_VARIABLE, salt)
    assert pseudonyms.SALT_VARIABLE in refused(lambda: pseudonyms.load(adapter)).where
    monkeypatch.delenv(pseudonyms.SALT_VARIABLE)
    paths.ID_SALT.write_text(salt)
    assert str(paths.ID_SALT) in refused(lambda: pseudonyms.load(adapter, new_salt=True)).where


def test_only_convert_makes_a_salt(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    settings = small_clinic(monkeypatch)
    convert(NAME, settings, 1)
    augment(NAME, settings, 1)
    paths.ID_SALT.unlink()
    problem = refused(lambda: split(NAME, settings))
    assert str(paths.ID_SALT) in problem.where
    assert not paths.ID_SALT.exists()


def test_a_changed_salt_makes_the_names_anew_and_split_waits_for_it(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = small_clinic(monkeypatch)
    cohort.make_pairs(settings)
    before = {pair.case for pair in manifest.read(paths.dataset(NAME))}
    monkeypatch.setenv(pseudonyms.SALT_VARIABLE, SALT)
    assert pseudonyms.SALT_VARIABLE in refused(lambda: split(NAME, settings)).remedy
    capsys.readouterr()
    cohort.make_pairs(settings)
    assert f"convert {NAME}: 0 kept, 4 to make" in capsys.readouterr().out
    assert not before & {pair.case for pair in manifest.read(paths.dataset(NAME))}
    assert tables().keys().isdisjoint(before)


def test_the_command_line_says_whose_labels_evaluate_misses(
    clinic: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    save_untrained(NAME, clinic)
    case = min(pair.case for pair in manifest.read(paths.dataset(NAME)) if pair.split == "test")
    shutil.rmtree(paths.converted(NAME) / paths.TRUTH / case)
    assert model_main(["evaluate", NAME]) == 2
    assert f"{case} is the case ZzPlanted" in capsys.readouterr().err


def test_runs_that_begin_at_once_agree_on_one_salt(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_clinic(monkeypatch, patients=1)
    adapter = datasets_spec.load(NAME)
    with ThreadPoolExecutor(8) as pool:
        salts = {one.salt for one in pool.map(lambda _: pseudonyms.load(adapter, True), range(32))}
    assert salts == {paths.ID_SALT.read_text("utf-8").strip()}


def test_a_salt_is_not_shown_with_the_names_and_their_fingerprint() -> None:
    names = Pseudonyms(NAME, False, SALT)
    assert SALT not in repr(names)
    assert SALT not in names.fingerprint
    assert names.fingerprint != Pseudonyms(NAME, False, "another").fingerprint
    assert Pseudonyms(NAME, True, "").fingerprint == ""
