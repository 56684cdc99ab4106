"""Pictures speak against labels that do not mean what they say, and are silent where they do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import permutations

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import datasets_spec
from datasets_spec.contract import Label, LabelMap
from pipeline import paths, report
from pipeline.convert import convert
from pipeline.labels import plausibility
from pipeline.pairs import manifest
from pipeline.params import reader as params
from pipeline.volumes import findings, nifti
from pipeline.volumes.uneven import Uneven
from pipeline.volumes.volume import Grid, Volume
from tests.conftest import FIXTURES, PROJECT
from tests.support import cohort

DATA = PROJECT.parent / "shared" / "data"
T1 = datasets_spec.load("virtual_mni152").dataset
HEAD = datasets_spec.load("full_head_t1w").dataset


def map_of(*tissues: str) -> LabelMap:
    labels = [
        Label(number, name, (number, 0, 0), name, tissue=name)
        for number, name in enumerate(tissues, start=1)
    ]
    return LabelMap((Label(0, "background", (0, 0, 0), "everything else"), *labels))


CT = replace(
    datasets_spec.load("mbh_seg25").dataset,
    label_map=map_of("blood", "oedema", "infarct", "air"),
)
BLOOD, OEDEMA, INFARCT, AIR = 1, 2, 3, 4
HU = {"outside": -1000, "skull": 1000, "brain": 35, "blood": 65, "oedema": 22, "infarct": 24}


def words_of(found):
    assert {(one.severity, one.about) for one in found} <= {(findings.DOUBT, findings.PAIR)}
    return tuple(map(findings.text, found))


def suspicions(dataset, image, ids, windowed=False, mm=1.0):
    grid = Grid(ids.shape, np.diag([mm, mm, mm, 1.0]))
    found = plausibility.of_case(dataset, Volume(image, grid), ids.astype(np.uint8), windowed)
    return words_of(found)


# --- T1 --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def colin() -> tuple[Volume, Volume]:
    folder = DATA / "colin27"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    names = ("colin27_ch2_T1.nii.gz", "colin27_head_labels_on_ch2.nii.gz")
    image, label = (nifti.read(folder / name) for name in names)
    return image, label


def exchanged(label, *order):
    """Colin27's labels (1 scalp and skull, 2 CSF, 3 grey, 4 white) as ids of T1, exchanged."""
    return np.array([0, 0, *order], np.uint8)[label.array]


def test_a_real_head_with_right_labels_is_not_suspicious(colin):
    image, label = colin
    assert plausibility.of_case(T1, image, exchanged(label, 1, 2, 3), False) == ()


@pytest.mark.parametrize(
    "order", [order for order in permutations((1, 2, 3)) if order != (1, 2, 3)]
)
def test_a_real_head_with_exchanged_tissues_is_suspicious(colin, order):
    image, label = colin
    found = words_of(plausibility.of_case(T1, image, exchanged(label, *order), False))
    assert any(words.startswith("brightness") for words in found)


def test_exchanged_grey_and_white_matter_are_seen_in_brightness_and_in_contact(colin):
    image, label = colin
    assert words_of(plausibility.of_case(T1, image, exchanged(label, 1, 3, 2), False)) == (
        "contact: csf borders on white_matter 24404 times and on grey_matter 461 times, where"
        " the cortex should lie between",
        "brightness: white_matter 83 is not brighter than grey_matter 108, as T1 shows it",
    )


def test_other_contrasts_are_not_asked_for_the_order_of_t1(colin):
    image, label = colin
    flair = replace(T1, contrast="FLAIR")
    found = words_of(plausibility.of_case(flair, image, exchanged(label, 1, 3, 2), False))
    assert not any(words.startswith("brightness") for words in found)


FULL_HEAD = DATA / "seed_pairs" / "Full-Head-T1W"


