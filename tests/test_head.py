"""The head for deployment: what a model needs at work imports nothing that is not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.runtime.extras import IMPORTED
from pipeline.volumes import reader
from tests.conftest import PROJECT
from tests.pipeline.volumes.dicom.test_assemble import write_series
from tests.support.every import every
from tests.support.modules import dotted

ABSENT = sorted({*" ".join(IMPORTED.values()).split(), "dvc", "pandas", "tensorflow"})
"""Some of them come with extras for single tasks, and are imported where these are done."""
ROOMS = ("model/inference", "model/delivery", "pipeline/volumes")
MODULES = (
    "model/__main__.py",
    "model/cli.py",
    "model/network_input.py",
    "model/params.py",
    "model/regions.py",
    "pipeline/doctor.py",
    "pipeline/labels/colours.py",
    "pipeline/pages/draw.py",
    "pipeline/pairs/canvas.py",
    "pipeline/pairs/channels.py",
    "pipeline/pairs/png.py",
    "pipeline/runtime/executor.py",
)
WITH_KERAS = {"model/inference/keras_file.py"}  # the network as Keras runs it
WITHOUT = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in {ABSENT!r} else self.finder.find_spec(name, *rest)
    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def head(program: str, folder: Path, status: int = 0) -> str:
    """What a program prints where only the head is installed."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + program],
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def needed() -> list[str]:
    """The files of the head's rooms, and single ones."""
    found = [file for room in ROOMS for file in (PROJECT / room).rglob("*.py")]
    assert len(found) > 30
    return sorted({file.relative_to(PROJECT).as_posix() for file in found} | {*MODULES})


def test_the_head_imports_nothing_that_it_lacks(tmp_path: Path) -> None:
    program = "import importlib\n" + "".join(
        f"importlib.import_module({dotted(Path(file))!r})\n"
        for file in needed()
        if file not in WITH_KERAS
    )
    program += "print(len(sys.modules), 'numpy' in sys.modules)"
    assert head(program, tmp_path).split()[-1] == "True"


@pytest.mark.parametrize("file", sorted(WITH_KERAS))
def test_an_exception_is_one(file: str, tmp_path: Path) -> None:
    assert file in needed()
    assert "No module named" in head(f"import {dotted(Path(file))}", tmp_path, status=1)


def test_the_head_reads_a_volume_and_a_series(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 2.0, 3.0, 1.0])), tmp_path / "scan.nii.gz")
    write_series(tmp_path / "series")
    program = "from pathlib import Path\nfrom pipeline.volumes import reader\n"
    program += "for name in ('scan.nii.gz', 'series'):\n    one = reader.read_image(Path(name))\n"
    program += "    print(one.array.tobytes().hex(), one.grid.affine.tobytes().hex())\n"
    wanted = [reader.read_image(tmp_path / name) for name in ("scan.nii.gz", "series")]
    assert head(program, tmp_path).splitlines() == [
        f"{one.array.tobytes().hex()} {one.grid.affine.tobytes().hex()}" for one in wanted
    ]


def verb(*words: str) -> str:
    return f"from model.cli import main\nsys.exit(main({list(words)!r}))"


@every("words", [("--help",), ("predict", "--help"), ("doctor", "--help"), ("train", "--help")])
def test_help_is_at_hand(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert "usage: flexunet" in head(verb(*words), tmp_path)


def test_the_doctor_works(tmp_path: Path) -> None:
    write_series(tmp_path / "series")
    assert "5 files of 10x12" in head(verb("doctor", "series"), tmp_path)


@every(
    "words", [("convert", "aisd"), ("train", "aisd"), ("check", "."), ("report",), ("preflight",)]
)
def test_a_verb_that_needs_an_extra_names_it(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "params.yaml").write_text("datasets: {aisd: }\n", "utf-8")
    [line] = head(verb(*words), tmp_path, status=2).splitlines()
    assert line.startswith("error: expected the package ")
    assert 'pip install "flexunet-pipeline[train]"' in line
