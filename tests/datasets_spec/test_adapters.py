"""What is peculiar to one dataset: odd values, odd names, several layouts, missing parts."""

from __future__ import annotations

import re
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import datasets_spec
from datasets_spec import aisd
from datasets_spec.contract import Case
from pipeline import paths
from pipeline.convert import convert
from pipeline.labels import fusion
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.sources.listing import cases as listed
from pipeline.volumes import slices
from tests.conftest import FIXTURES, PROJECT


@pytest.fixture
def settings() -> params.Params:
    small = params.load("virtual_mni152", PROJECT / "params.yaml")
    return replace(small, convert=replace(small.convert, image_px=64))


@pytest.fixture
def raw(workplace: Path):
    """Put a dataset's fixture where the pipeline looks for it."""

    def put(name: str) -> Path:
        return Path(shutil.copytree(FIXTURES / name / "raw", paths.raw(name)))

    return put


def touch(folder: Path, *names: str) -> None:
    """Empty files: enough where cases are listed and not read."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def cases(name: str, folder: Path) -> list[Case]:
    return list(datasets_spec.load(name).cases(folder))


def save(file: Path, array: np.ndarray, affine: np.ndarray) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), file)
    return file


def converted(name: str, settings: params.Params) -> list[manifest.Pair]:
    convert(name, settings, workers=1)
    return manifest.read(paths.converted(name))


def failures(name: str, settings: params.Params, refused, capsys) -> tuple[str, set[str]]:
    """What convert reported on stderr when some cases failed, and the cases that it kept."""
    refused(lambda: convert(name, settings, workers=1))
    return capsys.readouterr().err, {pair.case for pair in manifest.read(paths.converted(name))}


# --- AISD ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "class_name"),
    [(value, "lesion") for value in (1, 2, 3, 5, 255, 254, 253, 251)]
    + [(value, "background") for value in (0, 4, 252)],
)
def test_aisd_counts_all_but_invisible_lesions(tmp_path, value, class_name):
    for part in ("image", "mask"):
        picture = np.full((4, 5), value, np.uint8)
        (tmp_path / part / "0100001").mkdir(parents=True)
        Image.fromarray(picture).save(tmp_path / part / "0100001" / "000.png")
    [case] = cases("aisd", tmp_path)
    found = fusion.truth(aisd.DATASET, slices.images(case.image), case.labels, "majority")
    class_id = next(label.id for label in aisd.DATASET.label_map if label.name == class_name)
    assert np.unique(found.ids[""]).tolist() == [class_id]


@pytest.mark.parametrize("value", [6, 128, 250])
def test_aisd_refuses_a_value_that_its_authors_do_not_know(value):
    assert value not in aisd.DATASET.label_map.class_of


def test_aisd_tests_52_patients():
    assert len(aisd._TEST) == 52
    assert all(re.fullmatch(r"\d{7}", patient) for patient in aisd._TEST)


@pytest.mark.parametrize(
    ("patient", "split"),
    [
        ("0073410", "test"),
        ("0091534", "test"),
        ("0226261", "test"),
        ("0073411", "train"),
        ("0538984", "train"),
    ],
)
def test_aisd_keeps_the_official_split(tmp_path, patient, split):
    touch(tmp_path, f"image/{patient}/000.png", f"mask/{patient}/000.png")
    [case] = cases("aisd", tmp_path)
    assert (case.id, case.patient, case.split) == (patient, patient, split)


def test_aisd_finds_the_masks_in_a_folder_of_the_same_name(raw, settings):
    folder = raw("aisd")
    plain = converted("aisd", settings)
    (folder / "mask").rename(folder / "inner")
    (folder / "mask").mkdir()
    (folder / "inner").rename(folder / "mask" / "mask")
    assert listed(datasets_spec.load("aisd"))[0].labels[""][0].parts[-4:-2] == ("mask", "mask")
    nested = converted("aisd", settings)
    assert [pair.mask_digest for pair in nested] == [pair.mask_digest for pair in plain]


@pytest.mark.parametrize("part", ["image", "mask"])
def test_aisd_names_a_patient_without_a_folder_and_keeps_the_others(
    raw, settings, refused, capsys, part
):
    lost = raw("aisd") / part / "0100001"
    shutil.rmtree(lost)
    message, kept = failures("aisd", settings, refused, capsys)
    assert str(lost / "000.png") in message
    assert kept == {"0073410", "0100002"}


def test_aisd_names_a_patient_without_slices_and_keeps_the_others(raw, settings, refused, capsys):
    (raw("aisd") / "image" / "0100009").mkdir()
    message, kept = failures("aisd", settings, refused, capsys)
    assert "0100009" in message
    assert kept == {"0073410", "0100001", "0100002"}


# --- PHE-SICH-CT-IDS -------------------------------------------------------------------------

PHE = "phe_sich_ct_ids"
PHE_AFFINE = np.diag([-0.508, 0.508, 5.0, 1.0])


def phe_volumes(folder: Path, value: int = 1) -> None:
    """Two patients in the layout of SubdatasetA."""
    for patient in ("0004", "0167"):
        label = np.zeros((8, 9, 4), np.uint8)
        label[2:5, 3:6, 1] = value
        image = (40 + 20 * (label > 0)).astype(np.int16)
        save(folder / "set" / f"{patient}.nii.gz", image, PHE_AFFINE)
        save(folder / "label" / f"{patient}.nii.gz", label, PHE_AFFINE)


@pytest.mark.parametrize("misnamed", ["set", "label"])
def test_phe_pairs_the_misnamed_files_of_patient_13_by_slice(tmp_path, misnamed):
    part = {"set": "image", "label": "label"}
    for folder, prefix in part.items():
        number = "013" if folder == misnamed else "0013"
        touch(
            tmp_path / "SubdatasetC_PNG" / folder / f"{prefix}13",
            f"{number}_07.png",
            f"{number}_08.png",
            "0013_09.png",
        )
    [case] = cases(PHE, tmp_path)
    assert (case.id, case.patient) == ("0013", "0013")
    wanted = {folder: "013" if folder == misnamed else "0013" for folder in part}
    for picture, folder in ((case.image, "set"), (case.labels[""], "label")):
        names = [f"{wanted[folder]}_07.png", f"{wanted[folder]}_08.png", "0013_09.png"]
        assert [file.name for file in picture] == names


def test_phe_takes_the_patient_from_the_folder_s_number(tmp_path):
    for number in (4, 13, 100):
        for folder, prefix in (("set", "image"), ("label", "label")):
            place = tmp_path / "SubdatasetC_PNG" / folder / f"{prefix}{number}"
            touch(place, f"{number:04d}_01.png")
    assert [case.patient for case in cases(PHE, tmp_path)] == ["0004", "0013", "0100"]


def test_phe_names_the_slice_that_is_missing_in_the_middle(raw, settings, refused, capsys):
    lost = raw(PHE) / "SubdatasetC_PNG" / "set" / "image4" / "0004_02.png"
    lost.unlink()
    message, kept = failures(PHE, settings, refused, capsys)
    assert str(lost) in message
    assert kept == {"0013", "0167"}


@pytest.mark.parametrize(("folder", "prefix"), [("set", "image"), ("label", "label")])
def test_phe_names_a_patient_without_a_folder_and_keeps_the_others(
    raw, settings, refused, capsys, folder, prefix
):
    lost = raw(PHE) / "SubdatasetC_PNG" / folder / f"{prefix}167"
    shutil.rmtree(lost)
    message, kept = failures(PHE, settings, refused, capsys)
    assert str(lost) in message
    assert kept == {"0004", "0013"}


@pytest.mark.parametrize("value", [1, 110, 255])
def test_phe_volumes_are_preferred_and_keep_their_geometry(raw, settings, value):
    phe_volumes(raw(PHE) / "SubdatasetA_NIfTI", value)
    pairs = converted(PHE, settings)
    assert {pair.case for pair in pairs} == {"0004", "0167"}
    for pair in pairs:
        np.testing.assert_allclose(np.reshape(pair.affine, (4, 4)), PHE_AFFINE, atol=1e-6)
        assert pair.source == f"SubdatasetA_NIfTI/set/{pair.case}.nii.gz"
        assert pair.window == (0, 80)
        assert pair.empty == (pair.slice_index != 1)


def test_phe_names_a_volume_without_a_number_and_keeps_the_others(raw, settings, refused, capsys):
    folder = raw(PHE) / "SubdatasetA_NIfTI"
    phe_volumes(folder)
    shutil.copy(folder / "set" / "0004.nii.gz", folder / "set" / "x (1).nii.gz")
    message, kept = failures(PHE, settings, refused, capsys)
    assert str(folder / "set" / "x (1).nii.gz") in message
    assert "Rename it" in message
    assert kept == {"0004", "0167"}


def test_phe_names_a_folder_without_a_number_and_keeps_the_others(raw, settings, refused, capsys):
    stray = raw(PHE) / "SubdatasetC_PNG" / "set" / "image4 (1)"
    stray.mkdir()
    message, kept = failures(PHE, settings, refused, capsys)
    assert str(stray) in message
    assert kept == {"0004", "0013", "0167"}


def test_phe_volumes_are_not_sought_in_an_archive(raw):
    touch(raw(PHE), "SubdatasetA_NIfTI.zip")
    assert [case.id for case in cases(PHE, paths.raw(PHE))] == ["0004", "0013", "0167"]


# --- TEKNOFEST-2021 --------------------------------------------------------------------------

TEKNOFEST = "teknofest_2021_stroke"
TURKISH = "YarısmaVeriSeti_2_Oturum"


@pytest.mark.parametrize(
    "session",
    [
        pytest.param(unicodedata.normalize("NFC", TURKISH), id="NFC"),
        pytest.param(unicodedata.normalize("NFD", TURKISH), id="NFD"),
        pytest.param("YARISMA-VERI-SETI_2_OTURUM", id="ASCII"),
        pytest.param(unicodedata.normalize("NFC", "YARISMA-VERİ-SETİ_2_OTURUM"), id="upper NFC"),
        pytest.param(unicodedata.normalize("NFD", "YARISMA-VERİ-SETİ_2_OTURUM"), id="upper NFD"),
    ],
)
def test_teknofest_gives_the_same_ids_for_every_spelling(tmp_path, session):
    folder = tmp_path / session
    touch(folder, *(f"{part}/{n}.png" for part in ("PNG", "MASKS", "OVERLAY") for n in (9, 10)))
    found = cases(TEKNOFEST, tmp_path)
    assert [case.id for case in found] == [
        "yarismaveriseti2oturum_10",
        "yarismaveriseti2oturum_9",
    ]
    for case in found:
        assert case.patient == case.id
        assert case.image[0].relative_to(folder).parts[0] == "PNG"
        assert case.labels[""][0].relative_to(folder).parts[0] == "MASKS"
        assert case.image[0].name == case.labels[""][0].name


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_teknofest_finds_sessions_at_any_depth(tmp_path, form):
    inner = tmp_path / unicodedata.normalize(form, "Eğitim Veri Seti_İskemi/İskemi Veri Seti")
    touch(inner, "PNG/10002.png", "MASKS/10002.png")
    touch(tmp_path / "Other", "PNG/10002.png", "MASKS/10002.png")
    assert [case.id for case in cases(TEKNOFEST, tmp_path)] == [
        "iskemiveriseti_10002",
        "other_10002",
    ]


def test_teknofest_leaves_out_folders_without_masks(tmp_path):
    touch(tmp_path / "Eğitim Veri Seti_İnme Yok", "PNG/10000.png", "OVERLAY/10000.png")
    touch(tmp_path / TURKISH, "PNG/10001.png", "MASKS/10001.png")
    [case] = cases(TEKNOFEST, tmp_path)
    assert case.id == "yarismaveriseti2oturum_10001"


def test_teknofest_refuses_a_download_without_any_masks(tmp_path, refused):
    touch(tmp_path / TURKISH, "PNG/10000.png", "OVERLAY/10000.png")
    assert refused(lambda: cases(TEKNOFEST, tmp_path)).where == str(tmp_path)


def test_teknofest_refuses_one_session_in_two_spellings(workplace, refused):
    folder = paths.raw(TEKNOFEST)
    touch(folder / TURKISH, "PNG/1.png", "MASKS/1.png")
    touch(folder / "YARISMA-VERI-SETI_2_OTURUM", "PNG/1.png", "MASKS/1.png")
    problem = refused(lambda: listed(datasets_spec.load(TEKNOFEST)))
    assert "'yarismaveriseti2oturum_1' twice" in str(problem)


# --- MBH-Seg25 -------------------------------------------------------------------------------

MBH = "mbh_seg25"
MBH_AFFINE = np.diag([-0.49, 0.49, 5.0, 1.0])


def mbh_older(folder: Path) -> None:
    """Two volumes of one patient in the layout of BHSD."""
    for case in ("ID_0a1b_ID_0001", "ID_0a1b_ID_0002"):
        label = np.zeros((8, 9, 3), np.uint8)
        label[2:5, 3:6, 1] = 4
        save(folder / "images" / f"{case}.nii.gz", (label * 10).astype(np.int16), MBH_AFFINE)
        save(folder / "ground truths" / f"{case}.nii.gz", label, MBH_AFFINE)


def test_mbh_takes_the_first_id_as_the_patient(tmp_path):
    for case in ("ID_0a1b_ID_0001", "ID_0a1b_ID_0002", "ID_2c3d_ID_0001"):
        folder = tmp_path / "MBH_Train_2025_voxel-label" / case
        touch(folder, "image.nii.gz", "label_annot_1.nii.gz")
    assert {case.id: case.patient for case in cases(MBH, tmp_path)} == {
        "ID_0a1b_ID_0001": "ID_0a1b",
        "ID_0a1b_ID_0002": "ID_0a1b",
        "ID_2c3d_ID_0001": "ID_2c3d",
    }


@pytest.mark.parametrize("raters", [("1",), ("2",), ("1", "3", "5"), ("1", "2", "3", "4", "5")])
def test_mbh_lists_the_raters_that_are_there(tmp_path, raters):
    folder = tmp_path / "MBH_Train_2025_voxel-label" / "ID_0a1b_ID_0001"
    touch(folder, "image.nii.gz", *(f"label_annot_{rater}.nii.gz" for rater in raters))
    [case] = cases(MBH, tmp_path)
    assert case.image == folder / "image.nii.gz"
    assert case.labels == {rater: folder / f"label_annot_{rater}.nii.gz" for rater in raters}


def test_mbh_names_a_case_without_any_label_and_keeps_the_others(raw, settings, refused, capsys):
    folder = raw(MBH) / "MBH_Train_2025_voxel-label" / "ID_4e5f_ID_0004"
    (folder / "label_annot_2.nii.gz").unlink()
    message, kept = failures(MBH, settings, refused, capsys)
    assert str(folder / "image.nii.gz") in message
    assert "expected the label" in message
    assert kept == {"ID_0a1b_ID_0001", "ID_0a1b_ID_0002", "ID_2c3d_ID_0003"}


def test_mbh_keeps_every_rater_where_that_is_asked(raw, settings):
    raw(MBH)
    each = replace(settings, convert=replace(settings.convert, raters="each"))
    pairs = converted(MBH, each)
    drawn = {case.id: set(case.labels) for case in listed(datasets_spec.load(MBH))}
    assert len({len(raters) for raters in drawn.values()}) == 3
    for case, raters in drawn.items():
        assert {pair.rater for pair in pairs if pair.case == case} == raters
        assert {pair.raters for pair in pairs if pair.case == case} == {len(raters)}


def test_mbh_reads_the_older_release(workplace, settings):
    mbh_older(paths.raw(MBH) / "label_192")
    pairs = converted(MBH, settings)
    assert {(pair.case, pair.patient) for pair in pairs} == {
        ("ID_0a1b_ID_0001", "ID_0a1b"),
        ("ID_0a1b_ID_0002", "ID_0a1b"),
    }
    assert {pair.slice_index for pair in pairs if pair.class_pixels[4]} == {1}


def test_mbh_prefers_the_newer_release(raw):
    mbh_older(raw(MBH) / "label_192")
    found = cases(MBH, paths.raw(MBH))
    assert len(found) == 4
    assert {case.image.name for case in found} == {"image.nii.gz"}  # of the newer layout


# --- Full-Head -------------------------------------------------------------------------------

HEAD = "full_head_t1w"
IMAGES, LABELS = "T1-Weighted MRI", "Full-Head Segmentation"


def test_full_head_finds_patients_and_controls(tmp_path):
    patients, controls = (
        tmp_path / "Data" / group for group in ("Anonymized_Subjects", "Control_Subjects")
    )
    touch(patients, f"{IMAGES}/GU001_deface.nii", f"{LABELS}/GU001_label_deface.nii")
    touch(patients, f"{IMAGES}/NYU_2_deface.nii", f"{LABELS}/NYU_2_label_deface.nii")
    touch(controls, f"{IMAGES}/NC004.nii", f"{LABELS}/NC004_label.nii")
    found = {case.id: case for case in cases(HEAD, tmp_path)}
    assert list(found) == ["GU001", "NC004", "NYU_2"]
    assert all(case.patient == sid for sid, case in found.items())
    assert found["NYU_2"].image == patients / IMAGES / "NYU_2_deface.nii"
    assert found["NYU_2"].labels == {"": patients / LABELS / "NYU_2_label_deface.nii"}
    assert found["NC004"].image == controls / IMAGES / "NC004.nii"
    assert found["NC004"].labels == {"": controls / LABELS / "NC004_label.nii"}


@pytest.mark.parametrize(
    ("group", "image", "label"),
    [
        ("Anonymized_Subjects", "GU001_deface.nii", "GU001_label_deface.nii"),
        ("Control_Subjects", "NC004.nii", "NC004_label.nii"),
    ],
)
@pytest.mark.parametrize("lost", ["image", "label"])
def test_full_head_names_the_missing_partner_of_patients_and_controls(
    raw, settings, refused, capsys, group, image, label, lost
):
    sid = image[:5]
    pair = {
        "image": raw(HEAD) / "Data" / group / IMAGES / image,
        "label": paths.raw(HEAD) / "Data" / group / LABELS / label,
    }
    touch(pair["image"].parent, image.replace(sid, "X9"))  # so that neither folder is empty
    touch(pair["label"].parent, label.replace(sid, "X9"))
    pair[lost].unlink()
    message, kept = failures(HEAD, settings, refused, capsys)
    assert all(str(file) in message for file in pair.values())
    assert kept == {"GU001", "NYU002", "NC004"} - {sid}