@pytest.mark.parametrize("name", ["1001_130", "1001_146", "1001_164", "1001_82", "1002_79"])
def test_published_pictures_of_full_head_show_grey_matter_where_white_is_coloured(name):
    if not FULL_HEAD.is_dir():
        pytest.skip(f"{FULL_HEAD} is not there")
    image = np.asarray(Image.open(FULL_HEAD / "images" / f"{name}.png").convert("L"))
    drawn = np.asarray(Image.open(FULL_HEAD / "masks" / f"{name}.png").convert("RGB")).astype(int)
    palette = np.array([label.colour for label in HEAD.label_map])
    ids = ((drawn[:, :, None] - palette) ** 2).sum(-1).argmin(-1)  # stray colours: the nearest
    found = suspicions(HEAD, image[..., None], ids[..., None], windowed=True)
    assert any("white_matter" in words and "is not brighter than grey" in words for words in found)
    turned = np.array([0, 1, 3, 2, 4, 5, 6])[ids]
    assert suspicions(HEAD, image[..., None], turned[..., None], windowed=True) == ()


def layers(*ids):
    """Slabs of class ids, 8 voxels deep, one beside the other."""
    return np.repeat(ids, 8)[:, None, None] * np.ones((1, 12, 4), int)


def test_grey_matter_that_nowhere_borders_on_white_matter_is_suspicious():
    ids = layers(3, 0, 1, 2, 1)
    ids = np.concatenate([ids] * 3, axis=1)
    found = suspicions(T1, np.array([0, 40, 80, 110])[ids], ids)
    assert found == ("contact: grey_matter nowhere borders on white_matter",)


def test_far_more_grey_than_white_matter_is_suspicious():
    ids = layers(1, 2, 2, 2, 2, 2, 3)
    [words] = suspicions(T1, np.array([0, 40, 80, 110])[ids], ids)
    assert words == "amount: 5 times as much grey as white matter, not 0.5 to 4.0"


def test_a_few_stray_voxels_say_nothing():
    ids = layers(1, 2, 3)
    image = np.array([0, 40, 80, 110])[ids]
    ids[0, :, 0], image[0, :, 0] = 3, 0
    assert suspicions(T1, image, ids) == ()


def test_classes_that_are_no_tissues_are_not_asked(label_map):
    dataset = replace(T1, label_map=label_map)
    ids = layers(0, 1, 2)
    assert suspicions(dataset, np.zeros(ids.shape), ids) == ()


# --- CT --------------------------------------------------------------------------------------


def ball(centre, radius):
    away = np.indices((96, 96, 6)).transpose(1, 2, 3, 0)[..., :2] - centre
    return np.linalg.norm(away, axis=-1) <= radius


def scan(noise=4.0, **hu):
    """A head CT with a haemorrhage in its oedema and an infarct elsewhere: HU, class ids."""
    hu = HU | hu
    image, ids = np.full((96, 96, 6), hu["outside"], float), np.zeros((96, 96, 6), int)
    image[ball((48, 48), 44)] = hu["skull"]
    image[ball((48, 48), 40)] = hu["brain"]
    for name, class_id, centre, radius in (
        ("oedema", OEDEMA, (40, 30), 9),
        ("blood", BLOOD, (40, 30), 5),
        ("infarct", INFARCT, (60, 66), 8),
    ):
        place = ball(centre, radius)
        image[place], ids[place] = hu[name], class_id
    return image + np.random.default_rng(0).normal(0, noise, image.shape), ids


def renamed(ids, *order):
    return np.array([0, *order, AIR])[ids]


def test_a_ct_with_right_labels_is_not_suspicious():
    assert suspicions(CT, *scan()) == ()


def test_exchanged_blood_and_oedema_are_suspicious():
    image, ids = scan(noise=0)
    assert suspicions(CT, image, renamed(ids, OEDEMA, BLOOD, INFARCT)) == (
        "brightness: blood 22 HU is darker than the tissue around it, 35 HU",
        "brightness: blood has a median of 22 HU (middle half 22 to 22), outside 50 to 90",
        "brightness: oedema 65 HU is brighter than the tissue around it, 35 HU",
    )


def test_oedema_as_bright_as_blood_is_suspicious():
    image, ids = scan(oedema=65)
    found = suspicions(CT, image, ids)
    assert any("oedema" in words and "is brighter than the tissue" in words for words in found)


