"""What is a dataset adapter?

An adapter is a module of ``datasets_spec`` that a stranger can trust with a real
download. It makes these promises, and each is tested for every module of the folder:

1.  Its facts are complete: homepage, citation, and a licence that says whether derived
    pictures may be passed on and whether commercial use is allowed.
2.  Its label map begins with the background, and ids and colours turn into each other
    exactly.
3.  Its docstring shows the raw tree as it arrives: lines that begin with a path.
4.  It has a fixture in the true layout, of at most 50 KB, that draws every class, no two of them
    in the same numbers of voxels, so that no two can be exchanged unnoticed.
5.  It finds the fixture's cases, at least one, with their patients, raters and official
    splits, and no others; ids are unique and sorted. A patients table has a row for each; where no
    patient is published, each case is one of its own.
6.  Every file that it names is there, and lies below the raw folder.
7.  Image and label of a case share one grid, and every label value is declared. They belong
    together: no other case's label explains the image better.
8.  The fixture converts to one pair per slice, several raters fused, and the way back finds exactly
    the voxels of each class that were drawn. The manifest states what each case's scan looks like.
9.  A missing partner, image or label, is named, and the other cases are kept.
10. An empty folder is an error of the adapter's own that names the folder.
11. It writes nothing into the raw folder.
12. It asks no network, neither when imported nor when used, and imports the contract and the
    standard library alone.

test_conformance.py breaks each promise and sees that the test of it fails.
"""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import datasets_spec
from datasets_spec.contract import Case
from pipeline import paths
from pipeline.convert import convert
from pipeline.labels import colours, decode, fusion
from pipeline.pairs import manifest, png, pseudonyms, truth_record
from pipeline.pairs.canvas import Canvas
from pipeline.pairs.pseudonyms import Pseudonyms
from pipeline.params import reader as params
from pipeline.runtime.files import sha256
from pipeline.sources import listing, patients_table, places
from pipeline.volumes import profile, reader
from tests.conftest import FIXTURES, PROJECT, Refused

