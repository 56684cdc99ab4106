"""A fingerprint stands for what decides bytes, and for nothing that runs, names or describes it."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from datasets_spec.contract import Label, LabelMap
from pipeline.runtime import fingerprints, imports
from tests.conftest import PROJECT

LABELS = LabelMap((Label(0, "background", (0, 0, 0), "rest"), Label(1, "a", (255, 0, 0), "one")))
DECIDING = {"convert": "pipeline.pairs.case", "augment": "pipeline.pairs.augmented"}


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_fingerprint_stands_for_its_parts():
    given = [(), (1,), ("1",), (1, 2), ([1, 2],), ({"a": 1},), (None,), (1.5,), (LABELS,)]
    assert len({fingerprints.fingerprint(*parts) for parts in given}) == len(given)
    assert fingerprints.fingerprint({"a": 1, "b": 2}) == fingerprints.fingerprint({"b": 2, "a": 1})
    assert set(fingerprints.fingerprint(1)) <= set("0123456789abcdef")
    assert len(fingerprints.fingerprint(1)) == 32


def test_the_fingerprint_of_code_follows_every_file_that_it_imports(tmp_path, monkeypatch):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "top.py").write_text("from pipeline import base\n")
    (tmp_path / "pipeline" / "base.py").write_text("A = 1\n")
    (tmp_path / "pipeline" / "other.py").write_text("A = 1\n")
    adapter = tmp_path / "adapter.py"
    adapter.write_text("A = 1\n")
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    imports.closure.cache_clear()
    seen = [fingerprints.code("pipeline.top", adapter)]
    for name in ("other.py", "base.py", "top.py"):
        with (tmp_path / "pipeline" / name).open("a") as file:
            file.write("B = 2\n")
        seen.append(fingerprints.code("pipeline.top", adapter))
    adapter.write_text("A = 2\n")
    seen.append(fingerprints.code("pipeline.top", adapter))
    imports.closure.cache_clear()
    assert seen[0] == seen[1]
    assert len(set(seen)) == 4


def test_a_digest_is_that_of_all_bytes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"ab" * 1_500_000)
    two.write_bytes(b"c")
    whole = tmp_path / "whole"
    whole.write_bytes(one.read_bytes() + two.read_bytes())
    assert fingerprints.digests(one, two)[0] == sha256(whole)
    assert fingerprints.digests(two, one)[0] != sha256(whole)


def test_a_digest_of_a_pipe_is_refused_and_not_waited_for(tmp_path, refused):
    os.mkfifo(tmp_path / "pipe")
    assert "got a named pipe" in str(refused(lambda: fingerprints.digests(tmp_path / "pipe")))
    (tmp_path / "link").symlink_to("/dev/zero")
    assert "got a device" in str(refused(lambda: fingerprints.digests(tmp_path / "link")))


def test_each_file_has_a_digest_beside_that_of_all(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"ab" * 1_500_000)
    two.write_bytes(b"c")
    assert fingerprints.digests(one, two) == (
        fingerprints.digests(one, two)[0],
        [sha256(one), sha256(two)],
    )


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the code, which the fingerprints are taken of."""
    for floor in imports.FLOORS:
        left = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / floor, tmp_path / floor, ignore=left)
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    imports.closure.cache_clear()
    yield tmp_path
    imports.closure.cache_clear()


RUNNING = (
    "pipeline/convert.py",
    "pipeline/augment.py",
    "pipeline/split.py",
    "pipeline/report.py",
    "pipeline/paths.py",
    "pipeline/params/reader.py",
    "pipeline/params/split.py",
    "pipeline/pairs/identities.py",
    "pipeline/pairs/store.py",
    "pipeline/runtime/executor.py",
    "pipeline/runtime/files.py",
    "pipeline/runtime/locks.py",
    "pipeline/runtime/messages.py",
    "pipeline/splits/placement.py",
    "pipeline/pages/card.py",
    "pipeline/sources/listing.py",
    "model/params.py",
    "model/train.py",
)
MAKING = {
    "convert": (
        "pipeline/pairs/case.py",
        "pipeline/pairs/canvas.py",
        "pipeline/pairs/png.py",
        "pipeline/labels/fusion.py",
        "pipeline/volumes/nifti.py",
        "pipeline/volumes/dicom/pixels.py",
        "datasets_spec/contract.py",
    ),
    "augment": (
        "pipeline/pairs/augmented.py",
        "pipeline/pairs/png.py",
        "pipeline/warps/fields.py",
        "pipeline/runtime/keys.py",
    ),
}


@pytest.mark.parametrize("stage", DECIDING)
def test_what_runs_a_stage_makes_no_picture_again(copy, stage):
    before = fingerprints.code(DECIDING[stage])
    for name in RUNNING:
        edit(copy / name, "CHANGED = 1\n")
        assert fingerprints.code(DECIDING[stage]) == before, name


@pytest.mark.parametrize("stage", DECIDING)
def test_what_decides_bytes_makes_pictures_again(copy, stage):
    seen = [fingerprints.code(DECIDING[stage])]
    for name in MAKING[stage]:
        edit(copy / name, "CHANGED = 1\n")
        seen.append(fingerprints.code(DECIDING[stage]))
        assert seen[-1] not in seen[:-1], name


@pytest.mark.parametrize("stage", DECIDING)
def test_words_about_the_code_make_no_picture_again(copy, stage):
    before = fingerprints.code(DECIDING[stage])
    for text in ("# a comment\n", "\n\n", '"""What stands above."""\n'):
        edit(copy / "pipeline" / "pairs" / "png.py", text)
        assert fingerprints.code(DECIDING[stage]) == before, text


def edit(file: Path, text: str) -> None:
    with file.open("a", encoding="utf-8") as end:
        end.write(text)
    imports.closure.cache_clear()


def test_all_of_the_runtime_but_keys_runs_and_decides_nothing():
    modules = {
        f"pipeline.runtime.{file.stem}" for file in (PROJECT / "pipeline/runtime").glob("*.py")
    }
    runners = {name for name in fingerprints.RUNNERS if name.startswith("pipeline.runtime")}
    assert modules - runners == {"pipeline.runtime.keys", "pipeline.runtime.__init__"}
    assert runners <= modules


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ('"""Doc."""\nA = 1  # why\n', "A = 1"),
        (
            'def f():\n    """Doc\n    more."""\n\n    return "# no comment"\n',
            'def f():\n    return "# no comment"',
        ),
        ('A = """kept\n# kept"""\n', 'A = """kept\n# kept"""'),
        ('A = 1\n"""What A is."""\nB = f"{A} # kept"\n', 'A = 1\nB = f"{A} # kept"'),
        ('class A: "doc"\n', "class A:"),
    ],
)
def test_comments_and_docstrings_are_no_substance(source, left):
    assert fingerprints.substance(source) == left
