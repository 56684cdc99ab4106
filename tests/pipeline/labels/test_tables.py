"""Where sources contradict each other about a label's meaning, the picture decides."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets_spec
from pipeline import paths
from pipeline.convert import convert
from pipeline.labels import tables as probes
from pipeline.pairs import manifest
from pipeline.params import reader as params
from tests.conftest import FIXTURES, PROJECT
from tests.support.every import every

HEAD = datasets_spec.load("full_head_t1w").dataset
STROKE = datasets_spec.load("teknofest_2021_stroke").dataset
TABLES = {table.name: table.class_of for table in HEAD.tables}
# the brightness of T1, from the fluid's and the air's darkness to white matter
T1 = {
    "background": 0,
    "air": 5,
    "white_matter": 200,
    "grey_matter": 140,
    "csf": 60,
    "bone": 20,
    "soft_tissue": 120,
}
GREEN, BLUE = 0x00FF00, 0x0000FF
BRAIN, BLOOD, INFARCT = 90, 160, 50


def head(table, bright=T1, without=(), noise=4):
    """A T1 image, one slab per tissue, and its label in the raw values of ``table``."""
    raw_of = {class_id: raw for raw, class_id in TABLES[table].items()} | {0: 0}
    shown = [label for label in HEAD.label_map if label.name not in without]
    ids = np.repeat([label.id for label in shown], 4)[:, None, None] * np.ones((1, 5, 6), int)
    image = np.array([bright[label.name] for label in HEAD.label_map])[ids]
    image = image + np.random.default_rng(0).normal(0, noise, ids.shape)
    return image, np.array([raw_of[label.id] for label in HEAD.label_map])[ids]


def scan(**drawn):
    """A CT slice and its drawing: ``green`` and ``blue`` regions of the given brightness."""
    label = np.zeros((60, 60, 1), int)
    image = np.random.default_rng(0).normal(BRAIN, 3, label.shape)
    for colour, packed, place in (("green", GREEN, slice(8, 16)), ("blue", BLUE, slice(40, 50))):
        if colour in drawn:
            label[place, 20:30] = packed
            image[place, 20:30] += drawn[colour] - BRAIN
    return image, label


# --- T1 --------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES)
def test_what_nobody_annotated_does_not_choose_the_table(table):
    image, label = head(table)
    label[:, :2] = 99
    ignoring = replace(HEAD, ignored_values=(99,))
    verdict = probes.require_sure(probes.probe(ignoring, image, label), "a case")
    assert verdict.table == table


@pytest.mark.parametrize("table", TABLES)
def test_the_order_of_t1_chooses_the_table_of_the_case(table):
    verdict = probes.require_sure(probes.probe(HEAD, *head(table)), "a case")
    assert verdict.table == table
    assert verdict.evidence.startswith(f"{table}: 3 of 3 steps")


@every("table", TABLES)
@every("without", [("air",), ("csf",), ("soft_tissue",), ("bone", "soft_tissue"), ("air", "csf")])
def test_a_head_that_lacks_tissues_is_never_decided_wrongly(table, without):
    verdict = probes.probe(HEAD, *head(table, without=without))
    assert verdict.table == table or not verdict.sure


@pytest.mark.parametrize(
    ("drawn_by", "swapped", "chosen"),
    [
        ("white_grey_csf", ("white_matter", "grey_matter"), "grey_white_csf"),
        ("white_grey_csf", ("white_matter", "csf"), "csf_grey_white"),
        ("grey_white_csf", ("white_matter", "grey_matter"), "white_grey_csf"),
        ("white_grey_csf_shifted", ("white_matter", "csf"), "csf_grey_white_shifted"),
        ("csf_grey_white_shifted", ("white_matter", "csf"), "white_grey_csf_shifted"),
    ],
)
def test_swapped_labels_give_the_other_table(drawn_by, swapped, chosen):
    one, other = swapped
    bright = T1 | {one: T1[other], other: T1[one]}
    verdict = probes.probe(HEAD, *head(drawn_by, bright))
    assert (verdict.table, verdict.sure) == (chosen, True)


@pytest.mark.parametrize("gain", [0.01, 1, 40])
def test_the_scale_of_the_intensities_does_not_matter(gain):
    image, label = head("csf_grey_white")
    assert probes.probe(HEAD, gain * image - 7, label).table == "csf_grey_white"


def test_the_evidence_states_the_intensities():
    words = probes.probe(HEAD, *head("white_grey_csf", noise=0)).evidence
    for tissue in ("white_matter 200", "grey_matter 140", "csf 60", "air 5"):
        assert tissue in words


# --- CT --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drawn", "table"),
    [
        ({"green": BLOOD, "blue": INFARCT}, "green_haemorrhage"),
        ({"green": INFARCT, "blue": BLOOD}, "blue_haemorrhage"),
        ({"green": BLOOD}, "green_haemorrhage"),
        ({"green": INFARCT}, "blue_haemorrhage"),
        ({"blue": INFARCT}, "green_haemorrhage"),
        ({"blue": BLOOD}, "blue_haemorrhage"),
    ],
)
def test_blood_is_brighter_and_an_infarct_darker_than_the_brain(drawn, table):
    verdict = probes.probe(STROKE, *scan(**drawn))
    assert (verdict.table, verdict.sure) == (table, True)


def test_a_stroke_is_compared_with_the_tissue_beside_it():
    image, label = scan(green=BLOOD)
    image[:, 45:] = 255  # the skull, and more of it than of the brain
    image[30:] = 255
    assert probes.probe(STROKE, image, label).table == "green_haemorrhage"


# --- ties ------------------------------------------------------------------------------------

TIES = {
    "two bright colours": (STROKE, lambda: scan(green=BLOOD, blue=BLOOD)),
    "nothing drawn": (STROKE, scan),
    "a constant picture": (STROKE, lambda: (np.full((60, 60, 1), 90), scan(green=BLOOD)[1])),
    "bone alone": (
        HEAD,
        lambda: head(
            "white_grey_csf", without=("air", "white_matter", "grey_matter", "csf", "soft_tissue")
        ),
    ),
    "a constant head": (HEAD, lambda: (np.ones((28, 5, 6)), head("white_grey_csf")[1])),
}


@pytest.mark.parametrize("what", TIES)
def test_a_tie_is_not_sure_and_asks_for_a_decision(what, refused):
    dataset, make = TIES[what]
    verdict = probes.probe(dataset, *make())
    assert not verdict.sure
    problem = refused(lambda: probes.require_sure(verdict, "case 7"))
    assert problem.where == "case 7"
    assert "tie" in str(problem)
    assert "convert.label_table" in problem.remedy


# --- in convert ------------------------------------------------------------------------------


@pytest.fixture
def settings() -> params.Params:
    small = params.load("virtual_mni152", PROJECT / "params.yaml")
    return replace(small, convert=replace(small.convert, image_px=64))


def stated(settings: params.Params, table: str) -> params.Params:
    return replace(settings, convert=replace(settings.convert, label_table=table))


@pytest.fixture
def raw(workplace: Path):
    """Put a dataset's fixture where the pipeline looks for it."""

    def put(name: str) -> Path:
        return Path(shutil.copytree(FIXTURES / name / "raw", paths.raw(name)))

    return put


