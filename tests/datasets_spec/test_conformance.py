"""The test of the tests: an adapter that breaks a promise fails the test of that promise.

A copy of the project gets one adapter per breakage, each derived from msd_hippocampus with a
fixture of its own. The conformance kit runs once over all of them, each with the test that must
see it; each test here then reads what became of one.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import datasets_spec
from tests.conftest import FIXTURES, PROJECT

pytestmark = pytest.mark.slow

BASE = datasets_spec.load("msd_hippocampus")
SOURCE = BASE.module_file.read_text("utf-8")
FIXTURE_BYTES = 50_000
HEAD = "from collections.abc import Iterator\n"
START = '(raw / "Task04_Hippocampus"'
LOOP = "for file in names_in(images, labels, suffix=_SUFFIX):\n"
CASE = 'Case(patient, patient, images / file, {"": labels / file})'
YIELD = f"        yield {CASE}\n"
ELSEWHERE = f'Path(__file__).parents[1] / "tests/fixtures/{BASE.name}/raw"'
ASK = 'with suppress(Exception):\n{0}    socket.create_connection(("127.0.0.1", 9), 0.1)\n'
CITATION = SOURCE.partition("citation=")[2].partition(",\n")[0]
ANTERIOR = 'Label(1, "anterior", (230, 159, 0), "hippocampal head"'
POSTERIOR = 'Label(2, "posterior", (86, 180, 233), "hippocampal body and tail"'
PROSE = '"""A dataset of scans.\n\nIt can be\nfound at\nhttps://example.org/a/b\nas NIfTI.\n"""\n'


@dataclass(frozen=True)
class Breakage:
    """What is changed in the adapter or in its fixture, and the test that must see it."""

    seen_by: str
    edits: tuple[tuple[str, str], ...] = ()
    harm: Callable[[Path], object] | None = None


def edited(seen_by: str, *edits: tuple[str, str]) -> Breakage:
    return Breakage(seen_by, edits)


def keep_the_first_case(fixture: Path) -> None:
    """In which both classes have the same number of voxels."""
    expected = json.loads((fixture / "expected.json").read_text("utf-8"))
    del expected["cases"][1:]
    (fixture / "expected.json").write_text(json.dumps(expected), "utf-8")
    first = expected["cases"][0]["id"]
    for file in (fixture / "raw").rglob("*.nii.gz"):
        if file.name != f"{first}.nii.gz":
            file.unlink()


def pad(fixture: Path) -> None:
    total = sum(file.stat().st_size for file in fixture.rglob("*") if file.is_file())
    (fixture / "raw" / "padding").write_bytes(bytes(FIXTURE_BYTES + 1 - total))


FACTS = "test_facts_are_complete"
COLOURS = "test_ids_and_colours_turn_into_each_other"
TREE = "test_docstring_shows_the_raw_tree"
SMALL = "test_fixture_is_small"
APART = "test_fixture_distinguishes_the_classes"
FINDS = "test_finds_the_expected_cases"
FILES = "test_names_existing_files_below_the_raw_folder"
DECLARED = "test_image_and_label_share_a_grid_and_every_value_is_declared"
TOGETHER = "test_no_other_label_explains_an_image_better"
VOXELS = "test_fixture_converts_to_every_slice_and_back_to_every_voxel"
PARTNER = "test_names_a_missing_partner_and_keeps_the_others"
EMPTY = "test_names_an_empty_folder"
READS_ONLY = "test_writes_nothing_into_the_raw_folder"
OFFLINE = "test_asks_no_network"
IMPORTS = "test_imports_the_contract_and_the_standard_library_alone"

