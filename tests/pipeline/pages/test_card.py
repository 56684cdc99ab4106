"""The card of a generated dataset: true numbers, readable Markdown, pictures, the same bytes."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import datasets_spec
from datasets_spec.contract import SPLITS
from pipeline import paths
from pipeline.pages import card
from pipeline.pairs import manifest
from pipeline.pairs.manifest import Pair
from pipeline.params import reader as params
from pipeline.splits.grouping import ALONE, GROUPED, GROUPED_BY_NAMES
from pipeline.structure.label_rules import LabelRule
from pipeline.structure.probe import LEAST_PATIENTS, Evidence, Probed
from pipeline.volumes.findings import LABEL, finding, to_json
from tests.support import cohort

SALT = "only-the-owner-knows-this"
CARD_FILES = (paths.CARD, "README.md", paths.STATISTICS, paths.SAMPLES)
ADAPTER = datasets_spec.load(cohort.DATASET)
OBEYED = Probed(3)  # as many patients as the cohort has in train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, params.Params]:
    """The dataset of six tiny patients, and the parameters that it was made with."""
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("FLEXUNET_ID_SALT", SALT)
        settings = cohort.prepare()
    return folder / paths.dataset(cohort.DATASET), settings


@pytest.fixture
def folder(made: tuple[Path, params.Params]) -> Path:
    return made[0]


@pytest.fixture
def pairs(folder: Path) -> list[Pair]:
    return manifest.read(folder)


@pytest.fixture
def facts(folder: Path) -> dict:
    return json.loads((folder / paths.CARD).read_text("utf-8"))


@pytest.mark.parametrize("split", SPLITS)
def test_the_counts_are_the_manifests(facts: dict, pairs: list[Pair], split: str) -> None:
    members = [pair for pair in pairs if pair.split == split]
    stated = facts["splits"][split]
    assert stated["pairs"] == len(members) > 0
    assert stated["patients"] == len({pair.patient for pair in members})
    assert stated["cases"] == len({pair.case for pair in members})
    assert stated["augmented"] == sum(pair.parent != "" for pair in members)
    assert stated["empty"] == sum(pair.empty for pair in members)
    for label in ADAPTER.dataset.label_map:
        pixels = [pair.class_pixels[label.id] for pair in members]
        assert stated["class_pixels"][label.name] == sum(pixels)
        showing = {pair.patient for pair in members if pair.class_pixels[label.id]}
        assert stated["class_patients"][label.name] == len(showing)


def test_source_licence_and_colours_are_the_adapters(facts: dict) -> None:
    source = ADAPTER.dataset.source
    assert facts["homepage"] == source.homepage
    assert facts["citation"] == source.citation
    assert facts["licence"]["name"] == source.licence.name
    stated = [(label["id"], label["name"], tuple(label["colour"])) for label in facts["labels"]]
    assert stated == [(label.id, label.name, label.colour) for label in ADAPTER.dataset.label_map]


def test_how_it_was_made_can_be_read_back(
    folder: Path, facts: dict, made: tuple[Path, params.Params]
) -> None:
    text = (folder / "README.md").read_text("utf-8")
    [block] = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert yaml.safe_load(block) == facts["made_by"]
    assert facts["made_by"]["augment"]["variants"] == made[1].augment.variants
    assert facts["made_by"]["split"]["folds"] == 0


def test_the_salt_is_in_no_file_of_the_dataset(folder: Path) -> None:
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert len(files) > 20
    assert not [file for file in files if SALT.encode() in file.read_bytes()]
    assert "id_salt" not in (folder / "README.md").read_text("utf-8")


def test_the_readme_states_what_the_card_states(folder: Path, facts: dict) -> None:
    text = (folder / "README.md").read_text("utf-8")
    for words in (facts["title"], facts["homepage"], facts["citation"], facts["licence"]["name"]):
        assert words in text
    assert "**Virtual patients.**" in text
    for split, stated in facts["splits"].items():
        assert f"| {split} | {stated['patients']} | {stated['cases']} | {stated['pairs']} |" in text


def test_the_tables_are_well_formed(folder: Path) -> None:
    text = (folder / "README.md").read_text("utf-8")
    tables = re.findall(r"(?:^\|.*\|$\n)+", text, re.MULTILINE)
    assert len(tables) == 2
    for table in tables:
        head, rule, *rows = table.splitlines()
        assert set(rule) <= set("|-")
        assert {line.count("|") for line in (head, rule, *rows)} == {head.count("|")}
    assert len(tables[0].splitlines()) == 2 + len(ADAPTER.dataset.label_map)
    assert len(tables[1].splitlines()) == 2 + len(SPLITS)
    assert "\n\n\n" not in text


def test_the_pictures_of_the_readme_lie_beside_it(folder: Path) -> None:
    linked = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (folder / "README.md").read_text("utf-8"))
    assert linked == [paths.STATISTICS, paths.SAMPLES]
    for name in linked:
        with Image.open(folder / name) as opened:
            assert opened.width > 600


def test_every_place_of_the_contact_sheet_is_filled(folder: Path) -> None:
    with Image.open(folder / paths.SAMPLES) as opened:
        sheet = np.asarray(opened.convert("L"))
    rows = np.array_split(sheet, len(SPLITS))
    for row in rows:
        right_end = row[-100:, -150:]  # of the last picture of the row
        assert (right_end == 255).mean() < 0.5


def test_the_same_pairs_give_the_same_bytes_wherever_they_lie(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path
) -> None:
    folder, settings = made
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    mini = {file.stem for file in (folder / paths.MINI_TEST / paths.IMAGES).iterdir()}
    chosen = [pair for pair in pairs if pair.split == "test" and pair.id in mini]
    for name in CARD_FILES:
        (elsewhere / name).unlink()
    card.write(elsewhere, ADAPTER, settings, pairs, chosen, OBEYED)
    for name in CARD_FILES:
        assert (elsewhere / name).read_bytes() == (folder / name).read_bytes()


def test_a_table_stands_words_that_hold_a_bar(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path
) -> None:
    folder, settings = made
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    labels = [*ADAPTER.dataset.label_map]
    labels[1] = replace(labels[1], meaning="this | that")
    label_map = replace(ADAPTER.dataset.label_map, labels=tuple(labels))
    other = replace(ADAPTER, dataset=replace(ADAPTER.dataset, label_map=label_map))
    card.write(elsewhere, other, settings, pairs, [], OBEYED)
    assert r"this \| that" in (elsewhere / "README.md").read_text("utf-8")


def _written(
    made: tuple[Path, params.Params], to: Path, pairs: list[Pair], **facts: object
) -> tuple[dict, str]:
    """The card of a copy of the dataset with other pairs, or another adapter's facts."""
    shutil.copytree(made[0], to)
    other = replace(ADAPTER, dataset=replace(ADAPTER.dataset, **facts))
    card.write(to, other, made[1], pairs, [], OBEYED)
    return json.loads((to / paths.CARD).read_text("utf-8")), (to / "README.md").read_text("utf-8")