def converted(name: str, settings: params.Params) -> list[manifest.Pair]:
    convert(name, settings, workers=1)
    return manifest.read(paths.converted(name))


def pixels(pairs: list[manifest.Pair], case: str) -> np.ndarray:
    """Mask pixels of each class over all slices of a case."""
    return np.sum([pair.class_pixels for pair in pairs if pair.case == case], axis=0)


def test_each_head_is_decided_and_the_evidence_recorded(raw, settings):
    raw("full_head_t1w")
    pairs = converted("full_head_t1w", settings)
    chosen = {pair.case: (pair.label_table, pair.label_evidence) for pair in pairs}
    tables = {case: table for case, (table, _) in chosen.items()}
    assert tables == {
        "GU001": "white_grey_csf",
        "NYU002": "csf_grey_white",
        "NC004": "grey_white_csf_shifted",
    }
    for table, evidence in chosen.values():
        assert evidence.startswith(f"{table}: 3 of 3 steps")


def test_a_stated_table_overrides_the_probe_and_is_recorded(raw, settings):
    folder = raw("full_head_t1w")
    for file in folder.rglob("NC004*"):  # the control has a value that the table lacks
        file.unlink()
    for part in ("T1-Weighted MRI/{}001", "Full-Head Segmentation/{}001_label"):
        patient = folder / "Data" / "Anonymized_Subjects" / f"{part.format('GU')}_deface.nii"
        shutil.copy(patient, folder / "Data" / "Control_Subjects" / f"{part.format('NC')}.nii")
    probed = converted("full_head_t1w", settings)
    pairs = converted("full_head_t1w", stated(settings, "csf_grey_white"))
    assert {pair.label_table for pair in pairs} == {"csf_grey_white"}
    assert {pair.label_evidence for pair in pairs} == {"stated in convert.label_table"}
    turned = np.take(pixels(probed, "GU001"), [0, 1, 4, 3, 2, 5, 6])
    np.testing.assert_array_equal(pixels(pairs, "GU001"), turned)
    np.testing.assert_array_equal(pixels(pairs, "NYU002"), pixels(probed, "NYU002"))