BREAKAGES = {
    "no_homepage": edited(FACTS, ('"https://medicaldecathlon.com"', '""')),
    "no_citation": edited(FACTS, (CITATION, '""')),
    "blank_citation": edited(FACTS, (CITATION, '"  "')),
    "licence_unclear": edited(FACTS, ("commercial=True", "commercial=None")),
    "shared_colour": edited(COLOURS, ("(86, 180, 233)", "(230, 159, 0)")),
    "no_docstring": edited(TREE, (SOURCE.split('"""')[1], "")),
    "docstring_without_a_tree": edited(TREE, (SOURCE.partition("\n\nfrom")[0], PROSE)),
    "no_fixture": Breakage(SMALL, harm=shutil.rmtree),
    "fixture_too_large": Breakage(SMALL, harm=pad),
    "classes_alike": Breakage(APART, harm=keep_the_first_case),
    "case_too_many": edited(FINDS, (YIELD, YIELD + YIELD.replace("(patient,", '(f"{patient}b",'))),
    "case_too_few": edited(FINDS, ("suffix=_SUFFIX):", "suffix=_SUFFIX)[1:]:")),
    "no_cases": edited(FINDS, ("suffix=_SUFFIX):", "suffix=_SUFFIX)[:0]:")),
    "hidden_files": edited(
        FINDS, (LOOP, 'for file in sorted(path.name for path in images.glob("*")):\n')
    ),
    "wrong_patient": edited(FINDS, ("(patient, patient,", '(patient, "hippocampus",')),
    "wrong_rater": edited(FINDS, ('{"": labels', '{"1": labels')),
    "wrong_split": edited(FINDS, (CASE, CASE.replace("file})", 'file}, "test")'))),
    "no_patients_table": edited(
        FINDS,
        (HEAD, HEAD + "from datasets_spec.contract import PatientsTable\n"),
        ('modality="MR",', 'modality="MR",\n    patients=PatientsTable("participants.tsv"),'),
    ),
    "unknown_patient_of_two_cases": edited(
        FINDS,
        ('modality="MR",', 'modality="MR",\n    patients_unknown=True,'),
        ("(patient, patient,", "(patient, patient[:-1],"),
    ),
    "unsorted": edited(
        FINDS, (LOOP, LOOP.replace("names_in(", "reversed(names_in(").replace("):", ")):"))
    ),
    "case_twice": edited(FINDS, (YIELD, YIELD * 2)),
    "other_folder": edited(FILES, (START, f"({ELSEWHERE} / 'Task04_Hippocampus'")),
    "other_folder_by_dots": edited(
        FILES,
        (HEAD, HEAD + "import os\n"),
        (START, f"(raw / os.path.relpath({ELSEWHERE}, raw) / 'Task04_Hippocampus'"),
    ),
    "missing_file": edited(FILES, ("images / file", 'images / f"{file}.gz"')),
    "undeclared_value": edited(DECLARED, (f"            {POSTERIOR}),\n", "")),
    "foreign_image": edited(
        TOGETHER,
        ("images / file", "images / _next(images, file)"),
        (
            "def cases",
            "def _next(images, file):\n"
            "    names = names_in(images, suffix=_SUFFIX)\n"
            "    return names[(names.index(file) + 1) % len(names)]\n\n\ndef cases",
        ),
    ),
    "values_swapped": edited(
        VOXELS, (ANTERIOR, f"{ANTERIOR}, values=(2,)"), (POSTERIOR, f"{POSTERIOR}, values=(1,)")
    ),
    "classes_merged": edited(
        VOXELS, (ANTERIOR, f"{ANTERIOR}, values=(1, 2)"), (POSTERIOR, f"{POSTERIOR}, values=(3,)")
    ),
    "labels_missing_are_hidden": edited(
        PARTNER, (LOOP, f"{LOOP}        if not (labels / file).exists():\n            continue\n")
    ),
    "images_missing_are_hidden": edited(PARTNER, ("names_in(images, labels,", "names_in(images,")),
    "nothing_for_an_empty_folder": edited(
        EMPTY, ("suffix=_SUFFIX)", "suffix=_SUFFIX, optional=True)")
    ),
    "writes_an_index": edited(
        READS_ONLY, (YIELD, f'{YIELD}    (raw / "index.txt").write_text(file)\n')
    ),
    "makes_a_folder": edited(
        READS_ONLY, (YIELD, f'{YIELD}    (raw / "cache").mkdir(exist_ok=True)\n')
    ),
    "asks_the_network": edited(
        OFFLINE,
        (HEAD, f"import socket\n{HEAD}from contextlib import suppress\n"),
        (YIELD, YIELD + " " * 8 + ASK.format(" " * 8)),
    ),
    "asks_the_network_on_import": edited(
        OFFLINE,
        (HEAD, f"import socket\n{HEAD}from contextlib import suppress\n"),
        ("def cases", f"{ASK.format('')}\n\ndef cases"),
    ),
    "imports_numpy": edited(IMPORTS, (HEAD, f"import numpy\n{HEAD}")),
    "imports_numpy_second": edited(IMPORTS, (HEAD, f"import sys, numpy\n{HEAD}")),
    "imports_the_pipeline": edited(IMPORTS, (HEAD, f"{HEAD}from pipeline.volumes import volume\n")),
    "imports_another_adapter": edited(IMPORTS, (HEAD, f"{HEAD}from datasets_spec import aisd\n")),
}
UNBROKEN = Breakage("")