NAMES = datasets_spec.names()


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def expected(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((FIXTURES / name / "expected.json").read_text())[
        "cases"
    ]
    return cases


@pytest.fixture
def raw_folder(name: str, workplace: Path) -> Path:
    """The fixture's raw tree, where the pipeline looks for it."""
    target = workplace / paths.raw(name)
    shutil.copytree(FIXTURES / name / "raw", target)
    return target


@pytest.fixture
def cases(name: str, raw_folder: Path) -> list[Case]:
    adapter = datasets_spec.load(name)
    listed = list(adapter.cases(paths.raw(name)))
    table = adapter.dataset.patients
    if table is None:
        return listed
    cases, faults = patients_table.applied(
        table, paths.raw(name), listed, adapter.dataset.anonymous
    )
    assert not faults
    return cases


@pytest.fixture
def settings() -> params.Params:
    return params.load("virtual_mni152", PROJECT / "params.yaml")


@pytest.fixture
def names(name: str, workplace: Path) -> Pseudonyms:
    """What the adapter's ids are called in the manifest."""
    return pseudonyms.load(datasets_spec.load(name), new_salt=True)


def test_the_folder_is_the_list() -> None:
    modules = {file.stem for file in (PROJECT / "datasets_spec").glob("*.py")}
    assert set(NAMES) == modules - {"__init__", "contract"}
    assert len(NAMES) >= 2


def test_facts_are_complete(name: str) -> None:
    source = datasets_spec.load(name).dataset.source
    assert source.homepage.startswith("https://")
    assert source.citation
    assert source.licence.name
    assert isinstance(source.licence.redistribute, bool)
    assert isinstance(source.licence.commercial, bool)


def test_ids_and_colours_turn_into_each_other(name: str) -> None:
    label_map = datasets_spec.load(name).dataset.label_map
    assert label_map.labels[0].name == "background"
    ids = np.arange(len(label_map), dtype=np.uint8).reshape(1, -1)
    assert np.array_equal(
        colours.ids_of_colours(colours.colourise(ids, label_map), label_map, name), ids
    )


def test_docstring_shows_the_raw_tree(name: str) -> None:
    lines = datasets_spec.load(name).layout.splitlines()
    first_words = [line.split()[0] for line in lines if line.strip()]
    places = [word for word in first_words if "/" in word and "://" not in word]
    assert len(places) >= 2


def test_fixture_is_small(name: str) -> None:
    files = [file for file in (FIXTURES / name).rglob("*") if file.is_file()]
    assert 0 < sum(file.stat().st_size for file in files) <= 50_000


def test_fixture_distinguishes_the_classes(name: str, expected: list[dict[str, Any]]) -> None:
    of_class = list(zip(*(case["voxels"] for case in expected), strict=True))
    assert len(of_class) == len(datasets_spec.load(name).dataset.label_map)
    assert all(any(voxels) for voxels in of_class)
    assert len(set(of_class)) == len(of_class)


def test_finds_the_expected_cases(
    name: str, cases: list[Case], expected: list[dict[str, Any]]
) -> None:
    found = [
        {"id": case.id, "patient": case.patient, "raters": sorted(case.labels), "split": case.split}
        for case in cases
    ]
    keys = ("id", "patient", "raters")
    wanted = [{**{key: case[key] for key in keys}, "split": case.get("split")} for case in expected]
    assert wanted
    assert found == sorted(wanted, key=lambda case: str(case["id"]))
    if datasets_spec.load(name).dataset.patients_unknown:
        assert [case.patient for case in cases] == [case.id for case in cases]


def test_names_existing_files_below_the_raw_folder(name: str, cases: list[Case]) -> None:
    for case in cases:
        for file in listing.files(case):
            assert file.exists()
            assert file.resolve().is_relative_to(paths.raw(name).resolve())


def test_image_and_label_share_a_grid_and_every_value_is_declared(
    name: str, cases: list[Case]
) -> None:
    dataset = datasets_spec.load(name).dataset
    for case in cases:
        image = reader.read_image(case.first)
        truth = fusion.truth(dataset, image, case.labels, raters="each")
        assert set(truth.ids) == set(case.labels)
        for ids in truth.ids.values():
            assert ids.shape == image.array.shape
            assert ids.any()


def explained(image: np.ndarray, raw_label: np.ndarray) -> float:
    """The share of an image's variance that lies between the regions of a label, 0 to 1."""
    _, region, voxels = np.unique(raw_label, return_inverse=True, return_counts=True)
    means = np.bincount(region.ravel(), image.ravel().astype(float)) / voxels
    return float((voxels * (means - image.mean()) ** 2).sum() / (image.size * image.var()))


def test_no_other_label_explains_an_image_better(name: str, cases: list[Case]) -> None:
    dataset = datasets_spec.load(name).dataset
    raw_labels = [
        [decode.read_raw(dataset, label)[0].array for label in case.labels.values()]
        for case in cases
    ]
    for case, own in zip(cases, raw_labels, strict=True):
        image = reader.read_image(case.first).array
        best = max(explained(image, label) for label in own)
        others = [label for drawn in raw_labels for label in drawn if label.shape == image.shape]
        assert best == pytest.approx(max(explained(image, label) for label in others))


def test_fixture_converts_to_every_slice_and_back_to_every_voxel(
    name: str,
    raw_folder: Path,
    expected: list[dict[str, Any]],
    settings: params.Params,
    names: Pseudonyms,
) -> None:
    convert(name, settings, workers=1)
    label_map = datasets_spec.load(name).dataset.label_map
    pairs = manifest.read(paths.converted(name))
    for case in expected:
        mine = [pair for pair in pairs if pair.case == names.of("case", case["id"])]
        assert [pair.slice_index for pair in mine] == list(range(len(mine)))
        native = [
            Canvas.of(pair.canvas).native(
                png.read_mask(paths.converted(name) / pair.mask, label_map)
            )
            for pair in mine
        ]
        counts = np.bincount(np.stack(native).ravel(), minlength=len(label_map))
        assert counts.tolist() == case["voxels"]
        [text] = {pair.profile for pair in mine}
        looks = profile.from_json(text)
        record = truth_record.read(paths.converted(name), mine[0].truth, mine[0].truth_digest)
        assert (looks.geometry is None) == (record.source == truth_record.PICTURES)
        assert len(mine) in looks.shape
    assert {pair.case for pair in pairs} == {names.of("case", case["id"]) for case in expected}


@pytest.mark.parametrize("missing", ["image", "label"])
def test_names_a_missing_partner_and_keeps_the_others(
    missing: str,
    name: str,
    raw_folder: Path,
    cases: list[Case],
    settings: params.Params,
    names: Pseudonyms,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = places.parts(cases[0].first)[0]
    label = places.parts(next(iter(cases[0].labels.values())))[0]
    lost = image if missing == "image" else label
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    refused(lambda: convert(name, settings, workers=1))
    message = capsys.readouterr().err
    assert str(image) in message
    assert str(label) in message
    kept = {pair.case for pair in manifest.read(paths.converted(name))}
    assert kept == {names.of("case", case.id) for case in cases[1:]}


def test_names_an_empty_folder(name: str, workplace: Path, refused: Refused) -> None:
    paths.raw(name).mkdir(parents=True)
    problem = refused(lambda: list(datasets_spec.load(name).cases(paths.raw(name))))
    assert str(paths.raw(name)) in problem.where


def test_writes_nothing_into_the_raw_folder(
    name: str, raw_folder: Path, settings: params.Params
) -> None:
    def state() -> dict[str, str]:
        return {
            str(place): sha256(place) if place.is_file() else "a folder"
            for place in sorted(raw_folder.rglob("*"))
        }

    before = state()
    convert(name, settings, workers=1)
    assert state() == before


@pytest.mark.slow
def test_asks_no_network(
    name: str, raw_folder: Path, settings: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def no_network(*address: object, **_: object) -> None:
        asked.append(address)
        raise OSError("there is no network here")

    for ask in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, ask, no_network)
    for ask in ("getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, ask, no_network)
    importlib.reload(importlib.import_module(f"datasets_spec.{name}"))
    convert(name, settings, workers=1)
    assert not asked


def test_imports_the_contract_and_the_standard_library_alone(name: str) -> None:
    tree = ast.parse((PROJECT / "datasets_spec" / f"{name}.py").read_text("utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imports_from = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported = {module.name for node in imports for module in node.names}
    imported |= {node.module for node in imports_from}
    foreign = {
        module
        for module in imported - {"datasets_spec.contract"}
        if str(module).split(".")[0] not in sys.stdlib_module_names
    }
    assert not foreign
