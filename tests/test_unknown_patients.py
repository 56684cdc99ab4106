"""Slices without patients: from pictures in colour to splits that no scan straddles."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import datasets_spec
from model import params
from pipeline import paths
from pipeline.augment import augment
from pipeline.check import check
from pipeline.convert import convert
from pipeline.pairs import manifest
from pipeline.split import split
from pipeline.splits import grouping, leaks
from tests.conftest import PROJECT, Refused

pytestmark = pytest.mark.slow

NAME = "teknofest_2021_stroke"
SCANS, SLICES, PX = 6, 6, 64


@pytest.fixture
def settings(workplace: Path) -> params.Params:
    """Small pictures, no variant."""
    whole = params.load("virtual_mni152", PROJECT / paths.PARAMS)
    return replace(
        whole,
        convert=replace(whole.convert, image_px=PX, label_table="green_haemorrhage"),
        augment=replace(whole.augment, variants={}),
        split=replace(whole.split, shares=replace(whole.split.shares, train=0.5, test=0.35)),
    )


@pytest.fixture
def raw(workplace: Path) -> Path:
    """Six scans of six slices each, numbered one after the other; returns the pictures' folder."""
    session = paths.raw(NAME) / "Session"
    for scan in range(SCANS):
        rng = np.random.default_rng(scan)
        first, last = (cv2.GaussianBlur(rng.normal(size=(PX, PX)), (0, 0), 4) for _ in range(2))
        for number in range(SLICES):
            share = 0.04 * number
            mixed = (1 - share) * first + share * last
            grey = np.clip(120 + 40 * mixed / mixed.std(), 0, 255).astype(np.uint8)
            mask = np.zeros((PX, PX, 3), np.uint8)
            mask[20:30, 20:30, 1 + scan % 2] = 255
            for part, picture in (("PNG", grey), ("MASKS", mask)):
                file = session / part / f"{1000 + scan * SLICES + number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(file)
    return session / "PNG"


def run(settings: params.Params) -> None:
    convert(NAME, settings, 1)
    augment(NAME, settings, 1)
    split(NAME, settings)


def test_slices_of_one_scan_are_one_patient_and_pass_the_gate(
    raw: Path, settings: params.Params, capsys: pytest.CaptureFixture[str]
) -> None:
    run(settings)
    assert (
        "36 pictures in 6 groups of like ones, the largest of 6, and 0" in capsys.readouterr().out
    )
    pairs = manifest.read(paths.dataset(NAME))
    scans = defaultdict(set)
    for pair in pairs:
        scans[(int(pair.case[-4:]) - 1000) // SLICES].add((pair.patient, pair.split))
    assert scans.keys() == set(range(SCANS))
    assert all(len(where) == 1 for where in scans.values())
    assert {pair.patient_basis for pair in pairs} == {grouping.GROUPED_BY_NAMES}
    assert {split for where in scans.values() for _, split in where} == {"train", "valid", "test"}
    card = json.loads((paths.dataset(NAME) / paths.CARD).read_text())["grouping"]
    assert (card["groups"], card["alone"], card["cases_largest"]) == (SCANS, 0, SLICES)
    with (paths.dataset(NAME) / paths.LIKENESS).open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert {row["group"] for row in listed} == {pair.patient for pair in pairs}
    check(paths.dataset(NAME), 1, settings.limits)


def test_without_groups_the_gate_refuses_and_lists_all_pairs(
    raw: Path, settings: params.Params, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = datasets_spec.load(NAME)
    each = replace(known, dataset=replace(known.dataset, patients_unknown=False))
    monkeypatch.setattr(datasets_spec, "load", lambda _: each)
    problem = refused(lambda: run(settings))
    assert leaks.LIKENESSES in problem.what
    file = paths.suggested(NAME)
    assert str(file) in problem.remedy
    with file.open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    numbers = {row["group"]: set() for row in listed}
    for row in listed:
        numbers[row["group"]] |= {int(row[name][-4:]) - 1000 for name in ("first", "second")}
    assert len(numbers) == SCANS
    assert all(len({number // SLICES for number in group}) == 1 for group in numbers.values())
    monkeypatch.setattr(datasets_spec, "load", lambda _: known)
    split(NAME, settings)
    assert not file.exists()


def test_the_gate_still_refuses_a_near_duplicate_of_another_group(
    raw: Path, settings: params.Params, refused: Refused, tmp_path: Path
) -> None:
    run(settings)
    folder = paths.dataset(NAME)
    source = next(iter(sorted((folder / "train" / paths.IMAGES).iterdir())))
    picture = np.asarray(Image.open(source)).astype(int)
    for part, content in (
        (paths.IMAGES, np.clip(picture + 9, 0, 255).astype(np.uint8)),
        (paths.MASKS, np.zeros((PX, PX), np.uint8)),
    ):
        Image.fromarray(content).save(folder / "test" / part / "another.png")
    suggestion = tmp_path / "suggested.csv"
    problem = refused(lambda: check(folder, 1, settings.limits, suggest=suggestion))
    assert leaks.LIKENESSES in problem.what
    assert "test/another" in suggestion.read_text()


def test_a_foreign_folder_without_patients_gets_a_suggestion(
    raw: Path, settings: params.Params, refused: Refused, tmp_path: Path
) -> None:
    run(settings)
    folder = paths.dataset(NAME)
    (folder / paths.MANIFEST).unlink()
    suggestion = tmp_path / "suggested.csv"
    check(folder, 1, settings.limits, suggest=suggestion)
    with suggestion.open(newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert len({row["group"] for row in listed}) == SCANS
    assert all("/" in row["first"] for row in listed)


def test_one_group_of_everything_is_refused_with_what_to_do(
    raw: Path, settings: params.Params, refused: Refused
) -> None:
    one = raw / "1000.png"
    for file in raw.glob("*.png"):
        grey = np.asarray(Image.open(one)).astype(int) + int(file.stem) % 10
        Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).save(file)
    problem = refused(lambda: run(settings))
    assert "36 in group-" in problem.what
    assert "Dataset.patients" in problem.remedy