def test_few_patients_are_not_asked_what_their_labels_obey(facts: dict, folder: Path) -> None:
    stated = facts["label_rules"]
    assert stated["patients"] == facts["splits"]["train"]["patients"] < LEAST_PATIENTS
    assert stated["rules"] == []
    words = f"Not asked: that takes {LEAST_PATIENTS} patients of train"
    assert words in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("found", [True, False])
def test_what_labels_obey_stands_on_the_card(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path, found: bool
) -> None:
    rule = LabelRule("divided", (2, 3), (0.0, 1.0, 0.0))
    obeyed = Probed(30, (Evidence(rule, 30, 29, 25, 0.998),) if found else ())
    shutil.copytree(made[0], tmp_path / "copy")
    card.write(tmp_path / "copy", ADAPTER, made[1], pairs, [], obeyed)
    stated = json.loads((tmp_path / "copy" / paths.CARD).read_text("utf-8"))["label_rules"]
    text = (tmp_path / "copy" / "README.md").read_text("utf-8")
    assert [LabelRule.of(one) for one in stated["rules"]] == [rule] * found
    if found:
        assert "divided by a coronal plane" in stated["rules"][0]["sentence"]
        assert "grey\\_matter and white\\_matter are divided by a coronal plane" in text
        assert "in 29 of 30 patients of train" in text
    else:
        assert "No class of train is divided" in text


def test_patients_of_each_split_are_counted_by_stratum(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path
) -> None:
    sites = {pair.patient: "A|B" if pair.patient < "sub-04" else "C" for pair in pairs}
    stated = [replace(p, strata=manifest.strata_text({"site": sites[p.patient]})) for p in pairs]
    facts, text = _written(made, tmp_path / "other", stated)
    where = {pair.patient: pair.split for pair in pairs}
    for site, counts in facts["strata"]["site"].items():
        assert counts == {
            split: sum(where[p] == split and sites[p] == site for p in where) for split in SPLITS
        }
    assert sum(sum(counts.values()) for counts in facts["strata"]["site"].values()) == 6
    assert r"| site | A\|B |" in text
    assert "No patients are published" not in text