@pytest.mark.parametrize(
    ("name", "hu", "words"),
    [
        ("blood", 42, "outside 50 to 90"),
        ("blood", 150, "outside 50 to 90"),
        ("blood", 20, "blood 20 HU is darker"),
        ("oedema", 45, "oedema 45 HU is brighter"),
        ("infarct", 60, "infarct 60 HU is brighter"),
    ],
)
def test_a_lesion_of_the_wrong_brightness_is_suspicious(name, hu, words):
    found = suspicions(CT, *scan(noise=0.01, **{name: hu}))
    assert any(words in one for one in found)


@pytest.mark.parametrize("hu", [52, 65, 88])
def test_blood_of_any_age_within_the_range_is_not_suspicious(hu):
    assert suspicions(CT, *scan(blood=hu)) == ()


def test_a_skull_beside_a_bleed_is_not_what_it_is_compared_with():
    image, ids = scan()
    rim = ball((48, 48), 40) & ~ball((48, 48), 37)
    image[rim & (ids == 0)] = HU["blood"]
    ids[rim & (ids == 0)] = BLOOD
    assert suspicions(CT, image, ids) == ()


def test_windowed_pictures_are_compared_with_what_is_around_and_not_with_hu():
    image, ids = scan()
    shown = np.clip(image * 255 / 80, 0, 255)
    assert suspicions(CT, shown, ids, windowed=True) == ()
    found = suspicions(CT, shown, renamed(ids, INFARCT, OEDEMA, BLOOD), windowed=True)
    assert [words.partition(" HU")[1] for words in found if words.startswith("bright")] == ["", ""]


def test_oedema_away_from_its_blood_is_suspicious():
    image, ids = scan()
    ids[ids == BLOOD] = 0
    elsewhere = ball((70, 40), 5)
    image[elsewhere], ids[elsewhere] = HU["blood"], BLOOD
    assert suspicions(CT, image, ids) == ("contact: oedema nowhere borders on blood",)


def test_a_lesion_in_the_air_is_suspicious():
    image, _ = scan()
    [words] = suspicions(CT, image, np.where(ball((4, 4), 5), INFARCT, 0))
    assert words == "place: 100% of infarct lies in air, below -300 HU"


@pytest.mark.parametrize("hu", [-1000, -400])
def test_air_is_below_500_hu_under_zero(hu):
    image, ids = scan()
    cavity = ball((48, 78), 4)
    image[cavity], ids[cavity] = hu, AIR
    assert any("air has a median" in words for words in suspicions(CT, image, ids)) == (hu > -500)


def test_a_mask_whose_background_is_the_lesion_is_suspicious():
    image, ids = scan()
    found = suspicions(CT, image, np.where(ids == INFARCT, 0, INFARCT))
    assert any("of the picture" in words for words in found)


@pytest.mark.parametrize("mm", [1.0, 12.0])
def test_a_lesion_of_more_than_half_a_brain_is_suspicious(mm):
    image, ids = scan()
    ids[ids != INFARCT] = 0
    large = any("more than 600" in words for words in suspicions(CT, image, ids, mm=mm))
    assert large == (mm > 1)


@pytest.mark.parametrize("gap_mm", [1.0, 5000.0])
def test_a_gap_between_slices_is_no_part_of_a_lesion(gap_mm):
    """Whatever the mean of the steps is: each slice counts with its own thickness."""
    image, ids = scan()
    ids[ids != INFARCT] = 0
    depths = np.arange(ids.shape[2], dtype=float)
    depths[-1] += gap_mm
    places = np.outer(depths, [0, 0, 1])
    mean = np.diag([1, 1, depths[-1] / (len(depths) - 1), 1.0])
    volume = Volume(image, Grid(ids.shape, mean), uneven=Uneven(places, np.array([0, 0, 1.0])))
    found = plausibility.of_case(CT, volume, ids.astype(np.uint8), False)
    assert not any("more than 600" in one.sentence for one in found)
    even = plausibility.of_case(CT, replace(volume, uneven=None), ids.astype(np.uint8), False)
    assert any("more than 600" in one.sentence for one in even) == (gap_mm > 1)


# --- nothing wrong ---------------------------------------------------------------------------


