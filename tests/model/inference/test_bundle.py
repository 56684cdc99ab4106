"""A bundle may come from anyone: it is right, or refused in one line before it is unpacked."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.inference import bundle
from model.inference.predictor import Predictor
from tests.conftest import Refused

FILE = Path("ensemble.zip")
CONTENT: dict[str, Any] = {
    "dataset": "x",
    "weights": [1.0, 3.0],
    "chosen": {"postprocessing": {}},
}
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(autouse=True)
def sound(workplace: Path) -> Path:
    """A bundle of two files that are no models."""
    for name in ("one", "two"):
        Path(f"{name}.keras").write_bytes(name.encode() * 99)
    bundle.write(FILE, {"a": Path("one.keras"), "b": Path("two.keras")}, CONTENT)
    return FILE


def changed(change: Change, more: dict[str, bytes] | None = None, packed: bool = False) -> None:
    """Write the bundle anew with another statement, or with more files."""
    with zipfile.ZipFile(FILE) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    content = json.loads(members[bundle.STATED])
    change(content)
    members |= {bundle.STATED: json.dumps(content).encode(), **(more or {})}
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(FILE, "w", kind) as archive:
        for name, part in members.items():
            archive.writestr(name, part)


def same(_: dict[str, Any]) -> None:
    """Change nothing."""


def test_what_was_written_is_read_and_unpacked() -> None:
    stated = bundle.read(FILE)
    assert bundle.is_one(FILE)
    assert stated.names == ("a.keras", "b.keras")
    assert stated.weights is not None
    np.testing.assert_allclose(stated.weights, [0.25, 0.75])
    with bundle.unpacked(stated) as files:
        assert [one.read_bytes()[:3] for one in files] == [b"one", b"two"]
        folder = files[0].parent
    assert not folder.exists()


def test_the_same_files_give_the_same_bytes() -> None:
    before = FILE.read_bytes()
    os.utime("one.keras", (0, 0))
    bundle.write(FILE, {"a": Path("one.keras"), "b": Path("two.keras")}, CONTENT)
    assert FILE.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda one: one.update(format=1), "the format 1"),
        (lambda one: one.update(members=[]), "0 members"),
        (lambda one: one.update(members=one["members"] * 40), "80 members"),
        (lambda one: one.update(members="ab"), "got"),
        (lambda one: one["members"][0].update(file="../../evil.keras"), "the name"),
        (lambda one: one["members"][0].update(file="/evil.keras"), "the name"),
        (lambda one: one["members"][0].update(file="a.py"), "the name"),
        (lambda one: one["members"][0].update(file="c.keras"), "other files"),
        (lambda one: one["members"][0].pop("sha256"), "sha256"),
        (lambda one: one.pop("chosen"), "chosen"),
        (lambda one: one.update(chosen=[]), "nothing that was chosen"),
        (lambda one: one.update(weights=[1.0]), "weights"),
        (lambda one: one.update(weights=[[1.0], [1.0]]), "weights"),
        (lambda one: one.update(weights=["a", 1.0]), "got"),
        (lambda one: one.update(weights=[-1.0, 2.0]), "below 0"),
        (lambda one: one.update(weights=[float("nan"), 1.0]), "below 0"),
        (lambda one: one.update(weights=[0.0, 0.0]), "no network with a weight"),
    ],
)  # fmt: skip
def test_a_statement_of_nonsense_is_refused(change: Change, words: str, refused: Refused) -> None:
    changed(change)
    problem = refused(lambda: bundle.read(FILE))
    assert words in str(problem)
    assert "make it again" in str(problem)


def test_other_files_compressed_ones_and_damaged_ones_are_refused(refused: Refused) -> None:
    whole = FILE.read_bytes()
    changed(same, {"more.keras": b"x"})
    assert "other files in it" in str(refused(lambda: bundle.read(FILE)))
    FILE.write_bytes(whole)
    changed(same, packed=True)
    assert "is compressed" in str(refused(lambda: bundle.read(FILE)))
    FILE.write_bytes(whole.replace(b"oneoneone", b"oneoneoNe", 1))
    assert "damaged" in str(refused(lambda: bundle.read(FILE)))


def test_a_file_twice_is_refused(refused: Refused) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(FILE, "a") as archive:
        archive.writestr("a.keras", b"another")
    assert "other files in it" in str(refused(lambda: bundle.read(FILE)))


def test_a_member_of_another_digest_is_refused(refused: Refused) -> None:
    changed(lambda one: one["members"][0].update(sha256="0" * 64))
    stated = bundle.read(FILE)

    def unpack() -> None:
        with bundle.unpacked(stated):
            pass

    assert "a.keras of its digest" in str(refused(unpack))


def test_a_member_that_is_no_model_is_named_within_its_bundle(refused: Refused) -> None:
    problem = refused(lambda: Predictor.of([FILE]))
    assert problem.where == "ensemble.zip/a.keras"


def test_a_bundle_is_given_alone(refused: Refused) -> None:
    problem = refused(lambda: Predictor.of([Path("one.keras"), FILE]))
    assert "a bundle among 2 files" in str(problem)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip"])
def test_what_is_no_bundle_is_not_taken_for_one(content: bytes) -> None:
    FILE.write_bytes(content)
    assert not bundle.is_one(FILE)
    assert not bundle.is_one(Path("missing"))
    os.mkfifo("pipe")
    assert not bundle.is_one(Path("pipe"))