@pytest.mark.parametrize("basis", [GROUPED, GROUPED_BY_NAMES])
def test_how_unknown_patients_were_determined_is_stated(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path, basis: str
) -> None:
    grouped = [
        replace(p, patient="group-sub-01" if p.case < "sub-04" else p.patient) for p in pairs
    ]
    grouped = [
        replace(p, patient_basis=basis if p.patient.startswith("group") else ALONE) for p in grouped
    ]
    facts, text = _written(made, tmp_path / "other", grouped)
    stated = facts["grouping"]
    assert (stated["groups"], stated["alone"], stated["cases_largest"]) == (1, 3, 3)
    assert stated["basis"] == [basis, ALONE]
    assert basis in text
    assert ("may lie in train and in test" in text) == (basis == GROUPED)


def test_how_many_cases_were_probed_by_which_rules_is_counted(folder: Path, facts: dict) -> None:
    stated = facts["probed_labels"]
    assert stated["rules"] == dict.fromkeys(("amount", "brightness", "contact"), 6)
    assert (stated["tissues"], stated["cases"], stated["compared"]) == (3, 6, 0)
    text = (folder / "README.md").read_text("utf-8")
    assert "probed in 6 of 6 cases (amount in 6, brightness in 6, contact in 6)" in text
    assert "not compared between cases: that takes 10" in text


def test_labels_that_name_no_tissue_are_not_called_probed(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path
) -> None:
    labels = tuple(replace(label, tissue="") for label in ADAPTER.dataset.label_map)
    label_map = replace(ADAPTER.dataset.label_map, labels=labels)
    facts, text = _written(made, tmp_path / "other", pairs, label_map=label_map)
    assert facts["probed_labels"]["rules"] == {}
    assert "Labels were not probed: no label names a tissue." in text


def test_tissues_that_are_hardly_drawn_are_not_called_probed(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path
) -> None:
    few = [replace(pair, class_pixels=(4096, 0, 0, 0)) for pair in pairs]
    facts, text = _written(made, tmp_path / "other", few)
    assert facts["probed_labels"]["rules"] == {}
    assert "Labels were not probed: too little is drawn" in text


def test_a_dataset_without_any_foreground_has_its_pictures(
    made: tuple[Path, params.Params], pairs: list[Pair], tmp_path: Path
) -> None:
    """A logarithmic axis without a value cannot be drawn."""
    nothing = [replace(pair, class_pixels=(4096, 0, 0, 0)) for pair in pairs]
    _written(made, tmp_path / "other", nothing)
    with Image.open(tmp_path / "other" / paths.STATISTICS) as opened:
        assert len(set(opened.convert("L").tobytes())) > 10


def test_what_was_handled_is_no_doubt(tmp_path: Path, pairs: list[Pair], folder: Path) -> None:
    stated = {
        "sub-01": [finding("gantry-tilt", degrees=12, aside_mm=1)],
        "sub-02": [
            finding("lossy-compression", slices=5, of=5, syntaxes="JPEG"),
            finding("spacing-disagrees", step_mm=5, stated_mm=2.5),
        ],
        "sub-03": [finding("resampled", LABEL, from_grid="4x4x4 voxels", to_grid="8x8x8 voxels")],
        "sub-04": [finding("not-millimetres", unit="metres")],
    }
    for split in SPLITS:
        shutil.copytree(folder / split, tmp_path / split)
    found = [replace(pair, findings=to_json(stated.get(pair.case, []))) for pair in pairs]
    assert set(stated) <= {pair.case for pair in pairs}
    settings = params.load(cohort.DATASET, folder.parents[2] / "params.yaml")
    card.write(tmp_path, ADAPTER, settings, found, [], OBEYED)
    facts = json.loads((tmp_path / paths.CARD).read_text("utf-8"))
    assert (facts["doubtful_headers"], facts["handled_headers"]) == (2, 3)
    assert "Headers in doubt: 2. Handled: 3." in (tmp_path / "README.md").read_text("utf-8")
    assert facts["uneven_cases"] == 0
    assert "uneven" not in (tmp_path / "README.md").read_text("utf-8")


def test_cases_of_uneven_spacing_are_counted(
    tmp_path: Path, pairs: list[Pair], folder: Path
) -> None:
    for split in SPLITS:
        shutil.copytree(folder / split, tmp_path / split)
    uneven = sorted({pair.case for pair in pairs})[:2]
    found = [
        replace(pair, place=(0.0, 0.0, 1.0), thickness_mm=2.5) if pair.case in uneven else pair
        for pair in pairs
    ]
    settings = params.load(cohort.DATASET, folder.parents[2] / "params.yaml")
    card.write(tmp_path, ADAPTER, settings, found, [], OBEYED)
    assert json.loads((tmp_path / paths.CARD).read_text("utf-8"))["uneven_cases"] == 2
    words = "Of uneven spacing, every slice at its own place: 2."
    assert words in (tmp_path / "README.md").read_text("utf-8")