def test_a_stated_table_overrides_the_votes_and_is_recorded(raw, settings):
    raw("teknofest_2021_stroke")
    voted = converted("teknofest_2021_stroke", settings)
    pairs = converted("teknofest_2021_stroke", stated(settings, "blue_haemorrhage"))
    assert {pair.label_table for pair in voted} == {"green_haemorrhage"}
    assert {pair.label_table for pair in pairs} == {"blue_haemorrhage"}
    assert {pair.label_evidence for pair in pairs} == {"stated in convert.label_table"}
    for one, other in zip(voted, pairs, strict=True):
        assert one.class_pixels == tuple(np.take(other.class_pixels, [0, 2, 1]))


def test_refuses_a_stated_table_that_is_not_declared(raw, settings, refused):
    raw("teknofest_2021_stroke")
    wrong = stated(settings, "red")
    message = str(refused(lambda: convert("teknofest_2021_stroke", wrong, workers=1)))
    assert "green_haemorrhage, blue_haemorrhage, got 'red'" in message
    assert "convert.label_table" in message


# --- votes -----------------------------------------------------------------------------------


def sessions(*contents: dict[str, int]) -> None:
    """One TEKNOFEST slice per content, numbered from 1."""
    session = paths.raw("teknofest_2021_stroke") / "Session"
    for part in ("PNG", "MASKS"):
        (session / part).mkdir(parents=True)
    palette = {0: (0, 0, 0), GREEN: (0, 255, 0), BLUE: (0, 0, 255)}
    for number, drawn in enumerate(contents, start=1):
        image, label = scan(**drawn)
        Image.fromarray(image[..., 0].astype(np.uint8)).save(session / "PNG" / f"{number}.png")
        mask = np.array([palette[packed] for packed in label.ravel()], np.uint8)
        mask = mask.reshape(*label.shape[:2], 3)
        Image.fromarray(mask).save(session / "MASKS" / f"{number}.png")


def test_one_contradicting_case_does_not_flip_the_dataset(workplace, settings):
    sessions({"green": BLOOD}, {"green": INFARCT}, {"blue": INFARCT})
    pairs = converted("teknofest_2021_stroke", settings)
    assert {pair.label_table for pair in pairs} == {"green_haemorrhage"}
    [evidence] = {pair.label_evidence for pair in pairs}
    assert "green_haemorrhage 2" in evidence
    assert "blue_haemorrhage 1" in evidence
    assert pixels(pairs, "session_2")[1] > 0


def test_the_votes_can_turn_the_colours_round(workplace, settings):
    sessions({"green": INFARCT}, {"blue": BLOOD}, {"blue": INFARCT})
    pairs = converted("teknofest_2021_stroke", settings)
    assert {pair.label_table for pair in pairs} == {"blue_haemorrhage"}
    assert pixels(pairs, "session_1")[2] > 0


def test_cases_that_do_not_tell_have_no_vote(workplace, settings):
    sessions({"green": BLOOD}, {}, {"green": BLOOD, "blue": BLOOD})
    [evidence] = {pair.label_evidence for pair in converted("teknofest_2021_stroke", settings)}
    assert evidence.endswith("green_haemorrhage 1")


def test_a_case_more_changes_the_count_of_votes_and_makes_no_other_again(
    workplace, settings, capsys
):
    sessions({"green": BLOOD})
    converted("teknofest_2021_stroke", settings)
    shutil.rmtree(paths.raw("teknofest_2021_stroke"))
    sessions({"green": BLOOD}, {"green": BLOOD})
    capsys.readouterr()
    [evidence] = {pair.label_evidence for pair in converted("teknofest_2021_stroke", settings)}
    assert "1 kept, 1 to make" in capsys.readouterr().out
    assert evidence.endswith("green_haemorrhage 2")


def test_a_damaged_case_has_no_vote_and_is_named(workplace, settings, refused, capsys):
    sessions({"green": BLOOD}, {"green": BLOOD})
    (paths.raw("teknofest_2021_stroke") / "Session" / "MASKS" / "2.png").write_bytes(b"")
    refused(lambda: convert("teknofest_2021_stroke", settings, workers=1))
    assert "2.png" in capsys.readouterr().err
    [pair] = manifest.read(paths.converted("teknofest_2021_stroke"))
    assert pair.label_evidence.endswith("green_haemorrhage 1")


@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(({"green": BLOOD}, {"green": INFARCT}), id="as many for each"),
        pytest.param(({}, {}), id="none"),
    ],
)
def test_votes_without_a_winner_ask_for_a_decision(workplace, settings, refused, contents):
    sessions(*contents)
    problem = refused(lambda: convert("teknofest_2021_stroke", settings, workers=1))
    assert "convert.label_table" in problem.remedy
    pairs = converted("teknofest_2021_stroke", stated(settings, "green_haemorrhage"))
    assert [pair.label_table for pair in pairs] == ["green_haemorrhage"] * len(contents)
