"""The wheel is whole: installed into an empty environment, it works from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import model.__main__
import pipeline.__main__
from datasets_spec.contract import SPLITS
from pipeline.runtime import fingerprints, imports
from pipeline.splits import leaks
from tests.conftest import PROJECT
from tests.pipeline.splits.test_folders import put, slice_of

pytestmark = pytest.mark.slow
VERBS = [*pipeline.__main__.VERBS, *model.__main__.VERBS]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    """Run a command that sees nothing of this checkout; returns what it printed."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=clean, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built from a copy with the setuptools that is here, offline."""
    folder = tmp_path_factory.mktemp("wheel")
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for floor in imports.FLOORS:
        shutil.copytree(PROJECT / floor, folder / "source" / floor, ignore=skipped)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder / "source")
    offline = ("--no-build-isolation", "--no-deps", "--no-index")
    run(*PIP, "wheel", *offline, "--wheel-dir", "out", "./source", cwd=folder)
    [file] = (folder / "out").iterdir()
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and sees the packages that are here."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    run(*PIP, "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    [packages] = folder.glob("lib/python3*/site-packages")
    here = [path for path in sys.path if path.endswith("-packages")]
    (packages / "here.pth").write_text("\n".join(here), "utf-8")
    return folder / "bin"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing in it, which is the working folder too."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_wheel_holds_every_file_of_the_floors_and_no_other(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        file.relative_to(PROJECT).as_posix()
        for floor in imports.FLOORS
        for file in (PROJECT / floor).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert any(not name.endswith(".py") for name in wanted)
    assert held == wanted


def test_it_is_the_wheel_that_is_imported(installed: Path, elsewhere: Path) -> None:
    program = "import datasets_spec, pipeline, model; print(*map(str, (*datasets_spec.__path__,"
    program += " *pipeline.__path__, *model.__path__)), sep='\\n')"
    folders = run(installed / "python", "-c", program, cwd=elsewhere).splitlines()
    assert len(folders) == len(imports.FLOORS)
    assert all(Path(folder).is_relative_to(installed.parent) for folder in folders)


def test_it_reads_a_scan(installed: Path, elsewhere: Path) -> None:
    array = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(array, np.diag([-1.0, 2.0, 3.0, 1.0])), elsewhere / "scan.nii.gz")
    program = (
        "from pipeline.api import read_scan; one = read_scan('scan.nii.gz');"
        " print(one.array.shape, int(one.array[0, 0, 0]))"
    )
    # right is the end of the first axis: the scan's own runs to the left
    assert run(installed / "python", "-c", program, cwd=elsewhere).strip() == "(2, 3, 4) 12"


def test_it_judges_a_folder(installed: Path, elsewhere: Path) -> None:
    for patient, split in enumerate(SPLITS):
        put(elsewhere / "pairs", split, f"p{patient}_0.png", slice_of(patient))
    check = (installed / "flexunet", "check", "pairs", "--workers", "1")
    assert run(*check, cwd=elsewhere).count(" holds\n") == len(leaks.PROMISES)
    put(elsewhere / "pairs", "test", "copy.png", slice_of(0))
    assert leaks.COPIES in run(*check, cwd=elsewhere, status=2)


def test_without_parameters_it_names_no_folder_of_its_own(installed: Path, elsewhere: Path) -> None:
    message = run(installed / "flexunet", "convert", cwd=elsewhere, status=2)
    assert "Run from a folder with params.yaml, or name the file with --params." in message
    assert str(installed.parent) not in message


def test_its_code_has_the_fingerprint_of_the_checkouts(installed: Path, elsewhere: Path) -> None:
    """So that a wheel and a checkout take each other's pairs for up to date."""
    program = "from pipeline.runtime import fingerprints as f; print(f.code('pipeline.convert'))"
    done = run(installed / "python", "-c", program, cwd=elsewhere)
    assert done.strip() == fingerprints.code("pipeline.convert")


def test_a_model_would_state_the_version_that_is_installed(
    installed: Path, elsewhere: Path
) -> None:
    program = "from pipeline.runtime import imports; print(imports.project_version())"
    stated = run(installed / "python", "-c", program, cwd=elsewhere).splitlines()[0]
    content = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    assert stated == content["project"]["version"]


def test_the_command_lists_every_verb(installed: Path, elsewhere: Path) -> None:
    listed = run(installed / "flexunet", "--help", cwd=elsewhere)
    assert VERBS
    assert [verb for verb in VERBS if f"\n    {verb}" not in listed] == []