def add(project: Path, name: str, breakage: Breakage) -> None:
    """Write the adapter ``name`` and its fixture into a copy of the project."""
    source = SOURCE
    for old, new in breakage.edits:
        assert source.count(old) >= 1, f"{BASE.name} no longer says {old!r}"
        source = source.replace(old, new)
    (project / "datasets_spec" / f"{name}.py").write_text(source, "utf-8")
    fixture = project / "tests" / "fixtures" / name
    shutil.copytree(FIXTURES / BASE.name, fixture)
    if breakage.harm:
        breakage.harm(fixture)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, set[str]]]:
    """Adapter -> what became of it (PASSED, FAILED or ERROR) -> the tests of the kit."""
    project = tmp_path_factory.mktemp("copy") / "project"
    left = shutil.ignore_patterns(".*", "__pycache__", "data", "runs", "report")
    shutil.copytree(PROJECT, project, ignore=left)
    for name, breakage in {**BREAKAGES, "unbroken": UNBROKEN}.items():
        add(project, f"broken_{name}", breakage)
    needed = [f"(broken_{name} and {one.seen_by})" for name, one in BREAKAGES.items()]
    chosen = " or ".join(["unbroken", *needed])
    done = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "tests/datasets_spec/test_datasets.py", "-k", chosen),
            *("-rpfE", "--tb=no", "-p", "no:cacheprovider"),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, dict[str, set[str]]] = {}
    lines = re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)\[(\S+)\]", done.stdout, re.MULTILINE)
    assert lines, done.stdout + done.stderr
    for outcome, test, parameters in lines:
        [name] = [part for part in parameters.split("-") if part.startswith("broken_")]
        found.setdefault(name.removeprefix("broken_"), {}).setdefault(outcome, set()).add(test)
    return found


def test_an_unbroken_copy_keeps_every_promise(outcomes: dict[str, dict[str, set[str]]]) -> None:
    assert outcomes["unbroken"].keys() == {"PASSED"}
    assert outcomes["unbroken"]["PASSED"] >= {breakage.seen_by for breakage in BREAKAGES.values()}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_promise_fails_the_test_of_it(
    outcomes: dict[str, dict[str, set[str]]], name: str
) -> None:
    found = outcomes[name]
    assert BREAKAGES[name].seen_by in found.get("FAILED", set()) | found.get("ERROR", set())


def test_every_promise_is_broken_once() -> None:
    kit = (PROJECT / "tests" / "datasets_spec" / "test_datasets.py").read_text("utf-8")
    promised = set(re.findall(r"^def (test_\w+)\(", kit, re.MULTILINE))
    assert {breakage.seen_by for breakage in BREAKAGES.values()} == promised - {
        "test_the_folder_is_the_list"
    }
