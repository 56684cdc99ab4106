"""dvc repro from raw scans to the report: once, again for nothing, and only what changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import FIXTURES, PROJECT

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {
    "convert": {"image_px": 64},
    "train": {
        "network": {"image_px": 32, "base_filters": 4, "num_layers": 3},
        "epochs": 2,
        "batch_pairs": 4,
    },
}


def merge(base: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


class Project:
    """A copy of the project with tiny parameters and the fixtures as raw data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        skipped = shutil.ignore_patterns(".*", "data", "runs", "report", "dvc.lock", "__pycache__")
        shutil.copytree(PROJECT, folder, ignore=skipped, dirs_exist_ok=True)
        for name in (".dvc", ".dvcignore", ".gitignore"):
            source = PROJECT / name
            if source.is_dir():
                (folder / name).mkdir()
                shutil.copy(source / "config", folder / name / "config")
            else:
                shutil.copy(source, folder / name)
        for name in ("virtual_mni152", "virtual_ncct"):
            shutil.copytree(FIXTURES / name / "raw", folder / "data" / "raw" / name)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        self.change(SMALL)
        self.enable("virtual_mni152")

    def enable(self, *datasets: str) -> None:
        """Let these datasets, and no others, be enabled, as the sections say."""
        self.change({"datasets": None})
        self.change({"datasets": dict.fromkeys(datasets)})

    def change(self, changes: dict[str, Any]) -> None:
        file = self.folder / "params.yaml"
        content = yaml.safe_load(file.read_text("utf-8"))
        merge(content, changes)
        file.write_text(yaml.safe_dump(content), "utf-8")

    def running(self, *arguments: str) -> subprocess.Popen[str]:
        """Start dvc, as the leader of a process group of its own."""
        bin_folder = str(Path(sys.executable).parent)
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": bin_folder + os.pathsep + os.environ["PATH"]},
            start_new_session=True,
        )

    def dvc(self, *arguments: str) -> str:
        """Run dvc; returns what it printed."""
        done = self.running(*arguments)
        out, err = done.communicate()
        assert done.returncode == 0, out + err
        return out

    def git(self, *arguments: str) -> str:
        """Run git; returns what it printed."""
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", *author, *arguments]
        return subprocess.run(
            command, cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout

    def repro(self, *targets: str) -> list[str]:
        """The stages that dvc repro ran."""
        lines = self.dvc("repro", *targets).splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]