@pytest.fixture
def settings() -> params.Params:
    small = params.load("virtual_mni152", PROJECT / "params.yaml")
    return replace(small, convert=replace(small.convert, image_px=64))


@pytest.mark.parametrize("name", datasets_spec.names())
def test_no_fixture_is_suspicious(workplace, settings, name):
    shutil.copytree(FIXTURES / name / "raw", paths.raw(name))
    convert(name, settings, workers=1)
    pairs = manifest.read(paths.converted(name))
    assert pairs
    assert {pair.suspicion for pair in pairs} == {""}


# --- what becomes of it ----------------------------------------------------------------------


def write_exchanged(patient: str) -> None:
    """Give grey matter's id to white matter and the other way round in a cohort's patient."""
    file = paths.raw(cohort.DATASET) / patient / f"{patient}_dseg.nii"
    label = nib.load(file)
    array = np.array([0, 1, 3, 2], np.uint8)[np.asanyarray(label.dataobj)]
    nib.save(nib.Nifti1Image(array, label.affine, label.header), file)


@pytest.mark.slow
def test_a_suspicious_case_stands_in_manifest_card_summary_and_report(workplace, capsys):
    cohort.write_raw()
    write_exchanged("sub-03")
    settings = cohort.write_params()
    cohort.make_pairs(settings)
    assert "1 of 6 cases look suspicious, such as sub-03" in capsys.readouterr().out
    pairs = manifest.read(paths.dataset(cohort.DATASET))
    [content] = {pair.suspicion for pair in pairs if pair.case == "sub-03"}
    brightness = findings.text(findings.from_json(content)[-1])
    assert brightness.startswith("brightness: white_matter 7")
    assert {pair.suspicion for pair in pairs if pair.case != "sub-03"} == {""}
    rules = {"amount": 1, "brightness": 1}
    card = json.loads((paths.dataset(cohort.DATASET) / paths.CARD).read_text())
    assert card["suspicious_labels"] == {"cases": 1, "of": 6, "rules": rules}
    report.report([cohort.DATASET], paths.PARAMS)
    page = (paths.REPORT / "index.html").read_text()
    assert "1 of 6 cases" in page
    assert brightness in page
    assert "suspicious in 1 of 6" in (paths.REPORT / "summary.txt").read_text()


def test_labels_are_left_as_they_were_drawn(workplace):
    cohort.write_raw()
    settings = cohort.write_params()
    convert(cohort.DATASET, settings, 1)
    right = {pair.id: pair.class_pixels for pair in manifest.read(paths.converted(cohort.DATASET))}
    write_exchanged("sub-03")
    convert(cohort.DATASET, settings, 1)
    for pair in manifest.read(paths.converted(cohort.DATASET)):
        order = [0, 1, 3, 2] if pair.case == "sub-03" else [0, 1, 2, 3]
        assert pair.class_pixels == tuple(np.take(right[pair.id], order))


@pytest.mark.slow
def test_a_doubtful_header_stands_in_manifest_card_and_report(workplace):
    cohort.write_raw()
    for kind in ("T1w", "dseg"):
        file = paths.raw(cohort.DATASET) / "sub-02" / f"sub-02_{kind}.nii"
        image = nib.load(file)
        array, affine = np.asanyarray(image.dataobj).copy(), image.affine.copy()
        elsewhere = nib.Nifti1Image(array, affine)
        affine[0, 3] += 9
        elsewhere.set_qform(affine, 1)
        nib.save(elsewhere, file)
    cohort.make_pairs(cohort.write_params())
    pairs = manifest.read(paths.dataset(cohort.DATASET))
    found = {pair.case: pair.findings for pair in pairs if pair.findings}
    [(case, content)] = found.items()
    words = findings.texts(findings.from_json(content))
    assert (case, words) == (
        "sub-02",
        "sform (code 2) and qform (code 1) place the corners up to 9 mm apart: the sform is taken",
    )
    card = json.loads((paths.dataset(cohort.DATASET) / paths.CARD).read_text())
    assert card["doubtful_headers"] == 1
    report.report([cohort.DATASET], paths.PARAMS)
    assert words in (paths.REPORT / "index.html").read_text()