def test_runs_all_once_then_only_what_changed(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    stages = ["convert", "augment", "split", "train", "evaluate"]

    first = [f"{stage}@virtual_mni152" for stage in stages]
    assert project.repro() == ["preflight", *first, "report"]
    page = (project.folder / "report" / "index.html").read_text("utf-8")
    assert "Virtual patients" in page
    assert page.count("data:image/webp;base64,") > 10
    assert "http" not in page.replace("https://nist.mni.mcgill.ca", "").replace("http-equiv", "")
    metrics = json.loads(
        (project.folder / "runs" / "virtual_mni152" / "metrics.json").read_text("utf-8")
    )
    assert set(metrics["dice"]) == {"csf", "grey_matter", "white_matter"}

    assert project.repro() == []

    project.enable("virtual_mni152", "virtual_ncct")
    second = [f"{stage}@virtual_ncct" for stage in stages]
    assert project.repro() == ["preflight", *second, "report"]
    assert list(project.folder.glob("runs/virtual_ncct/predictions/native/sub-*.nii.gz"))

    variants = {"deformed": [{"Elastic": {"sd_px": 1.5, "sigma_px": 8.0}}]}
    project.change({"augment": {"variants": variants}})
    changed = ["preflight", "augment@virtual_mni152", "split@virtual_mni152"]
    assert project.repro("split@virtual_mni152") == changed

    assert "mean_foreground_dice" in project.dvc("metrics", "show")

    # what is pushed comes back, but for the pictures of patients
    project.dvc("remote", "add", "--local", "--default", "store", str(tmp_path / "remote"))
    project.dvc("push")
    gone = ("data/converted", "data/augmented", "data/dataset", "runs", "report")
    for folder in (".dvc/cache", *gone):
        shutil.rmtree(project.folder / folder)
    project.dvc("pull", "--allow-missing")
    assert (project.folder / "runs" / "virtual_mni152" / "model.keras").is_file()
    assert not list((project.folder / "data").glob("converted/*/images"))


HOSTILE = [
    "$(touch pwned)",
    "x;touch pwned",
    "x\ntouch pwned\n",
    "`touch pwned`",
    "x' || touch pwned '",
]


def test_no_shell_reads_a_datasets_name(tmp_path: Path) -> None:
    """However DVC is called, and although all that the stages depend on is there."""
    project = Project(tmp_path / "project")
    project.enable(*HOSTILE)
    for name in HOSTILE:
        (project.folder / "datasets_spec" / f"{name}.py").touch()
        (project.folder / "data" / "raw" / name).mkdir(parents=True)
    single = [["-f", "-s", f"convert@{name}"] for name in HOSTILE]
    for how in (["-f"], ["--ignore-errors"], *single):
        out, err = project.running("repro", *how).communicate()
        assert "> python -m " in out
        assert "expected an adapter with DATASET" in err
    assert not list(project.folder.rglob("pwned"))


@pytest.mark.parametrize(
    "change",
    [
        {"datasets": {"virtual_mni152": {"train": {"epoch": 3}}}},
        {"train": {"loss": "dise_ce"}},
        {"evaluate": {"worst_cases": -1}},
        {"augment": {"variants": {"bent": [{"Elastik": {"sd_px": 4}}]}}},
        {"augment": {"variants": {"bent": [{"Elastic": {"sd_px": -4, "sigma_px": 8}}]}}},
    ],
    ids=str,
)
def test_a_typo_anywhere_stops_before_the_first_stage(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    project = Project(tmp_path / "project")
    project.change(change)
    done = project.running("repro")
    out, err = done.communicate()
    assert done.returncode != 0
    assert [line for line in out.splitlines() if line.startswith("Running")] == [
        "Running stage 'preflight':"
    ]
    assert "error: params.yaml" in err
    assert not (project.folder / "data" / "converted").exists()


@pytest.mark.parametrize("how", ["--temp", "--queue"])
def test_an_experiment_in_a_folder_of_its_own_finds_the_raw_data(tmp_path: Path, how: str) -> None:
    project = Project(tmp_path / "project")
    project.git("add", "--all")
    project.git("commit", "-m", "x")
    changed = ["-S", "convert.image_px=32", "convert@virtual_mni152"]
    project.dvc("exp", "run", how, "--name", "small", *changed)
    if how == "--queue":
        project.dvc("exp", "run", "--run-all")
    assert not (project.folder / "data" / "converted").exists()
    [line] = [line for line in project.git("for-each-ref").splitlines() if line.endswith("/small")]
    lock = yaml.safe_load(project.git("show", f"{line.split()[-1]}:dvc.lock"))
    assert lock["stages"]["convert@virtual_mni152"]["outs"][0]["nfiles"] > 2
    assert list(project.folder.glob("data/raw/virtual_mni152/sub-*/*.nii"))


def test_a_copy_without_git_runs(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    shutil.rmtree(project.folder / ".git")
    done = project.running("repro", "preflight")
    assert "not a git repository" in done.communicate()[1]
    recipe = subprocess.run(
        ["make", "--dry-run", "repro"], cwd=project.folder, capture_output=True, text=True
    ).stdout
    [line] = [line for line in recipe.splitlines() if "no_scm" in line]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", line], cwd=project.folder, check=True, env=environment)
    assert project.repro("convert") == ["preflight", "convert@virtual_mni152"]
